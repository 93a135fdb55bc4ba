#!/bin/sh
# mount: a directory of another host, mounted; by its unit, which is a file of the generation. Where the target has no NFS a drop-in makes the
# unit mount the folder that the target gives to all hosts of the export.
# ARG_PATH     where it is mounted
# ARG_UNIT     its mount unit
# ARG_SOURCE   address:directory
# ARG_SHARED   that folder, if there is one
# ARG_OPTIONS  mount options (lines)
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"
dropin=/etc/systemd/system/$ARG_UNIT.d/ingot-shared.conf

mounted() {
	if [ -d "$ARG_SHARED" ]; then
		same_folder "$ARG_PATH" "$ARG_SHARED/data"
	else
		[ "$(findmnt --noheadings --first-only --output SOURCE --mountpoint "$ARG_PATH")" = "$ARG_SOURCE" ]
	fi
}

case $verb in
probe)
	mounted
	for option in $ARG_OPTIONS; do
		findmnt --noheadings --first-only --output OPTIONS --mountpoint "$ARG_PATH" | grep -qE "(^|,)$option(,|\$)"
	done
	systemctl --quiet is-enabled -- "$ARG_UNIT"
	;;
apply)
	rm -f -- "$dropin"
	if [ -d "$ARG_SHARED" ]; then
		mkdir -p -- "${dropin%/*}"
		printf '[Mount]\nWhat=%s\nType=none\nOptions=bind%s\n' "$ARG_SHARED/data" "$(for option in $ARG_OPTIONS; do printf ,%s "$option"; done)" >"$dropin"
	fi
	systemctl daemon-reload
	# Of another source or with other options: what uses it is stopped with it.
	! mountpoint -q -- "$ARG_PATH" || systemctl stop -- "$ARG_UNIT"
	systemctl --quiet --no-reload enable -- "$ARG_UNIT"
	# The other host may list it a moment after it listens.
	tries=0
	until systemctl start -- "$ARG_UNIT"; do
		tries=$((tries + 1))
		[ $tries -lt 60 ] || {
			journal_of "$ARG_UNIT" >&2
			fail "$ARG_SOURCE could not be mounted at $ARG_PATH"
		}
		sleep 2
		systemctl reset-failed -- "$ARG_UNIT" || true
	done
	mounted || fail "$ARG_PATH is mounted from elsewhere after the start of $ARG_UNIT"
	;;
esac
