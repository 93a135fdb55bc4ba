#!/bin/sh
# Stamps of work on data, kept with the data: table ingot.stamp of the database it was done in. Called by step:
# stamp.sh probe|write DATABASE HASH, with the step's id in STEP. Exit code 0: the stamp is there; 1: it is not, or another one.
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"

case $1 in
probe)
	found=$(sql "$2" -v step="$STEP" <<-'SQL'
		select to_regclass('ingot.stamp') is not null as there \gset
		\if :there
		select hash from ingot.stamp where step = :'step';
		\endif
	SQL
	) || fail "the stamp cannot be read from database $2"
	[ "$found" = "$3" ]
	;;
write)
	sql "$2" -v step="$STEP" -v hash="$3" <<-'SQL'
		set client_min_messages = warning;
		begin;
		select pg_advisory_xact_lock(hashtext('ingot.stamp')) \g /dev/null
		select to_regclass('ingot.stamp') is null as missing \gset
		\if :missing
		create schema if not exists ingot;
		create table ingot.stamp (step text primary key, hash text not null, at timestamptz not null default now());
		-- Work that is done from another host is stamped by the database's owner.
		select format('grant usage on schema ingot to %I', pg_get_userbyid(datdba)) from pg_database where datname = current_database() \gexec
		select format('grant select, insert, update on ingot.stamp to %I', pg_get_userbyid(datdba)) from pg_database where datname = current_database() \gexec
		\endif
		insert into ingot.stamp (step, hash) values (:'step', :'hash')
		on conflict (step) do update set hash = excluded.hash, at = now();
		commit;
	SQL
	;;
esac
