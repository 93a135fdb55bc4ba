#!/bin/sh
# volume: a data disk, mounted. A file system is made only on a disk that is proven blank; anything unexpected is refused.
# ARG_DEVICE      the disk, by a name that does not change (/dev/disk/by-id/ingot-…)
# ARG_MOUNT       where it is mounted
# ARG_FILESYSTEM  ext4 or xfs
# ARG_UNIT        its mount unit, a file of the generation
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"

mounted_from() {
	findmnt --noheadings --first-only --output SOURCE --mountpoint "$ARG_MOUNT" || true
}

case $verb in
probe)
	[ -b "$ARG_DEVICE" ]
	[ "$(mounted_from)" = "$(readlink -f -- "$ARG_DEVICE")" ]
	systemctl --quiet is-enabled -- "$ARG_UNIT"
	;;
apply)
	[ -b "$ARG_DEVICE" ] || fail "the disk is not there: no block device $ARG_DEVICE"
	device=$(readlink -f -- "$ARG_DEVICE")
	source=$(mounted_from)
	[ -z "$source" ] || [ "$source" = "$device" ] || fail "$ARG_MOUNT is mounted from $source, not from $device ($ARG_DEVICE)"
	if [ -z "$source" ]; then
		code=0
		type=$(blkid -p -o value -s TYPE -- "$device") || code=$?
		case $code in
		0) ;;
		2) type= ;;
		*) fail "$ARG_DEVICE: blkid cannot tell what is on it (exit code $code); nothing was written" ;;
		esac
		if [ -z "$type" ]; then
			signatures=$(wipefs --no-act --noheadings --output TYPE,OFFSET -- "$device")
			[ -z "$signatures" ] || fail "$ARG_DEVICE is not blank, it holds: $signatures; nothing was written"
			cmp -s -n 1048576 -- "$device" /dev/zero ||
				fail "$ARG_DEVICE holds no file system that is known here, but is not blank either (its first MiB is not zero); nothing was written. If nothing on it is needed: wipefs --all it and zero its first MiB"
			case $ARG_FILESYSTEM in
			ext4) mkfs.ext4 -q -L "" -- "$device" ;;
			xfs) mkfs.xfs -q -- "$device" ;;
			*) fail "filesystem: ext4 or xfs, not $ARG_FILESYSTEM" ;;
			esac
			echo "made $ARG_FILESYSTEM on the blank disk $ARG_DEVICE ($device)"
		elif [ "$type" != "$ARG_FILESYSTEM" ]; then
			fail "$ARG_DEVICE holds $type, declared is $ARG_FILESYSTEM; nothing was written"
		fi
	fi
	systemctl --quiet --no-reload enable -- "$ARG_UNIT"
	systemctl start -- "$ARG_UNIT" || {
		journal_of "$ARG_UNIT" >&2
		fail "$ARG_UNIT could not be mounted"
	}
	[ "$(mounted_from)" = "$device" ] || fail "$ARG_MOUNT is mounted from $(mounted_from) after the start of $ARG_UNIT, not from $device"
	;;
esac
