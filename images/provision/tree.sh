#!/bin/sh
# The whole tree, from .debs to facts, inside the namespaces that bake.sh makes. Lines beginning with `ingot:` and dpkg's
# status lines tell images/bake.ts how far it is.
set -eu
exec 2>&1
umask 022
cd "$BAKE_FOLDER"
here=$BAKE_PROVISION

mkdir tree
# In memory: dpkg writes each file twice and syncs its database often. Without enough of it, on the disk.
[ "$BAKE_TMPFS" = 0 ] || mount -t tmpfs -o "mode=755,size=$BAKE_TMPFS" ingot-bake tree

echo "ingot: phase essential"
mkdir tree/repository
while read -r deb; do
	cp "$BAKE_DEBS/$deb" tree/repository/
done <essential
(cd tree/repository && apt-ftparchive packages . >Packages)

# Essential packages by mmdebstrap, everything else by its hook.
# Our own cleaning follows in clean.sh.
DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true LC_ALL=C.UTF-8 \
	mmdebstrap --mode=root --variant=essential --format=directory --architectures="$BAKE_ARCHITECTURE" \
	--skip=check/empty,check/qemu,cleanup \
	--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
	--setup-hook="$here/setup.sh" \
	--customize-hook="$here/packages.sh" \
	--customize-hook="$here/configure.sh" \
	"" "$BAKE_FOLDER/tree/root" "deb [trusted=yes] copy:$BAKE_FOLDER/tree/repository ./"

echo "ingot: phase clean"
"$here/clean.sh" tree/root
echo "ingot: phase look"
"$here/facts.sh" tree/root facts
echo "ingot: phase store"
if [ "$BAKE_TMPFS" = 0 ]; then
	mv tree/root root
	rm -r tree
else
	cp --archive --reflink=never tree/root root
	umount tree
	rmdir tree
fi
