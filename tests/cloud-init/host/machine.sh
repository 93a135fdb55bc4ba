#!/bin/sh
# One machine for the host's end-to-end tests: plain systemd-nspawn on an overlay in memory, over a baked root and cloud-init/host as it
# is in this tree. Root only. Everything lives in a mount, network and process namespace of its own and ends with this script.
#   machine.sh run FOLDER ROOT [DISK]   boots, again after each reboot, until powered off or killed; FOLDER/console.log is its console.
#                                       FOLDER/{facts,artifacts,report} are the machine's /run/ingot/…; DISK is a file that becomes
#                                       /dev/disk/by-id/ingot-data
#   machine.sh exec FOLDER COMMAND…     runs a command in it
set -eu
here=$(cd "$(dirname "$0")" && pwd)
host=$here/../../../cloud-init/host
verb=$1
folder=$2
shift 2

case $verb in
run)
	export SYSTEMD_NSPAWN_LOCK=0
	echo $$ >"$folder/pid"
	exec unshare --mount --net --uts --ipc --pid --fork --kill-child --mount-proc --propagation private \
		setpriv --pdeathsig KILL sh "$0" inner "$folder" "$@"
	;;
inner)
	root=$1
	disk=${2-}
	ip link set lo up
	mkdir -p "$folder/machine" "$folder/facts" "$folder/artifacts" "$folder/report"
	mount -t tmpfs -o size=6g,mode=755 ingot-test "$folder/machine"
	cd "$folder/machine"
	mkdir -p upper work root layer/usr/lib/ingot layer/usr/lib/systemd/system layer/etc/systemd/system/multi-user.target.wants
	cp -R "$host/." layer/usr/lib/ingot/
	rm -rf layer/usr/lib/ingot/__pycache__
	cp "$host"/units/*.service layer/usr/lib/systemd/system/
	for unit in ingot-boot ingot-secrets; do
		ln -s "/usr/lib/systemd/system/$unit.service" "layer/etc/systemd/system/multi-user.target.wants/$unit.service"
	done
	chmod -R u=rwX,go=rX layer
	mount -t overlay -o "lowerdir=layer:$root,upperdir=upper,workdir=work" ingot-test root
	# cloud-init has its own tests: here the generation is laid down by hand.
	mkdir -p root/etc/cloud && : >root/etc/cloud/cloud-init.disabled
	ln -sf /dev/null root/etc/systemd/system/networking.service
	if [ -n "$disk" ]; then
		device=$(losetup --find --show -- "$disk")
		echo "$device" >"$folder/loop"
		set -- "--bind=$device:/dev/disk/by-id/ingot-data"
	else
		set --
	fi
	while :; do
		code=0
		systemd-nspawn --quiet --settings=no --boot --directory="$folder/machine/root" --machine=ingot-host-test --register=no --keep-unit \
			--private-network --console=read-only --link-journal=no --resolv-conf=off --timezone=off \
			--bind-ro="$folder/facts:/run/ingot/facts" --bind-ro="$folder/artifacts:/run/ingot/artifacts" \
			--bind="$folder/report:/run/ingot/report" "$@" </dev/null >>"$folder/console.log" 2>&1 || code=$?
		[ $code = 133 ] || exit $code
	done
	;;
exec)
	# The machine's PID 1: the innermost process of the run's tree that is 1 in the last of its process namespaces.
	leader=$(cat "$folder/pid")
	# cat, because mawk ends at the first process that has gone meanwhile.
	leader=$(cat /proc/[0-9]*/status 2>/dev/null | awk -v top="$leader" '
		/^Pid:/ { pid = $2 }
		/^PPid:/ { parent[pid] = $2 }
		/^NSpid:/ { last[pid] = $NF; depth[pid] = NF }
		END {
			for (pid in last) {
				if (last[pid] != 1) continue
				for (up = pid; up in parent && up != top; up = parent[up]);
				if (up == top && depth[pid] > best) { best = depth[pid]; found = pid }
			}
			if (best >= 4) print found
		}') || :
	[ -n "$leader" ] || { echo "no machine is running" >&2; exit 3; }
	# nsenter waits for its child with WUNTRACED and stops itself when the child is stopped, which systemd-shutdown does to all; then
	# nobody reaps the child, and the machine's end waits for it for ever. A shell between them just waits.
	# shellcheck disable=SC2016 # for the inner shell
	exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
		nsenter --no-fork --target "$leader" --mount --uts --ipc --net --pid --cgroup --root --wdns=/root -- sh -c '"$@"; exit $?' sh "$@"
	;;
esac
