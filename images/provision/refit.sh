#!/bin/sh
# A tree like that of another image, but for Ingot's own files, inside the namespaces that bake.sh makes: the other image's files
# are shared by hard links (neither image is ever written to), Ingot's are taken out and put in anew.
set -eu
exec 2>&1
umask 022
cd "$BAKE_FOLDER"

echo "ingot: phase refit"
cp --archive --link "$BAKE_BASE" root
if [ -n "$BAKE_DISABLED" ]; then
	# shellcheck disable=SC2086 # a list of unit names
	systemctl --root=root --quiet disable $BAKE_DISABLED
fi
(cd root && xargs --no-run-if-empty rm --) <stale
find root/usr/lib/ingot -depth -type d -empty -delete
tar -x -C root --no-same-owner --keep-directory-symlink --no-overwrite-dir -f files.tar
if [ -n "$BAKE_ENABLED" ]; then
	# shellcheck disable=SC2086 # a list of unit names
	systemctl --root=root --quiet enable $BAKE_ENABLED
fi
"$BAKE_PROVISION/times.sh" root
echo "ingot: phase look"
"$BAKE_PROVISION/facts.sh" root facts
