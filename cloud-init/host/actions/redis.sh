#!/bin/sh
# redis: redis-server.service with Ingot's own configuration, which a generated drop-in of the unit names.
# ARG_INPUTS, ARG_HASH, ARG_LISTENS, ARG_TIMEOUT as in service.sh
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"

service_"$verb" redis-server.service
