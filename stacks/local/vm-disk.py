#!/usr/bin/python3
"""A disk of a running machine of the `vm` target, copied by the QEMU that has it open; nobody else can read it while the machine writes.

  vm-disk.py FOLDER copy NODE FILE   copies the disk that QEMU calls NODE to FILE, which must not be there: as the disk is at one moment, the last of
                                     the copying. It is given up when standard input ends, as it does with whoever asked for it
  vm-disk.py FOLDER end              ends a copying that was left behind, if there is one

FOLDER is the machine's. The copy is a mirror, ended while it is in step (QEMU's "Live Block Device Operations"): a copy that fails, for want of room say,
fails alone. With a backup job the machine's own writes would wait for the copy's, and fail with them (its filter's `on-cbw-error`).
"""
import json
import os
import select
import socket
import sys
import time

# Of the job, and of the node that it writes to.
NAME = "ingot-copy"
# Seconds for which QEMU may think about an answer, and take to give up a copying.
PATIENCE = 60


class Failed(Exception):
    pass


GONE = Failed("the machine has gone")


class Qmp:
    def __init__(self, folder):
        os.chdir(folder)  # the path of a socket has at most 108 bytes (unix(7))
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        self.socket.connect("qmp")
        self.rest, self.events = b"", []
        self.message()
        self.ask("qmp_capabilities")

    def message(self):
        while b"\n" not in self.rest:
            try:
                data = self.socket.recv(65536)
            except TimeoutError:
                raise Failed(f"QEMU has not answered for {PATIENCE} s") from None
            except ConnectionError:
                data = b""
            if not data:
                raise GONE
            self.rest += data
        line, _, self.rest = self.rest.partition(b"\n")
        return json.loads(line)

    def ask(self, command, **arguments):
        try:
            self.socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        except ConnectionError:
            raise GONE from None
        while True:
            said = self.message()
            if "return" in said:
                return said["return"]
            if "error" in said:
                raise Failed(said["error"]["desc"])
            self.events.append(said)

    def event(self):
        """The next event, or None once standard input has ended."""
        while not self.events:
            if b"\n" not in self.rest:
                readable, _, _ = select.select([self.socket, 0], [], [])
                if 0 in readable and not os.read(0, 4096):
                    return None
                if self.socket not in readable:
                    continue
            self.events.append(self.message())
        return self.events.pop(0)

    def nodes(self):
        return {node["node-name"]: node for node in self.ask("query-named-block-nodes", flat=True)}


def end(qmp):
    limit = time.monotonic() + PATIENCE
    while any(job["device"] == NAME for job in qmp.ask("query-block-jobs")):
        try:
            qmp.ask("block-job-cancel", device=NAME, force=True)
        except Failed:
            pass  # it has ended meanwhile, or is at its end
        if time.monotonic() > limit:
            raise Failed("QEMU does not give up the copy")
        time.sleep(0.05)
    if NAME in qmp.nodes():
        qmp.ask("blockdev-del", **{"node-name": NAME})


def copy(qmp, node, file):
    source = qmp.nodes().get(node)
    if source is None:
        raise Failed(f"QEMU has no disk {node}")
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.truncate(handle, source["image"]["virtual-size"])
    os.close(handle)
    # What is empty in the disk is to be empty in the file.
    target = {"driver": "raw", "node-name": NAME, "discard": "unmap", "file": {"driver": "file", "filename": file}}
    qmp.ask("blockdev-add", **target)
    try:
        qmp.ask("blockdev-mirror", **{"job-id": NAME, "device": node, "target": NAME, "sync": "full"})
        ended = None
        while ended is None:
            event = qmp.event()
            if event is None:
                raise Failed("given up")
            if event.get("data", {}).get("device") != NAME:
                continue
            if event["event"] == "BLOCK_JOB_READY":
                # In step: ended now, it has all that was written until then, and nothing that is written later.
                qmp.ask("block-job-cancel", device=NAME)
            elif event["event"] in ("BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED"):
                ended = event
        if ended["event"] == "BLOCK_JOB_CANCELLED":
            raise Failed("somebody else has ended the copying")
        if "error" in ended["data"]:
            raise Failed(ended["data"]["error"])
    finally:
        end(qmp)


def main(folder, verb, *words):
    try:
        qmp = Qmp(folder)
    except (FileNotFoundError, ConnectionRefusedError):
        if verb == "end":
            return  # it is off, and its QEMU has ended with all that it did
        raise Failed("no QEMU answers") from None
    end(qmp)
    if verb == "copy":
        copy(qmp, *words)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (Failed, OSError) as error:
        sys.exit(f"vm-disk: {error}")
