#!/bin/sh
# What the actions share. An action is run by step as `sh ACTION.sh probe` (exit code 0: nothing to do, 1: there is work) and
# `sh ACTION.sh apply`, as root, its arguments in the environment as ARG_…; what it prints becomes the step's log.
# Nothing here or in an action puts a secret's value into an argument of a program, a log, or a file that others read.
set -eu
umask 022
cd /
LC_ALL=C.UTF-8
# `systemctl enable` would run update-rc.d, in Perl, for each unit that has a script in /etc/init.d, too: 0.4 s, for nobody.
SYSTEMCTL_SKIP_SYSV=1
export LC_ALL SYSTEMCTL_SKIP_SYSV
newline='
'

# Ends the action with a message for the person who wrote the declaration.
fail() {
	echo "$*" >&2
	exit 99
}

# Whether this is `probe`: nothing may be changed then.
case ${1-} in
probe | apply | write) verb=$1 ;;
*) fail "usage: ${0##*/} probe|apply" ;;
esac

# In a probe, whatever else ends with an error (cmp says 2 when a file is missing) means that there is work; fail() alone means failed.
if [ "$verb" = probe ]; then
	trap 'case $? in 0 | 99) ;; *) exit 1 ;; esac' EXIT
fi

# as USER PROGRAM…: with all of the user's groups, the user's HOME and nothing else of our environment.
as() {
	as_user=$1
	shift
	setpriv --reuid="$as_user" --regid="$(id -g -- "$as_user")" --init-groups --reset-env -- "$@"
}

# enter FOLDER [create]: makes it the working folder and follows no symlink on the way, so that what is done in `.` afterwards is
# done there and nowhere else, whoever else may write above it. Missing folders are root's own, 0755. Exit code 1: it is missing.
enter() {
	cd /
	enter_rest=${1#/}
	enter_walked=
	case $1 in
	/*) ;;
	*) fail "$1: not an absolute path" ;;
	esac
	while [ -n "$enter_rest" ]; do
		enter_part=${enter_rest%%/*}
		case $enter_rest in
		*/*) enter_rest=${enter_rest#*/} ;;
		*) enter_rest= ;;
		esac
		case $enter_part in
		'' | . | ..) fail "$1: not a plain path" ;;
		esac
		enter_walked=$enter_walked/$enter_part
		if [ -L "./$enter_part" ]; then
			fail "$1: $enter_walked is a symlink; Ingot follows none here"
		fi
		if [ ! -e "./$enter_part" ]; then
			[ "${2-}" = create ] || return 1
			mkdir -m 0755 -- "./$enter_part" 2>/dev/null || [ -d "./$enter_part" ]
		fi
		[ -d "./$enter_part" ] || fail "$1: $enter_walked is not a folder"
		cd -P -- "./$enter_part"
		# Somebody who may write above could have swapped a symlink in since the look.
		[ "$PWD" = "$enter_walked" ] || fail "$1: $enter_walked leads to $PWD; Ingot follows no symlink here"
	done
}

# mode_of 0750: as `stat -c %a` prints it.
mode_of() {
	printf '%o' "$((0$1))"
}

