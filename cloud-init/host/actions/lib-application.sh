#!/bin/sh
# What the actions application-… share. Sourced after lib.sh.

# in_release USER PROGRAM…: in the release's folder app/, with the application's environment, its venv first on PATH. Secrets are in the
# environment of that process only. ARG_GROUPS: groups (lines) beside the user's own.
in_release() {
	release_user=$1
	shift
	[ -d "$ARG_RELEASE/app" ] || fail "the release is not here: no folder $ARG_RELEASE/app"
	case $1 in
	*/*) ;;
	# A script of the release may lack its x bit, or name another Python.
	*.py) [ ! -f "$ARG_RELEASE/app/$1" ] || set -- python3 "$@" ;;
	esac
	entry=$(getent passwd -- "$release_user") || fail "there is no user $release_user"
	release_groups=$(
		id -G -- "$release_user" | tr ' ' ,
		printf '%s\n' "${ARG_GROUPS-}"
	)
	release_groups=$(echo "$release_groups" | tr '\n' , | sed 's/,*$//')
	# Everything that is needed after the environment file is an argument by then: the file may set any variable.
	set -- /usr/bin/setpriv --reuid="$release_user" --regid="$(echo "$entry" | cut -d: -f4)" --groups="$release_groups" -- "$@"
	(
		cd -- "$ARG_RELEASE/app" || exit
		HOME=$(echo "$entry" | cut -d: -f6) USER=$release_user LOGNAME=$release_user
		PATH=$ARG_RELEASE/venv/bin:/usr/local/bin:/usr/bin:/bin
		export HOME USER LOGNAME PATH
		release_env=${ARG_ENV:-/dev/null}
		# Nothing of the step's own environment.
		unset STEP INGOT LC_ALL SYSTEMCTL_SKIP_SYSV verb
		for name in $(env | sed -n 's/^\(ARG_[A-Z0-9_]*\)=.*/\1/p'); do
			unset "$name"
		done
		set -a
		# shellcheck source=/dev/null
		. "$release_env"
		set +a
		exec "$@"
	)
}
