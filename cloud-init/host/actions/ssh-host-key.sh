#!/bin/sh
# ssh-host-key: the host's own ed25519 key, and sshd running with it.
# ARG_UNIT      sshd's unit
# ARG_KEY       path of the secret: an OpenSSH private key without passphrase
# ARG_INPUTS    paths (lines) of sshd's drop-ins, whose change is a reload; ARG_LISTENS, ARG_TIMEOUT as in service.sh
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"
key=/etc/ssh/ssh_host_ed25519_key
ARG_INPUTS=$key${ARG_INPUTS:+$newline$ARG_INPUTS}
ARG_RELOAD=true

case $verb in
probe)
	same "$ARG_KEY" $key root root 0600
	[ -s $key.pub ]
	service_probe "$ARG_UNIT"
	;;
apply)
	if ! same "$ARG_KEY" $key root root 0600 || [ ! -s $key.pub ]; then
		umask 077
		public=$(ssh-keygen -y -P '' -f "$ARG_KEY") || fail "the secret is not an OpenSSH private key without passphrase"
		umask 022
		echo "$public" >$key.pub.new
		mv -f $key.pub.new $key.pub
		put "$ARG_KEY" $key root root 0600
	fi
	service_apply "$ARG_UNIT"
	;;
esac
