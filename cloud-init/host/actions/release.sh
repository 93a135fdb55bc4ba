#!/bin/sh
# release: one release of an application, unpacked at its final path. The path is the release's own: it never changes afterwards.
# ARG_ARTIFACT  sha256 of a tar.zst in /run/ingot/artifacts
# ARG_PATH      /srv/APP/releases/ID
# ARG_OWNER     whose files they are (root)
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"
marker=$ARG_PATH/.ingot-release
artifact=/run/ingot/artifacts/$ARG_ARTIFACT

case $verb in
probe)
	[ -r "$marker" ]
	read -r unpacked <"$marker"
	[ "$unpacked" = "$ARG_ARTIFACT" ]
	;;
apply)
	[ -r "$artifact" ] || "$INGOT/fetch.py" --artifact "$ARG_ARTIFACT"
	[ -r "$artifact" ] || fail "the release is not here: no $artifact"
	found=$(sha256sum -- "$artifact")
	[ "${found%% *}" = "$ARG_ARTIFACT" ] || fail "$artifact differs from its name: its sha256 is ${found%% *}"
	enter "${ARG_PATH%/*}" create
	id=${ARG_PATH##*/}
	rm -rf -- "./.$id.new" "./.$id.old"
	mkdir -- "./.$id.new"
	tar --extract --zstd --file="$artifact" --directory="./.$id.new" --no-same-owner --preserve-permissions
	chmod 0755 "./.$id.new"
	[ -z "${ARG_OWNER-}" ] || chown --recursive --no-dereference -- "$ARG_OWNER:" "./.$id.new"
	echo "$ARG_ARTIFACT" >"./.$id.new/.ingot-release"
	# A folder without its marker is half of an earlier try.
	[ ! -e "./$id" ] || mv -T -- "./$id" "./.$id.old"
	mv -T -- "./.$id.new" "./$id"
	rm -rf -- "./.$id.old"
	;;
esac
