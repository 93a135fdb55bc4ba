#!/bin/sh
# link: a symbolic link, put in place atomically. No symlink on the way to it is followed.
# ARG_PATH  where it is
# ARG_TO    where it leads
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"
name=./${ARG_PATH##*/}

case $verb in
probe)
	enter "${ARG_PATH%/*}"
	[ -L "$name" ]
	[ "$(readlink -- "$name")" = "$ARG_TO" ]
	[ "$(stat -c %u -- "$name")" = 0 ]
	;;
apply)
	enter "${ARG_PATH%/*}" create
	if [ -e "$name" ] && [ ! -L "$name" ]; then
		fail "$ARG_PATH is there and is no link: it was left alone"
	fi
	rm -f -- "$name.ingot-$$"
	ln -s -- "$ARG_TO" "$name.ingot-$$"
	mv -fT -- "$name.ingot-$$" "$name"
	;;
esac