# put SOURCE PATH OWNER GROUP MODE: the file, atomically, in a folder that others may write to. The folder must be there.
put() {
	enter "${2%/*}" || fail "$2: there is no folder ${2%/*}"
	put_name=${2##*/}
	[ ! -d "./$put_name" ] || [ -L "./$put_name" ] || fail "$2 is a folder"
	put_temporary=./.$put_name.ingot-$$
	rm -f -- "$put_temporary"
	# noclobber opens with O_EXCL: it never writes to what somebody else has put there. Afterwards the file descriptor is the
	# file, whatever its name leads to by then.
	(
		set -C
		umask 077
		exec 3>"$put_temporary"
		cat -- "$1" >&3
		chown --dereference -- "$3:$4" /proc/self/fd/3
		chmod -- "$5" /proc/self/fd/3
	)
	mv -fT -- "$put_temporary" "./$put_name"
	cd /
}

# same SOURCE PATH OWNER GROUP MODE: whether put() would change nothing.
same() {
	[ -f "$2" ] && [ ! -L "$2" ] && [ "$(stat -c '%U:%G %a' -- "$2")" = "$3:$4 $(mode_of "$5")" ] && cmp -s -- "$1" "$2"
}

# artifact SHA256: the path of an artifact, fetched where it must be, and proven to be what it is called.
artifact() {
	artifact_path=/run/ingot/artifacts/$1
	[ -r "$artifact_path" ] || "$INGOT/fetch.py" --artifact "$1" >&2
	[ -r "$artifact_path" ] || fail "the artifact is not here: no $artifact_path"
	artifact_found=$(sha256sum -- "$artifact_path")
	[ "${artifact_found%% *}" = "$1" ] || fail "$artifact_path differs from its name: its sha256 is ${artifact_found%% *}"
	echo "$artifact_path"
}

# same_folder ONE OTHER: whether two paths are one folder, as a mounted one and what it is mounted from are.
same_folder() {
	[ "$(stat -L -c %d:%i -- "$1")" = "$(stat -L -c %d:%i -- "$2")" ]
}

# sql DATABASE [OPTIONS OF psql]: statements from standard input, as postgres on the local socket; or, with ARG_CONNECTION, the path of a
# file that sets libpq's variables, where and as whom these say. Not through /usr/bin/psql, which is a wrapper in Perl and takes longer
# than the statements.
sql() {
	sql_database=$1
	shift
	for sql_program in /usr/lib/postgresql/*/bin/psql; do :; done
	if [ -n "${ARG_CONNECTION-}" ]; then
		(
			set -a
			# shellcheck source=/dev/null
			. "$ARG_CONNECTION"
			exec "$sql_program" -X -q -A -t -v ON_ERROR_STOP=1 -d "$sql_database" "$@"
		)
		return
	fi
	as postgres "$sql_program" -X -q -A -t -v ON_ERROR_STOP=1 -d "$sql_database" "$@"
}

# The end of a unit's journal, for a step's log: `journal_of UNIT [MATCH…]`. What it has just said is waited for.
journal_of() {
	journalctl --sync 2>/dev/null || true
	journal_unit=$1
	shift
	journalctl --quiet --no-pager --output=cat --lines=30 --unit="$journal_unit" "$@" 2>&1 || true
}

# --- Services -----------------------------------------------------------------------------------------------------------------
# A service runs with what its unit, its drop-ins and its inputs held when it started. Their hash, and the invocation that it holds
# for, are kept in /var/lib/ingot/services/. A service that has started by itself since (a reboot, a crash) runs with what was there
# then: when nothing is younger than its start, that is what is there now.
# Arguments: ARG_INPUTS lines of paths, ARG_HASH, ARG_RELOAD true when a change of inputs needs a reload only,
# ARG_PATIENT true when it is enough that it was started, because what it needs is somebody else's,
# ARG_LISTENS lines of address:port or socket's path, ARG_READY the name by which each of them must answer to HTTP, ARG_TIMEOUT seconds.

# shellcheck disable=SC2034 # an action reads what it needs
service_look() { # unit
	LoadState='' ActiveState='' InvocationID='' ActiveEnterTimestamp='' UnitFileState='' NRestarts='' Type='' MainPID=''
	FragmentPath='' DropInPaths='' NeedDaemonReload=''
	service_shown=$(systemctl show --timestamp=unix --property=LoadState,ActiveState,InvocationID,ActiveEnterTimestamp,UnitFileState,NRestarts,Type,MainPID,FragmentPath,DropInPaths,NeedDaemonReload -- "$1")
	while IFS='=' read -r service_key service_value; do
		case $service_key in
		LoadState) LoadState=$service_value ;;
		ActiveState) ActiveState=$service_value ;;
		InvocationID) InvocationID=$service_value ;;
		ActiveEnterTimestamp) ActiveEnterTimestamp=${service_value#@} ;;
		UnitFileState) UnitFileState=$service_value ;;
		NRestarts) NRestarts=$service_value ;;
		Type) Type=$service_value ;;
		MainPID) MainPID=$service_value ;;
		FragmentPath) FragmentPath=$service_value ;;
		DropInPaths) DropInPaths=$service_value ;;
		NeedDaemonReload) NeedDaemonReload=$service_value ;;
		esac
	done <<-END
		$service_shown
	END
	[ "$LoadState" != masked ] || fail "$1 is masked"
	[ "$LoadState" = loaded ] || fail "$1: no such unit on this host ($LoadState)"
}

# hash_of PATH…: of their contents and of where symlinks lead; a symlink to a folder counts by its target.
hash_of() {
	[ $# -gt 0 ] || {
		echo none
		return
	}
	for hash_path; do
		[ -e "$hash_path" ] || fail "an input is missing: $hash_path"
		[ ! -d "$hash_path" ] || [ -L "$hash_path" ] || fail "an input is a folder: $hash_path"
	done
	{
		readlink -f -- "$@"
		for hash_path; do
			[ -d "$hash_path" ] || cat -- "$hash_path" | sha256sum
		done
	} | sha256sum
}

# hash_of_lines PATHS: the same of a list, a path a line.
hash_of_lines() (
	set -f
	IFS=$newline
	# shellcheck disable=SC2086 # one path a line
	hash_of $1
)

service_hashes() { # unit; sets restart_hash and reload_hash, and files
	set -f
	old_ifs=$IFS
	# shellcheck disable=SC2086 # split on purpose: paths of systemd's list hold no space
	set -- $FragmentPath $DropInPaths
	files=$(printf '%s\n' "$@" ${ARG_INPUTS:+"$ARG_INPUTS"})
	IFS=$newline
	if [ "${ARG_RELOAD-false}" = true ]; then
		restart_hash=$(hash_of "$@")
		# shellcheck disable=SC2086
		reload_hash=$(hash_of ${ARG_INPUTS-})
	else
		# shellcheck disable=SC2086
		restart_hash=$(hash_of "$@" ${ARG_INPUTS-})
		reload_hash=none
	fi
	IFS=$old_ifs
	set +f
	restart_hash=${restart_hash%% *}${ARG_HASH:+"+$ARG_HASH"}
	reload_hash=${reload_hash%% *}
}

# Whether every input is older than the service's start.
service_started_after() {
	[ -n "$ActiveEnterTimestamp" ] || return 1
	while read -r file; do
		for changed in $(stat -c %Z -- "$file") $(stat -L -c %Z -- "$file"); do
			[ "$changed" -lt "$ActiveEnterTimestamp" ] || return 1
		done
	done <<-END
		$files
	END
}

# What is to be done with a unit: sets `work` to start, restart, reload, enable or nothing.
service_work() { # unit
	service_look "$1"
	service_hashes "$1"
	work=nothing
	record=/var/lib/ingot/services/$1
	was_invocation='' was_restart='' was_reload=''
	if [ -r "$record" ]; then
		{
			read -r was_invocation
			IFS= read -r was_restart
			IFS= read -r was_reload
		} <"$record" || true
	fi
	case $UnitFileState in
	disabled | indirect) work=enable ;;
	esac
	if [ "${ARG_PATIENT-false}/$ActiveState" = true/activating ] && [ "$was_restart/$was_reload" = "$restart_hash/$reload_hash" ]; then
		: # it goes on trying what somebody else does not let it yet
	elif [ "$ActiveState" != active ]; then
		work=start
	elif [ "$was_invocation" != "$InvocationID" ]; then
		if [ "$was_restart/$was_reload" != "$restart_hash/$reload_hash" ] || ! service_started_after; then work=restart; fi
	elif [ "$was_restart" != "$restart_hash" ]; then
		work=restart
	elif [ "$was_reload" != "$reload_hash" ]; then
		work=reload
	fi
}

service_record() { # unit
	(
		umask 077
		printf '%s\n' "$InvocationID" "$restart_hash" "$reload_hash" >"$record.new"
	)
	mv -f -- "$record.new" "$record"
}

service_died() { # unit
	echo "$1 $2; the end of its journal:" >&2
	journal_of "$1" >&2
	exit 99
}

listening() { # address:port or path
	case $1 in
	/*) [ -S "$1" ] && ss -Hlxn src "$1" | grep -q . ;;
	*)
		listening_found=$(ss -Hltn "sport = :${1##*:}")
		case $listening_found in
		*" $1 "* | *" 0.0.0.0:${1##*:} "* | *" [::]:${1##*:} "* | *" *:${1##*:} "*) ;;
		*) return 1 ;;
		esac
		;;
	esac
}

# Waits until the service is really up: it listens where it should, and is still the same process a moment later.
service_up() { # unit
	restarts=$NRestarts
	read -r uptime _ </proc/uptime
	patience=$((${ARG_TIMEOUT:-30} * ${INGOT_PATIENCE:-1}))
	deadline=$((${uptime%.*} + patience))
	settle=0
	case $Type in
	simple | exec | idle) [ -n "${ARG_READY-}" ] || settle=10 ;;
	esac
	while :; do
		up=true
		waiting=
		while read -r address; do
			[ -z "$address" ] || listening "$address" || {
				up=false
				waiting=$address
			}
		done <<-END
			${ARG_LISTENS-}
		END
		service_look "$1"
		case $ActiveState/$Type in
		failed/*) service_died "$1" "has failed" ;;
		inactive/oneshot) ;;
		inactive/*) service_died "$1" "has ended right after its start" ;;
		esac
		[ "$NRestarts" = "$restarts" ] || service_died "$1" "keeps dying right after its start"
		if $up && [ "$ActiveState" != activating ] && [ $settle -le 0 ]; then break; fi
		! $up || settle=$((settle - 1))
		read -r uptime _ </proc/uptime
		[ "${uptime%.*}" -lt "$deadline" ] || service_died "$1" "is not up after $patience s${waiting:+: nothing listens on $waiting}"
		sleep 0.1
	done
	[ -z "${ARG_READY-}" ] || while read -r address; do
		[ -z "$address" ] || /usr/bin/python3 "$INGOT/ready.py" "$address" "$ARG_READY" "$((deadline - ${uptime%.*}))" ||
			service_died "$1" "does not answer to HTTP on $address"
		service_look "$1"
		[ "$NRestarts" = "$restarts" ] || service_died "$1" "keeps dying right after its start"
	done <<-END
		${ARG_LISTENS-}
	END
}

# alias_apart UNIT: whether systemd has a unit of its own by an alias that has just been made, because another one named it before it was
# there, as cloud-init names sshd.service. The next daemon-reload makes them one, and of their states takes the one that it reads last: with
# systemd 257 (Debian 13) ssh.service was dead then, and sshd ran. Both must be dead when that is done.
alias_apart() {
	alias_names=$(sed -n 's/^Alias=//p' -- "$FragmentPath")
	# shellcheck disable=SC2086 # names; nothing is loaded by this
	[ -n "$alias_names" ] && systemctl list-units --all --full --plain --no-legend -- $alias_names | grep -q .
}

# Brings a unit to its inputs: once, and only when it must.
service_apply() { # unit
	service_work "$1"
	if [ "$NeedDaemonReload" = yes ]; then
		systemctl daemon-reload
		service_work "$1"
	fi
	case $UnitFileState in
	disabled | indirect)
		systemctl --quiet --no-reload enable -- "$1"
		if alias_apart "$1"; then
			[ "$ActiveState" = inactive ] || systemctl stop -- "$1"
			systemctl daemon-reload
			work=start
		fi
		;;
	esac
	case $work in
	start)
		systemctl reset-failed -- "$1" 2>/dev/null || true
		systemctl start -- "$1" || service_died "$1" "did not start"
		;;
	restart)
		case $1 in
		# systemd opens no other port below a service that runs.
		*.socket) systemctl stop -- "${1%.socket}.service" ;;
		esac
		systemctl restart -- "$1" || service_died "$1" "did not restart"
		;;
	reload) systemctl reload-or-restart -- "$1" || service_died "$1" "did not reload" ;;
	esac
	echo "$1: $work"
	service_look "$1"
	case $work in
	start | restart | reload) [ "${ARG_PATIENT-false}" = true ] || service_up "$1" ;;
	esac
	service_record "$1"
}

service_probe() { # unit
	service_work "$1"
	# Said aloud: behind `service_probe … ||` a command that fails ends nothing.
	[ "$work" = nothing ] || return 1
	# So that the next look compares with the invocation that runs now.
	[ "$was_invocation" = "$InvocationID" ] || service_record "$1"
}
