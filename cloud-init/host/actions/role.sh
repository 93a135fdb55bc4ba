#!/bin/sh
# role: a role of PostgreSQL with exactly the attributes named, and its password.
# ARG_NAME
# ARG_ATTRIBUTES  lines of: login createdb createrole superuser replication bypassrls
# ARG_MEMBER_OF   roles (lines) that it is a member of, exactly these
# ARG_PASSWORD    path of the secret; without it the role's password is left alone
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"

options=
for attribute in login createdb createrole superuser replication bypassrls; do
	case $newline${ARG_ATTRIBUTES-}$newline in
	*"$newline$attribute$newline"*) options="$options $attribute" ;;
	*) options="$options no$attribute" ;;
	esac
done
for attribute in ${ARG_ATTRIBUTES-}; do
	case $options in
	*" $attribute"*) ;;
	*) fail "role $ARG_NAME: there is no attribute $attribute" ;;
	esac
done

# First line: whether the attributes are as they should be; second: the password's verifier.
look() {
	sql postgres -v name="$ARG_NAME" <<-'SQL'
		select concat(case when rolcanlogin then ' login' else ' nologin' end, case when rolcreatedb then ' createdb' else ' nocreatedb' end,
		  case when rolcreaterole then ' createrole' else ' nocreaterole' end, case when rolsuper then ' superuser' else ' nosuperuser' end,
		  case when rolreplication then ' replication' else ' noreplication' end, case when rolbypassrls then ' bypassrls' else ' nobypassrls' end),
		  rolpassword
		from pg_authid where rolname = :'name';
	SQL
}

# The groups that it is in, as ARG_MEMBER_OF has them when all is well.
groups_there() {
	sql postgres -v name="$ARG_NAME" <<-'SQL'
		select g.rolname from pg_auth_members m join pg_roles g on g.oid = m.roleid join pg_roles r on r.oid = m.member
		where r.rolname = :'name' order by g.rolname collate "C";
	SQL
}
groups=$(printf '%s\n' "${ARG_MEMBER_OF-}" | sed '/^$/d' | LC_ALL=C sort -u)

found=$(look) || fail "role $ARG_NAME cannot be looked up"
there_options=${found%%|*}
password=
[ -z "$found" ] || password=${found#*|}

case $verb in
probe)
	[ "$there_options" = "$options" ]
	[ "$(groups_there)" = "$groups" ]
	[ -z "${ARG_PASSWORD-}" ] || printf %s "$password" | "$INGOT/scram.py" "$ARG_PASSWORD" >/dev/null
	;;
apply)
	verifier=
	[ -z "${ARG_PASSWORD-}" ] || verifier=$(printf %s "$password" | "$INGOT/scram.py" "$ARG_PASSWORD") || [ -n "$verifier" ] || fail "role $ARG_NAME: its password cannot be read"
	{
		# The server computes nothing and logs nothing: the verifier is as good as made by \password.
		echo "set log_statement = none; set log_min_duration_statement = -1; set log_min_error_statement = panic; set pg_stat_statements.track_utility = off;"
		echo "begin;"
		[ -n "$there_options" ] || echo 'create role :"name";'
		[ "$there_options" = "$options" ] || echo "alter role :\"name\" $options;"
		[ -z "$verifier" ] || echo "alter role :\"name\" password '$verifier';"
		echo "commit;"
	} | sql postgres -v name="$ARG_NAME"
	groups_there | while IFS= read -r group; do
		printf '%s\n' "$groups" | grep -Fqx -- "$group" || echo 'revoke :"group" from :"name";' | sql postgres -v group="$group" -v name="$ARG_NAME"
	done
	[ -z "$groups" ] || printf '%s\n' "$groups" | while IFS= read -r group; do
		echo 'grant :"group" to :"name";' | sql postgres -v group="$group" -v name="$ARG_NAME"
	done
	[ -n "$there_options" ] || echo "created the role $ARG_NAME"
	[ -z "$verifier" ] || echo "set its password"
	;;
esac
