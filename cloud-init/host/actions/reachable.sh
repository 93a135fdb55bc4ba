#!/bin/sh
# reachable: waits until another host listens at a port.
# ARG_ADDRESS, ARG_PORT
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"

# Seconds until which it is tried.
connects() {
	/usr/bin/python3 -c '
import socket, sys, time
host, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
deadline = time.monotonic() + seconds
while True:
    try:
        socket.create_connection((host, port), 5).close()
        break
    except OSError as error:
        if time.monotonic() >= deadline:
            sys.exit(f"nothing answers at {host}:{port}: {error}")
    time.sleep(0.2)
' "$ARG_ADDRESS" "$ARG_PORT" "$1"
}

case $verb in
probe) connects 0 2>/dev/null ;;
apply) connects 540 || fail "(above)" ;;
esac
