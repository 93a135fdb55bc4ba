#!/bin/sh
# command: a program of the declaration's own. Where there is neither ARG_CREATES nor ARG_UNLESS, its stamp says whether it has run.
# ARG_RUN      the program and its arguments (lines)
# ARG_USER     who runs it
# ARG_FOLDER   where (/)
# ARG_CREATES  path that is there once it is done
# ARG_UNLESS   program (lines) that ends with 0 once it is done
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"

# run LINES: as the user, in the folder.
run() {
	set --
	while IFS= read -r word; do
		set -- "$@" "$word"
	done <<-END
		$words
	END
	cd -- "${ARG_FOLDER:-/}"
	as "$ARG_USER" "$@"
}

is_done() {
	if [ -n "${ARG_CREATES-}" ]; then
		[ -e "$ARG_CREATES" ]
	else
		words=$ARG_UNLESS
		run >/dev/null 2>&1
	fi
}

case $verb in
probe) is_done ;;
apply)
	words=$ARG_RUN
	run || fail "it ended with exit code $?"
	[ -z "${ARG_CREATES-}${ARG_UNLESS-}" ] || is_done ||
		fail "it ended well, and is not done: ${ARG_CREATES:+$ARG_CREATES is not there}${ARG_UNLESS:+what \`unless\` asks still says no}"
	;;
esac
