#!/bin/bash
# Sets up what is missing: Debian packages (with sudo when not root), npm packages, dist/. Says what it installs and why; quick when
# nothing is missing. `--tests`, `--vm`, `--arm64` and `--lint` add what those need; `--no-system` leaves the system alone, for tests that need neither
# root nor machines.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(node --version 2>/dev/null || echo none)
case $version in
v2[0-9].* | v[3-9][0-9].*) ;;
*)
	echo "Ingot needs Node 20 or newer; found: $version" >&2
	exit 3
	;;
esac

# Machines and images are root's.
root=()
if [ "${1-}" != --no-system ] && [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null || {
		echo "Ingot makes images and machines as root: run this as root, or get sudo (as root: apt-get install sudo)" >&2
		exit 3
	}
	root=(sudo)
fi

# Two at once would write over each other's node_modules/ and dist/.
mkdir -p .ingot
exec 9>.ingot/setup.lock
if command -v flock >/dev/null && ! flock --nonblock 9; then
	echo "another set-up of this folder is under way: waiting for it"
	flock 9
fi

# package, a file that is there when it is installed, what it is for
packages=(
	"mmdebstrap /usr/bin/mmdebstrap makes the image's root tree"
	"apt-utils /usr/bin/apt-ftparchive indexes the locked packages for it"
	"debian-archive-keyring /usr/share/keyrings/debian-archive-keyring.gpg verifies the archive's signature"
	"gpgv /usr/bin/gpgv verifies the archive's signature"
	"systemd-container /usr/bin/systemd-nspawn boots machines on this computer"
	"iproute2 /sbin/ip gives machines a network of their own"
	"util-linux /usr/bin/unshare gives the bake namespaces of its own"
	"mount /sbin/losetup attaches the disks of data volumes"
	"e2fsprogs /sbin/mke2fs makes file systems"
	"openssh-client /usr/bin/ssh-keygen makes ssh keys"
	"python3 /usr/bin/python3 runs the checks from outside"
	"procps /usr/bin/ps finds the children of a program that is stopped"
	"zstd /usr/bin/zstd packs what is kept"
)
for option in "$@"; do
	case $option in
	--tests)
		packages+=(
			"curl /usr/bin/curl asks machines in tests"
			"wrk /usr/bin/wrk loads a site while it gets another release"
			"gpg /usr/bin/gpg signs an archive of packages in a test"
			"git /usr/bin/git keeps sources that tests deploy"
			"packer /usr/bin/packer makes AMIs by a builder instance"
			"python3-venv /usr/share/doc/python3-venv/copyright holds moto, the emulator of AWS"
		)
		;;
	--vm)
		packages+=(
			"qemu-system-x86 /usr/bin/qemu-system-x86_64 boots machines with a kernel of their own"
			"qemu-utils /usr/bin/qemu-img makes their disks"
			"ovmf /usr/share/OVMF/OVMF_CODE_4M.fd boots them by UEFI"
		)
		;;
	--arm64)
		packages+=(
			"qemu-user-static /usr/bin/qemu-aarch64-static runs arm64's programs while an image of it is baked"
			"qemu-system-arm /usr/bin/qemu-system-aarch64 boots its disk"
			"qemu-utils /usr/bin/qemu-img makes its disk"
			"qemu-efi-aarch64 /usr/share/AAVMF/AAVMF_CODE.fd boots it by UEFI"
		)
		;;
	--lint) packages+=("shellcheck /usr/bin/shellcheck checks the shell scripts") ;;
	esac
done

missing=()
if [ "${1-}" != --no-system ]; then
	for line in "${packages[@]}"; do
		read -r package file why <<<"$line"
		[ -e "$file" ] || { missing+=("$package") && echo "to install: $package ($why)"; }
	done
fi
if [ ${#missing[@]} -gt 0 ]; then
	if ! command -v apt-get >/dev/null; then
		echo "these packages are missing, and there is no apt here to install them: ${missing[*]}" >&2
		exit 3
	fi
	log=$(mktemp)
	if ! {
		"${root[@]}" apt-get update --quiet --quiet &&
			"${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "${missing[@]}"
	} >"$log" 2>&1; then
		tail -n 20 "$log" >&2
		echo "apt could not install: ${missing[*]}" >&2
		exit 3
	fi
	rm -f "$log"
	echo "installed: ${missing[*]}"
fi

# npm's own record of what node_modules holds is no older than the lock file.
if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
	echo "installing npm packages"
	npm ci --no-audit --no-fund --loglevel=error --ignore-scripts
	touch node_modules/.package-lock.json
fi

# The emulator of AWS that the tests talk to, in a virtualenv of its own. Pinned: another version models other things.
moto=5.2.5
if [[ " $* " == *" --tests "* ]] && [ ! -e ".ingot/tools/moto-$moto/bin/moto_server" ]; then
	echo "installing moto $moto, which stands in for AWS in the tests"
	mkdir -p .ingot/tools
	rm -rf ".ingot/tools/moto-$moto"
	python3 -m venv ".ingot/tools/moto-$moto"
	".ingot/tools/moto-$moto/bin/pip" install --quiet --disable-pip-version-check "moto[server]==$moto"
fi

if [ ! -e dist/ingot.js ] || [ -n "$(find package-lock.json lib images cloud-init stacks scripts tests -path tests/apps -prune -o \( -name '*.ts' -o -name '*.mjs' \) -newer dist/ingot.js -print -quit)" ]; then
	node scripts/build.mjs
fi

# The password is asked for now, once, rather than in the middle of something.
[ ${#root[@]} = 0 ] || sudo --validate
