#!/bin/sh
# volume: a data disk, mounted. A file system is made only on a disk that is proven blank; anything unexpected is refused. Where the disk
# has grown, its file system grows with it, mounted as it is.
# ARG_DEVICE      the disk, by a name that does not change (/dev/disk/by-id/ingot-…)
# ARG_MOUNT       where it is mounted
# ARG_FILESYSTEM  ext4 or xfs
# ARG_UNIT        its mount unit, a file of the generation
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"

mounted_from() {
	findmnt --noheadings --first-only --output SOURCE --mountpoint "$ARG_MOUNT" || true
}

# Whether the mounted file system leaves room at the disk's end. What mkfs itself leaves is less than 16 MiB.
has_room() {
	case $ARG_FILESYSTEM in
	ext4) size=$(dumpe2fs -h -- "$1" 2>/dev/null | awk -F: '/^Block count/ { n = $2 } /^Block size/ { s = $2 } END { printf "%.0f", n * s }') ;;
	xfs) size=$(xfs_info "$ARG_MOUNT" | awk -F'[= ,]+' '/^data/ { for (i = 1; i < NF; i++) if ($i == "bsize") s = $(i + 1); else if ($i == "blocks") n = $(i + 1); printf "%.0f", n * s }') ;;
	esac
	[ "$(($(blockdev --getsize64 "$1") - size))" -ge 16777216 ]
}

# The kernel lets ext4 grow while mounted by CAP_SYS_RESOURCE alone, which a container may lack.
grow_unmounted() {
	umount -- "$ARG_MOUNT" || fail "the file system of $ARG_DEVICE could not grow: not while it is mounted (above), and it is in use"
	code=0
	e2fsck -f -p -- "$device" || code=$?
	[ "$code" -le 1 ] && resize2fs "$device" || code=2
	systemctl start -- "$ARG_UNIT"
	[ "$code" -le 1 ] || fail "the file system of $ARG_DEVICE could not grow; it is mounted as it was"
}

case $verb in
probe)
	[ -b "$ARG_DEVICE" ]
	[ "$(mounted_from)" = "$(readlink -f -- "$ARG_DEVICE")" ]
	systemctl --quiet is-enabled -- "$ARG_UNIT"
	! has_room "$(readlink -f -- "$ARG_DEVICE")"
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
	if has_room "$device"; then
		case $ARG_FILESYSTEM in
		ext4) resize2fs "$device" || grow_unmounted ;;
		xfs) xfs_growfs "$ARG_MOUNT" ;;
		esac
	fi
	;;
esac
