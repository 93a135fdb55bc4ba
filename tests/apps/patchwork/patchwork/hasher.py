#!/usr/bin/env python3
"""Hashes a patch so that its mail and its commit come to the same: `git diff … | hasher.py` prints it.

Blank ends, index lines and the positions of hunks differ between the two, so they do not count. The standard library alone: the git hook runs it.
"""
import hashlib
import re
import sys


def hash_diff(diff):
    lines = []
    for line in diff.replace("\r", "").split("\n"):
        if re.match(r"(---|\+\+\+) ", line):
            # The folders a/ and b/ are git's own.
            lines.append(re.sub(r"^(---|\+\+\+) (?:[ab]/)?([^\t]*).*$", r"\1 \2", line).rstrip())
        elif line.startswith("@@"):
            lines.append("@@")
        elif line[:1] in ("+", "-", " "):
            lines.append(line.rstrip())
    return hashlib.sha1("\n".join(lines).strip().encode()).hexdigest()


if __name__ == "__main__":
    print(hash_diff(sys.stdin.buffer.read().decode(errors="replace")))
