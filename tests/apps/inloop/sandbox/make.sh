#!/bin/sh
# Makes sandbox.tar.gz, the image of Docker's in which solutions are run: klibc's own shell and a few programs, 130 kB in all, from two
# packages of Debian 12 that are known by hash. Whoever runs this gets the same bytes. Needs apt and dpkg; no Docker.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
here=$PWD
cd "$work"
apt-get --quiet --quiet download libklibc:amd64=2.0.12-1 klibc-utils:amd64=2.0.12-1
sha256sum --quiet --check <<-END
	6ac44426be69c64fcd9c70f117b7f9b4d3335d5d361c670aa80619b8f9ab09a5  libklibc_2.0.12-1_amd64.deb
	7807ca9145ef029075f2b05ef1de1756d8a5c5aa124cca461757d55fabbdfd79  klibc-utils_2.0.12-1_amd64.deb
END
for package in *.deb; do dpkg-deb --extract "$package" packages; done
mkdir -p root/bin root/lib root/tmp
chmod 1777 root/tmp
cp packages/lib/klibc-*.so root/lib/
for program in cat false kill ls sh sleep true; do cp "packages/usr/lib/klibc/bin/$program" root/bin/; done
cp packages/usr/share/doc/libklibc/copyright root/copyright
pack() { tar --create --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=gnu "$@"; }
mkdir image
pack --file=image/layer.tar --directory=root .
layer=$(sha256sum <image/layer.tar)
printf '{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin"],"Cmd":["/bin/sh"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
	"${layer%% *}" >image/config.json
echo '[{"Config":"config.json","RepoTags":["inloop-sandbox:latest"],"Layers":["layer.tar"]}]' >image/manifest.json
pack --directory=image config.json layer.tar manifest.json | gzip --no-name --best >"$here/sandbox.tar.gz"
sha256sum "$here/sandbox.tar.gz"
