#!/bin/sh
# repository.sh FILE PLACE LEADER: mounts at PLACE what is on the disk FILE, so that nobody can write to it, root of a machine neither. LEADER: PID 1 of
# the machine that has the disk mounted and goes on writing to it; empty when none does. PLACE is a folder that nothing is in.
# A disk that nobody has is attached to be read alone; where its journal would have to be brought in first, a copy of it is. Where FILE is PLACE.img
# it is a copy already.
set -eu
file=$1
place=$2
leader=$3
disk=$place.disk
copy=$place.img
attached=
mkdir -p -- "$place" "$disk" "$place.empty"

# The device by which the machine has the disk mounted: a second device on the same file would be a second file system, which knows nothing
# of the first.
device=
if [ -n "$leader" ]; then
	for candidate in $(losetup --associated "$file" --noheadings --output NAME); do
		number=$(lsblk --nodeps --noheadings --output MAJ:MIN -- "$candidate" | tr -d ' ')
		! awk -v number="$number" '$3 == number { found = 1 } END { exit !found }' "/proc/$leader/mountinfo" || device=$candidate
	done
fi
if [ -n "$device" ]; then
	# It is one file system, mounted a second time: "read-only" can only be said of the mount (mount(2), MS_REMOUNT with MS_BIND).
	mount -- "$device" "$disk"
	mount -o remount,bind,ro "$disk"
	echo shared
else
	if [ "$file" != "$copy" ]; then
		attached=$(losetup --find --show --read-only -- "$file")
		if mount -o ro -- "$attached" "$disk" 2>/dev/null; then
			echo read-only
		else
			losetup --detach "$attached"
			attached=
			cp --sparse=always --reflink=auto -- "$file" "$copy"
		fi
	fi
	if [ -z "$attached" ]; then
		attached=$(losetup --find --show -- "$copy")
		code=0
		mount -- "$attached" "$disk" && mount -o remount,ro "$disk" || code=$?
		[ $code = 0 ] || losetup --detach "$attached"
		[ $code = 0 ] || exit $code
		echo copy
	fi
	losetup --detach "$attached" # once it is not mounted any more (losetup(8), --detach)
fi
# Root of the machine could make a read-only bind of it writable again. Two lower layers without an upper one have no place to write to
# (Documentation/filesystems/overlayfs.rst).
mount -t overlay -o "ro,lowerdir=$disk:$place.empty" repository "$place"
umount -- "$disk"
