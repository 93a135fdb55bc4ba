#!/bin/sh
# application-live: makes a release the current one, and keeps the last three.
# ARG_PATH      the symlink /srv/APP/current
# ARG_RELEASE   folder of the release, beside which the others lie
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"

case $verb in
probe) [ "$(readlink -- "$ARG_PATH")" = "$ARG_RELEASE" ] ;;
apply)
	[ -d "$ARG_RELEASE" ] || fail "the release is not here: no folder $ARG_RELEASE"
	before=$(readlink -- "$ARG_PATH") || before=
	enter "${ARG_PATH%/*}"
	[ -L "./${ARG_PATH##*/}" ] || [ ! -e "./${ARG_PATH##*/}" ] || fail "$ARG_PATH is not a symlink"
	ln -sfn -- "$ARG_RELEASE" "./.${ARG_PATH##*/}.new"
	mv -fT -- "./.${ARG_PATH##*/}.new" "./${ARG_PATH##*/}"
	touch -- "$ARG_RELEASE"
	# Newest first by when they went live; the one before this may still run until its services are restarted.
	enter "${ARG_RELEASE%/*}"
	kept=0
	# shellcheck disable=SC2012 # ids of releases are plain words
	ls -1t | while read -r id; do
		release=$PWD/$id
		if [ "$release" = "$ARG_RELEASE" ] || [ "$release" = "$before" ] || [ $kept -lt 3 ]; then
			kept=$((kept + 1))
		else
			rm -rf -- "./$id"
			echo "removed the release $id"
		fi
	done
	;;
esac
