#!/bin/sh
# certificate: an X.509 certificate for the names of a site, with a key of the secrets' store: self-signed, or one that was given.
# ARG_NAME         its common name in messages and files
# ARG_KEY          path of the secret: a PEM private key
# ARG_NAMES        host names and addresses (lines)
# ARG_DAYS         how long it is valid (825)
# ARG_GIVEN        path of the given one, with its chain (PEM)
# ARG_READERS      units (lines) that are told of a new one, when nobody else tells them
# ARG_KEEP_ISSUED  true: one that an authority has signed for the same names stays
# ARG_CERTIFICATE  where the certificate goes; ARG_KEY_PATH where the key goes (root, 0600)
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"
umask 077

names=
while read -r name; do
	case $name in
	'') continue ;;
	*[!0-9.]*:* | *:*) kind=IP ;;
	*[!0-9.]*) kind=DNS ;;
	*) kind=IP ;;
	esac
	names=${names:+$names,}$kind:$name
done <<END
$ARG_NAMES
END
[ -n "$names" ] || fail "certificate $ARG_NAME: no names"

public_key() {
	openssl pkey -in "$ARG_KEY" -pubout 2>/dev/null || fail "certificate $ARG_NAME: the secret is not a PEM private key"
}

# Its names as DNS:a,DNS:b, of a certificate that openssl can read.
names_in() {
	openssl x509 -in "$1" -noout -ext subjectAltName 2>/dev/null | sed -n '2s/ //gp'
}

is_issued() {
	[ "${ARG_KEEP_ISSUED-false}" = true ] && [ "$(openssl x509 -in "$ARG_CERTIFICATE" -noout -issuer | sed 's/^issuer=//')" != "$(openssl x509 -in "$ARG_CERTIFICATE" -noout -subject | sed 's/^subject=//')" ]
}

case $verb in
probe)
	same "$ARG_KEY" "$ARG_KEY_PATH" root root 0600
	[ -f "$ARG_CERTIFICATE" ]
	if [ -n "${ARG_GIVEN-}" ]; then
		[ "$(cat "$ARG_CERTIFICATE.names")" = "$names" ]
		same "$ARG_GIVEN" "$ARG_CERTIFICATE" root root 0644
		exit
	fi
	# How long that one is valid is its own renewal's business.
	is_issued ||
		openssl x509 -in "$ARG_CERTIFICATE" -noout -checkend 2592000 >/dev/null
	[ "$(openssl x509 -in "$ARG_CERTIFICATE" -noout -pubkey)" = "$(public_key)" ]
	# The names as they were asked for are kept beside the certificate: openssl prints addresses in another form.
	[ "$(cat "$ARG_CERTIFICATE.names")" = "$names" ]
	;;
apply)
	public_key >/dev/null
	enter "${ARG_CERTIFICATE%/*}" create
	enter "${ARG_KEY_PATH%/*}" create
	cd /
	if [ -n "${ARG_GIVEN-}" ]; then
		[ "$(openssl x509 -in "$ARG_GIVEN" -noout -pubkey)" = "$(public_key)" ] || fail "certificate $ARG_NAME: the given one belongs to another key"
		openssl x509 -in "$ARG_GIVEN" -noout -checkend 0 >/dev/null || fail "certificate $ARG_NAME: the given one has ended: $(openssl x509 -in "$ARG_GIVEN" -noout -enddate)"
		there=,$(names_in "$ARG_GIVEN" | sed 's/IPAddress:/IP:/g'),
		for name in $(printf %s "$names" | tr , ' '); do
			case $there in
			*",$name,"* | *",DNS:*.${name#*.},"*) ;;
			*) fail "certificate $ARG_NAME: the given one is not for ${name#*:}, but for $(names_in "$ARG_GIVEN")" ;;
			esac
		done
		put "$ARG_KEY" "$ARG_KEY_PATH" root root 0600
		put "$ARG_GIVEN" "$ARG_CERTIFICATE" root root 0644
		printf '%s\n' "$names" >"$ARG_CERTIFICATE.names"
		echo "certificate for $names, $(openssl x509 -in "$ARG_GIVEN" -noout -enddate)"
		exit 0
	fi
	first=${names%%,*}
	first=${first#*:}
	[ ${#first} -le 64 ] || first=$ARG_NAME # X.520: a common name has 64 characters at most
	openssl req -x509 -new -sha256 -key "$ARG_KEY" -days "${ARG_DAYS:-825}" -out "$ARG_CERTIFICATE.new" -config /dev/stdin <<-END
		[req]
		distinguished_name = subject
		x509_extensions = extensions
		prompt = no
		[subject]
		commonName = $first
		[extensions]
		subjectAltName = $names
		basicConstraints = critical, CA:FALSE
		keyUsage = critical, digitalSignature
		extendedKeyUsage = serverAuth
		subjectKeyIdentifier = hash
	END
	chmod 0644 "$ARG_CERTIFICATE.new"
	# The key first: nginx is told afterwards, and a certificate never stands beside another's key for longer than this.
	put "$ARG_KEY" "$ARG_KEY_PATH" root root 0600
	mv -f -- "$ARG_CERTIFICATE.new" "$ARG_CERTIFICATE"
	printf '%s\n' "$names" >"$ARG_CERTIFICATE.names"
	echo "certificate for $names, ${ARG_DAYS:-825} days"
	printf '%s\n' "${ARG_READERS-}" | while IFS= read -r unit; do
		[ -z "$unit" ] || systemctl try-reload-or-restart -- "$unit"
	done
	;;
esac
