#!/bin/sh
# The user-data of a smoke boot (smoke.ts): the machine says on its console what it is, and goes. It needs no network and no role.
# cloud-init runs it in its last stage; what it reports is true only after that, so a unit of its own goes on.
set -eu

if [ "${1:-}" != report ]; then
	# Whoever waits for it may be gone: an instance that powers itself off is terminated.
	systemd-run --quiet --on-active=15min systemctl poweroff
	exec systemd-run --quiet --no-block --unit=ingot-smoke "$0" report
fi

for _ in $(seq 300); do
	state=$(systemctl is-system-running || :)
	[ ! -e /run/cloud-init/result.json ] || [ "$state" = starting ] || [ "$state" = initializing ] || break
	sleep 1
done

facts() {
	echo "== system"
	echo "$state"
	echo "== machine-id"
	cat /etc/machine-id
	echo "== old-host-keys"
	# systemd makes this socket when it starts.
	find /etc/ssh -name 'ssh_host_*' ! -newer /run/systemd/private
	echo "== passwords"
	# shellcheck disable=SC2016 # awk's own
	awk -F: '$2 !~ /^[!*]/ { print $1 }' /etc/shadow
	echo "== cloud-init"
	[ ! -e /run/cloud-init/result.json ] || echo "done"
	echo "== cloud-init-errors"
	python3 -c 'import json; print("\n".join(json.load(open("/run/cloud-init/result.json"))["v1"]["errors"]))' || :
	echo "== failed"
	systemctl list-units --state=failed --plain --no-legend --no-pager | cut -d' ' -f1
	echo "== packages"
	# shellcheck disable=SC2016 # dpkg-query's own format
	dpkg-query --show --showformat='${db:Status-Abbrev}\t${Package}\t${Version}\n'
	echo "== units"
	systemctl list-unit-files --no-legend --no-pager --plain
	echo "== passwd"
	cat /etc/passwd
	echo "== group"
	cat /etc/group
	echo "== files"
	find /usr/lib/ingot /usr/lib/systemd/system /usr/lib/udev/rules.d -type f \
		\( -path '/usr/lib/ingot/*' -o -name 'ingot*' -o -name '*-ingot-*' \) ! -path '*/__pycache__/*' -exec sha256sum {} +
}

folder=$(mktemp -d)
facts | gzip -9 | base64 -w 100 >"$folder/report"
count=$(wc -l <"$folder/report")
# Again and again: EC2 keeps the last 64 KiB of a console, and other lines come between.
while :; do
	awk -v count="$count" '{ print "ingot-smoke " NR "/" count " " $0 }' "$folder/report" >/dev/console
	sleep 10
done
