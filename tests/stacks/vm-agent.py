"""For vm.test.ts: the machine's side of virtio-serial without a machine. vm-agent.py AGENT FOLDER: listens at FOLDER/port0 as QEMU does, and
answers each connection as agent.py does on its port."""
import importlib.util
import os
import select
import socket
import sys

spec = importlib.util.spec_from_file_location("agent", sys.argv[1])
agent = importlib.util.module_from_spec(spec)
spec.loader.exec_module(agent)
os.chdir(sys.argv[2])
server = socket.socket(socket.AF_UNIX)
server.bind("port0")
server.listen()
open("port0.lock", "w").close()
agent.ENVIRONMENT["HOME"] = "/"
while True:
    connection, _ = server.accept()
    connection.setblocking(False)
    port = agent.Port.__new__(agent.Port)
    port.fd, port.rest = connection.fileno(), b""
    try:
        agent.converse(port)
        while not port.state(select.POLLIN) & select.POLLHUP:
            port.receive()
    except agent.Gone:
        pass
    connection.close()
