#!/usr/bin/python3
"""Lists a tree, one line a path, so that two trees are the same when their listings are: `listing.py <root> [<below> <its listing> <sums>]`.

Fields, separated by tabs: type (as find(1) has it), mode, uid, gid, size, mtime, content, links, attributes, path. `content` is a
file's sha256, a link's target, a device's numbers; `links` the first of the paths that are the same file by hard links; `attributes`
are the extended ones, ACLs and capabilities included. A folder's size is its file system's own and left out, and so is the label of
a security module, which belongs to the computer. What is the same file in the tree below, by a hard link, has the content that its
listing says, a file whose inode is in <sums> what that says, and neither is read again. Called by facts.sh, layer.sh and images/verify.ts; reads only.
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


def known(root, there, below, listing, copied):
    """By path: the sha256 of each file that is one with a file below, and of those that keep.py has copied."""
    with open(copied, "rb") as lines:
        inodes = {int(inode): sum for inode, sum in map(bytes.split, lines)}
    with open(listing, "rb") as lines:
        sums = {fields[9]: fields[6] for fields in (line.rstrip(b"\n").split(b"\t") for line in lines) if fields[0] == b"f"}
    found = {}
    for path, status in there:
        name = path[len(root) :]
        if stat.S_ISREG(status.st_mode) and status.st_ino in inodes:
            found[path] = inodes[status.st_ino]
        elif stat.S_ISREG(status.st_mode) and status.st_nlink > 1 and (sum := sums.get(escaped(name))):
            try:
                same = os.lstat(below + name)
            except OSError:
                continue
            if (same.st_dev, same.st_ino) == (status.st_dev, status.st_ino):
                found[path] = sum
    return found


def content(path, status, sums):
    if stat.S_ISREG(status.st_mode):
        return sums[path]
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


def line(path, status, first, root, sums):
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
            content(path, status, sums),
            escaped(first[len(root) :]) if first else b"",
            attributes(path),
            escaped(path[len(root) :]) or b"/",
        ]
    )


def main(root, below=None, listing=None, copied=None):
    there = [(path, os.lstat(path)) for path in [root, *paths(root)]]
    names = {}
    for path, status in there:
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            names.setdefault(status.st_ino, []).append(path)
    first = {path: same[0] for same in names.values() if len(same) > 1 for path in same}
    sums = known(root, there, below, listing, copied) if below else {}
    new = [path for path, status in there if stat.S_ISREG(status.st_mode) and path not in sums]
    # Hashing lets go of the interpreter: as many at a time as there are processors.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        sums.update(zip(new, pool.map(sha256, new)))
    for path, status in there:
        sys.stdout.buffer.write(line(path, status, first.get(path), root, sums) + b"\n")


main(*map(os.fsencode, sys.argv[1:]))
