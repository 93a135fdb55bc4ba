#!/bin/sh
# postgresql: the cluster `main`: its data where it was declared, its configuration in /etc/postgresql/VERSION/main, running.
# ARG_UNIT           the cluster's unit
# ARG_VERSION        major version
# ARG_LOCALE         of a new cluster (en_US.UTF-8)
# ARG_DATA           data directory; made only where there is nothing
# ARG_MOUNT          path that must be a mount point before anything is made in it
# ARG_SETTINGS_FILE  becomes conf.d/ingot.conf
# ARG_HBA_FILE       becomes pg_hba.conf
# ARG_IDENT_FILE     becomes pg_ident.conf
# ARG_RESTART_HASH   any text: a change of it is a restart
# The configuration is Ingot's own and written anew on every machine: pg_createcluster adopts a directory only with its configuration
# inside, which is not where Debian keeps it.
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"
version=$ARG_VERSION
binaries=/usr/lib/postgresql/$version/bin
folder=/etc/postgresql/$version/main
unit=$ARG_UNIT
made=/var/lib/ingot/services/$unit
locale=${ARG_LOCALE:-en_US.UTF-8}
[ -x "$binaries/postgres" ] || fail "PostgreSQL $version is not in this image: no $binaries/postgres"

main_conf() {
	quoted=$(printf %s "$ARG_DATA" | sed "s/'/''/g")
	cat <<-END
		# Ingot's own: settings go to conf.d.
		data_directory = '$quoted'
		hba_file = '$folder/pg_hba.conf'
		ident_file = '$folder/pg_ident.conf'
		external_pid_file = '/run/postgresql/$version-main.pid'
		port = 5432
		unix_socket_directories = '/run/postgresql'
		cluster_name = '$version/main'
		log_line_prefix = '[%p] %q%u@%d '
		datestyle = 'iso, mdy'
		timezone = 'Etc/UTC'
		log_timezone = 'Etc/UTC'
		lc_messages = '$locale'
		lc_monetary = '$locale'
		lc_numeric = '$locale'
		lc_time = '$locale'
		default_text_search_config = 'pg_catalog.english'
		include_dir = 'conf.d'
	END
}

# Debian's unit starts the server through pg_ctlcluster, which then sleeps and asks for 2 s until it believes that it is up, at every
# boot. The server itself tells systemd to the millisecond (it is built with --with-systemd). SIGINT is its fast shutdown. Its log is
# the journal's: root may not open a file of postgres in Debian's sticky /var/log/postgresql (fs.protected_regular).
drop_in=/etc/systemd/system/$unit.d/ingot.conf
drop_in_content() {
	cat <<-END
		# Ingot's own.
		[Unit]
		RequiresMountsFor="$ARG_DATA"
		[Service]
		Type=notify
		PIDFile=
		User=postgres
		Environment=LANG=$locale PG_OOM_ADJUST_FILE=/proc/self/oom_score_adj
		ExecStart=
		ExecStart=$binaries/postgres -D "$ARG_DATA" -c config_file=$folder/postgresql.conf
		ExecReload=
		ExecReload=/bin/kill -HUP \$MAINPID
		ExecStop=
		KillMode=mixed
		KillSignal=SIGINT
		TimeoutStartSec=infinity
		# A server that was killed: pg_ctlcluster, which must be able to stop it, is not what stops it here.
		Restart=on-failure
		RestartSec=1
	END
}
drop_in_same() {
	drop_in_content | cmp -s - "$drop_in"
}

start_conf='# auto: its unit may start it.
auto'

config_same() {
	main_conf | cmp -s - "$folder/postgresql.conf" && cmp -s "${ARG_SETTINGS_FILE:-/dev/null}" "$folder/conf.d/ingot.conf" &&
		{ [ -z "${ARG_HBA_FILE-}" ] || cmp -s "$ARG_HBA_FILE" "$folder/pg_hba.conf"; } &&
		{ [ -z "${ARG_IDENT_FILE-}" ] || cmp -s "$ARG_IDENT_FILE" "$folder/pg_ident.conf"; } && [ -e "$folder/start.conf" ] && [ -e "$folder/pg_ident.conf" ]
}

restart_same() {
	was=
	[ ! -r "$made" ] || IFS= read -r was <"$made" || true
	[ "$was" = "${ARG_RESTART_HASH:-none}" ]
}

