#!/bin/sh
# Makes the disk of a layer: partitions, what boots it by UEFI and by BIOS, and the layer's tree. The disks of the images on that layer are made
# from it by patch.sh. Beside what inside.sh says:
#   table, esp    in DISK_FOLDER: for sfdisk; what is on the ESP ("file<TAB>path" a line)
#   DISK_BIOS     "yes": GRUB for the BIOS, too
#   DISK_SECTORS  of the whole; DISK_ROOT_SECTORS: of the root
#   DISK_ESP_START, DISK_ESP_SECTORS, DISK_BIOS_START
#   DISK_ROOT_UUID, DISK_HASH_SEED, DISK_ESP_ID
# There will be: disk.raw
mkdir "$DISK_FOLDER/work" "$DISK_FOLDER/work/root"
# shellcheck source=images/disk/inside.sh
. "$(dirname "$0")/inside.sh"
mount --bind "$DISK_TREE" chroot/mnt/root
mount -o remount,bind,ro,noatime chroot/mnt/root

echo "ingot: phase table"
truncate --size=$((DISK_SECTORS * 512)) work/disk.raw
inside sfdisk --quiet --no-reread --no-tell-kernel "$disk" <table

echo "ingot: phase root"
# Nothing is left for the first boot to write: neither inode tables nor the journal.
inside mke2fs -q -F -t ext4 -b 4096 -I 256 -U "$DISK_ROOT_UUID" -d /mnt/root \
	-E "offset=$((DISK_ROOT_START * 512)),hash_seed=$DISK_HASH_SEED,root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0,nodiscard" \
	"$disk" "$((DISK_ROOT_SECTORS / 8))"
# mke2fs takes a file's times of access and of change from the folder that it reads: when that was written and read is no matter of ours.
# Inodes in use are those from 11 on (1 to 10 are ext4's own; the root is 2), without a gap: e2fsck below would find it.
# Not dumpe2fs: that of e2fsprogs 1.47.2 takes the `=` for a tag's.
inside debugfs -R 'show_super_stats -h' "$root" >work/super
total=$(sed -n 's/^Inode count: *//p' work/super)
free=$(sed -n 's/^Free inodes: *//p' work/super)
{
	echo 2
	seq 11 $((total - free))
} | sed "s/.*/sif <&> atime @$DISK_DATE\nsif <&> ctime @$DISK_DATE/" >work/times
inside debugfs -w -f /mnt/times "$root" >work/debugfs

echo "ingot: phase loader"
truncate --size=$((DISK_ESP_SECTORS * 512)) work/esp.img
inside mkfs.vfat --invariant -i "$DISK_ESP_ID" -n ESP /mnt/esp.img >/dev/null
tab=$(printf '\t')
while IFS=$tab read -r from to; do
	mkdir -p "work/esp/${to%/*}"
	cp -- "$from" "work/esp/$to"
done <esp
find work/esp -exec touch --date="@$DISK_DATE" {} +
# One by one, in an order of ours: mcopy takes what readdir(3) gives.
(cd work/esp && find . -mindepth 1 -type d | sort) | while read -r path; do inside mmd -i /mnt/esp.img "::$path"; done
(cd work/esp && find . -type f | sort) | while read -r path; do inside mcopy -m -i /mnt/esp.img "/mnt/esp/$path" "::$path"; done
dd if=work/esp.img of=work/disk.raw bs=1M seek=$((DISK_ESP_START / 2048)) conv=notrunc,sparse status=none

if [ "$DISK_BIOS" = yes ]; then
	inside grub-mkimage -d /usr/lib/grub/i386-pc -O i386-pc -p '(,gpt1)/boot/grub' -o /mnt/core.img \
		biosdisk part_gpt ext2 search search_fs_uuid normal configfile linux serial terminal echo test sleep ls cat halt reboot
	cp tools/usr/lib/grub/i386-pc/boot.img work/boot.img
	# What grub-install would do (grub's util/setup.c): where the first sector finds the next one, and that one the rest; the jump that
	# asks for a disk that lies about itself is taken out.
	little() { # number: 8 bytes, the lowest first
		n=$1
		for _ in 1 2 3 4 5 6 7 8; do
			# shellcheck disable=SC2059 # the byte is the format
			printf "\\$(printf %03o $((n % 256)))"
			n=$((n / 256))
		done
	}
	little $((DISK_BIOS_START + 1)) | dd of=work/core.img bs=1 seek=$((0x1f4)) conv=notrunc status=none
	little "$DISK_BIOS_START" | dd of=work/boot.img bs=1 seek=$((0x5c)) conv=notrunc status=none
	printf '\220\220' | dd of=work/boot.img bs=1 seek=$((0x66)) conv=notrunc status=none
	[ "$(stat --format=%s work/core.img)" -le $(((DISK_ESP_START - DISK_BIOS_START) * 512)) ]
	dd if=work/boot.img of=work/disk.raw bs=440 count=1 conv=notrunc status=none
	dd if=work/core.img of=work/disk.raw bs=512 seek="$DISK_BIOS_START" conv=notrunc status=none
fi

inside e2fsck -f -n "$root" >work/fsck || {
	cat work/fsck
	exit 1
}
finish
