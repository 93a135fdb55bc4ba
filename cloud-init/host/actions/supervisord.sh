#!/bin/sh
# supervisord: supervisor's daemon, with exactly the programs that are declared.
# ARG_UNIT      its unit
# ARG_PROGRAMS  names (lines), sorted, as supervisorctl has them: `group:program`, `program`
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"

# Answers as soon as the daemon does; its exit code only says whether all of them run.
programs_there() {
	supervisorctl status 2>/dev/null | sed -n 's/^\([^ ]*\) .*/\1/p' | sort
}

case $verb in
probe)
	service_probe "$ARG_UNIT"
	[ "$(programs_there)" = "${ARG_PROGRAMS-}" ]
	;;
apply)
	service_apply "$ARG_UNIT"
	for _ in $(seq 100); do
		supervisorctl pid >/dev/null 2>&1 && break
		sleep 0.1
	done
	[ "$work" != nothing ] || supervisorctl update
	there=$(programs_there)
	[ "$there" = "${ARG_PROGRAMS-}" ] || fail "supervisor knows the programs $(echo "$there" | tr '\n' ' '), declared are $(echo "${ARG_PROGRAMS-}" | tr '\n' ' ')"
	;;
esac
