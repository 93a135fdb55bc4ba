#!/bin/sh
# sql-file: a file of SQL, run in one transaction as a role. Its stamp, in the database, says that it was.
# ARG_DATABASE, ARG_ROLE
# ARG_SOURCE  the file
# ARG_DIGEST  its sha256: other content is another file, which is run again
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"

case $verb in
probe) exit 1 ;;
apply)
	found=$(sha256sum -- "$ARG_SOURCE")
	[ "${found%% *}" = "$ARG_DIGEST" ] || fail "$ARG_SOURCE is not the file that was declared"
	{
		echo 'set role :"role";'
		cat -- "$ARG_SOURCE"
	} | sql "$ARG_DATABASE" --single-transaction -v role="$ARG_ROLE"
	;;
esac
