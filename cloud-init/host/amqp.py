#!/usr/bin/python3
"""Opens a connection to a RabbitMQ server and closes it again: does a user get into a virtual host?

Source: AMQP 0-9-1 specification, 2.3 "General Frame Format" and 1.4 "connection". Nothing is declared, nothing published.
"""
import socket
import struct

CONNECTION = 10
START, START_OK, TUNE, TUNE_OK, OPEN, OPEN_OK, CLOSE, CLOSE_OK = 10, 11, 30, 31, 40, 41, 50, 51


class Refused(Exception):
    """What the server said, or that it said nothing."""


def short(text):
    data = text.encode()
    return struct.pack("!B", len(data)) + data


def long(data):
    return struct.pack("!I", len(data)) + data


def send(connection, method, payload):
    body = struct.pack("!HH", CONNECTION, method) + payload
    connection.sendall(struct.pack("!BHI", 1, 0, len(body)) + body + b"\xce")


def exactly(connection, count):
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise Refused("the server closed the connection")
        data += more
    return data


def receive(connection, wanted):
    """The arguments of the method that must come now."""
    while True:
        kind, _, size = struct.unpack("!BHI", exactly(connection, 7))
        payload = exactly(connection, size + 1)[:-1]
        if kind != 1:
            continue
        group, method = struct.unpack("!HH", payload[:4])
        if (group, method) == (CONNECTION, CLOSE):
            code, length = struct.unpack("!HB", payload[4:7])
            send(connection, CLOSE_OK, b"")
            raise Refused(f"{code} {payload[7:7 + length].decode(errors='replace')}")
        if (group, method) != (CONNECTION, wanted):
            raise Refused(f"the server sent method {group}.{method}, expected {CONNECTION}.{wanted}")
        return payload[4:]


def connect(host, port, user, password, vhost, timeout=10):
    """Raises Refused or OSError."""
    with socket.create_connection((host, int(port)), timeout) as connection:
        connection.sendall(b"AMQP\x00\x00\x09\x01")
        receive(connection, START)
        # So that a wrong password is said, and not a connection just closed.
        capability = short("authentication_failure_close") + b"t\x01"
        properties = short("capabilities") + b"F" + long(capability)
        response = b"\0" + user.encode() + b"\0" + password.encode()
        send(connection, START_OK, long(properties) + short("PLAIN") + long(response) + short("en_US"))
        tune = receive(connection, TUNE)
        send(connection, TUNE_OK, tune[:6] + b"\0\0")
        send(connection, OPEN, short(vhost) + short("") + b"\0")
        receive(connection, OPEN_OK)
        send(connection, CLOSE, struct.pack("!H", 200) + short("") + struct.pack("!HH", 0, 0))
