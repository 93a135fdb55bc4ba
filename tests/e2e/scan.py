#!/usr/bin/python3
"""Which TCP ports of an address take a connection, all 65,535 asked: one a line. Run in the network of a test's stack (scan.ts)."""
import errno
import resource
import select
import socket
import sys
import time

PATIENCE = 2  # seconds for the answers to a batch; a firewall that drops gives none

_, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
BATCH = min(limit - 100, 16384)  # as many as may be waited for at once
resource.setrlimit(resource.RLIMIT_NOFILE, (BATCH + 100, limit))


def open_ports(address, ports):
    waiting = {}
    poll = select.poll()
    found = []
    for port in ports:
        s = socket.socket()
        s.setblocking(False)
        code = s.connect_ex((address, port))
        if code == errno.EINPROGRESS:
            poll.register(s, select.POLLOUT)
            waiting[s.fileno()] = (s, port)
            continue
        if code == 0:
            found.append(port)
        s.close()
    end = time.monotonic() + PATIENCE
    while waiting:
        ready = poll.poll(100)
        if not ready and time.monotonic() >= end:  # what has come is taken, however late we are
            break
        for descriptor, _ in ready:
            poll.unregister(descriptor)
            s, port = waiting.pop(descriptor)
            if s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                found.append(port)
            s.close()
    for s, _ in waiting.values():
        s.close()
    return found


for first in range(1, 65536, BATCH):
    for port in sorted(open_ports(sys.argv[1], range(first, min(first + BATCH, 65536)))):
        print(port)
