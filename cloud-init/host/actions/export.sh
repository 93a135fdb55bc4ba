#!/bin/sh
# export: what is exported can be mounted. Where the target has no NFS, the hosts that mount it are told that it is there.
# ARG_UNIT, ARG_INPUTS  as in service.sh
# ARG_SHARED            folders (lines) that the target gives to all hosts of an export, if it does
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"
ARG_RELOAD=true # exportfs -r: who has something mounted goes on

shared=
for folder in $ARG_SHARED; do
	[ ! -d "$folder" ] || shared="$shared $folder"
done

case $verb in
probe)
	if [ -n "$shared" ]; then
		for folder in $shared; do [ -e "$folder/exported" ]; done
	else
		service_probe "$ARG_UNIT"
	fi
	;;
apply)
	if [ -n "$shared" ]; then
		for folder in $shared; do : >"$folder/exported"; done
	else
		# Masked in images: most kernels that they meet have no such file system.
		systemctl --quiet unmask proc-fs-nfsd.mount
		service_apply "$ARG_UNIT"
	fi
	;;
esac
