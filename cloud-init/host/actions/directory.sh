#!/bin/sh
# directory: a folder with owner and mode, reached without following a symlink. Missing parents become root's own, 0755.
# ARG_PATH, ARG_OWNER, ARG_GROUP (the owner's own), ARG_MODE ("0755")
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"
owner=${ARG_OWNER:-root}
group=${ARG_GROUP:-$(id -gn -- "$owner")} || fail "$ARG_PATH: there is no user $owner"
mode=${ARG_MODE:-0755}

case $verb in
probe)
	enter "$ARG_PATH"
	[ "$(stat -c '%U:%G %a' .)" = "$owner:$group $(mode_of "$mode")" ]
	;;
apply)
	enter "$ARG_PATH" create
	# `.` is the folder itself, wherever its name may lead by now. chown first: it clears set-id bits. Five digits clear them too.
	chown -- "$owner:$group" .
	chmod -- "0$mode" .
	;;
esac
