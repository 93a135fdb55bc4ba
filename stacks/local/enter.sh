#!/bin/sh
# enter.sh NAME COMMAND…: runs COMMAND in a cgroup of its own, in every hierarchy that is mounted (v1, hybrid and v2), below
# the caller's own cgroup, so that the caller's limits stay. For computers whose PID 1 is not systemd; elsewhere a unit does this.
# The ledger (cgroup.ts) knows the group, and undo.sh kills whatever is in it.
set -eu
name=$1
shift

# proc(5), /proc/pid/cgroup: hierarchy:controllers:path. Read before the first move changes it.
groups=$(cat /proc/self/cgroup)
while IFS=: read -r _ controllers path; do
	case $controllers in
	'') if [ -d /sys/fs/cgroup/unified ]; then tree=/sys/fs/cgroup/unified; else tree=/sys/fs/cgroup; fi ;;
	name=*) tree=/sys/fs/cgroup/${controllers#name=} ;;
	*) tree=/sys/fs/cgroup/$controllers ;;
	esac
	parent=$tree${path%/}
	[ -e "$parent/cgroup.procs" ] || continue
	group=$parent/$name
	mkdir -p "$group"
	case ,$controllers, in
	*,cpuset,*) # A new group has no CPU and no memory node, and takes no process, until they are given (cpusets(7)).
		cat "$parent/cpuset.cpus" >"$group/cpuset.cpus"
		cat "$parent/cpuset.mems" >"$group/cpuset.mems"
		echo 1 >"$group/cgroup.clone_children"
		;;
	esac
	echo $$ >"$group/cgroup.procs"
done <<EOF
$groups
EOF
exec "$@"
