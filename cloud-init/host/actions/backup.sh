#!/bin/sh
# backup: the repositories of backups are there, and in each at least one backup.
# ARG_SETTINGS  path of what is backed up, and where to (backup.py reads it)
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"
[ -r "$ARG_SETTINGS" ] || fail "$ARG_SETTINGS is not there"

case $verb in
probe) /usr/bin/python3 "$INGOT/backup.py" prepared ;;
apply) /usr/bin/python3 "$INGOT/backup.py" prepare || exit 99 ;;
esac
