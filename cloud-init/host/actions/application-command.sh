#!/bin/sh
# application-command: one command of an application before it goes live (migrate, …). Its stamp says that it was done.
# ARG_APPLICATION  the application's name, for messages
# ARG_RELEASE      folder of the release: app/ in it is the working folder, venv/bin/ comes first on PATH
# ARG_ENV          path of its environment file
# ARG_USER         who runs it
# ARG_GROUPS       groups (lines) beside the user's own
# ARG_COMMAND      the command and its arguments (lines)
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"
# shellcheck source=cloud-init/host/actions/lib-application.sh
. "$INGOT/actions/lib-application.sh"

case $verb in
probe) exit 1 ;;
apply)
	set --
	while IFS= read -r word; do
		set -- "$@" "$word"
	done <<-END
		$ARG_COMMAND
	END
	in_release "$ARG_USER" "$@"
	;;
esac
