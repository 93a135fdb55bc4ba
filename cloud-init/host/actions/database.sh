#!/bin/sh
# database: a database of PostgreSQL and its owner. Encoding and locale are fixed when it is made.
# ARG_NAME, ARG_OWNER
# ARG_ENCODING  UTF8
# ARG_LOCALE    en_US.UTF-8; without it the cluster's
# ARG_TEMPLATE  template0
# ARG_EXTENSIONS  names (lines) of extensions that are to be there
# ARG_SCHEMAS     names (lines) of schemas that are to be there, the owner's
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"

plain() { # PostgreSQL says en_US.UTF-8 or en_US.utf8, as it was told
	printf %s "$1" | tr '[:upper:]' '[:lower:]' | tr -d -- -
}

# Extensions that lack.
lacking() {
	sql "$ARG_NAME" <<-'SQL' | {
		select extname from pg_extension;
	SQL
		there=$newline$(cat)$newline
		printf '%s\n' "${ARG_EXTENSIONS-}" | while IFS= read -r extension; do
			case $there in
			*"$newline$extension$newline"*) ;;
			*) printf '%s\n' "$extension" ;;
			esac
		done
	}
}

extend() {
	[ -n "${ARG_EXTENSIONS-}" ] || return 0
	lacking | while IFS= read -r extension; do
		echo 'create extension if not exists :"extension" cascade;' | sql "$ARG_NAME" -v extension="$extension" ||
			fail "database $ARG_NAME: the extension $extension cannot be made (above); its package must be in the image"
		echo "made the extension $extension"
	done
}

# Schemas that lack.
without() {
	printf '%s\n' "${ARG_SCHEMAS-}" | while IFS= read -r schema; do
		[ -z "$schema" ] || [ -n "$(echo "select 1 from pg_namespace where nspname = :'schema';" | sql "$ARG_NAME" -v schema="$schema")" ] || printf '%s\n' "$schema"
	done
}

divide() {
	without | while IFS= read -r schema; do
		echo 'create schema :"schema" authorization :"owner";' | sql "$ARG_NAME" -v schema="$schema" -v owner="$ARG_OWNER"
		echo "made the schema $schema"
	done
}

found=$(
	sql postgres -v name="$ARG_NAME" <<-'SQL'
		select pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datctype from pg_database where datname = :'name';
	SQL
) || fail "database $ARG_NAME cannot be looked up"
IFS='|' read -r owner encoding collate ctype <<END
$found
END

case $verb in
probe)
	[ -n "$found" ] || exit 1
	[ "$owner" = "$ARG_OWNER" ]
	[ "$(plain "$encoding")" = "$(plain "${ARG_ENCODING:-UTF8}")" ]
	[ -z "${ARG_LOCALE-}" ] || [ "$(plain "$collate$ctype")" = "$(plain "$ARG_LOCALE$ARG_LOCALE")" ]
	[ -z "${ARG_EXTENSIONS-}" ] || [ -z "$(lacking)" ]
	[ -z "${ARG_SCHEMAS-}" ] || [ -z "$(without)" ]
	;;
apply)
	if [ -z "$found" ]; then
		sql postgres -v name="$ARG_NAME" -v owner="$ARG_OWNER" -v encoding="${ARG_ENCODING:-UTF8}" -v locale="${ARG_LOCALE-}" \
			-v template="${ARG_TEMPLATE:-template0}" <<-SQL
				create database :"name" owner :"owner" encoding :'encoding' template :"template" ${ARG_LOCALE:+locale :'locale'};
			SQL
		echo "created the database $ARG_NAME"
		extend
		divide
		exit 0
	fi
	[ "$(plain "$encoding")" = "$(plain "${ARG_ENCODING:-UTF8}")" ] ||
		fail "database $ARG_NAME has the encoding $encoding, declared is ${ARG_ENCODING:-UTF8}: only a dump into a new database changes that"
	[ -z "${ARG_LOCALE-}" ] || [ "$(plain "$collate$ctype")" = "$(plain "$ARG_LOCALE$ARG_LOCALE")" ] ||
		fail "database $ARG_NAME has the locale $collate (collate) and $ctype (ctype), declared is $ARG_LOCALE: only a dump into a new database changes that"
	sql postgres -v name="$ARG_NAME" -v owner="$ARG_OWNER" <<-'SQL'
		alter database :"name" owner to :"owner";
	SQL
	extend
	divide
	;;
esac
