#!/bin/sh
# What depends on another host of the stack rests while that one is rebuilt (rebuild.ts): its units are stopped, so that no job is tried in vain and
# no connection is left to a machine that is gone; the sites in front of it answer 503. After a reboot of this host all run again by themselves.
#   pause.sh running UNIT…            those that are to run again afterwards, one line each
#   pause.sh hold SITES UNITS         SITES and UNITS: names with spaces between them
#   pause.sh follow SITES UNITS [ADDRESS NAME]…   servers that must answer, by a name that they know, before their sites do
set -eu
verb=$1
shift

# nginx reloads behind systemctl's back, and its old workers answer until they have heard of it.
reload() {
	main=$(systemctl show --property=MainPID --value nginx.service)
	old=$(cat "/proc/$main/task/$main/children")
	systemctl reload nginx.service
	for _ in $(seq 100); do
		waiting=
		for worker in $old; do
			case $(tr '\0' ' ' 2>/dev/null <"/proc/$worker/cmdline") in
			"" | *"shutting down"*) ;;
			*) waiting=yes ;;
			esac
		done 2>/dev/null
		[ -n "$waiting" ] || return 0
		sleep 0.1
	done
}

sites() { # the page is there, or is not
	changed=
	for site in $1; do
		folder=/run/ingot/nginx/$site
		if [ "$verb" = hold ]; then
			install -d -m 0755 /run/ingot/nginx "$folder"
			cat >"$folder/rebuild.conf" <<-'PAGE'
				default_type text/plain;
				add_header Retry-After 30 always;
				add_header Cache-Control no-store always;
				return 503 "A part of this site is being restored. Please try again in a few minutes.\n";
			PAGE
		else
			rm -f "$folder/rebuild.conf"
		fi
		changed=yes
	done
	[ -z "$changed" ] || ! systemctl --quiet is-active nginx.service || reload
}

case $verb in
running)
	for unit; do
		case $(systemctl is-active "$unit") in
		inactive | unknown) ;;
		*) echo "$unit" ;;
		esac
	done
	;;
hold)
	sites "$1"
	if [ -n "$2" ]; then
		# shellcheck disable=SC2086 # units
		systemctl stop $2
		# One that calls being stopped a failure, or fails just then for want of the lost host, rests as the others do.
		# shellcheck disable=SC2086
		systemctl reset-failed $2 2>/dev/null || true
	fi
	;;
follow)
	if [ -n "$2" ]; then
		# shellcheck disable=SC2086
		systemctl reset-failed $2 2>/dev/null || true
		# shellcheck disable=SC2086
		systemctl start $2
	fi
	sites=$1
	shift 2
	while [ $# -ge 2 ]; do
		/usr/bin/python3 /usr/lib/ingot/ready.py "$1" "$2" 60
		shift 2
	done
	sites "$sites"
	;;
esac
