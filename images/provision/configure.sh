#!/bin/sh
# The configuration, on top of all packages: what the packages leave to the administrator. It ends in the image.
set -eu
root=$1

echo "ingot: phase settings"
# Ingot's files and the recipe's.
tar -x -C "$root" --no-same-owner --keep-directory-symlink --no-overwrite-dir -f files.tar
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
"$BAKE_PROVISION/scripts.sh" "$root"
