#!/bin/sh
# clock: the time zone, and systemd-timesyncd.
# ARG_TIMEZONE  as below /usr/share/zoneinfo
# ARG_SERVERS   its servers; they are in a drop-in already, and count as an input here
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"
unit=systemd-timesyncd.service
zone=/usr/share/zoneinfo/$ARG_TIMEZONE
noted=/var/lib/ingot/services/clock

case $verb in
probe)
	[ "$(readlink /etc/localtime)" = "$zone" ]
	read -r there </etc/timezone
	[ "$there" = "$ARG_TIMEZONE" ]
	systemctl --quiet is-enabled "$unit"
	[ "$(cat "$noted")" = "${ARG_SERVERS-}" ]
	;;
apply)
	[ -f "$zone" ] || fail "there is no time zone $ARG_TIMEZONE (no $zone)"
	ln -sfnT "$zone" /etc/localtime.ingot-new
	mv -fT /etc/localtime.ingot-new /etc/localtime
	echo "$ARG_TIMEZONE" >/etc/timezone.ingot-new
	mv -f /etc/timezone.ingot-new /etc/timezone
	systemctl --quiet --no-reload enable "$unit"
	# In a container its condition is not met, and it stays away.
	systemctl restart "$unit"
	printf '%s\n' "${ARG_SERVERS-}" >"$noted"
	;;
esac
