#!/bin/sh
# Looks at a finished tree and writes down what is in it, for the manifest and for images/truths.ts, which may run as somebody
# who cannot read all of it. Reads only. Called by layer.sh with the layer below in $BAKE_BELOW,
# and in the file sums what keep.py has read.
set -eu
root=$1
facts=$2

python3 -B "$(dirname "$0")/listing.py" "$root" "$BAKE_BELOW" "$BAKE_BELOW/../files" sums >"$facts/files" &
listing=$!

# shellcheck disable=SC2016 # dpkg-query's own format
dpkg-query --admindir="$root/var/lib/dpkg" --show --showformat='${db:Status-Abbrev}\t${Package}\t${Version}\n' >"$facts/packages"
systemctl --root="$root" list-unit-files --no-legend --no-pager --plain >"$facts/units"
cp "$root/etc/passwd" "$root/etc/group" "$facts/"
# Files straight into the folder, which is the caller's: what lies deeper he could not remove.
for path in etc/machine-id etc/apt/sources.list; do
	[ ! -e "$root/$path" ] || cat "$root/$path" >"$facts/${path##*/}"
done
# Passwords: only whether there are any.
awk -F: '$2 !~ /^[!*]/ { print $1 }' "$root/etc/shadow" >"$facts/passwords"
grep -rlIE 'PRIVATE KEY-----' "$root/etc" "$root/root" "$root/home" "$root/var/lib" >"$facts/private-keys" || :
chroot "$root" locale -a >"$facts/locales"
ls "$root/usr/lib/postgresql" >"$facts/postgresql" 2>/dev/null || :
wait "$listing"
