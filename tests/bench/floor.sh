#!/bin/sh
# floor.sh PART: how long one part of INLOOP's first boot takes alone, in milliseconds. Run on INLOOP's machine, which serves nothing afterwards.
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
postgresql)
	began
	{
		pg_createcluster --locale en_US.UTF-8 "$version" floor -- --data-checksums
		# Not by pg_ctlcluster, which sleeps for 2 s before it believes that the server is up.
		runuser -u postgres -- "/usr/lib/postgresql/$version/bin/pg_ctl" --wait --pgdata "/etc/postgresql/$version/floor" --log /dev/null start
	} >&2
	took
	;;
migration)
	runuser -u postgres -- psql -XqAtc 'create database floor owner inloop'
	cd /srv/inloop/current/app
	set -a
	# shellcheck source=/dev/null
	. /var/lib/ingot/applications/inloop.env
	DATABASE_URL=${DATABASE_URL%/inloop}/floor
	began
	setpriv --reuid=gunicorn --regid=gunicorn --init-groups ../venv/bin/python manage.py migrate >&2
	took
	;;
gunicorn)
	systemctl stop gunicorn.socket gunicorn.service
	began
	systemctl start gunicorn.socket gunicorn.service
	curl --silent --fail --output /dev/null --header 'Host: inloop.localhost' --header 'X-Forwarded-Proto: https' http://127.0.0.1:8000/
	took
	;;
esac
