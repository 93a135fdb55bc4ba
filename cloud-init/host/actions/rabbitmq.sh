#!/bin/sh
# rabbitmq: the server with its own Erlang cookie, and exactly the users and permissions declared. Virtual hosts are added and never
# taken away: their queues may hold messages.
# ARG_UNIT, ARG_INPUTS, ARG_LISTENS, ARG_TIMEOUT as in service.sh
# ARG_COOKIE    path of the secret
# ARG_USERS, ARG_PASSWORD_1…, ARG_VHOSTS, ARG_PERMISSIONS as in rabbitmq.py
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"
home=/var/lib/rabbitmq
definitions=/etc/rabbitmq/ingot-definitions.json
imported=/var/lib/ingot/services/rabbitmq.definitions

wanted() {
	wanted=$(mktemp /run/ingot/rabbitmq.XXXXXX)
	trap 'rm -f -- "$wanted"' EXIT
	"$INGOT/rabbitmq.py" definitions "$definitions" >"$wanted"
	hash=$(sha256sum <"$wanted")
}

# What comes from packages and is not ours: a folder on a fresh volume.
home_is_right() {
	[ "$(stat -c '%U:%G' $home)" = rabbitmq:rabbitmq ] && same "$ARG_COOKIE" $home/.erlang.cookie rabbitmq rabbitmq 0400
}

# Users, a line each; then vhost and user of every permission. (export_definitions of 3.10 stumbles over its own hashes.)
there() {
	rabbitmqctl --quiet --no-table-headers list_users | cut -f1
	printf '%s\n' "${ARG_VHOSTS-}" | while IFS= read -r vhost; do
		[ -z "$vhost" ] || rabbitmqctl --quiet --no-table-headers list_permissions -p "$vhost" </dev/null | cut -f1 | sed "s|^|$vhost	|"
	done
}

case $verb in
probe)
	home_is_right || exit 1
	service_probe "$ARG_UNIT" || exit 1
	# In a subshell: this verb's own EXIT trap stays.
	(
		wanted
		same "$wanted" "$definitions" root rabbitmq 0640 && [ "$(cat "$imported" 2>/dev/null)" = "$hash" ]
	) || exit 1
	"$INGOT/rabbitmq.py" ready 2>/dev/null || exit 1
	;;
apply)
	wanted
	put "$wanted" "$definitions" root rabbitmq 0640
	if ! home_is_right; then
		[ "$(systemctl show --property=ActiveState --value -- "$ARG_UNIT")" != active ] || systemctl stop -- "$ARG_UNIT"
		chown rabbitmq:rabbitmq $home
		put "$ARG_COOKIE" $home/.erlang.cookie rabbitmq rabbitmq 0400
	fi
	service_apply "$ARG_UNIT"
	# Somebody may have changed a password by hand.
	if [ "$(cat "$imported" 2>/dev/null)" != "$hash" ] || ! "$INGOT/rabbitmq.py" ready 2>/dev/null; then
		# At a start the server has read them itself.
		[ "$work" = start ] || [ "$work" = restart ] || rabbitmqctl --quiet import_definitions "$definitions"
		there | "$INGOT/rabbitmq.py" surplus >"$wanted"
		while IFS= read -r words; do
			old_ifs=$IFS
			IFS='	'
			set -f
			# shellcheck disable=SC2086 # split at tabs
			rabbitmqctl --quiet $words </dev/null
			set +f
			IFS=$old_ifs
			echo "$words"
		done <"$wanted"
		echo "$hash" >"$imported.new"
		mv -f -- "$imported.new" "$imported"
	fi
	"$INGOT/rabbitmq.py" ready || fail "(above)"
	;;
esac
