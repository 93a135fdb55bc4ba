#!/bin/sh
# grant: what a role may do with the tables and sequences of a schema. Rights are added, none is taken away.
# ARG_DATABASE, ARG_ROLE, ARG_SCHEMA
# ARG_TABLES     lines of: table, a space, privileges with commas
# ARG_ALL        privileges with commas, on every table of the schema
# ARG_SEQUENCES  true: usage of every sequence of the schema
# ARG_WAIT       seconds that tables of ARG_TABLES, and the role, are waited for
# ARG_CONNECTION where the database is and who grants, when it is not this host's
# ARG_OWNER      ARG_ALL and ARG_SEQUENCES hold for what this role makes later, too
# Privileges are keywords of SQL that the declaration's schema has let through; names go in as psql's variables.
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"

# Each thing that lacks, one a line; an error where a table is not there.
lacking() {
	{
		echo "select 'the schema' where not has_schema_privilege(:'role', :'schema', 'usage');"
		table_number=0
		while read -r table privileges; do
			[ -n "$table" ] || continue
			table_number=$((table_number + 1))
			echo "\\set table$table_number $table"
			old_ifs=$IFS
			IFS=,
			for privilege in $privileges; do
				echo "select format('%s on %s', '$privilege', :'table$table_number') where not has_table_privilege(:'role', format('%I.%I', :'schema'::text, :'table$table_number'::text), '$privilege');"
			done
			IFS=$old_ifs
		done <<-END
			${ARG_TABLES-}
		END
		old_ifs=$IFS
		IFS=,
		for privilege in ${ARG_ALL-}; do
			echo "select format('%s on %s', '$privilege', c.relname) from pg_class c where c.relnamespace = (select oid from pg_namespace where nspname = :'schema') and c.relkind in ('r', 'v', 'm', 'p', 'f') and not has_table_privilege(:'role', c.oid, '$privilege');"
		done
		IFS=$old_ifs
		if [ "${ARG_SEQUENCES-false}" = true ]; then
			echo "select format('usage of %s', c.relname) from pg_class c where c.relnamespace = (select oid from pg_namespace where nspname = :'schema') and case c.relkind when 'S' then not has_sequence_privilege(:'role', c.oid, 'usage') end;"
		fi
		if [ -n "${ARG_OWNER-}" ]; then
			cat <<-'SQL'
				select 'what comes later' where not exists (
				  select from pg_default_acl d, aclexplode(d.defaclacl) a
				  where d.defaclrole = to_regrole(quote_ident(:'owner')) and d.defaclnamespace = (select oid from pg_namespace where nspname = :'schema') and a.grantee = to_regrole(quote_ident(:'role')));
			SQL
		fi
	} | sql "$ARG_DATABASE" -v role="$ARG_ROLE" -v schema="$ARG_SCHEMA" -v owner="${ARG_OWNER-}"
}

# What is not there of the role and the tables of ARG_TABLES.
missing() {
	{
		echo "select 1 where to_regrole(quote_ident(:'role')) is null;"
		while read -r table _; do
			[ -z "$table" ] || echo "select 1 where to_regclass(format('%I.%I', :'schema'::text, '$table'::text)) is null;"
		done <<-END
			${ARG_TABLES-}
		END
	} | sql "$ARG_DATABASE" -v role="$ARG_ROLE" -v schema="$ARG_SCHEMA"
}

statements() {
	echo 'grant usage on schema :"schema" to :"role";'
	while read -r table privileges; do
		[ -z "$table" ] || printf '\\set table %s\ngrant %s on table :"schema".:"table" to :"role";\n' "$table" "$privileges"
	done <<-END
		${ARG_TABLES-}
	END
	[ -z "${ARG_ALL-}" ] || echo "grant $ARG_ALL on all tables in schema :\"schema\" to :\"role\";"
	[ "${ARG_SEQUENCES-false}" = false ] || echo 'grant usage on all sequences in schema :"schema" to :"role";'
	if [ -n "${ARG_OWNER-}" ]; then
		[ -z "${ARG_ALL-}" ] || echo "alter default privileges for role :\"owner\" in schema :\"schema\" grant $ARG_ALL on tables to :\"role\";"
		[ "${ARG_SEQUENCES-false}" = false ] || echo 'alter default privileges for role :"owner" in schema :"schema" grant usage on sequences to :"role";'
	fi
}

case $verb in
probe)
	left=$(lacking)
	[ -z "$left" ]
	;;
apply)
	waited=0
	while [ "$waited" -lt "${ARG_WAIT:-0}" ] && [ -n "$(missing)" ]; do
		sleep 1
		waited=$((waited + 1))
	done
	statements | sql "$ARG_DATABASE" --single-transaction -v role="$ARG_ROLE" -v schema="$ARG_SCHEMA" -v owner="${ARG_OWNER-}"
	left=$(lacking)
	[ -z "$left" ] || fail "$ARG_ROLE still lacks in $ARG_DATABASE: $left"
	;;
esac
