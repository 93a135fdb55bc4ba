#!/bin/sh
# exec.sh LEADER COMMAND…: runs COMMAND in the machine whose PID 1 is LEADER, as root, under the machine's limits: nsenter alone
# would stay in the caller's cgroups. No shell sees COMMAND; its exit code and standard streams are the caller's.
# Environment: TERM.
set -eu
leader=$1
shift
while IFS=: read -r _ controllers path; do
	case $controllers in
	'') if [ -d /sys/fs/cgroup/unified ]; then tree=/sys/fs/cgroup/unified; else tree=/sys/fs/cgroup; fi ;;
	name=*) tree=/sys/fs/cgroup/${controllers#name=} ;;
	*) tree=/sys/fs/cgroup/$controllers ;;
	esac
	[ ! -e "$tree$path/cgroup.procs" ] || echo $$ >"$tree$path/cgroup.procs"
done <"/proc/$leader/cgroup"
# A nsenter that forks stops itself when the machine's shutdown stops its child, and then nobody reaps that child and the shutdown
# hangs; so a shell is the parent, without a pid namespace's fork of nsenter's own. setpriv: when it is killed, COMMAND ends, too.
# shellcheck disable=SC2016 # the inner shell's own arguments
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root USER=root LOGNAME=root SHELL=/bin/bash \
	LANG=C.UTF-8 TERM="${TERM:-dumb}" \
	nsenter --target "$leader" --mount --uts --ipc --net --pid --cgroup --root --wdns=/root --no-fork -- \
	sh -c 'setpriv --pdeathsig KILL -- "$@"; exit $?' sh "$@"
