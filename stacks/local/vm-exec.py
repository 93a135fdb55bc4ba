#!/usr/bin/python3
"""vm-exec.py FOLDER SECONDS [--terminal] -- COMMAND…: runs COMMAND as root in the machine of FOLDER, with our standard streams and its exit code;
no shell sees it. Exit code 255 when nobody in the machine answers within SECONDS.

The machine's virtio-serial ports are sockets in FOLDER (port0, port1, …), each for one command at a time. What is said over them are
frames: a letter, the length (4 bytes, big-endian), the data. We say R (JSON: argv, term, window), I (input; an empty one is its end)
and W (the size of our window); the machine says H (it is there), O, E (output of both kinds) and X (exit code). The other side is
cloud-init/host/agent.py.
"""
import fcntl
import glob
import json
import os
import select
import signal
import socket
import struct
import sys
import termios
import time
import tty

CHUNK = 65536


class Lost(Exception):
    pass


def free_port(folder):
    """A port that nobody uses, ours until we end."""
    os.chdir(folder)  # the path of a socket has at most 108 bytes (unix(7))
    while True:
        for path in sorted(glob.glob("port[0-9]*.lock")):
            lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            return path.removesuffix(".lock")
        time.sleep(0.05)


def frame(kind, data=b""):
    return kind + struct.pack(">I", len(data)) + data


class Coming:
    """What the machine says."""

    def __init__(self, connection):
        self.connection, self.rest = connection, b""

    def take(self):
        """The frames that have come with the next piece."""
        try:
            data = self.connection.recv(CHUNK)
        except ConnectionError:
            data = b""
        if not data:
            raise Lost("the machine has gone")
        self.rest += data
        while len(self.rest) >= 5 and len(self.rest) >= (end := 5 + struct.unpack(">I", self.rest[1:5])[0]):
            yield self.rest[:1], self.rest[5:end]
            self.rest = self.rest[end:]


def hello(port, seconds):
    """A connection at whose other side somebody is. The machine may just have missed that the one before us went: then once more."""
    end = time.monotonic() + seconds
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(port)
            connection.settimeout(max(0.1, min(5, end - time.monotonic())))
            coming = Coming(connection)
            if b"H" in [kind for kind, _ in coming.take()]:
                connection.settimeout(None)
                return connection, coming
        except TimeoutError:
            pass
        except (ConnectionError, FileNotFoundError):
            if os.path.exists("run/exit"):
                raise Lost("the machine is off") from None
        connection.close()
        if time.monotonic() > end:
            raise Lost("nobody in the machine answers")
        time.sleep(0.1)


def size():
    rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8)))
    return [rows, columns]


def write(fd, data):
    while data:
        data = data[os.write(fd, data) :]


def pump(connection, coming, asked):
    """Both ways until the program's end. Gives its exit code. What we send waits while the machine waits for us to read."""
    outputs = {b"O": 1, b"E": 2}
    sending, reading = bytearray(asked), True
    resized = []
    signal.signal(signal.SIGWINCH, lambda *_: resized.append(True))
    connection.setblocking(False)
    while True:
        sources = [connection, *([0] if reading and len(sending) < CHUNK else [])]
        readable, writable, _ = select.select(sources, [connection] if sending else [], [], 1)
        if 0 in readable:
            data = os.read(0, CHUNK)
            sending += frame(b"I", data)
            reading = bool(data)
        if resized and os.isatty(0):
            resized.clear()
            sending += frame(b"W", json.dumps(size()).encode())
        if connection in writable:
            try:
                del sending[: connection.send(sending)]
            except BlockingIOError:
                pass
        if connection in readable:
            for kind, data in coming.take():
                if kind == b"X":
                    return int(data)
                if kind == b"H":  # somebody else's: of the machine's next boot
                    raise Lost("the machine has rebooted, and the command went with it")
                if kind in outputs:
                    write(outputs[kind], data)


def main():
    own = sys.argv[1 : sys.argv.index("--")]
    argv = sys.argv[len(own) + 2 :]
    folder, seconds, *options = own
    terminal = "--terminal" in options
    saved = None
    try:
        connection, coming = hello(free_port(folder), float(seconds))
        asked = {"argv": argv, "term": os.environ.get("TERM", "dumb"), "window": size() if terminal else None}
        if terminal:
            saved = termios.tcgetattr(0)
            tty.setraw(0)
        return pump(connection, coming, frame(b"R", json.dumps(asked).encode()))
    except Lost as lost:
        print(f"vm-exec: {lost}", file=sys.stderr)
        return 255
    finally:
        if saved:
            termios.tcsetattr(0, termios.TCSADRAIN, saved)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(main())
