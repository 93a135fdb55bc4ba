#!/bin/sh
# file: a file with owner and mode, put in place atomically and without following a symlink.
# ARG_PATH, ARG_OWNER (root), ARG_GROUP (the owner's own), ARG_MODE ("0644")
# ARG_SOURCE    absolute path of its content: a file of the generation, or a rendered one
# ARG_ARTIFACT  or the sha256 of an artifact
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"
owner=${ARG_OWNER:-root}
group=${ARG_GROUP:-$(id -gn -- "$owner")} || fail "$ARG_PATH: there is no user $owner"
mode=${ARG_MODE:-0644}

# What could lock everybody out is tried before it is in its place.
tried() {
	case $ARG_PATH in
	/etc/sudoers.d/*) visudo -cqf "$ARG_SOURCE" || fail "visudo refuses it: $ARG_PATH is as it was" ;;
	/etc/ssh/sshd_config.d/*)
		install -d -m 0755 /run/sshd
		/usr/sbin/sshd -t -f "$ARG_SOURCE" || fail "sshd refuses it: $ARG_PATH is as it was"
		;;
	esac
}

case $verb in
probe)
	enter "${ARG_PATH%/*}"
	if [ -n "${ARG_ARTIFACT-}" ]; then
		ARG_SOURCE=./${ARG_PATH##*/}
		found=$(sha256sum <"$ARG_SOURCE")
		[ "${found%% *}" = "$ARG_ARTIFACT" ]
	fi
	same "$ARG_SOURCE" "./${ARG_PATH##*/}" "$owner" "$group" "$mode"
	;;
apply)
	[ -z "${ARG_ARTIFACT-}" ] || ARG_SOURCE=$(artifact "$ARG_ARTIFACT")
	tried
	enter "${ARG_PATH%/*}" create
	put "$ARG_SOURCE" "$ARG_PATH" "$owner" "$group" "$mode"
	case $ARG_PATH in
	# It has read its drop-ins at its start; when it starts later, it reads this one then.
	/etc/ssh/sshd_config.d/*) ! systemctl --quiet is-active ssh.service || systemctl reload ssh.service ;;
	esac
	;;
esac
