#!/usr/bin/python3
"""Unpacks the data of .debs before dpkg comes to them: `plain.py <from> <to> <list>`.

dpkg takes one after the other, and waits for what is decompressed; here another processor does the second half of the list meanwhile, the
last first. Each becomes a .deb without compression (deb(5)), which takes the place of what is in <to>. Called by packages.sh.
"""

import os
import subprocess
import sys

SHARE = 0.54


def plain(source, target):
    with open(source, "rb") as deb, open(target, "wb") as out:
        out.write(deb.read(8))
        while header := deb.read(60):
            size = int(header[48:58])
            if header.startswith(b"data.tar"):
                break
            out.write(header + deb.read(size + size % 2))
        start = out.tell()
        out.write(b" " * 60)
        out.flush()
        subprocess.run(["dpkg-deb", "--fsys-tarfile", source], stdout=out, check=True)
        size = out.seek(0, os.SEEK_END) - start - 60
        out.write(b"\n" * (size % 2))
        out.seek(start)
        out.write(b"%-16s%-12d%-6d%-6d%-8s%-10d`\n" % (b"data.tar", 0, 0, 0, b"100644", size))


def main(folder, into, names):
    with open(names, encoding="ascii") as lines:
        names = lines.read().split()
    sizes = {name: os.stat(os.path.join(folder, name)).st_size for name in names}
    left = sum(sizes.values()) * SHARE
    for name in reversed(names):
        left -= sizes[name]
        if left < 0:
            break
        target = os.path.join(into, name)
        plain(os.path.join(folder, name), f"{target}.part")
        os.rename(f"{target}.part", target)


main(*sys.argv[1:])
