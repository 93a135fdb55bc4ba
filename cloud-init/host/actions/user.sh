#!/bin/sh
# user: an account, its groups and what sudo allows it. Creates it, or changes only what differs.
# ARG_NAME
# ARG_UID, ARG_GID  numbers; without them the system chooses (the group gets the user's number when that is free)
# ARG_SYSTEM        true: no login shell, no home made (a `directory` does that), no password
# ARG_HOME          home folder (/home/NAME; of a system user /nonexistent)
# ARG_SHELL         login shell (/bin/bash; of a system user /usr/sbin/nologin)
# ARG_COMMENT       full name
# ARG_GROUPS        supplementary groups (lines), exactly these; each must be there
# ARG_SUDO          none, password or passwordless
# ARG_SUDO_COMMANDS commands (lines), as sudoers(5) writes them, that may be run as root without a password
# ARG_PASSWORD_HASH path of the secret: the hash of the password; without it no password fits
# ARG_EXPIRES       the last day (YYYY-MM-DD) on which the account may be used
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"

if [ "${ARG_SYSTEM-false}" = true ]; then
	home=${ARG_HOME:-/nonexistent} shell=${ARG_SHELL:-/usr/sbin/nologin}
else
	home=${ARG_HOME:-/home/$ARG_NAME} shell=${ARG_SHELL:-/bin/bash}
fi
# A file name with a dot is passed over by sudo's includedir.
sudoers=/etc/sudoers.d/ingot-$(printf %s "$ARG_NAME" | tr . _)
case ${ARG_SUDO:-none} in
none)
	rule=
	[ -z "${ARG_SUDO_COMMANDS-}" ] ||
		rule="$ARG_NAME ALL=(root) NOPASSWD: $(printf '%s\n' "$ARG_SUDO_COMMANDS" | sed -e ':a' -e N -e '$!ba' -e 's/\n/, /g')"
	;;
password) rule="$ARG_NAME ALL=(ALL:ALL) ALL" ;;
passwordless) rule="$ARG_NAME ALL=(ALL:ALL) NOPASSWD: ALL" ;;
*) fail "sudo: none, password or passwordless, not $ARG_SUDO" ;;
esac

sorted() {
	tr ' ' '\n' | sed '/^$/d' | LC_ALL=C sort -u | tr '\n' ' '
}
wanted_groups=$(printf '%s\n' "${ARG_GROUPS-}" | sorted)

look() {
	entry=$(getent passwd -- "$ARG_NAME") || entry=
	IFS=: read -r _ _ uid gid comment there_home there_shell <<-END
		$entry
	END
	comment=${comment%%,*}
}

there_groups() {
	primary=$(id -gn -- "$ARG_NAME")
	for group in $(id -Gn -- "$ARG_NAME"); do
		[ "$group" = "$primary" ] || printf '%s\n' "$group"
	done | sorted
}

account_differs() {
	[ -z "$entry" ] || {
		[ "$there_home" != "$home" ] || [ "$there_shell" != "$shell" ] || [ "$(there_groups)" != "$wanted_groups" ] ||
			{ [ -n "${ARG_COMMENT-}" ] && [ "$comment" != "$ARG_COMMENT" ]; }
	}
}

# Field of /etc/shadow: 2 the password's hash, 8 the last day.
shadow() {
	getent shadow -- "$ARG_NAME" | cut -d: -f"$1"
}
last_day() {
	[ -z "${ARG_EXPIRES-}" ] || echo $(($(date -u -d "$ARG_EXPIRES" +%s) / 86400))
}
password_differs() {
	if [ -n "${ARG_PASSWORD_HASH-}" ]; then
		[ "$(shadow 2)" != "$(cat -- "$ARG_PASSWORD_HASH")" ]
	else
		# One that was declared before, and is no longer.
		case $(shadow 2) in
		\$*) true ;;
		*) false ;;
		esac
	fi
}

look
case $verb in
probe)
	[ -n "$entry" ]
	if password_differs; then exit 1; fi
	[ "$(shadow 8)" = "$(last_day)" ]
	if account_differs; then exit 1; fi
	[ -z "${ARG_UID-}" ] || [ "$uid" = "$ARG_UID" ]
	[ -z "${ARG_GID-}" ] || [ "$gid" = "$ARG_GID" ]
	[ "${ARG_SYSTEM-false}" = true ] || [ -d "$home" ]
	if [ -n "$rule" ]; then
		[ -f "$sudoers" ]
		[ "$(cat "$sudoers")" = "$rule" ]
		[ "$(stat -c '%u %a' "$sudoers")" = "0 440" ]
	else
		[ ! -e "$sudoers" ]
	fi
	;;
