#!/bin/sh
# restore: on a machine that takes a lost one's place, what the backups hold, wherever there is nothing yet. Elsewhere there is nothing to do.
# ARG_SETTINGS  path of what is backed up, and where to (backup.py reads it)
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"
[ -r "$ARG_SETTINGS" ] || fail "$ARG_SETTINGS is not there"

case $verb in
probe)
	[ -e /var/lib/ingot/restored.json ] || ! grep -q '"restore":' /run/ingot/facts/facts.json
	;;
apply) /usr/bin/python3 "$INGOT/backup.py" restore || exit 99 ;;
esac
