#!/bin/sh
# Makes a patch of the mail on standard input. It ends with another exit code than 0 when it could not, and the mail should be kept.
# PW_PYTHON: another Python than the first on PATH. DJANGO_SETTINGS_MODULE: other settings than production.
base=$(dirname "$(dirname "$(dirname "$(readlink -f "$0")")")")
exec "${PW_PYTHON:-python3}" "$base/manage.py" parsemail "$@"
