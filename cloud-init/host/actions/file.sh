#!/bin/sh
# file: a file with owner and mode, put in place atomically and without following a symlink.
# ARG_PATH, ARG_OWNER (root), ARG_GROUP (the owner's own), ARG_MODE ("0644")
# ARG_SOURCE    absolute path of its content: a file of the generation, or a rendered one
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"
owner=${ARG_OWNER:-root}
group=${ARG_GROUP:-$(id -gn -- "$owner")} || fail "$ARG_PATH: there is no user $owner"
mode=${ARG_MODE:-0644}

case $verb in
probe)
	enter "${ARG_PATH%/*}"
	same "$ARG_SOURCE" "./${ARG_PATH##*/}" "$owner" "$group" "$mode"
	;;
apply)
	enter "${ARG_PATH%/*}" create
	put "$ARG_SOURCE" "$ARG_PATH" "$owner" "$group" "$mode"
	;;
esac
