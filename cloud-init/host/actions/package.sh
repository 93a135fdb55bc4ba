#!/bin/sh
# package: a Debian package that is installed on the host. Its services are neither started nor enabled by that: whoever declares them does.
# ARG_NAME     the package
# ARG_SOURCES  the file of sources.list.d that it comes from; the image's own archives when left out
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"
export DEBIAN_FRONTEND=noninteractive

installed() {
	# shellcheck disable=SC2016 # dpkg-query's own
	[ "$(dpkg-query --show --showformat='${db:Status-Status}' -- "$ARG_NAME" 2>/dev/null)" = installed ]
}

# What the archive has: asked once for each boot and each change of its file. The network may not be up yet.
update() {
	sources=${ARG_SOURCES:-/etc/apt/sources.list}
	asked=/run/ingot/apt-$(printf %s "$sources" | sha256sum | cut -c 1-16)
	[ -z "$(find "$asked" -newer "$sources" 2>/dev/null)" ] || return 0
	if [ -n "${ARG_SOURCES-}" ]; then
		set -- -o Dir::Etc::sourcelist="$ARG_SOURCES" -o Dir::Etc::sourceparts=/dev/null -o APT::Get::List-Cleanup=false
	else
		set -- -o Dir::Etc::sourceparts=/dev/null -o APT::Get::List-Cleanup=false
	fi
	read -r uptime _ </proc/uptime
	deadline=$((${uptime%.*} + 120))
	while ! said=$(apt-get update -q --error-on=any -o Acquire::Retries=0 -o Acquire::http::Timeout=20 "$@" 2>&1); do
		case $said in
		# Who signed it does not change by waiting.
		*NO_PUBKEY* | *BADSIG* | *EXPKEYSIG* | *'is not signed'* | *'Malformed entry'*) fail "$said" ;;
		esac
		read -r uptime _ </proc/uptime
		[ "${uptime%.*}" -lt "$deadline" ] || fail "$said"
		sleep 2
	done
	: >"$asked"
}

packages() {
	dpkg-query --show --showformat='${Package}\n' | sort
}

# Units that the packages of a list bring.
units() {
	xargs -r dpkg-query --listfiles -- | sed -nE 's,^(/usr)?/lib/systemd/system/([^/]+\.(service|socket|timer|path))$,\2,p' | sort -u
}

# Debian's own way to say that nothing is to be started: invoke-rc.d asks it. Source: /usr/share/doc/init-system-helpers/README.policy-rc.d.
policy=/usr/sbin/policy-rc.d

case $verb in
probe)
	installed
	;;
apply)
	# One of them at a time; who else holds dpkg's lock is waited for by apt itself.
	exec 9>/run/ingot/apt.lock
	flock 9
	! installed || exit 0
	update
	packages >/run/ingot/apt-before
	trap 'rm -f $policy' EXIT
	trap 'exit 99' TERM
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod 0755 $policy
	apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=600 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold \
		-o Acquire::Retries=3 -- "$ARG_NAME" 9>&-
	# Those of its dependencies, too. Nobody else enables them: whoever needs them waits for this.
	for unit in $(packages | comm -13 /run/ingot/apt-before - | units); do
		! systemctl --quiet is-enabled -- "$unit" 2>/dev/null || systemctl --no-reload disable -- "$unit"
	done
	installed || fail "$ARG_NAME was not installed"
	;;
esac
