#!/bin/sh
set -eu
printf '%s\n' "$GREETING" >/etc/greeting
ln /etc/greeting /etc/greeting.too
install -d -m 0750 -o keeper -g readers /var/lib/keeper
