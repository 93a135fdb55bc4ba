#!/bin/sh
# database-ready: waits until a role can log in to a database of another host, as an application will.
# ARG_ADDRESS   of the server
# ARG_PORT      5432 when left out
# ARG_WAIT      seconds that it is tried: 540 when left out
# ARG_NAME      the database
# ARG_ROLE      the role
# ARG_PASSWORD  path of the secret
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"

case $verb in
probe) "$INGOT/login.py" "$ARG_ADDRESS" "${ARG_PORT:-5432}" "$ARG_NAME" "$ARG_ROLE" "$ARG_PASSWORD" 2>/dev/null ;;
apply) "$INGOT/login.py" "$ARG_ADDRESS" "${ARG_PORT:-5432}" "$ARG_NAME" "$ARG_ROLE" "$ARG_PASSWORD" "${ARG_WAIT:-540}" || fail "(above)" ;;
esac