# place CONTENT'S FILE NAME MODE
place() {
	cat -- "$1" >"$folder/$2.new"
	chown postgres:postgres "$folder/$2.new"
	chmod "$3" "$folder/$2.new"
	mv -fT -- "$folder/$2.new" "$folder/$2"
}

write_config() {
	install -d -o postgres -g postgres -m 0755 "/etc/postgresql/$version" "$folder" "$folder/conf.d"
	main_conf | place /dev/stdin postgresql.conf 0644
	if [ -n "${ARG_HBA_FILE-}" ]; then
		place "$ARG_HBA_FILE" pg_hba.conf 0640
	elif [ ! -e "$folder/pg_hba.conf" ]; then
		printf '%s\n' 'local all postgres peer' 'local all all peer' 'host all all 127.0.0.1/32 scram-sha-256' 'host all all ::1/128 scram-sha-256' |
			place /dev/stdin pg_hba.conf 0640
	fi
	if [ -n "${ARG_IDENT_FILE-}" ]; then
		place "$ARG_IDENT_FILE" pg_ident.conf 0640
	elif [ ! -e "$folder/pg_ident.conf" ]; then
		place /dev/null pg_ident.conf 0640
	fi
	echo "$start_conf" | place /dev/stdin start.conf 0644
	[ -e "$folder/environment" ] || place /dev/null environment 0644
	[ -e "$folder/pg_ctl.conf" ] || echo "pg_ctl_options = ''" | place /dev/stdin pg_ctl.conf 0644
	place "${ARG_SETTINGS_FILE:-/dev/null}" conf.d/ingot.conf 0644
}

# A cluster that this host has elsewhere: neither left behind for a new one nor moved by us.
not_elsewhere() {
	had=$(sed -n "s/^data_directory = '\(.*\)'$/\1/p" "$folder/postgresql.conf" 2>/dev/null || true)
	[ -z "$had" ] || [ "$had" = "$ARG_DATA" ] || [ ! -e "$had/PG_VERSION" ] ||
		fail "the data of this host's cluster is in $had, not in $ARG_DATA; move it yourself (systemctl stop $unit, then mv), and apply again; nothing was changed"
}

# What the data directory is: `empty` or `cluster`. Everything else is refused.
data_state() {
	[ -z "${ARG_MOUNT-}" ] || mountpoint -q -- "$ARG_MOUNT" || fail "$ARG_MOUNT is not mounted: no cluster is made or started beside its volume"
	if [ ! -e "$ARG_DATA" ] || [ -z "$(ls -A -- "$ARG_DATA")" ]; then
		echo empty
	elif [ -f "$ARG_DATA/PG_VERSION" ] && [ -f "$ARG_DATA/global/pg_control" ]; then
		read -r there <"$ARG_DATA/PG_VERSION"
		[ "$there" = "$version" ] ||
			fail "$ARG_DATA holds a cluster of PostgreSQL $there, this image has $version: upgrade it (pg_upgradecluster), or use an image with $there; nothing was changed"
		owner=$(stat -c %U -- "$ARG_DATA")
		[ "$owner" = postgres ] ||
			fail "$ARG_DATA belongs to $owner ($(stat -c %u -- "$ARG_DATA")), not to postgres ($(id -u postgres)): the user that owns data must have the same number in every image"
		echo cluster
	else
		fail "$ARG_DATA is neither empty nor a cluster of PostgreSQL; nothing was changed"
	fi
}

make_cluster() {
	locale -a | tr -d - | tr '[:upper:]' '[:lower:]' | grep -Fqx -- "$(printf %s "$locale" | tr -d - | tr '[:upper:]' '[:lower:]')" ||
		fail "this image has no locale $locale"
	enter "${ARG_DATA%/*}" create
	# A sibling becomes the data directory once it is whole and on the disk: a directory with a half of a cluster never appears.
	new=${ARG_DATA%/*}/.${ARG_DATA##*/}.ingot-new
	rm -rf -- "$new"
	# lost+found or not: a mount point itself cannot be renamed over.
	! mountpoint -q -- "$ARG_DATA" || fail "$ARG_DATA is a mount point itself: declare a folder in it as the data directory"
	install -d -o postgres -g postgres -m 0700 -- "$new"
	as postgres "$binaries/initdb" --pgdata="$new" --encoding=UTF8 --locale="$locale" --data-checksums --auth-local=peer \
		--auth-host=scram-sha-256 --no-instructions --no-sync >/dev/null
	# Debian's place for them is /etc.
	rm -f -- "$new/postgresql.conf" "$new/pg_hba.conf" "$new/pg_ident.conf"
	# One syncfs(2) instead of initdb's fsync for each of a thousand files: as durable, and twenty times as fast.
	sync --file-system -- "$new"
	[ ! -d "$ARG_DATA" ] || rmdir -- "$ARG_DATA"
	mv -T -- "$new" "$ARG_DATA"
	sync -- "${ARG_DATA%/*}"
	echo "made a cluster of PostgreSQL $version in $ARG_DATA"
}

