#!/usr/bin/python3
"""ready.py ADDRESS NAME SECONDS: waits until a server at host:port, or a unix socket's path, answers to an HTTP request with anything.

It is asked by a name that it knows: Django mails a report about every other.
A server that has opened its port may still die while it loads (Gunicorn binds before its workers import the application).
Called by service_up() in actions/lib.sh.
"""
import socket
import sys
import time


def answers(address, name, timeout):
    if address.startswith("/"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout)
        connection.connect(address)
    else:
        host, port = address.rsplit(":", 1)
        host = {"0.0.0.0": "127.0.0.1", "*": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]"))
        connection = socket.create_connection((host, int(port)), timeout)
    with connection:
        connection.sendall(f"HEAD / HTTP/1.0\r\nHost: {name}\r\nUser-Agent: ingot\r\n\r\n".encode())
        return bool(connection.recv(1))


def main():
    address, name, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    deadline = time.monotonic() + max(1.0, seconds)
    while True:
        try:
            if answers(address, name, max(0.1, deadline - time.monotonic())):
                return
        except OSError:
            pass
        if time.monotonic() > deadline:
            sys.exit(1)
        time.sleep(0.05)


main()
