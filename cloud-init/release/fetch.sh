#!/bin/sh
# Fetches an application's Python packages with the image's own Python, so that versions fit it. Runs in a throw-away machine over
# the image that shares this computer's network; /build is the build's folder.
set -eu
lock=/build/source/$RELEASE_PYTHON
[ -r /build/ca-certificates.crt ] && export PIP_CERT=/build/ca-certificates.crt
[ -r /build/pip.conf ] && export PIP_CONFIG_FILE=/build/pip.conf
exec python3 -m pip download --quiet --disable-pip-version-check --no-input --no-cache-dir --progress-bar off \
	--only-binary :all: --require-hashes --requirement "$lock" --dest /build/wheels
