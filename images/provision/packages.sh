#!/bin/sh
# mmdebstrap's first customize hook: every package that is not essential, unpacked in one call of dpkg and configured in another.
set -eu
root=$1

# mmdebstrap extracted the essential packages without dpkg's excludes.
find "$root/usr/share/man" "$root/usr/share/info" "$root/usr/share/lintian" -mindepth 1 -delete
find "$root/usr/share/doc" -depth -mindepth 1 ! -type d ! -name copyright -delete
find "$root/usr/share/doc" -depth -mindepth 1 -type d -empty -delete
find "$root/usr/share/locale" -depth -mindepth 1 ! -type d ! -path '*/locale/en*' ! -name locale.alias -delete
find "$root/usr/share/locale" -depth -mindepth 1 -type d -empty -delete

echo "ingot: phase unpack"
mkdir "$root/ingot-debs"
mount --bind -o ro "$BAKE_DEBS" "$root/ingot-debs"
# --force-depends: dpkg takes the packages in the order given and not in that of their Pre-Depends. Their preinst scripts need
# no more than the essential packages, and one that did would fail the bake.
sed 's|^|/ingot-debs/|' "$BAKE_FOLDER/others" |
	chroot "$root" xargs --exit --max-chars=1000000 dpkg --force-depends --status-fd 3 --unpack 3>&1
umount "$root/ingot-debs"
rmdir "$root/ingot-debs"

# Ingot's files and the recipe's, and the accounts with fixed numbers, before any package's script looks for them.
tar -x -C "$root" --no-same-owner --keep-directory-symlink --no-overwrite-dir -f "$BAKE_FOLDER/files.tar"
systemd-sysusers --root="$root" ingot.conf

echo "ingot: phase configure"
# One initramfs at the end instead of one for each package that asks. INITRD=No is read by the kernel package's hook
# (/etc/kernel/postinst.d/initramfs-tools); without a first one the trigger has none to update.
[ ! -e "$root/usr/bin/py3compile" ] || mount --bind "$BAKE_PROVISION/py3compile.sh" "$root/usr/bin/py3compile"
INITRD=No chroot "$root" dpkg --status-fd 3 --configure --pending 3>&1
[ ! -e "$root/usr/bin/py3compile" ] || umount "$root/usr/bin/py3compile"
