#!/bin/sh
# authorized-keys: who may log in as a user.
# ARG_USER
# ARG_KEYS  public keys (lines): all of ~/.ssh/authorized_keys, which goes when there are none
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"
home=$(getent passwd -- "$ARG_USER" | cut -d: -f6) || fail "there is no user $ARG_USER"

case $verb in
probe)
	# shellcheck disable=SC2016 # the user's own HOME
	[ "$(as "$ARG_USER" sh -c 'cat -- "$HOME/.ssh/authorized_keys"' 2>/dev/null || true)" = "${ARG_KEYS-}" ]
	;;
apply)
	[ -d "$home" ] || fail "user $ARG_USER has no home: there is no folder $home"
	# As the user: whatever the user has made of ~/.ssh, it leads nowhere that the user could not write to.
	# shellcheck disable=SC2016 # the user's own HOME
	printf '%s' "${ARG_KEYS:+$ARG_KEYS$newline}" | as "$ARG_USER" sh -c '
		set -eu
		umask 077
		cd -- "$HOME"
		[ ! -L .ssh ] || { echo "$HOME/.ssh is a symlink" >&2; exit 2; }
		[ -d .ssh ] || mkdir .ssh
		chmod 700 .ssh
		cd .ssh
		cat >.authorized_keys.new
		if [ -s .authorized_keys.new ]; then
			mv -fT .authorized_keys.new authorized_keys
		else
			rm -f .authorized_keys.new authorized_keys
		fi'
	;;
esac
