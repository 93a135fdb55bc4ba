#!/bin/sh
# What `npm run bench -- images` measures beside Ingot, one per call, as root in the namespaces of images/provision/bake.sh: mounts and processes
# end with it. Called by images.ts. Environment:
#   BENCH_DO      which of the functions at the end
#   BENCH_FOLDER  there are: archive/ (an archive of the packages), debs (their files, one a line), names (the packages that are asked for),
#                 dpkg.cfg (options of dpkg), extra/ (files for mkosi), tree (what `file-system` takes). There will be: a folder of results
#   BENCH_INTO    that folder, in it; disk.raw is the disk
#   BENCH_TOOLS   mkosi, debootstrap and sfdisk, unpacked
set -eu
exec 2>&1
umask 022
cd "$BENCH_FOLDER"
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true
PATH="$BENCH_FOLDER/bin:$BENCH_TOOLS/usr/sbin:$BENCH_TOOLS/usr/bin:$BENCH_TOOLS/sbin:$PATH"
mkdir -p "$BENCH_INTO"

memory() { # folder: one in memory
	mkdir -p "$1"
	mount -t tmpfs -o mode=755,size=90% bench "$1"
}

file_system() { # tree
	mke2fs -q -t ext4 -d "$1" "$BENCH_INTO/disk.raw" 4G
}

run_mkosi() { # folder, what it is told besides
	folder=$1
	shift
	# systemd-machined knows nothing of the pids in here.
	mkdir -p bin
	printf '#!/bin/sh\nexec /usr/bin/systemd-nspawn --register=no --keep-unit "$@"\n' >bin/systemd-nspawn
	chmod +x bin/systemd-nspawn
	# mkosi installs with INITRD=No, for it leaves the initramfs to dracut, which Debian's image has not.
	# shellcheck disable=SC2016 # the script's own $1
	printf '#!/bin/sh\n[ "$1" != final ] || update-initramfs -c -k all\n' >"$folder/prepare"
	chmod +x "$folder/prepare"
	memory workspace
	while read -r name; do set -- "$@" "--package=$name"; done <names
	DEBOOTSTRAP_DIR="$BENCH_TOOLS/usr/share/debootstrap" PYTHONPATH="$BENCH_TOOLS/usr/lib/python3/dist-packages" \
		LD_LIBRARY_PATH="$BENCH_TOOLS/usr/lib/$(uname -m)-linux-gnu" \
		python3 -m mkosi --directory="$folder" --distribution=debian --release=bookworm \
		--mirror=http://deb.debian.org/debian --local-mirror="file://$BENCH_FOLDER/archive" --repository-key-check=no \
		--bootable=no --format=gpt_ext4 --root-size=4G --extra-tree="$BENCH_FOLDER/extra" --prepare-script=prepare \
		--workspace-dir="$BENCH_FOLDER/workspace" --output=disk.raw --force "$@" build
}

run_mmdebstrap() {
	memory work
	# shellcheck disable=SC2016 # mmdebstrap's own $1
	INITRD=No mmdebstrap --mode=root --variant=essential --include="$(paste -sd, names)" --format=directory \
		--skip=check/empty,check/qemu,cleanup --dpkgopt=dpkg.cfg \
		--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr --hook-dir=/usr/share/mmdebstrap/hooks/file-mirror-automount \
		--customize-hook='env --unset=INITRD chroot "$1" update-initramfs -c -k all' \
		bookworm work/tree "deb [trusted=yes] file://$BENCH_FOLDER/archive bookworm main"
	file_system work/tree
}

run_debootstrap() {
	memory work
	mkdir -p work/tree/etc/dpkg/dpkg.cfg.d
	cp dpkg.cfg work/tree/etc/dpkg/dpkg.cfg.d/bench
	INITRD=No DEBOOTSTRAP_DIR="$BENCH_TOOLS/usr/share/debootstrap" debootstrap --variant=minbase --include="$(paste -sd, names)" \
		--merged-usr --no-check-gpg bookworm work/tree "file://$BENCH_FOLDER/archive"
	chroot work/tree update-initramfs -c -k all
	file_system work/tree
}

case $BENCH_DO in
mkosi)
	# In memory and then copied: some seconds faster than on the disk.
	memory work
	run_mkosi "$BENCH_FOLDER/work"
	cp work/disk.raw "$BENCH_INTO/"
	;;
mkosi-incremental) run_mkosi "$BENCH_INTO" --incremental ;;
mmdebstrap) run_mmdebstrap ;;
debootstrap) run_debootstrap ;;
file-system) file_system "$(cat tree)" ;;
unpack)
	memory work
	for name in bin sbin lib lib64; do
		mkdir -p "work/tree/usr/$name"
		ln -s "usr/$name" "work/tree/$name"
	done
	xargs --max-procs="$(nproc)" --replace=deb dpkg-deb --extract deb work/tree <debs
	;;
touch-memory)
	memory work
	head -c 6G /dev/zero >work/zero
	;;
esac
