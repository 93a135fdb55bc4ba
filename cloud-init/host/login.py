#!/usr/bin/python3
"""login.py HOST PORT DATABASE ROLE PASSWORD-FILE [SECONDS]: logs in to a PostgreSQL server over TCP, as an application would, and says why not.

With SECONDS it tries again until then: the server may be another host's that is still at its first boot. SCRAM-SHA-256 alone (RFC 5802,
RFC 7677), since nothing else lets anybody in from afar; the messages are those of "Message Formats" in PostgreSQL's documentation. Called by
actions/database-ready.sh and by the check postgresql_login.
"""
import base64
import hashlib
import hmac
import os
import socket
import ssl
import struct
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from scram import saslprep  # noqa: E402


class Refused(Exception):
    """The server answers, and does not let in."""


def message(stream):
    """The next message: its type and its body."""
    head = stream.read(5)
    if len(head) < 5:
        raise OSError("the server has closed the connection")
    kind, size = head[:1], struct.unpack("!I", head[1:])[0]
    body = stream.read(size - 4)
    if kind == b"E":
        fields = {field[:1]: field[1:].decode(errors="replace") for field in body.split(b"\0") if field}
        raise Refused(fields.get(b"M", "an error without a message"))
    return kind, body


def send(stream, kind, body):
    stream.write(kind + struct.pack("!I", len(body) + 4) + body)
    stream.flush()


def authentication(stream, wanted):
    while True:
        kind, body = message(stream)
        if kind == b"N":  # a notice
            continue
        code = struct.unpack("!I", body[:4])[0] if kind == b"R" else None
        if code != wanted:
            raise Refused(f"the server asks for another authentication than SCRAM-SHA-256 ({kind.decode(errors='replace')}, {code})")
        return body[4:]


def encrypted(connection):
    """Over TLS where the server has it, which those of others may demand. Who it is, SCRAM proves."""
    connection.sendall(struct.pack("!II", 8, 80877103))
    if connection.recv(1) != b"S":
        return connection
    context = ssl._create_unverified_context()
    return context.wrap_socket(connection)


def login(host, port, database, role, password, timeout=10):
    """@raises Refused, OSError"""
    with socket.create_connection((host, port), timeout) as plain, encrypted(plain) as connection:
        stream = connection.makefile("rwb")
        fields = b"".join(f"{key}\0{value}\0".encode() for key, value in (("user", role), ("database", database), ("application_name", "ingot")))
        send(stream, b"", struct.pack("!I", 196608) + fields + b"\0")
        if b"SCRAM-SHA-256\0" not in authentication(stream, 10):
            raise Refused("the server knows no SCRAM-SHA-256")
        nonce = base64.b64encode(os.urandom(18)).decode()
        first = f"n=,r={nonce}"
        initial = f"n,,{first}".encode()
        send(stream, b"p", b"SCRAM-SHA-256\0" + struct.pack("!I", len(initial)) + initial)
        challenge = authentication(stream, 11).decode()
        parts = dict(part.split("=", 1) for part in challenge.split(","))
        if not parts["r"].startswith(nonce):
            raise Refused("the server's nonce is not ours")
        salted = hashlib.pbkdf2_hmac("sha256", saslprep(password).encode(), base64.b64decode(parts["s"]), int(parts["i"]))
        key = hmac.digest(salted, b"Client Key", "sha256")
        final = f"c=biws,r={parts['r']}"
        whole = f"{first},{challenge},{final}".encode()
        signature = hmac.digest(hashlib.sha256(key).digest(), whole, "sha256")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature))).decode()
        send(stream, b"p", f"{final},p={proof}".encode())
        verifier = authentication(stream, 12).decode().removeprefix("v=")
        if not hmac.compare_digest(base64.b64decode(verifier), hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), whole, "sha256")):
            raise Refused("the server does not know the password itself: it is somebody else")
        authentication(stream, 0)
        while message(stream)[0] != b"Z":
            pass
        send(stream, b"X", b"")


def main():
    host, port, database, role, path = sys.argv[1:6]
    seconds = float(sys.argv[6]) if len(sys.argv) > 6 else 0
    with open(path, encoding="utf-8") as file:
        password = file.read().removesuffix("\n")
    deadline = time.monotonic() + seconds
    while True:
        try:
            login(host, int(port), database, role, password)
            return
        except (Refused, OSError, ValueError, KeyError) as error:
            if time.monotonic() >= deadline:
                sys.exit(f"{role} cannot log in to {database} at {host}:{port}: {error}")
        time.sleep(0.2)


if __name__ == "__main__":
    main()
