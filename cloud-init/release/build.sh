#!/bin/sh
# Builds an application's release at its final path, in a throw-away machine over the image and without any network. What it needs
# was fetched before; what it gives is /build/release.tar.zst, which holds the contents of the release's folder.
set -eu
release=/srv/$RELEASE_NAME/releases/$RELEASE_ID
mkdir -p "$release"
cp -R /build/source "$release/app"
venv=$release/venv
if [ -e /build/packages.tar.zst ]; then
	# Those of another release with the same lock: what names that one's folder names this one's now.
	mkdir "$venv"
	zstd -q -d -c /build/packages.tar.zst | tar --extract --directory="$venv"
	grep -lIZ "releases/[0-9a-f]\{16\}/venv" "$venv/pyvenv.cfg" "$venv/bin/"* | xargs -0 -r sed -i "s|releases/[0-9a-f]\{16\}/venv|releases/$RELEASE_ID/venv|g"
elif [ -n "$RELEASE_PYTHON" ]; then
	python3 -m venv --without-pip "$venv"
	python3 -m pip --python "$venv/bin/python" install --quiet --disable-pip-version-check --no-input --no-index --no-cache-dir --no-compile \
		--find-links /build/wheels --require-hashes --requirement "$release/app/$RELEASE_PYTHON"
	# Programs have their release's folder in them: no hash of theirs may be in what is the same for all.
	find "$venv/lib" -path '*.dist-info/RECORD' -exec sed -i 's|^\(\.\./.*/bin/[^,]*\),.*|\1,,|' {} +
	# Compiled once, so that the first start on a host is not slowed; checked by nobody, because nobody changes a release. Whose file it was
	# is put right when it is loaded (importlib's _fix_co_filename).
	python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -s "$release" -p "/srv/$RELEASE_NAME/current" "$venv/lib"
	tar --create --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --directory="$venv" . | zstd -q -1 -T0 -o /build/packages.tar.zst
fi
# Its settings are the host's own: files here are links to them.
while read -r target file; do
	[ -n "$target" ] || continue
	mkdir -p "$(dirname "$release/app/$file")" "$(dirname "$target")"
	ln -sfn "$target" "$release/app/$file"
	cp "/build/settings/${target##*/}" "$target"
done <<-END
	$RELEASE_SETTINGS
END
if [ -n "$RELEASE_COLLECT" ]; then
	ln -s "releases/$RELEASE_ID" "/srv/$RELEASE_NAME/current"
	mkdir -p "$release/static"
	if [ -n "$RELEASE_STATIC_AT" ]; then
		mkdir -p "$(dirname "$RELEASE_STATIC_AT")"
		ln -s "$release/static" "$RELEASE_STATIC_AT"
	fi
	(
		PATH=$venv/bin:$PATH
		# Values of secrets are not here: placeholders stand for them.
		set -a
		# shellcheck source=/dev/null
		. /build/environment
		set +a
		cd "$release/app"
		# One word a line, as TypeScript split them.
		set --
		while IFS= read -r word; do
			set -- "$@" "$word"
		done <<-END
			$RELEASE_COLLECT
		END
		exec "$@" </dev/null
	)
	for ending in $RELEASE_COMPRESS; do
		find "$release/static" -type f -name "*.$ending" -exec gzip --keep --no-name --best {} +
	done
fi
# What stood in their place is not compiled: nobody would ever look whether the host's own differ.
[ -z "$RELEASE_SETTINGS" ] || rm -rf "/etc/ingot/applications/$RELEASE_NAME"
find "$release/app" -name __pycache__ -type d -prune -exec rm -rf {} +
[ -z "$RELEASE_PYTHON" ] || python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash "$release/app"
chmod -R u=rwX,go=rX "$release"
tar --create --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --directory="$release" . | zstd -q -3 -T0 -o /build/release.tar.zst
