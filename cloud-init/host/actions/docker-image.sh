#!/bin/sh
# docker-image: an image, loaded once from an archive that `docker save` has written, under a name. Which image an archive gave is written
# down beside Docker's own data, so that a volume that has moved to a new machine still knows.
# ARG_NAME      runner, or example/runner:1.2
# ARG_ARTIFACT  sha256 of the archive
# ARG_RECORDS   folder of what is written down
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"
export HOME=/root
record=$ARG_RECORDS/$ARG_ARTIFACT

id_of() { # name
	docker image inspect --format '{{.Id}}' -- "$1" 2>/dev/null
}

case $verb in
probe)
	[ -r "$record" ]
	read -r id <"$record"
	[ "$(id_of "$ARG_NAME")" = "$id" ]
	;;
apply)
	archive=$(artifact "$ARG_ARTIFACT")
	old=$(id_of "$ARG_NAME") || old=
	loaded=$(docker image load --quiet --input "$archive") || fail "Docker does not take the archive of $ARG_NAME: it must be what \`docker save\` writes"
	case $loaded in
	*"$newline"*) fail "the archive of $ARG_NAME holds several images, it must be one:$newline$loaded" ;;
	esac
	# "Loaded image: name:tag", or "Loaded image ID: sha256:…" of one that has no name.
	id=$(id_of "${loaded#Loaded image*: }")
	docker image tag -- "$id" "$ARG_NAME"
	mkdir -p -- "$ARG_RECORDS"
	echo "$id" >"$record.new"
	mv -- "$record.new" "$record"
	[ -n "$old" ] && [ "$old" != "$id" ] || exit 0
	# What has another name is somebody else's, too; what containers still have stays.
	[ "$(docker image inspect --format '{{len .RepoTags}}' -- "$old")" != 0 ] || docker image rm -- "$old" || true
	;;
esac
