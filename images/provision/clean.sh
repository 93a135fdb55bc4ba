#!/bin/sh
# Takes out of a finished tree what is one machine's own, and what only the bake needed. images/truths.ts proves it afterwards.
set -eu
root=$1
cd "$root"

# Identity. machine-id is there and empty: systemd makes one at boot, and does not take the boot for a first one that presets
# every unit anew, as it would with "uninitialized" (machine-id(5)).
: >etc/machine-id
chmod 0444 etc/machine-id
rm -f var/lib/dbus/machine-id etc/hostname etc/resolv.conf var/lib/systemd/random-seed var/lib/systemd/credential.secret
rm -f etc/ssh/ssh_host_*
rm -f etc/ssl/private/ssl-cert-snakeoil.key etc/ssl/certs/ssl-cert-snakeoil.pem
[ ! -d etc/ssl/certs ] || find etc/ssl/certs -lname '*ssl-cert-snakeoil*' -delete
rm -f root/.bash_history root/.ssh/authorized_keys var/lib/rabbitmq/.erlang.cookie
# The mail server takes the name of the computer that it is installed on.
rm -f etc/mailname
[ ! -e etc/postfix/main.cf ] || sed -i 's/^myhostname = .*/myhostname = localhost/' etc/postfix/main.cf

# What the bake needed.
rm -f etc/dpkg/dpkg.cfg.d/ingot-bake
rm -rf var/lib/apt/lists var/cache/apt/archives var/cache/apt/*.bin
mkdir -p var/lib/apt/lists/partial var/cache/apt/archives/partial
rm -f etc/passwd- etc/group- etc/shadow- etc/gshadow- etc/subuid- etc/subgid- etc/.pwd.lock
rm -f var/lib/dpkg/*-old var/cache/debconf/*-old var/cache/ldconfig/aux-cache
rm -rf var/lib/cloud/* var/tmp/* tmp/* run/*

# Logs: the folders stay, with their owners; wtmp and its like are kept empty because login(1) does not make them.
find var/log -type f ! -name wtmp ! -name btmp ! -name lastlog ! -name faillog -delete
for log in wtmp btmp lastlog faillog; do
	[ ! -e "var/log/$log" ] || : >"var/log/$log"
done

# /usr is no younger than these: systemd does not do at first boot what the packages have done already
# (systemd-update-done.service(8)).
: >etc/.updated
: >var/.updated
