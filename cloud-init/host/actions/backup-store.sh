#!/bin/sh
# backup-store: in a drill, what production keeps for a host, which nobody can write to, lies under what is kept here. Elsewhere there is nothing to do.
# ARG_HOST  whose backups are kept
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"

case $verb in
probe) ! grep -q '"kept":' /run/ingot/facts/facts.json ;;
apply) /usr/bin/python3 "$INGOT/backup_store.py" lay "$ARG_HOST" || exit 99 ;;
esac
