#!/bin/sh
# repository: a bare git repository with its owner, who may push, and where its hooks are. It is made once and never emptied.
# ARG_PATH, ARG_OWNER
# ARG_GROUP   whose members may push, too
# ARG_BRANCH  the branch of its HEAD, when it is made
# ARG_HOOKS   folder of its hooks
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"
if [ -n "${ARG_GROUP-}" ]; then
	group=$ARG_GROUP mode=2770 shared=group
else
	group=$(id -gn -- "$ARG_OWNER") mode=0750 shared=umask
fi

# setting NAME: as the owner, whose file it is.
setting() {
	as "$ARG_OWNER" git --git-dir="$ARG_PATH" config --local --get "$1"
}

case $verb in
probe)
	enter "$ARG_PATH"
	[ "$(stat -c '%U:%G %a' .)" = "$ARG_OWNER:$group $(mode_of $mode)" ]
	cd /
	[ "$(setting core.hooksPath)" = "$ARG_HOOKS" ]
	[ "$(setting core.sharedRepository || echo umask)" = "$shared" ]
	git config --system --get-all safe.directory | grep -Fqx -- "$ARG_PATH"
	;;
apply)
	enter "$ARG_PATH" create
	if [ ! -e HEAD ]; then
		[ -z "$(ls -A)" ] || fail "$ARG_PATH is there, is not empty, and is no repository: it was left alone"
		chown -- "$ARG_OWNER:$group" .
		chmod -- 0$mode .
		cd /
		as "$ARG_OWNER" git init --quiet --bare --shared=$shared --initial-branch="$ARG_BRANCH" -- "$ARG_PATH"
		echo "made $ARG_PATH"
		enter "$ARG_PATH"
	fi
	chown -- "$ARG_OWNER:$group" .
	chmod -- 0$mode .
	cd /
	if [ -n "${ARG_GROUP-}" ]; then
		as "$ARG_OWNER" git --git-dir="$ARG_PATH" config --local core.sharedRepository group
		# What was pushed before the group was its own.
		find "$ARG_PATH" ! -group "$group" -exec chgrp --no-dereference -- "$group" {} +
		find "$ARG_PATH" -type d ! -perm -2770 -exec chmod g+rwxs {} +
		find "$ARG_PATH" -type f ! -perm -0040 -exec chmod g+r {} +
	fi
	as "$ARG_OWNER" git --git-dir="$ARG_PATH" config --local core.hooksPath "$ARG_HOOKS"
	# git looks into nobody else's repository; who pushes here is let in by the group.
	git config --system --get-all safe.directory | grep -Fqx -- "$ARG_PATH" || git config --system --add safe.directory "$ARG_PATH"
	;;
esac
