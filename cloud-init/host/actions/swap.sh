#!/bin/sh
# swap: a file of this size, and the kernel swapping to it; in a container the file alone.
# ARG_UNIT        its swap unit
# ARG_FILE, ARG_BYTES
# ARG_SWAPPINESS  vm.swappiness
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"

is_container() {
	systemd-detect-virt --quiet --container
}
is_made() {
	[ -f "$ARG_FILE" ] && [ ! -L "$ARG_FILE" ] && [ "$(stat -c '%U %a %s' -- "$ARG_FILE")" = "root 600 $ARG_BYTES" ] &&
		[ "$(blkid -p -o value -s TYPE -- "$ARG_FILE")" = swap ]
}

case $verb in
probe)
	is_made
	is_container || {
		systemctl --quiet is-active -- "$ARG_UNIT"
		systemctl --quiet is-enabled -- "$ARG_UNIT"
		[ "$(cat /proc/sys/vm/swappiness)" = "$ARG_SWAPPINESS" ]
	}
	;;
apply)
	if ! is_made; then
		[ ! -e "$ARG_FILE" ] || [ "$(blkid -p -o value -s TYPE -- "$ARG_FILE")" = swap ] || fail "$ARG_FILE is there and is no swap: it was left alone"
		is_container || systemctl stop -- "$ARG_UNIT"
		enter "${ARG_FILE%/*}" create
		rm -f -- "./${ARG_FILE##*/}"
		(
			umask 077
			fallocate -l "$ARG_BYTES" -- "./${ARG_FILE##*/}"
		)
		mkswap --quiet -- "./${ARG_FILE##*/}"
		cd /
		echo "made $ARG_FILE"
	fi
	is_container || {
		systemctl daemon-reload
		systemctl --quiet enable --now -- "$ARG_UNIT"
		sysctl --quiet --write "vm.swappiness=$ARG_SWAPPINESS"
	}
	;;
esac
