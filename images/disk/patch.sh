#!/bin/sh
# Makes the disk of an image from the disk of a layer below it, and looks at what it has become. Beside what inside.sh says:
#   DISK_BASE     the layer's disk
#   DISK_ESP_START
#   patch         in DISK_FOLDER: for debugfs, from images/disk-patch.ts; attributes/: its values; files/: what only a disk has in its root
# There will be: disk.raw, facts/ (what was found on it)
mkdir "$DISK_FOLDER/work" "$DISK_FOLDER/work/root"
cp --sparse=always "$DISK_BASE" "$DISK_FOLDER/work/disk.raw" &
copying=$!
# shellcheck source=images/disk/inside.sh
. "$(dirname "$0")/inside.sh"

# What only a disk has, over the image's root: debugfs takes contents from here, and everything else from the patch.
mount -t overlay -o ro,noatime,lowerdir="files:$DISK_TREE" ingot-root chroot/mnt/root

mv patch attributes work/
wait "$copying"

echo "ingot: phase patch"
inside debugfs -w -f /mnt/patch "$root" >work/debugfs 2>&1
# It goes on after an error, and says nothing of what went well but these.
if grep -Ev '^($|debugfs |debugfs: |Allocated inode: )' work/debugfs; then exit 1; fi

echo "ingot: phase prove"
inside sfdisk --json "$disk" >facts/table
inside e2fsck -f -n "$root" >work/fsck || {
	cat work/fsck
	exit 1
}
inside debugfs -R 'show_super_stats -h' "$root" >facts/super
inside mdir -/ -b -i "$disk@@$((DISK_ESP_START * 512))" :: >facts/esp
finish
rm -r files
