#!/bin/sh
# PID 1 of a machine that runs containers, where control groups are of the first version: makes them the machine's own to write to, then
# becomes systemd. systemd-nspawn mounts all of them read-only but systemd's own (systemd-nspawn(1)), and so no limit would hold in the
# machine, neither a unit's nor a container's. What is mounted is the machine's part alone (cgroup_namespaces(7)).
set -eu
mount -o remount,rw /sys/fs/cgroup
for tree in /sys/fs/cgroup/*/; do
	! mountpoint -q "$tree" || mount -o remount,bind,rw "$tree"
done
exec /lib/systemd/systemd
