#!/bin/sh
# hostname: the running and the kept host name, and the one line of /etc/hosts by which the host finds its full name.
# ARG_HOSTNAME  short name
# ARG_FQDN      full name
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"

line="127.0.1.1 $ARG_FQDN"
[ "$ARG_FQDN" = "$ARG_HOSTNAME" ] || line="$line $ARG_HOSTNAME"

read_first() {
	first=
	[ ! -r "$1" ] || read -r first <"$1" || true
}

case $verb in
probe)
	read_first /etc/hostname
	[ "$first" = "$ARG_HOSTNAME" ]
	read_first /proc/sys/kernel/hostname
	[ "$first" = "$ARG_HOSTNAME" ]
	[ "$(grep '^127\.0\.1\.1[[:space:]]' /etc/hosts)" = "$line" ]
	;;
apply)
	echo "$ARG_HOSTNAME" >/etc/hostname.ingot-new
	mv -f /etc/hostname.ingot-new /etc/hostname
	hostname "$ARG_HOSTNAME"
	# Debian's own place for a host's name without a fixed address: reference manual 5.1.1.
	[ -e /etc/hosts ] || echo "127.0.0.1 localhost" >/etc/hosts
	{
		sed -n '/^127\.0\.1\.1[[:space:]]/!p' /etc/hosts
		echo "$line"
	} >/etc/hosts.ingot-new
	mv -f /etc/hosts.ingot-new /etc/hosts
	;;
esac
