#!/bin/sh
# mmdebstrap's setup hook: what dpkg must know before it unpacks anything. The image keeps ingot-excludes, so that what is
# installed later stays as lean; ingot-bake is taken out again.
set -eu
root=$1
cat >"$root/etc/dpkg/dpkg.cfg.d/ingot-excludes" <<'EXCLUDES'
path-exclude=/usr/share/man/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/lintian/*
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
path-exclude=/usr/share/locale/*
path-include=/usr/share/locale/locale.alias
path-include=/usr/share/locale/en*
EXCLUDES
# The tree is thrown away when the bake fails, so nothing has to be safe against a loss of power.
echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/ingot-bake"