apply)
	exec 9>/run/ingot/accounts.lock
	flock 9
	for group in $wanted_groups; do
		getent group -- "$group" >/dev/null || fail "user $ARG_NAME: there is no group $group on this host"
	done
	if [ -z "$entry" ]; then
		set -- --home-dir "$home" --shell "$shell" --no-log-init
		[ -z "${ARG_UID-}" ] || set -- "$@" --uid "$ARG_UID"
		[ -z "${ARG_COMMENT-}" ] || set -- "$@" --comment "$ARG_COMMENT"
		system=
		if [ "${ARG_SYSTEM-false}" = true ]; then
			system=--system
			set -- "$@" --system --no-create-home
		else
			# "*": no password fits, and unlike "!" the account is not locked, so that keys work with every sshd.
			set -- "$@" --create-home --password '*'
		fi
		number=${ARG_GID:-${ARG_UID-}}
		if ! group=$(getent group -- "$ARG_NAME"); then
			[ -n "${ARG_GID-}" ] || [ -z "$number" ] || ! getent group "$number" >/dev/null || number=
			# shellcheck disable=SC2086 # an empty word is to vanish
			groupadd ${number:+--gid "$number"} $system -- "$ARG_NAME"
		elif [ -n "${ARG_GID-}" ] && [ "$(echo "$group" | cut -d: -f3)" != "$ARG_GID" ]; then
			fail "user $ARG_NAME: its group has the number $(echo "$group" | cut -d: -f3), declared is $ARG_GID"
		fi
		[ -z "$wanted_groups" ] || set -- "$@" --groups "$(printf %s "${wanted_groups% }" | tr ' ' ,)"
		useradd "$@" --gid "$ARG_NAME" -- "$ARG_NAME"
		echo "created $ARG_NAME"
	else
		[ -z "${ARG_UID-}" ] || [ "$uid" = "$ARG_UID" ] ||
			fail "user $ARG_NAME is there with the number $uid, declared is $ARG_UID: changing it would orphan the user's files"
		[ -z "${ARG_GID-}" ] || [ "$gid" = "$ARG_GID" ] ||
			fail "user $ARG_NAME is there with the group number $gid, declared is $ARG_GID: changing it would orphan the user's files"
		if account_differs; then
			usermod --home "$home" --shell "$shell" ${ARG_COMMENT:+--comment "$ARG_COMMENT"} \
				--groups "$(printf %s "${wanted_groups% }" | tr ' ' ,)" -- "$ARG_NAME"
		fi
		if [ "${ARG_SYSTEM-false}" = false ] && [ ! -d "$home" ]; then
			mkhomedir_helper "$ARG_NAME" 0022 2>/dev/null || install -d -o "$ARG_NAME" -g "$gid" -m 0755 -- "$home"
		fi
	fi
	if password_differs; then
		if [ -n "${ARG_PASSWORD_HASH-}" ]; then
			case $(cat -- "$ARG_PASSWORD_HASH") in
			\$[a-z0-9]*\$*) ;;
			*) fail "user $ARG_NAME: the secret is no hash of a password; \`openssl passwd -6\` makes one" ;;
			esac
			{
				printf '%s:' "$ARG_NAME"
				cat -- "$ARG_PASSWORD_HASH"
				echo
			} | chpasswd --encrypted
		else
			printf '%s:*\n' "$ARG_NAME" | chpasswd --encrypted
		fi
	fi
	[ "$(shadow 8)" = "$(last_day)" ] || chage --expiredate "${ARG_EXPIRES:--1}" -- "$ARG_NAME"
	exec 9>&-

	if [ -n "$rule" ]; then
		# Beside its place, and under a name that sudo passes over, until visudo has accepted it.
		(
			umask 337
			rm -f -- "$sudoers.new"
			echo "$rule" >"$sudoers.new"
		)
		visudo -cqf "$sudoers.new"
		mv -f -- "$sudoers.new" "$sudoers"
	else
		rm -f -- "$sudoers"
	fi
	;;
esac
