#!/usr/bin/python3
"""In a machine of the `vm` target: runs what its operator's computer asks for over the virtio-serial ports ingot.0, ingot.1, …, one command at
a time on each. Nothing of it is on the network. The other side, and what is said, is stacks/local/vm-exec.py.

Started by ingot-agent.service where the machine has such ports.
"""
import fcntl
import glob
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import threading

PORTS = "/dev/virtio-ports/ingot.[0-9]*"
CHUNK = 65536
# Bytes for a program's input that are kept for it; more is not read from the port until it has taken them.
WAITING = 1 << 20
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "USER": "root",
    "LOGNAME": "root",
    "SHELL": "/bin/bash",
    "LANG": "C.UTF-8",
}


class Gone(Exception):
    """Nobody is at the other side any more."""


class Port:
    """Frames: a letter, the length of what follows (4 bytes, big-endian), and that."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self.rest = b""

    def state(self, wanted, timeout=None):
        poll = select.poll()
        poll.register(self.fd, wanted)
        found = poll.poll(timeout)
        return found[0][1] if found else 0

    def wait(self):
        """Until somebody is there: then the port can be written to, which an edge-triggered poll is told (virtio_console.c, will_write_block)."""
        with select.epoll() as edges:
            edges.register(self.fd, select.EPOLLOUT | select.EPOLLET)
            while self.state(0, 0) & select.POLLHUP:
                edges.poll()

    def send(self, kind, data=b""):
        data = kind + struct.pack(">I", len(data)) + data
        while data:
            try:
                data = data[os.write(self.fd, data) :]
            except BlockingIOError:
                if self.state(select.POLLOUT) & select.POLLHUP:
                    raise Gone from None
            except OSError:
                raise Gone from None

    def receive(self):
        """The frames that have come; none yet when it is an empty list."""
        try:
            data = os.read(self.fd, CHUNK)
        except BlockingIOError:
            return []
        if not data:
            raise Gone
        self.rest += data
        frames = []
        while len(self.rest) >= 5:
            end = 5 + struct.unpack(">I", self.rest[1:5])[0]
            if len(self.rest) < end:
                break
            frames.append((self.rest[:1], self.rest[5:end]))
            self.rest = self.rest[end:]
        return frames

    def drain(self):
        self.rest = b""
        try:
            while os.read(self.fd, CHUNK):
                pass
        except OSError:
            pass


def window(terminal, size):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))


class Command:
    """A program, with pipes or a terminal of its own. `outputs`: file descriptor -> the letter of what it says."""

    def __init__(self, asked):
        environment = {**ENVIRONMENT, "TERM": asked.get("term") or "dumb"}
        argv = asked["argv"]
        self.terminal = None
        if asked.get("window"):
            # A session and a controlling terminal of its own: job control and /dev/tty are right.
            self.pid, self.terminal = pty.fork()
            if self.pid == 0:
                try:
                    os.chdir(ENVIRONMENT["HOME"])
                    os.execvpe(argv[0], argv, environment)
                except OSError as error:
                    os.write(2, f"{argv[0]}: {error.strerror}\n".encode())
                os._exit(127)
            window(self.terminal, asked["window"])
            self.input, self.outputs = self.terminal, {self.terminal: b"O"}
        else:
            pipe = subprocess.PIPE
            child = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, cwd=ENVIRONMENT["HOME"], env=environment, start_new_session=True)
            self.child, self.pid = child, child.pid
            self.input = os.dup(child.stdin.fileno())
            child.stdin.close()
            self.outputs = {child.stdout.fileno(): b"O", child.stderr.fileno(): b"E"}
        os.set_blocking(self.input, False)
        self.waiting, self.ended = b"", False

    def feed(self):
        """Hands on what the program has room for."""
        if self.input is None:
            self.waiting = b""
        try:
            while self.waiting:
                self.waiting = self.waiting[os.write(self.input, self.waiting) :]
        except BlockingIOError:
            return
        except OSError:
            self.waiting = b""
        if self.ended and self.terminal is None and self.input is not None:
            os.close(self.input)
            self.input = None

    def end(self, kill):
        if kill:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        _, status = os.waitpid(self.pid, 0)
        if self.terminal is not None:
            os.close(self.terminal)
        else:
            self.child.returncode = 0
            for fd in (self.child.stdout, self.child.stderr):
                fd.close()
            if self.input is not None:
                os.close(self.input)
        return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def converse(port):
    """One command, from hello to its end."""
    port.send(b"H")
    frames = []
    while not frames:
        if port.state(select.POLLIN) & select.POLLHUP:
            raise Gone
        frames = port.receive()
    try:
        command = Command(json.loads(frames[0][1]))
    except OSError as error:
        port.send(b"E", f"{json.loads(frames[0][1])['argv'][0]}: {error.strerror}\n".encode())
        port.send(b"X", b"127")
        return
    kill = True
    try:
        take(command, frames[1:])
        open_outputs = dict(command.outputs)
        while open_outputs:
            poll = select.poll()
            poll.register(port.fd, select.POLLIN if len(command.waiting) < WAITING else 0)
            for fd in open_outputs:
                poll.register(fd, select.POLLIN | (select.POLLOUT if fd == command.input and command.waiting else 0))
            if command.waiting and command.input not in open_outputs:
                poll.register(command.input, select.POLLOUT)
            for fd, event in poll.poll():
                if fd == port.fd:
                    if event & select.POLLHUP:
                        raise Gone
                    take(command, port.receive())
                elif fd in open_outputs and event & (select.POLLIN | select.POLLHUP | select.POLLERR):
                    try:
                        data = os.read(fd, CHUNK)
                    except OSError:  # a terminal whose last program has gone
                        data = b""
                    if data:
                        port.send(open_outputs[fd], data)
                    else:
                        del open_outputs[fd]
            command.feed()
        kill = False
    finally:
        code = command.end(kill)
    port.send(b"X", str(code).encode())


def take(command, frames):
    for kind, data in frames:
        if kind == b"I":
            command.waiting += data
            command.ended = command.ended or not data
        elif kind == b"W" and command.terminal is not None:
            window(command.terminal, json.loads(data))
    command.feed()


def serve(path):
    port = Port(path)
    while True:
        port.drain()
        port.wait()
        try:
            converse(port)
            # The other side closes when it has read the end.
            while not port.state(select.POLLIN) & select.POLLHUP:
                port.receive()
        except Gone:
            pass


def main():
    threads = [threading.Thread(target=serve, args=(path,)) for path in sorted(glob.glob(PORTS))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
