#!/bin/sh
# vassal: one application of uWSGI's emperor. A new release is a graceful reload; a change of its settings or environment a new start.
# ARG_EMPEROR   the emperor's unit
# ARG_NAME
# ARG_SOURCE    its settings (ini); put where the emperor looks only now, when all that it needs is there
# ARG_FOLDER    tmpfiles.d(5) of its socket's folder
# ARG_INPUTS    paths (lines) whose change is a new start; ARG_HASH: whose change is a reload
# ARG_LISTENS, ARG_READY, ARG_TIMEOUT as in service.sh
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"
site=/etc/uwsgi/sites/$ARG_NAME.ini
record=/var/lib/ingot/services/uwsgi.$ARG_NAME

# Its master, a child of the emperor's, and the master's workers. `own`: what the journal has of each that was seen.
own=''
look() {
	master='' workers=''
	emperor=$(systemctl show --property=MainPID --value -- "$ARG_EMPEROR")
	for pid in $(cat "/proc/$emperor/task/"*/children 2>/dev/null || true); do
		case $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null || true) in
		*" --ini $site "*) master=$pid ;;
		esac
	done
	[ -n "$master" ] || return 0
	workers=$(cat "/proc/$master/task/$master/children" 2>/dev/null || true)
	for pid in $master $workers; do
		case "$own " in
		*" _PID=$pid "*) ;;
		*) own="$own _PID=$pid" ;;
		esac
	done
}

is_listening() {
	listening "$ARG_LISTENS"
}

# until_true SECONDS COMMAND…
until_true() {
	read -r uptime _ </proc/uptime
	deadline=$((${uptime%.*} + $1))
	shift
	until "$@"; do
		read -r uptime _ </proc/uptime
		[ "${uptime%.*}" -lt "$deadline" ] || return 1
		sleep 0.1
	done
}

gone() {
	look
	[ -z "$master" ]
}

# A master, all of whose workers are others than before. One that has been there and is gone could not load its application.
renewed() {
	look
	[ -z "$seen" ] || [ -n "$master" ] || died "it ended right after its start"
	seen=$master
	[ -n "$workers" ] && is_listening || return 1
	for worker in $workers; do
		case " $before " in
		*" $worker "*) return 1 ;;
		esac
	done
}

# The emperor's journal has the lines of every vassal: only this one's are shown.
died() {
	echo "uWSGI does not serve $ARG_NAME: $1; the end of its journal:" >&2
	# shellcheck disable=SC2086 # a match a word
	journal_of "$ARG_EMPEROR" $own >&2
	exit 99
}

look
start_hash=$(hash_of_lines "$ARG_INPUTS")
start_hash=${start_hash%% *}
was_start='' was_hash=''
[ ! -r "$record" ] || {
	IFS= read -r was_start
	IFS= read -r was_hash
} <"$record"
case $verb in
probe)
	[ -n "$master" ]
	[ "$was_start/$was_hash" = "$start_hash/${ARG_HASH-}" ]
	cmp -s -- "$ARG_SOURCE" "$site"
	is_listening
	;;
apply)
	before=$workers
	seen=
	if [ -n "$master" ] && [ "$was_start" = "$start_hash" ] && cmp -s -- "$ARG_SOURCE" "$site"; then
		seen=$master
		[ "$was_hash" = "${ARG_HASH-}" ] || touch -- "$site"
		echo "$ARG_NAME: reload"
	else
		if [ -n "$master" ] || [ -e "$site" ]; then
			rm -f -- "$site"
			until_true 90 gone || died "the one before does not end"
		fi
		[ -z "${ARG_FOLDER-}" ] || systemd-tmpfiles --create "$ARG_FOLDER"
		put "$ARG_SOURCE" "$site" root root 0644
		echo "$ARG_NAME: start"
	fi
	until_true "${ARG_TIMEOUT:-60}" renewed || died "nothing listens on $ARG_LISTENS after ${ARG_TIMEOUT:-60} s"
	[ -z "${ARG_READY-}" ] || /usr/bin/python3 "$INGOT/ready.py" "$ARG_LISTENS" "$ARG_READY" "${ARG_TIMEOUT:-60}" || died "it does not answer to HTTP"
	# One whose application cannot be loaded ends a moment later.
	settled=$master
	sleep 0.5
	look
	if [ "$master" != "$settled" ] || [ -z "$workers" ]; then died "it keeps dying right after its start"; fi
	printf '%s\n' "$start_hash" "${ARG_HASH-}" >"$record.new"
	mv -f -- "$record.new" "$record"
	;;
esac
