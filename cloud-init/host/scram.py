#!/usr/bin/python3
"""scram.py PASSWORD-FILE < VERIFIER: whether a SCRAM-SHA-256 verifier of PostgreSQL is that of a password.

Prints nothing and exits 0 when it is; otherwise prints a new verifier and exits 1. The password itself never leaves this process, so
that no log of the server can hold it. RFC 5802 and 7677; the form of pg_authid.rolpassword is
SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey> (PostgreSQL, src/common/scram-common.c). Called by actions/role.sh.
"""
import base64
import hashlib
import hmac
import os
import re
import stringprep
import sys
import unicodedata


def saslprep(password):
    """RFC 4013 as PostgreSQL does it: a password that it does not allow is used as it is."""
    if password.isascii():
        return password
    mapped = "".join(" " if stringprep.in_table_c12(c) else c for c in password if not stringprep.in_table_b1(c))
    text = unicodedata.normalize("NFKC", mapped)
    prohibited = (
        stringprep.in_table_c12, stringprep.in_table_c21_c22, stringprep.in_table_c3, stringprep.in_table_c4, stringprep.in_table_c5,
        stringprep.in_table_c6, stringprep.in_table_c7, stringprep.in_table_c8, stringprep.in_table_c9, stringprep.in_table_a1,
    )  # fmt: skip
    if not text or any(table(c) for c in text for table in prohibited):
        return password
    right_to_left = [stringprep.in_table_d1(c) for c in text]
    if any(right_to_left) and (any(stringprep.in_table_d2(c) for c in text) or not (right_to_left[0] and right_to_left[-1])):
        return password
    return text


def verifier(password, salt, iterations):
    salted = hashlib.pbkdf2_hmac("sha256", saslprep(password).encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    text = [base64.b64encode(value).decode() for value in (salt, stored, server)]
    return f"SCRAM-SHA-256${iterations}:{text[0]}${text[1]}:{text[2]}"


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        password = file.read().removesuffix("\n")
    there = sys.stdin.read().strip()
    match = re.fullmatch(r"SCRAM-SHA-256\$(\d+):([A-Za-z0-9+/=]+)\$.*", there)
    if match and hmac.compare_digest(there, verifier(password, base64.b64decode(match[2]), int(match[1]))):
        return
    print(verifier(password, os.urandom(16), 4096))
    sys.exit(1)


if __name__ == "__main__":
    main()
