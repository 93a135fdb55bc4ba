#!/bin/sh
# mmdebstrap's setup hook: what dpkg must know before it unpacks anything. The image keeps ingot-excludes, where there is one
# (images/leave-out.ts); ingot-bake is taken out again.
set -eu
root=$1
tar -x -C "$root" --no-same-owner --no-overwrite-dir -f "$BAKE_FOLDER/files.tar"
# The tree is thrown away when the bake fails, so nothing has to be safe against a loss of power.
echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/ingot-bake"
