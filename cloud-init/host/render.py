#!/usr/bin/python3
"""Renders values with secrets in them: `Rendered` of cloud-init/plan.ts -> bytes. Called by activate; `render.py FILE < rendered.json` by hand.

Format "env" is read alike by systemd's EnvironmentFile= and by `.` of sh: NAME="value", where `"`, `\\`, `$` and a back-tick are
escaped by a backslash and everything else, newlines too, stands for itself (systemd.exec(5), "EnvironmentFile="; POSIX 2.2.3).
What neither can carry is refused: control characters other than tab and newline, U+FDD0..U+FDEF and U+xxFFFE/F (systemd drops
such an assignment, env_value_is_valid() and unichar_is_valid()), bytes that are no UTF-8, 131,072 bytes and more (MAX_ARG_STRLEN).
"""
import hashlib
import json
import os
import re
import sys
import urllib.parse

SECRETS = "/var/lib/ingot/secrets"


class RenderError(Exception):
    """Says which value cannot be rendered and why, without the value."""


def canonical(value):
    """The same bytes as canonicalJson() of lib/digest.ts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def digest(rendered):
    return hashlib.sha256(canonical(rendered)).hexdigest()


def secret_path(name, secrets=None):
    """The file of a secret. A name may hold `/`, never a step upwards."""
    if not name or any(part in ("", ".", "..") for part in name.split("/")) or "\0" in name or "\n" in name:
        raise RenderError(f"not a name of a secret: {name!r}")
    return os.path.join(secrets or SECRETS, name)


def read_secret(name, secrets=None):
    """A secret's value. One newline at its end is the file's, not the value's."""
    try:
        with open(secret_path(name, secrets), "rb") as file:
            value = file.read()
    except OSError as error:
        raise RenderError(f"secret {name}: {error.strerror}") from None
    try:
        return value.decode().removesuffix("\n")
    except UnicodeDecodeError:
        raise RenderError(f"secret {name} is not UTF-8 text") from None


ENCODINGS = {None: str, "url": lambda value: urllib.parse.quote(value, safe=""), "python": repr, "sha256": lambda value: hashlib.sha256(value.encode()).hexdigest()}


def join(parts, secrets=None):
    text = ""
    for part in parts:
        if isinstance(part, str):
            text += part
        else:
            value = read_secret(part["secret"], secrets)
            text += ENCODINGS[part.get("encode")](value)
    return text


def env_value(name, value):
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise RenderError(f"not a name of an environment variable: {name!r}")
    for char in value:
        code = ord(char)
        if (code < 32 and char not in "\t\n") or code == 127:
            raise RenderError(f"{name}: an environment file cannot carry the control character U+{code:04X}")
        if 0xD800 <= code <= 0xDFFF or 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE:
            raise RenderError(f"{name}: systemd refuses the character U+{code:04X}")
    if len(name) + 2 + len(value.encode()) > 131072:
        raise RenderError(f"{name}: longer than the 131072 bytes that Linux allows")
    return re.sub(r'(["\\$`])', r"\\\1", value)


def render(rendered, secrets=None):
    """Bytes of a Rendered. Raises RenderError."""
    if rendered["format"] == "text":
        return join(rendered["value"], secrets).encode()
    if rendered["format"] == "env":
        lines = [f'{name}="{env_value(name, join(parts, secrets))}"\n' for name, parts in sorted(rendered["values"].items())]
        return "".join(lines).encode()
    raise RenderError(f"unknown format {rendered['format']!r}")


def write(path, data):
    """Root's own 0600 file, there as a whole or not at all."""
    temporary = f"{path}.new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        os.fchmod(fd, 0o600)
        file.write(data)
    os.rename(temporary, path)


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: render.py FILE [SECRETS' FOLDER] < rendered.json")
    try:
        write(sys.argv[1], render(json.load(sys.stdin), *sys.argv[2:]))
    except RenderError as error:
        sys.exit(f"render: {error}")


if __name__ == "__main__":
    main()