died() {
	echo "$unit $1; the end of its journal:" >&2
	journal_of "$unit" >&2
	exit 99
}

# A cluster that was restored goes through what was archived since, and is nobody's to write to until it has.
until_recovered() {
	asked=
	while :; do
		state=$(echo 'select pg_is_in_recovery();' | sql postgres 2>/dev/null) || state=
		[ "$state" != f ] || return 0
		if [ -z "$state$asked" ] && [ -e "$ARG_DATA/recovery.signal" ] &&
			journal_of "$unit" | grep -q 'recovery ended before configured recovery target was reached'; then
			# No commit is later than the time that was asked for: all of the log is from before it.
			asked=all
			systemctl stop "$unit"
			as postgres sed -i '/^recovery_target/d' "$ARG_DATA/postgresql.auto.conf"
			systemctl reset-failed "$unit" 2>/dev/null || true
			systemctl start "$unit" || died "did not start"
		fi
		! systemctl --quiet is-failed "$unit" || died "failed"
		[ "$(systemctl show --property=NRestarts --value -- "$unit")" -lt 5 ] || died "keeps dying before it is recovered"
		sleep 0.2
	done
}

# What needs a restart is reported here, too, in two ways (guc-file.l); that is no mistake.
settings_wrong() {
	sql postgres <<-'SQL'
		set lc_messages = 'C';
		select format('%s line %s: %s = %s: %s', sourcefile, sourceline, name, setting, error) from pg_file_settings
		where error is not null and error <> 'setting could not be applied'
		and error not like 'parameter % cannot be changed without restarting the server';
	SQL
}

case $verb in
probe)
	drop_in_same
	config_same
	restart_same
	[ "$(data_state)" = cluster ]
	systemctl --quiet is-active "$unit"
	systemctl --quiet is-enabled "$unit"
	[ "$(echo 'select count(*) from pg_settings where pending_restart;' | sql postgres)" = 0 ]
	;;
apply)
	state=$(data_state)
	not_elsewhere
	reload=
	if ! drop_in_same; then
		mkdir -p -- "${drop_in%/*}"
		drop_in_content >"$drop_in.new"
		mv -f -- "$drop_in.new" "$drop_in"
		systemctl daemon-reload &
		reload=$!
	fi
	[ "$state" != empty ] || make_cluster
	systemctl --quiet --no-reload enable "$unit"
	[ -z "$reload" ] || wait "$reload"
	if ! systemctl --quiet is-active "$unit"; then
		write_config
		systemctl reset-failed "$unit" 2>/dev/null || true
		systemctl start "$unit" || died "did not start"
		echo "started"
		until_recovered
	else
		before=
		if ! config_same; then
			# Kept until PostgreSQL has read the new one without a complaint.
			backup=/run/ingot/postgresql.$$
			rm -rf $backup
			cp -a "$folder" $backup
			write_config
			wrong=$(settings_wrong)
			if [ -n "$wrong" ]; then
				cp -a $backup/. "$folder/"
				rm -rf $backup
				fail "PostgreSQL refuses its settings: $wrong"
			fi
			rm -rf $backup
			before=$(echo 'select pg_conf_load_time();' | sql postgres)
			echo 'select pg_reload_conf();' | sql postgres >/dev/null
			for _ in $(seq 100); do
				[ "$(echo 'select pg_conf_load_time();' | sql postgres)" = "$before" ] || break
				sleep 0.05
			done
			echo "reloaded"
		fi
		if [ -n "$reload" ] || ! restart_same || [ "$(echo 'select count(*) from pg_settings where pending_restart;' | sql postgres)" != 0 ]; then
			systemctl restart "$unit" || died "did not restart"
			echo "restarted"
		fi
	fi
	echo "${ARG_RESTART_HASH:-none}" >"$made.new"
	mv -f "$made.new" "$made"
	;;
esac
