#!/bin/sh
# Holds raw keys of cloud-init's, /build/cloud-config.json, against the schema of the cloud-init in the image, in a throw-away machine over
# it. What is wrong is left in /build/said: a list of what (`said`) and where (`at`).
set -eu
code=0
python3 - >/build/said 2>/build/error <<'PYTHON' || code=$?
import json, sys
from cloudinit.config import schema

kind, formats = schema.get_jsonschema_validator()
with open("/build/cloud-config.json", encoding="utf-8") as file:
    config = json.load(file)
said = [
    {"at": list(e.path), "said": e.message}
    for e in sorted(kind(schema.get_schema(), format_checker=formats()).iter_errors(config), key=lambda e: list(map(str, e.path)))
    # What is only deprecated is taken.
    if type(e).__name__ != "SchemaDeprecationError"
]
print(json.dumps(said))
sys.exit(3 if said else 0)
PYTHON
case $code in
0 | 3) ;;
*)
	cat /build/error >&2
	exit 1
	;;
esac
echo $code >/build/code
