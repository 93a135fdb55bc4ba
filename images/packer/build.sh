#!/bin/sh
# Makes an image's tree on a builder that Packer has started, by the very scripts that make it on everybody's own computer (images/provision/): in a
# folder beside the builder's own system, which place.py then puts it into the place of. As root:
#   build.sh <what was sent> <release>
# What was sent (images/packer-folder.ts): provision/, packer/, debs/<sha256>.deb, tools (programs that the scripts want, "name<TAB>deb" a line),
# steps/<nn>/ with the files of each step and `call`, the words of its call. There will be $folder/facts.tar.gz, for images/packer-facts.ts.
set -eu
exec 2>&1
umask 022
sent=$1
release=$2
folder=/var/lib/ingot-build

# shellcheck source=/dev/null
. /etc/os-release
[ "${VERSION_CODENAME:-}" = "$release" ] || {
	echo "ingot: the builder runs ${PRETTY_NAME:-another system}, and the image is of $release: its programs must be that release's"
	exit 1
}
for path in /boot /etc /home /opt /root /srv /usr /var; do
	[ ! -d "$path" ] || [ "$(stat --format=%d "$path")" = "$(stat --format=%d /)" ] || {
		echo "ingot: $path of the builder is a file system of its own, and the image has one for all"
		exit 1
	}
done

echo "ingot: phase received"
rm -rf "$folder"
mv -- "$sent" "$folder"
chown -R 0:0 "$folder"
cd "$folder"
chmod -R go-w .
chmod 0755 provision/*
find debs -name '*.deb' -printf '%f\n' | sed 's|^\(.*\)\.deb$|\1  debs/&|' | sha256sum --check --quiet
# The builder's own system goes in the end, so they need no place of their own. What it has already stays as it runs.
tab=$(printf '\t')
while IFS=$tab read -r name deb; do
	state=$(dpkg-query --show --showformat='${db:Status-Status}' "$name" 2>/dev/null) || state=
	[ "$state" = installed ] || dpkg-deb --fsys-tarfile "debs/$deb" |
		tar --extract --directory=/ --keep-directory-symlink --exclude='./usr/share/doc' --exclude='./usr/share/man'
done <tools

# bake.sh ends all that it began when this end of its standard input closes; so it does with us.
mkfifo leash
exec 9<>leash
for step in steps/*; do
	[ -e "$step/packages" ] || mkdir "$step/facts"
	xargs --null --arg-file="$step/call" --exit env --ignore-environment <leash 9>&-
done
tar --create --gzip --file=facts.tar.gz --directory="$step/facts" .
chmod 0644 facts.tar.gz
chmod 0755 .
