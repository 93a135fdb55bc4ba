#!/bin/sh
# How long one part of a system's first boot takes alone, in milliseconds. Run on a machine that is up, which serves nothing afterwards.
#   floor.sh cluster                a cluster of PostgreSQL, made and started
#   floor.sh empty DATABASE         not timed: the database anew, with nothing in it
#   floor.sh migration APPLICATION  of the empty database
#   floor.sh start UNITS [URL]      from their start to the first answer
set -eu
cd /
version=$(ls /usr/lib/postgresql)
began() {
	start=$(date +%s%N)
}
took() {
	echo $((($(date +%s%N) - start) / 1000000))
}

case $1 in
cluster)
	began
	{
		pg_createcluster --locale en_US.UTF-8 "$version" floor -- --data-checksums
		# Not by pg_ctlcluster, which sleeps for 2 s before it believes that the server is up.
		runuser -u postgres -- "/usr/lib/postgresql/$version/bin/pg_ctl" --wait --pgdata "/etc/postgresql/$version/floor" --log /dev/null start
	} >&2
	took
	;;
empty)
	sql() {
		runuser -u postgres -- psql -XqAt -v ON_ERROR_STOP=1 "$@"
	}
	owner=$(sql -c "select pg_get_userbyid(datdba) from pg_database where datname = '$2'")
	sql -c "drop database \"$2\" with (force)" -c "create database \"$2\" owner \"$owner\""
	echo 0
	;;
migration)
	began
	"$2-manage" migrate >&2
	took
	;;
start)
	# shellcheck disable=SC2086 # several units
	systemctl stop $2
	began
	# shellcheck disable=SC2086
	systemctl start $2
	[ -z "${3-}" ] || until curl --silent --insecure --fail --output /dev/null "$3"; do
		sleep 0.05
	done
	took
	;;
esac
