#!/bin/sh
# Starts one machine: its part of the network, its overlay, its disks, then the supervisor in the background. A machine that was
# stopped has all of them still, and only the supervisor is started. Standard output: what it must do without, one line each.
# Arguments: systemd-nspawn's. Standard input: one line for each disk, "name<TAB>file". Environment:
#   NAME      the machine's name on this computer; of its namespace, too
#   NETWORK   namespace of the stack, with br0
#   LINK      name of the machine's cable at the bridge
#   MAC       hardware address of the machine
#   ADDRESS   address/prefix of the machine
#   FOLDER    the machine's folder
#   LOWER     root tree of the image
#   MEMORY    bytes that it may use; empty: as many as there are
#   PERCENT   of one processor's time that it may use; empty: all there is
#   CONTAINERS  "yes": it runs containers of its own; empty: none
#   MANAGER   systemd: the supervisor becomes a unit; none: it stays in the cgroup that this script is in already
set -eu
cd "$FOLDER"

if [ ! -e upper ]; then
	ip netns add "$NAME"
	# Of a machine that was there before, whose end of the cable the kernel takes away in its own time.
	ip -n "$NETWORK" link delete "$LINK" 2>/dev/null || true
	ip -n "$NETWORK" link add "$LINK" type veth peer name host0 address "$MAC" netns "$NAME"
	ip -n "$NETWORK" link set "$LINK" master br0 up
	ip -n "$NAME" link set lo up
	ip -n "$NAME" addr add "$ADDRESS" dev host0
	ip -n "$NAME" link set host0 up

	mkdir upper work root run report
	[ -z "$CONTAINERS" ] || mkdir -m 0710 containers
	ln -s "$LOWER" lower
	# The overlay's root is the upper folder: it has the mode of the image's root, not of our umask.
	chmod 0755 upper report run
	chown -R 0:0 seed facts
	chmod 0755 seed
	chmod 0700 facts facts/secrets
	# Relative paths, since the kernel's option string has no room for commas and colons. `volatile`: the root lives no longer
	# than the machine, so that nobody waits for its fsync; data volumes are not on it.
	mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work,volatile ingot root
else
	rm -f run/leader run/exit
fi

# v1's list of devices (kernel's cgroup-v1/devices.rst); v2 would want a BPF program of our own.
group=/sys/fs/cgroup/devices$(sed -n 's/^[0-9]*:devices://p' /proc/self/cgroup)
# What an earlier machine of this name was kept to, if its group is still there, is not for this one. A group takes no such change while it
# has others below it, which containers may have left, nor a moment after.
[ ! -e "$group/devices.allow" ] || for _ in $(seq 40); do
	find "$group" -mindepth 1 -depth -type d -exec rmdir {} + || true
	! echo a >"$group/devices.allow" || break
	sleep 0.05
done 2>/dev/null

tab=$(printf '\t')
devices=
while IFS=$tab read -r disk file; do
	device=$(losetup --associated "$file" --noheadings --output NAME)
	[ -n "$device" ] || device=$(losetup --find --show -- "$file")
	devices="$devices $device"
	set -- "--bind=$device:/dev/disk/by-id/ingot-$disk" "$@"
done

here=$(cd "$(dirname "$0")" && pwd)
set -- sh "$here/supervise.sh" "$@"
# Docker forwards packets between networks of its own, which sysctl settings of the machine's network allow (systemd-nspawn(1), "ENVIRONMENT").
[ -z "$CONTAINERS" ] || set -- env SYSTEMD_NSPAWN_API_VFS_WRITABLE=network "$@"
# Root in the machine is root to the kernel: only these lists keep it from making itself a node of this computer's disk.
if [ "$MANAGER" = systemd ]; then
	for device in $devices; do
		set -- "--property=DeviceAllow=$device rwm" "$@"
	done
	# No swap, as on an instance.
	[ -z "$MEMORY" ] || set -- "--property=MemoryMax=$MEMORY" --property=MemorySwapMax=0 "$@"
	[ -z "$PERCENT" ] || set -- "--property=CPUQuota=$PERCENT%" "$@"
	# runc lets a container make any node, and open none but its own.
	[ -z "$CONTAINERS" ] || set -- --property='DeviceAllow=char-* m' --property='DeviceAllow=block-* m' "$@"
	# As systemd-nspawn@.service has it, with the machine's own disks instead of all.
	exec systemd-run --quiet --collect --unit="$NAME" --working-directory="$FOLDER" --property=Delegate=yes \
		--property=KillMode=mixed --property=TasksMax=16384 --property=DevicePolicy=closed \
		--property='DeviceAllow=/dev/net/tun rwm' --property='DeviceAllow=char-pts rw' "$@"
fi
if [ -e "$group/devices.deny" ]; then
	echo a >"$group/devices.deny"
	# null, zero, full, random, urandom; tty, console, ptmx; pts; net/tun
	for device in 'c 1:3' 'c 1:5' 'c 1:7' 'c 1:8' 'c 1:9' 'c 5:0' 'c 5:1' 'c 5:2' 'c 136:*' 'c 10:200'; do
		echo "$device rwm" >"$group/devices.allow"
	done
	[ -z "$CONTAINERS" ] || for device in 'c *:*' 'b *:*'; do
		echo "$device m" >"$group/devices.allow"
	done
	for device in $devices; do
		echo "b 7:${device#/dev/loop} rwm" >"$group/devices.allow"
	done
fi
sh "$here/limits.sh" "$MEMORY" "$PERCENT"
setsid "$@" </dev/null >>console.log 2>&1 9<&- &
