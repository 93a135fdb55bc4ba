#!/bin/sh
# release: one release of an application, unpacked at its final path. The path is the release's own: it never changes afterwards.
# ARG_ARTIFACT  sha256 of a tar.zst in /run/ingot/artifacts
# ARG_PATH      /srv/APP/releases/ID
# ARG_OWNER     whose files they are (root)
# ARG_SOURCE    what it was made from, ARG_ASKED as what somebody asked for it: for people (`releases`)
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"
marker=$ARG_PATH/.ingot-release

case $verb in
probe)
	[ -r "$marker" ]
	read -r unpacked <"$marker"
	[ "$unpacked" = "$ARG_ARTIFACT" ]
	;;
apply)
	archive=$(artifact "$ARG_ARTIFACT")
	enter "${ARG_PATH%/*}" create
	id=${ARG_PATH##*/}
	rm -rf -- "./.$id.new" "./.$id.old"
	mkdir -- "./.$id.new"
	tar --extract --zstd --file="$archive" --directory="./.$id.new" --no-same-owner --preserve-permissions
	chmod 0755 "./.$id.new"
	[ -z "${ARG_OWNER-}" ] || chown --recursive --no-dereference -- "$ARG_OWNER:" "./.$id.new"
	printf '%s\n' "$ARG_ARTIFACT" "${ARG_SOURCE-}" >"./.$id.new/.ingot-release"
	# A folder without its marker is half of an earlier try.
	[ ! -e "./$id" ] || mv -T -- "./$id" "./.$id.old"
	mv -T -- "./.$id.new" "./$id"
	rm -rf -- "./.$id.old"
	;;
esac
