#!/bin/sh
# Tries lines of nginx's configuration that somebody wrote, in a throw-away machine over the image: /build/nginx.conf has them in a server
# of their own. What nginx says is left in /build/said.
set -eu
mkdir -p /var/log/nginx /run
code=0
nginx -t -q -c /build/nginx.conf >/build/said 2>&1 || code=$?
echo $code >/build/code
