#!/bin/sh
# supervised: one program of supervisor's, running with what its inputs hold; only it is restarted when they have changed.
# ARG_NAME      as supervisorctl has it: `group:program` or `program`
# ARG_INPUTS, ARG_HASH, ARG_LISTENS, ARG_READY, ARG_TIMEOUT as in service.sh
# ARG_LOG       path of its log
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"
record=/var/lib/ingot/services/supervisor.$(printf %s "$ARG_NAME" | tr : .)

look() {
	state=$(supervisorctl status "$ARG_NAME" 2>&1) || true
	case $state in
	*" RUNNING "*) pid=${state#* pid } pid=${pid%%,*} ;;
	*) pid= ;;
	esac
}

died() {
	echo "$ARG_NAME $1 ($state); the end of its log:" >&2
	tail -n 30 -- "$ARG_LOG" >&2 || true
	exit 99
}

look
hash=$(hash_of_lines "$ARG_INPUTS")
hash=${hash%% *}${ARG_HASH:+"+$ARG_HASH"}
was=
[ ! -r "$record" ] || IFS= read -r was <"$record"
case $verb in
probe) [ -n "$pid" ] && [ "$was" = "$hash" ] ;;
apply)
	# Supervisor may have started it a moment ago, with all of this: then its own start is the one that counts.
	started=
	[ -n "$was" ] || [ -z "$pid" ] || started=$pid
	before=$pid
	if [ -z "$started" ]; then
		supervisorctl update "${ARG_NAME%%:*}"
		look
		if [ -z "$pid" ] || [ "$pid" = "$before" ]; then supervisorctl restart "$ARG_NAME" || true; fi
	fi
	read -r uptime _ </proc/uptime
	deadline=$((${uptime%.*} + ${ARG_TIMEOUT:-60}))
	while :; do
		look
		case $state in
		*" FATAL "* | *" BACKOFF "*) died "dies right after its start" ;;
		*"no such process"*) died "is not known to supervisor" ;;
		esac
		waiting=
		while read -r address; do
			[ -z "$address" ] || listening "$address" || waiting=$address
		done <<-LISTENS
			${ARG_LISTENS-}
		LISTENS
		[ -z "$pid" ] || [ -n "$waiting" ] || break
		read -r uptime _ </proc/uptime
		[ "${uptime%.*}" -lt "$deadline" ] || died "is not up after ${ARG_TIMEOUT:-60} s${waiting:+: nothing listens on $waiting}"
		sleep 0.1
	done
	settled=$pid
	[ -z "${ARG_READY-}" ] || while read -r address; do
		[ -z "$address" ] || /usr/bin/python3 "$INGOT/ready.py" "$address" "$ARG_READY" "$((deadline - ${uptime%.*}))" || died "does not answer to HTTP on $address"
	done <<-LISTENS
		${ARG_LISTENS-}
	LISTENS
	look
	[ "$pid" = "$settled" ] || died "keeps dying right after its start"
	echo "$hash" >"$record.new"
	mv -f -- "$record.new" "$record"
	echo "$ARG_NAME: pid $pid"
	;;
esac
