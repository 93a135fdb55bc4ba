#!/bin/sh
# Makes one tree on top of another, inside the namespaces that bake.sh makes: the layer below ($BAKE_BELOW; none for the first), shown through an
# overlay that takes every change, and what the script $BAKE_STEP does to it. What comes out is a whole tree whose unchanged files are those of
# the layer below, by hard links; nothing ever writes to either. Lines beginning with `ingot:` and dpkg's status lines tell images/bake.ts how
# far it is.
set -eu
exec 2>&1
umask 022
# A package's script that asks for a name gets the same one everywhere.
hostname localhost
cd "$BAKE_FOLDER"
here=$BAKE_PROVISION

mkdir work
# In memory: dpkg writes each file twice and syncs its database often. Without enough of it, on the disk.
[ "$BAKE_TMPFS" = 0 ] || mount -t tmpfs -o "mode=755,size=$BAKE_TMPFS" ingot-bake work
mkdir work/root

if [ -z "$BAKE_BELOW" ]; then
	"$here/$BAKE_STEP" work/root
	"$here/clean.sh" work/root
	"$here/times.sh" work/root
	echo "ingot: phase store"
	cp --archive --reflink=never work/root root
else
	mkdir work/upper work/overlay work/below
	# By a name without the comma or colon that would end it among the options; read-only, whoever writes.
	mount --bind "$BAKE_BELOW" work/below
	mount -o remount,bind,ro work/below
	cp --archive --link "$BAKE_BELOW" root
	python3 -B "$here/keep.py" work/upper root work/unpacked work/finished >work/sums 2>work/unkept &
	keeping=$!
	mount -t overlay -o lowerdir=work/below,upperdir=work/upper,workdir=work/overlay,redirect_dir=off,metacopy=off,index=off ingot-layer work/root
	unshare --mount --propagation private "$here/enter.sh" work/root "$BAKE_STEP"
	"$here/clean.sh" work/root
	"$here/times.sh" work/root
	umount work/root
	echo "ingot: phase store"
	: >work/finished
	wait "$keeping" || {
		# Why, at the end, where it is seen.
		cat work/unkept
		exit 1
	}
	mv work/sums sums
	umount work/below
fi
[ "$BAKE_TMPFS" = 0 ] || umount work
rm -rf --one-file-system work
if [ "$BAKE_STEP" = configure.sh ]; then
	echo "ingot: phase look"
	"$here/facts.sh" root facts
else
	python3 -B "$here/listing.py" root ${BAKE_BELOW:+"$BAKE_BELOW" "$BAKE_BELOW/../files" sums} >files
fi
