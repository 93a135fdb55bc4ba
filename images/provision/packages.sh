#!/bin/sh
# A layer of packages: unpacked by dpkg, then configured, with all that follows from them alone.
set -eu
root=$1
export DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true LC_ALL=C.UTF-8

echo "ingot: phase unpack"
# What is made here is thrown away when it fails, so nothing has to be safe against a loss of power. clean.sh takes it out again.
echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/ingot-bake"
mkdir "$root/ingot-debs" "$root/ingot-debs/cache"
mount --bind "$BAKE_DEBS" "$root/ingot-debs/cache"
mount -o remount,bind,ro "$root/ingot-debs/cache"
sed 's|^|cache/|' packages | xargs --no-run-if-empty ln --symbolic --target-directory="$root/ingot-debs"
plain=
# Where the tree is in memory, and there is a processor for it.
[ "$BAKE_TMPFS" = 0 ] || [ "$(nproc)" = 1 ] || {
	python3 -B "$BAKE_PROVISION/plain.py" "$BAKE_DEBS" "$root/ingot-debs" packages &
	plain=$!
}
# --force-depends: dpkg takes the packages in the order given and not in that of their Pre-Depends. Their preinst scripts need
# no more than the essential packages, and one that did would fail the bake. In four calls: what lies there without compression goes after each.
split --number=l/4 packages work/part.
for part in work/part.*; do
	sed 's|^|/ingot-debs/|' "$part" |
		chroot "$root" xargs --exit --no-run-if-empty --max-chars=1000000 dpkg --force-depends --no-triggers --status-fd 3 --unpack 3>&1
	sed "s|^|$root/ingot-debs/|" "$part" | xargs rm -f
done
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
# INITRD=No is read by the kernel package's hook (/etc/kernel/postinst.d/initramfs-tools), which would make an initramfs before all that goes into it
# is configured; and without a first one the trigger has none to update.
configure() {
	INITRD=No chroot "$root" dpkg --status-fd 3 --configure "$@" 3>&1 4>&-
}
# The kernels that have none yet: one that is there is made anew if a package asks for it.
new=
for kernel in "$root"/boot/vmlinuz-*; do
	[ ! -e "$kernel" ] || [ -e "$root/boot/initrd.img-${kernel##*/vmlinuz-}" ] || new="$new ${kernel##*/vmlinuz-}"
done
[ -x "$root/usr/sbin/update-initramfs" ] || new=
initramfs() {
	for version in $new; do
		chroot "$root" update-initramfs -c -k "$version"
		# /vmlinuz and /initrd.img, which the kernel's package links only when both files are there.
		rm -f "$root/vmlinuz" "$root/vmlinuz.old"
		chroot "$root" linux-update-symlinks install "$version" "/boot/vmlinuz-$version"
	done
}
if [ -n "$new" ]; then
	# What it is made of comes first, so that it is made while the others are configured.
	early=$(python3 -B "$BAKE_PROVISION/early.py" "$root")
	# shellcheck disable=SC2086 # a list of packages
	[ -z "$early" ] || configure $early
	initramfs 4>&- &
	initramfs=$!
	log=$(wc -l <"$root/var/log/dpkg.log")
fi
configure --pending
[ ! -e "$root/usr/bin/ssh-keygen" ] || umount "$root/usr/bin/ssh-keygen"

echo "ingot: phase finish"
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
if [ -n "$new" ]; then
	wait "$initramfs"
	# A package that was not among them may have asked for another.
	if tail -n "+$((log + 1))" "$root/var/log/dpkg.log" | grep -q ' trigproc initramfs-tools'; then chroot "$root" update-initramfs -u -k all; fi
fi
if [ -p "$root/tmp/py3compile" ]; then
	exec 4>&-
	wait "$compiling"
	umount "$root/usr/bin/py3compile"
	rm "$root/tmp/py3compile" "$root/tmp/py3compile.real"
fi
