#!/bin/sh
# terraform.sh LOG COMMAND…: runs Terraform with its output in LOG, a file: a pipe that breaks when Ingot is killed would kill it in the
# middle of its work. When Ingot dies it is asked to stop in order instead, which keeps its state and frees its lock.
log=$1
shift
if command -v setpriv >/dev/null; then
	exec setpriv --pdeathsig INT "$@" >"$log" 2>&1
fi
exec "$@" >"$log" 2>&1
