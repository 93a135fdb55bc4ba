#!/bin/sh
# mmdebstrap's second customize hook: what the packages leave to the administrator.
set -eu
root=$1

echo "ingot: phase finish"
initramfs() {
	[ -x "$root/usr/sbin/update-initramfs" ] || return 0
	chroot "$root" update-initramfs -c -k all
	# /vmlinuz and /initrd.img, which the kernel's package links only when both files are there.
	rm -f "$root/vmlinuz" "$root/vmlinuz.old"
	for kernel in "$root"/boot/vmlinuz-*; do
		chroot "$root" linux-update-symlinks install "${kernel##*/vmlinuz-}" "/boot/${kernel##*/}"
	done
}
initramfs &
initramfs=$!
if [ -e "$root/tmp/py3compile" ]; then
	while read -r arguments; do
		# shellcheck disable=SC2086 # what py3compile.sh was given
		chroot "$root" py3compile $arguments
	done <"$root/tmp/py3compile"
fi
if [ -n "$BAKE_LOCALES" ]; then
	chroot "$root" locale-gen
fi
# Units: enabled by their packages, disabled here, enabled again by the host that declares them.
if [ -n "$BAKE_DISABLED" ]; then
	# shellcheck disable=SC2086 # a list of unit names
	chroot "$root" systemctl --no-reload --quiet disable $BAKE_DISABLED
fi
if [ -n "$BAKE_ENABLED" ]; then
	# shellcheck disable=SC2086 # a list of unit names
	chroot "$root" systemctl --no-reload --quiet enable $BAKE_ENABLED
fi
for unit in $BAKE_MASKED_IF_PRESENT; do
	[ ! -e "$root/usr/lib/systemd/system/$unit" ] || ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
rm -f "$root/etc/nginx/sites-enabled/default"
wait "$initramfs"
"$BAKE_PROVISION/scripts.sh" "$root"
