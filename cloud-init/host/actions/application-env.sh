#!/bin/sh
# application-env: the environment of an application's services and commands, secrets included: root's own, 0600.
# ARG_ENV       path of the rendered file
# ARG_PATH      /var/lib/ingot/applications/APP.env
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"

case $verb in
probe) same "$ARG_ENV" "$ARG_PATH" root root 0600 ;;
apply)
	enter "${ARG_PATH%/*}" create
	put "$ARG_ENV" "$ARG_PATH" root root 0600
	;;
esac
