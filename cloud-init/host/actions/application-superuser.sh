#!/bin/sh
# application-superuser: the first superuser of a Django application. One who is there already is left as he is.
# ARG_APPLICATION, ARG_RELEASE, ARG_ENV, ARG_USER, ARG_GROUPS as in application-command.sh
# ARG_NAME, ARG_EMAIL
# ARG_PASSWORD     path of the secret
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"
# shellcheck source=cloud-init/host/actions/lib-application.sh
. "$INGOT/actions/lib-application.sh"

case $verb in
probe) exit 1 ;;
apply)
	name=$ARG_NAME email=$ARG_EMAIL
	# Read by createsuperuser --noinput; in the environment of that process only.
	DJANGO_SUPERUSER_PASSWORD=$(cat -- "$ARG_PASSWORD")
	export DJANGO_SUPERUSER_PASSWORD
	code=0
	output=$(in_release "$ARG_USER" python3 manage.py createsuperuser --noinput --username "$name" --email "$email" 2>&1) || code=$?
	printf '%s\n' "$output"
	[ $code -ne 0 ] || exit 0
	case $output in
	*"is already taken"*) exit 0 ;;
	esac
	fail "createsuperuser ended with exit code $code"
	;;
esac
