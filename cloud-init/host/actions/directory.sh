#!/bin/sh
# directory: a folder with owner and mode, reached without following a symlink. Missing parents become root's own, 0755.
# ARG_PATH, ARG_OWNER, ARG_GROUP (the owner's own), ARG_MODE ("0755")
# ARG_ACL  entries (lines), as getfacl prints them, of users and groups beside these, exactly these
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"
owner=${ARG_OWNER:-root}
group=${ARG_GROUP:-$(id -gn -- "$owner")} || fail "$ARG_PATH: there is no user $owner"
mode=${ARG_MODE:-0755}

# The entries of `.`; the mode, which has the list's mask where the group's rights would be, is its owner's and others' alone then.
entries() {
	getfacl --omit-header --no-effective . 2>/dev/null | grep -E '^(default:)?(user|group):[^:]' | LC_ALL=C sort
}
has_list() {
	[ -n "$(getfacl --skip-base . 2>/dev/null)" ]
}

case $verb in
probe)
	enter "$ARG_PATH"
	if [ -n "${ARG_ACL-}" ]; then
		[ "$(stat -c '%U:%G' .)" = "$owner:$group" ]
		[ "$(entries)" = "$(printf '%s\n' "$ARG_ACL" | LC_ALL=C sort)" ]
		wanted=$(mode_of "$mode") there=$(stat -c %a .)
		[ "${there%??}/${there#"${there%?}"}" = "${wanted%??}/${wanted#"${wanted%?}"}" ]
	else
		[ "$(stat -c '%U:%G %a' .)" = "$owner:$group $(mode_of "$mode")" ]
		# An image without the program has no list either.
		! command -v getfacl >/dev/null || ! has_list
	fi
	;;
apply)
	enter "$ARG_PATH" create
	# `.` is the folder itself, wherever its name may lead by now. chown first: it clears set-id bits. Five digits clear them too.
	chown -- "$owner:$group" .
	! command -v setfacl >/dev/null || setfacl --remove-all .
	chmod -- "0$mode" .
	[ -z "${ARG_ACL-}" ] || printf '%s\n' "$ARG_ACL" | setfacl --modify-file=- .
	;;
esac
