#!/usr/bin/python3
"""Opens a connection to a RabbitMQ server and closes it again: does a user get into a virtual host, and are his messages taken?

A server that is low on memory or disk lets everybody in, but reads nothing more from who publishes: so a message without a receiver is
published. Nothing is declared. Sources: AMQP 0-9-1 specification, 2.3 "General Frame Format", 1.4 "connection"; RabbitMQ's "Blocked
Connection Notifications".
"""
import socket
import struct

CONNECTION, CHANNEL, BASIC = 10, 20, 60
START, START_OK, TUNE, TUNE_OK, OPEN, OPEN_OK, CLOSE, CLOSE_OK, BLOCKED = 10, 11, 30, 31, 40, 41, 50, 51, 60
CHANNEL_OPEN, PUBLISH = 10, 40


class Refused(Exception):
    """What the server said, or that it said nothing."""


class Blocked(Exception):
    """Why it takes no messages."""


def short(text):
    data = text.encode()
    return struct.pack("!B", len(data)) + data


def long(data):
    return struct.pack("!I", len(data)) + data


def frame(connection, kind, channel, body):
    connection.sendall(struct.pack("!BHI", kind, channel, len(body)) + body + b"\xce")


def send(connection, method, payload):
    frame(connection, 1, 0, struct.pack("!HH", CONNECTION, method) + payload)


def publish(connection, routing_key):
    """An empty message to the default exchange. Who may not write there is told so on the channel, which ends nothing else."""
    frame(connection, 1, 1, struct.pack("!HH", CHANNEL, CHANNEL_OPEN) + short(""))
    frame(connection, 1, 1, struct.pack("!HHH", BASIC, PUBLISH, 0) + short("") + short(routing_key) + b"\0")
    frame(connection, 2, 1, struct.pack("!HHQH", BASIC, 0, 0, 0))


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
        kind, channel, size = struct.unpack("!BHI", exactly(connection, 7))
        payload = exactly(connection, size + 1)[:-1]
        if kind != 1 or channel != 0:
            continue
        group, method = struct.unpack("!HH", payload[:4])
        if (group, method) == (CONNECTION, CLOSE):
            code, length = struct.unpack("!HB", payload[4:7])
            send(connection, CLOSE_OK, b"")
            raise Refused(f"{code} {payload[7:7 + length].decode(errors='replace')}")
        if (group, method) == (CONNECTION, BLOCKED):
            raise Blocked(payload[5:5 + payload[4]].decode(errors="replace"))
        if (group, method) != (CONNECTION, wanted):
            raise Refused(f"the server sent method {group}.{method}, expected {CONNECTION}.{wanted}")
        return payload[4:]


def connect(host, port, user, password, vhost, timeout=10):
    """Raises Refused, Blocked or OSError."""
    with socket.create_connection((host, int(port)), timeout) as connection:
        connection.sendall(b"AMQP\x00\x00\x09\x01")
        receive(connection, START)
        # So that a wrong password is said, and not a connection just closed.
        capabilities = b"".join(short(name) + b"t\x01" for name in ("authentication_failure_close", "connection.blocked"))
        properties = short("capabilities") + b"F" + long(capabilities)
        response = b"\0" + user.encode() + b"\0" + password.encode()
        send(connection, START_OK, long(properties) + short("PLAIN") + long(response) + short("en_US"))
        tune = receive(connection, TUNE)
        send(connection, TUNE_OK, tune[:6] + b"\0\0")
        send(connection, OPEN, short(vhost) + short("") + b"\0")
        receive(connection, OPEN_OK)
        publish(connection, "ingot-check")
        send(connection, CLOSE, struct.pack("!H", 200) + short("") + struct.pack("!HH", 0, 0))
        receive(connection, CLOSE_OK)
