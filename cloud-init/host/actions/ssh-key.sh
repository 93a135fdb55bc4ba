#!/bin/sh
# ssh-key: a user's private key, and its public half derived from it.
# ARG_USER
# ARG_KEY       path of the secret: an OpenSSH private key without passphrase
# ARG_PATH      where it goes (~/.ssh/id_ed25519)
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"

# As the user throughout: whatever the user has made of ~/.ssh leads nowhere that the user could not write to.
# shellcheck disable=SC2016 # the user's own HOME
there='
	path=${1:-$HOME/.ssh/id_ed25519}
	[ -f "$path" ] && [ ! -L "$path" ] && [ "$(stat -c %a -- "$path")" = 600 ] || exit 1
	cmp -s - "$path" && [ -s "$path.pub" ]'
# shellcheck disable=SC2016
install='
	set -eu
	umask 077
	path=${1:-$HOME/.ssh/id_ed25519}
	folder=${path%/*}
	[ ! -L "$folder" ] || { echo "$folder is a symlink" >&2; exit 2; }
	[ -d "$folder" ] || mkdir -m 700 -- "$folder"
	rm -f -- "$path.new"
	cat >"$path.new"
	ssh-keygen -y -P "" -f "$path.new" >"$path.pub.new" || { rm -f -- "$path.new" "$path.pub.new"; exit 2; }
	chmod 644 -- "$path.pub.new"
	mv -fT -- "$path.pub.new" "$path.pub"
	mv -fT -- "$path.new" "$path"'

case $verb in
probe) as "$ARG_USER" sh -c "$there" sh "${ARG_PATH-}" <"$ARG_KEY" ;;
apply)
	home=$(getent passwd -- "$ARG_USER" | cut -d: -f6) || fail "there is no user $ARG_USER"
	[ -n "${ARG_PATH-}" ] || [ -d "$home" ] || fail "user $ARG_USER has no home: there is no folder $home"
	as "$ARG_USER" sh -c "$install" sh "${ARG_PATH-}" <"$ARG_KEY"
	;;
esac
