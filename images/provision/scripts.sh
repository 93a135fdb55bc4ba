#!/bin/sh
# The recipe's own scripts, each a folder of $BAKE_FOLDER/scripts with its title, itself, and the words of its call; in their order, without a
# network, as root of the tree.
set -eu
root=$1
for script in "$BAKE_FOLDER"/scripts/*; do
	[ -d "$script" ] || continue
	echo "ingot: phase run $(cat "$script/title")"
	install -m 0755 "$script/script" "$root/run/ingot-script"
	xargs --null --arg-file="$script/call" --exit unshare --net chroot "$root"
	rm "$root/run/ingot-script"
done
