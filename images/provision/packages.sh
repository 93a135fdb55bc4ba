#!/bin/sh
# A layer of packages: unpacked in one call of dpkg and configured in another, with all that follows from them alone.
set -eu
root=$1
export DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true LC_ALL=C.UTF-8

echo "ingot: phase unpack"
mkdir "$root/ingot-debs"
mount --bind "$BAKE_DEBS" "$root/ingot-debs"
mount -o remount,bind,ro "$root/ingot-debs"
# --force-depends: dpkg takes the packages in the order given and not in that of their Pre-Depends. Their preinst scripts need
# no more than the essential packages, and one that did would fail the bake.
sed 's|^|/ingot-debs/|' packages |
	chroot "$root" xargs --exit --no-run-if-empty --max-chars=1000000 dpkg --force-depends --status-fd 3 --unpack 3>&1
umount "$root/ingot-debs"
rmdir "$root/ingot-debs"

# The accounts with fixed numbers, and the files that the packages' scripts look for.
tar -x -C "$root" --no-same-owner --keep-directory-symlink --no-overwrite-dir -f files.tar
systemd-sysusers --root="$root" ingot.conf

echo "ingot: phase configure"
# One initramfs at the end instead of one for each package that asks. INITRD=No is read by the kernel package's hook
# (/etc/kernel/postinst.d/initramfs-tools); without a first one the trigger has none to update.
[ ! -e "$root/usr/bin/py3compile" ] || mount --bind "$BAKE_PROVISION/py3compile.sh" "$root/usr/bin/py3compile"
INITRD=No chroot "$root" dpkg --status-fd 3 --configure --pending 3>&1
[ ! -e "$root/usr/bin/py3compile" ] || umount "$root/usr/bin/py3compile"

echo "ingot: phase finish"
# Of a kernel that has none yet: one that is there was made anew if a package asked for it.
initramfs() {
	[ -x "$root/usr/sbin/update-initramfs" ] || return 0
	for kernel in "$root"/boot/vmlinuz-*; do
		version=${kernel##*/vmlinuz-}
		[ ! -e "$root/boot/initrd.img-$version" ] || continue
		chroot "$root" update-initramfs -c -k "$version"
		# /vmlinuz and /initrd.img, which the kernel's package links only when both files are there.
		rm -f "$root/vmlinuz" "$root/vmlinuz.old"
		chroot "$root" linux-update-symlinks install "$version" "/boot/${kernel##*/}"
	done
}
initramfs &
initramfs=$!
if [ -e "$root/tmp/py3compile" ]; then
	while read -r arguments; do
		# shellcheck disable=SC2086 # what py3compile.sh was given
		chroot "$root" py3compile $arguments
	done <"$root/tmp/py3compile"
	rm "$root/tmp/py3compile"
fi
# The package asks debconf for its locales and makes none. What a layer below has made already is the same list.
if [ -n "$BAKE_LOCALES" ] && [ -x "$root/usr/sbin/locale-gen" ]; then
	for locale in $BAKE_LOCALES; do
		echo "$locale ${locale#*.}"
	done >"$root/tmp/locale.gen"
	if ! cmp -s "$root/tmp/locale.gen" "$root/etc/locale.gen"; then
		cp "$root/tmp/locale.gen" "$root/etc/locale.gen"
		chroot "$root" locale-gen
	fi
	rm "$root/tmp/locale.gen"
fi
wait "$initramfs"
