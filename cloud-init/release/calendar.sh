#!/bin/sh
# Tries times of systemd's calendar that somebody wrote, /build/calendar, in a throw-away machine over the image. What systemd says is left
# in /build/said.
set -eu
code=0
systemd-analyze calendar -- "$(cat /build/calendar)" >/build/said 2>&1 || code=$?
echo $code >/build/code
