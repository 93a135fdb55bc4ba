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

# Its hook for the merged /usr takes the functions of debootstrap where that is installed, and its own where not: these, everywhere.
[ ! -d /usr/share/debootstrap ] || mount -t tmpfs ingot-none /usr/share/debootstrap

DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true LC_ALL=C.UTF-8 \
	mmdebstrap --mode=root --variant=essential --format=directory --architectures="$BAKE_ARCHITECTURE" \
	--skip=check/empty,check/qemu,cleanup \
	--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
	--setup-hook="$BAKE_PROVISION/setup.sh" \
	"" "$PWD/$root" "deb [trusted=yes] copy:$PWD/work/repository ./"
rm -rf work/repository

# They were extracted without dpkg's excludes, whose patterns mean the same to find(1).
cd "$root"
excludes=etc/dpkg/dpkg.cfg.d/ingot-excludes
[ ! -e "$excludes" ] || sed -n 's|^path-exclude=/\(.*\)/\*$|\1|p' "$excludes" | while read -r folder; do
	set -f --
	# shellcheck disable=SC2013 # patterns without a blank
	for kept in $(sed -n "s|^path-include=/\($folder/\)|\1|p" "$excludes"); do
		set -- "$@" ! -path "$kept"
	done
	find "$folder" -depth -mindepth 1 ! -type d "$@" -delete
	find "$folder" -depth -mindepth 1 -type d -empty -delete
done

# What mmdebstrap told its apt, and what it took from this computer.
rm -rf etc/apt/apt.conf.d/*mmdebstrap etc/dpkg/dpkg.cfg.d/*mmdebstrap tmp/mmdebstrap.* etc/apt/sources.list var/lib/apt/lists var/cache/apt
rm -f etc/hostname etc/resolv.conf
