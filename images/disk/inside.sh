#!/bin/sh
# Sourced by base.sh and patch.sh, inside the namespaces that provision/bake.sh makes: no loop device, and no mount outside of them. Every program
# that writes to a disk is its tree's own or one of the disk's locked packages, so that the same tree gives the same bytes on every computer.
# Called by images/disk-make.ts. Environment of both:
#   DISK_FOLDER   where it is made; there is: debs (list of .debs)
#   DISK_TREE     the root tree that is put on it
#   DISK_DATE     seconds since 1970: every time on the disk that is no file's own
#   DISK_OWNER    uid:gid of whoever asked for it
#   DISK_ROOT_START  of the root, in sectors of 512 bytes
# Gives: work/, which the programs find at /mnt; inside, which runs one of them; $disk and $root, as they are called there.
set -eu
exec 2>&1
umask 022
cd "$DISK_FOLDER"
export LC_ALL=C TZ=UTC SOURCE_DATE_EPOCH="$DISK_DATE" E2FSPROGS_FAKE_TIME="$DISK_DATE"
# shellcheck disable=SC2034 # for those that source this
disk=/mnt/disk.raw
# shellcheck disable=SC2034
root="$disk?offset=$((DISK_ROOT_START * 512))"

echo "ingot: phase tools"
mkdir tools tools/usr tools/usr/bin tools/usr/sbin tools/usr/lib tools/usr/lib64
for name in bin sbin lib lib64; do ln -s "usr/$name" "tools/$name"; done
while read -r deb; do
	dpkg-deb --fsys-tarfile "$deb" | tar --extract --directory=tools --keep-directory-symlink --exclude='./usr/share/*'
done <debs
mkdir chroot
mount -t overlay -o ro,lowerdir="tools:$DISK_TREE" ingot-disk chroot
mount --bind work chroot/mnt
inside() {
	chroot chroot "$@"
}

# The disk is done: it goes to its place.
finish() {
	umount chroot/mnt/root
	chown "$DISK_OWNER" work/disk.raw
	chmod 0444 work/disk.raw
	touch --date="@$DISK_DATE" work/disk.raw
	mv work/disk.raw disk.raw
	umount chroot/mnt
	umount chroot
	rm -r tools chroot work
}
