#!/bin/sh
# Undoes what a ledger entry lists (lib/ledger.ts), one thing a line on standard input, fields separated by tabs.
# Everything here may be gone already: that is fine. What is still there at the end is an error.
set -u
failed=0

start_of() { # pid: field 22 of its stat, counted behind the command's name, which may hold spaces
	sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20
}

undo_process() {
	[ "$(start_of "$1")" = "$2" ] || return 0
	kill -KILL "$1" 2>/dev/null
	for _ in $(seq 100); do
		[ "$(start_of "$1")" = "$2" ] || return 0
		# A zombie whose parent does not wait for it is dead enough.
		case $(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) in Z*) return 0 ;; esac
		sleep 0.05
	done
	return 1
}

undo_holder() { # file: "pid start"
	[ -e "$1" ] || return 0
	read -r pid start <"$1" || return 0
	undo_process "$pid" "$start"
}

undo_cgroup() {
	for tree in /sys/fs/cgroup /sys/fs/cgroup/*/; do
		group=${tree%/}/$1
		[ -e "$group/cgroup.procs" ] || continue
		for _ in $(seq 100); do
			find "$group" -name cgroup.procs -exec cat {} + 2>/dev/null | while read -r pid; do
				kill -KILL "$pid" 2>/dev/null
			done
			find "$group" -depth -type d -exec rmdir {} + 2>/dev/null
			[ -d "$group" ] || break
			sleep 0.05
		done
		[ ! -d "$group" ] || return 1
	done
}

undo_mount() {
	while mountpoint -q -- "$1"; do
		umount -- "$1" 2>/dev/null || umount --lazy -- "$1" || return 1
	done
}

undo_folder() {
	[ -e "$1" ] || return 0
	# /proc/mounts writes white space and backslashes in octal (proc(5)); %b reads them back.
	cut -d' ' -f2 /proc/mounts | sort -r | while read -r path; do
		path=$(printf '%b' "$path")
		case $path/ in "$1"/*) umount -- "$path" 2>/dev/null || umount --lazy -- "$path" ;; esac
	done
	losetup --list --noheadings --output NAME,BACK-FILE | while read -r device file; do
		case $file in "$1"/*) losetup --detach "$device" ;; esac
	done
	rm -rf --one-file-system -- "$1"
}

undo_netns() {
	[ -e "/run/netns/$1" ] || return 0
	ip netns delete "$1"
}

undo_loop() {
	# By its name, not by --associated: the file of a lost disk is gone, and the kernel says so behind its name.
	losetup --list --noheadings --output NAME,BACK-FILE | while read -r device file; do
		case $file in
		"$1" | "$1 (deleted)") losetup --detach "$device" ;;
		esac
	done
}

tab=$(printf '\t')
while IFS=$tab read -r kind one two; do
	case $kind in
	process) undo_process "$one" "$two" ;;
	holder) undo_holder "$one" ;;
	cgroup) undo_cgroup "$one" ;;
	mount) undo_mount "$one" ;;
	folder) undo_folder "$one" ;;
	netns) undo_netns "$one" ;;
	loop) undo_loop "$one" ;;
	*) false ;;
	esac || {
		echo "could not undo: $kind $one" >&2
		failed=1
	}
done
exit $failed
