#!/bin/sh
# hostname: the running and the kept host name, and the lines of /etc/hosts by which the host finds its full name and its peers.
# ARG_HOSTNAME  short name
# ARG_FQDN      full name
# ARG_PEERS     lines for the stack's other hosts: address, full name, short name
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"

line="127.0.1.1 $ARG_FQDN"
[ "$ARG_FQDN" = "$ARG_HOSTNAME" ] || line="$line $ARG_HOSTNAME"

# Ours are between two marks, behind whatever else is there.
begin='# Other hosts of the stack, by Ingot' end='# End of the other hosts'
peers=${ARG_PEERS:+$begin$newline$ARG_PEERS$newline$end}

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
	[ "$(sed -n "/^$begin\$/,/^$end\$/p" /etc/hosts)" = "$peers" ]
	;;
apply)
	echo "$ARG_HOSTNAME" >/etc/hostname.ingot-new
	mv -f /etc/hostname.ingot-new /etc/hostname
	hostname "$ARG_HOSTNAME"
	# Debian's own place for a host's name without a fixed address: reference manual 5.1.1.
	[ -e /etc/hosts ] || echo "127.0.0.1 localhost" >/etc/hosts
	{
		sed -e '/^127\.0\.1\.1[[:space:]]/d' -e "/^$begin\$/,/^$end\$/d" /etc/hosts
		echo "$line"
		[ -z "$peers" ] || printf '%s\n' "$peers"
	} >/etc/hosts.ingot-new
	mv -f /etc/hosts.ingot-new /etc/hosts
	;;
esac
