#!/bin/sh
# export-folder: the directory that is to be exported is there, before owner, mode and contents are seen to. Where the target has no NFS it is
# the folder that the target gives to all hosts of the export, mounted by a unit of its own, at boot too.
# ARG_PATH    the directory
# ARG_SHARED  that folder, if there is one
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"
unit=$(systemd-escape --path --suffix=mount -- "$ARG_PATH")
escaped=$(printf %s "$ARG_PATH" | sed 's/%/%%/g')

case $verb in
probe)
	enter "$ARG_PATH"
	[ ! -d "$ARG_SHARED" ] || { same_folder . "$ARG_SHARED/data" && systemctl --quiet is-enabled -- "$unit"; }
	;;
apply)
	enter "$ARG_PATH" create
	cd /
	if [ -d "$ARG_SHARED" ]; then
		chown 0:0 -- "$ARG_SHARED" # the user's who launched the machine, until now
		if [ ! -e "$ARG_SHARED/data" ]; then
			# What was there before it was exported goes along.
			rm -rf -- "$ARG_SHARED/.data"
			cp -a -- "$ARG_PATH" "$ARG_SHARED/.data"
			mv -- "$ARG_SHARED/.data" "$ARG_SHARED/data"
		fi
		printf '[Unit]\nDescription=Exported %s\nBefore=local-fs.target\n\n[Mount]\nWhat=%s\nWhere=%s\nType=none\nOptions=bind\n\n[Install]\nWantedBy=local-fs.target\n' \
			"$escaped" "$ARG_SHARED/data" "$escaped" >"/etc/systemd/system/$unit"
		systemctl daemon-reload
		systemctl --quiet --no-reload enable -- "$unit"
		systemctl start -- "$unit" || {
			journal_of "$unit" >&2
			fail "$ARG_SHARED could not be mounted at $ARG_PATH"
		}
	fi
	;;
esac
