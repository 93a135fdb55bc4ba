#!/bin/sh
# group: a group with a fixed number, or with the next free one.
# ARG_NAME
# ARG_GID       number; without it the system chooses
# ARG_SYSTEM    true for a system group
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"

entry=$(getent group -- "$ARG_NAME") || entry=
case $verb in
probe)
	[ -n "$entry" ]
	[ -z "${ARG_GID-}" ] || [ "$(echo "$entry" | cut -d: -f3)" = "$ARG_GID" ]
	;;
apply)
	[ -z "$entry" ] || fail "group $ARG_NAME is there with the number $(echo "$entry" | cut -d: -f3), declared is $ARG_GID: changing it would orphan its files"
	set --
	[ -z "${ARG_GID-}" ] || set -- --gid "$ARG_GID"
	[ "${ARG_SYSTEM-false}" = false ] || set -- "$@" --system
	# One at a time: the programs of passwd wait for each other, but not for long.
	exec 9>/run/ingot/accounts.lock
	flock 9
	groupadd "$@" -- "$ARG_NAME"
	;;
esac
