#!/bin/sh
# Runs a script ($2) on a tree ($1) that has, as long as it runs, what the scripts of packages expect of a system, and nothing that would start a
# service in it. Called by layer.sh in a mount namespace of its own, whose end takes the mounts away.
set -eu
root=$1
here=$(dirname "$0")

mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
for device in null zero full random urandom tty; do
	mount --bind "/dev/$device" "$root/dev/$device"
done
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
mount --bind "$here/nothing.sh" "$root/usr/sbin/start-stop-daemon"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 0755 "$root/usr/sbin/policy-rc.d"
"$here/$2" "$root"
rm "$root/usr/sbin/policy-rc.d"
