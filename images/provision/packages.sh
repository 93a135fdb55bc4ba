#!/bin/sh
# A layer of packages: unpacked in one call of dpkg and configured in another, with all that follows from them alone.
set -eu
root=$1
export DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true LC_ALL=C.UTF-8

echo "ingot: phase unpack"
# What is made here is thrown away when it fails, so nothing has to be safe against a loss of power. clean.sh takes it out again.
echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/ingot-bake"
mkdir "$root/ingot-debs" "$root/ingot-debs/cache"
mount --bind "$BAKE_DEBS" "$root/ingot-debs/cache"
mount -o remount,bind,ro "$root/ingot-debs/cache"
sed "s|.*|cache/&\t$root/ingot-debs/&|" packages | while read -r target link; do ln -s "$target" "$link"; done
plain=
# Where the tree is in memory, and there is a processor for it.
[ "$BAKE_TMPFS" = 0 ] || [ "$(nproc)" = 1 ] || {
	python3 -B "$BAKE_PROVISION/plain.py" "$BAKE_DEBS" "$root/ingot-debs" packages &
	plain=$!
}
# --force-depends: dpkg takes the packages in the order given and not in that of their Pre-Depends. Their preinst scripts need
# no more than the essential packages, and one that did would fail the bake.
sed 's|^|/ingot-debs/|' packages |
	chroot "$root" xargs --exit --no-run-if-empty --max-chars=1000000 dpkg --force-depends --status-fd 3 --unpack 3>&1
[ -z "$plain" ] || wait "$plain"
umount "$root/ingot-debs/cache"
rm -r "$root/ingot-debs"
# keep.py begins.
: >work/unpacked

# The accounts with fixed numbers, and the files that the packages' scripts look for.
tar -x -C "$root" --no-same-owner --keep-directory-symlink --no-overwrite-dir -f files.tar
systemd-sysusers --root="$root" ingot.conf

echo "ingot: phase configure"
# Python is compiled beside it, in the order in which the packages ask for it.
if [ -e "$root/usr/bin/py3compile" ]; then
	cp "$root/usr/bin/py3compile" "$root/tmp/py3compile.real"
	mkfifo "$root/tmp/py3compile"
	mount --bind "$BAKE_PROVISION/py3compile.sh" "$root/usr/bin/py3compile"
	while read -r arguments; do
		# shellcheck disable=SC2086 # what py3compile.sh was given
		chroot "$root" /tmp/py3compile.real $arguments
	done <"$root/tmp/py3compile" &
	compiling=$!
	# Open for reading, too: so a package that asks is never kept waiting by a compiler that has failed.
	exec 4<>"$root/tmp/py3compile"
fi
# Keys of a host are made at its first boot.
[ ! -e "$root/usr/bin/ssh-keygen" ] || mount --bind "$BAKE_PROVISION/nothing.sh" "$root/usr/bin/ssh-keygen"
# One initramfs at the end instead of one for each package that asks. INITRD=No is read by the kernel package's hook
# (/etc/kernel/postinst.d/initramfs-tools); without a first one the trigger has none to update.
INITRD=No chroot "$root" dpkg --status-fd 3 --configure --pending 3>&1
[ ! -e "$root/usr/bin/ssh-keygen" ] || umount "$root/usr/bin/ssh-keygen"

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
if [ -p "$root/tmp/py3compile" ]; then
	exec 4>&-
	wait "$compiling"
	umount "$root/usr/bin/py3compile"
	rm "$root/tmp/py3compile" "$root/tmp/py3compile.real"
fi
