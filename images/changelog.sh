#!/bin/sh
# Unpacks what a .deb ($1) documents itself with into a folder ($2). Called by images/changelog.ts.
set -eu
dpkg-deb --fsys-tarfile "$1" | tar --extract --directory="$2" --no-same-owner --wildcards './usr/share/doc/*'
