#!/usr/bin/python3
"""Lists a tree, one line a path, so that two trees are the same when their listings are: `listing.py <root>`.

Fields, separated by tabs: type (as find(1) has it), mode, uid, gid, size, mtime, content, links, attributes, path. `content` is a
file's sha256, a link's target, a device's numbers; `links` the first of the paths that are the same file by hard links; `attributes`
are the extended ones, ACLs and capabilities included. A folder's size is its file system's own and left out, and so is the label of
a security module, which belongs to the computer. Called by facts.sh, layer.sh and images/verify.ts; reads only.
"""

import hashlib
import os
import stat
import sys
from concurrent.futures import ThreadPoolExecutor

TYPES = {stat.S_IFREG: b"f", stat.S_IFDIR: b"d", stat.S_IFLNK: b"l", stat.S_IFCHR: b"c", stat.S_IFBLK: b"b", stat.S_IFIFO: b"p", stat.S_IFSOCK: b"s"}


def paths(folder):
    """Every path below a folder, each folder before what is in it, sorted by name; not into other file systems."""
    device = os.lstat(folder).st_dev
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        yield entry.path
        if entry.is_dir(follow_symlinks=False) and os.lstat(entry.path).st_dev == device:
            yield from paths(entry.path)


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest().encode()


def content(path, status):
    if stat.S_ISREG(status.st_mode):
        return sha256(path)
    if stat.S_ISLNK(status.st_mode):
        return escaped(os.readlink(path))
    if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        return b"%d:%d" % (os.major(status.st_rdev), os.minor(status.st_rdev))
    return b""


def attributes(path):
    names = sorted(name for name in os.listxattr(path, follow_symlinks=False) if name != "security.selinux")
    return b",".join(escaped(os.fsencode(name)) + b"=" + os.getxattr(path, name, follow_symlinks=False).hex().encode() for name in names)


def escaped(name):
    """So that a name with a tab or a line break in it stays one field, and the listing is UTF-8."""
    name = name.decode("utf-8", "backslashreplace").encode()
    return name.replace(b"\\", b"\\\\").replace(b"\t", b"\\t").replace(b"\n", b"\\n")


def line(path, status, first, root):
    kind = TYPES[stat.S_IFMT(status.st_mode)]
    seconds, nanoseconds = divmod(status.st_mtime_ns, 10**9)
    return b"\t".join(
        [
            kind,
            b"%o" % stat.S_IMODE(status.st_mode),
            b"%d" % status.st_uid,
            b"%d" % status.st_gid,
            b"" if kind == b"d" else b"%d" % status.st_size,
            b"%d.%09d" % (seconds, nanoseconds) if nanoseconds else b"%d" % seconds,
            content(path, status),
            escaped(first[len(root) :]) if first else b"",
            attributes(path),
            escaped(path[len(root) :]) or b"/",
        ]
    )


def main():
    root = os.fsencode(sys.argv[1])
    there = [(path, os.lstat(path)) for path in [root, *paths(root)]]
    names = {}
    for path, status in there:
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            names.setdefault(status.st_ino, []).append(path)
    first = {path: same[0] for same in names.values() if len(same) > 1 for path in same}
    # Hashing lets go of the interpreter: as many at a time as there are processors.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for text in pool.map(lambda it: line(*it, first.get(it[0]), root), there):
            sys.stdout.buffer.write(text + b"\n")


main()
