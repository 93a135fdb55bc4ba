#!/bin/sh
# The first layer: the essential packages, by mmdebstrap.
set -eu
root=$1

echo "ingot: phase essential"
mkdir work/repository
while read -r deb; do
	cp "$BAKE_DEBS/$deb" work/repository/
done <packages
(cd work/repository && apt-ftparchive packages . >Packages)

DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true LC_ALL=C.UTF-8 \
	mmdebstrap --mode=root --variant=essential --format=directory --architectures="$BAKE_ARCHITECTURE" \
	--skip=check/empty,check/qemu,cleanup \
	--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
	--setup-hook="$BAKE_PROVISION/setup.sh" \
	"" "$PWD/$root" "deb [trusted=yes] copy:$PWD/work/repository ./"
rm -rf work/repository

# They were extracted without dpkg's excludes.
cd "$root"
find usr/share/man usr/share/info usr/share/lintian -mindepth 1 -delete
find usr/share/doc -depth -mindepth 1 ! -type d ! -name copyright -delete
find usr/share/doc -depth -mindepth 1 -type d -empty -delete
find usr/share/locale -depth -mindepth 1 ! -type d ! -path '*/locale/en*' ! -name locale.alias -delete
find usr/share/locale -depth -mindepth 1 -type d -empty -delete

# What mmdebstrap told its apt, and what it took from this computer.
rm -rf etc/apt/apt.conf.d/*mmdebstrap etc/dpkg/dpkg.cfg.d/*mmdebstrap tmp/mmdebstrap.* etc/apt/sources.list var/lib/apt/lists var/cache/apt
rm -f etc/hostname etc/resolv.conf
