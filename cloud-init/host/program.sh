#!/bin/sh
# Ends every script in /etc/ingot/programs, which supervisor or uWSGI's emperor starts as root in a program's place: takes the
# application's environment, gives root away, and becomes the program. Secrets are in the environment of that process only.
# user, groups (beside the user's own, with commas), folder, environment (a file, as render.py writes it); "$@" is the program.
# shellcheck disable=SC2154 # the script has set them
set -eu
entry=$(getent passwd -- "$user") || {
	echo "there is no user $user" >&2
	exit 1
}
home=${entry%:*}
HOME=${home##*:} USER=$user LOGNAME=$user
export HOME USER LOGNAME
all=$(id -G -- "$user" | tr ' ' ,)${groups:+,$groups}
set -- /usr/bin/setpriv --reuid="$user" --regid="$(id -g -- "$user")" --groups="$all" --no-new-privs --bounding-set=-all --inh-caps=-all -- "$@"
umask 0027
cd -- "${folder:-/}"
# From here on the file may set any variable.
set -a
# shellcheck source=/dev/null
[ -z "${environment-}" ] || . "$environment"
set +a
exec "$@"
