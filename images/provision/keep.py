#!/usr/bin/python3
"""Puts what a step changed into the tree that is kept: `keep.py <upper> <tree> <unpacked> <finished>`.

<upper> is the upper folder of the overlay in which the step runs, <tree> a copy by hard links of what the overlay stands on: nothing in it
is written to, only replaced. As soon as the file <unpacked> is there, what lies in <upper> is copied, while the step still goes on; when
<finished> is there, all that has changed since. Writes `inode sha256` of each file that it copied, so that nobody has to read it again.
Called by layer.sh. Source: https://docs.kernel.org/filesystems/overlayfs.html, "whiteouts and opaque directories".
"""

import hashlib
import os
import shutil
import stat
import sys
import time

# Nanoseconds: what changes a file twice within a tick of the kernel's clock leaves the same time twice.
RACY = 10**8


def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def attributes(path):
    """The extended ones, ACLs and capabilities included, without what the overlay notes for itself."""
    names = [name for name in os.listxattr(path, follow_symlinks=False) if not name.startswith("trusted.overlay.")]
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}


def as_it_is(source, path, status):
    """Owner, mode, attributes and times, in the order in which none undoes another."""
    os.chown(path, status.st_uid, status.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(path, stat.S_IMODE(status.st_mode))
    wanted, there = attributes(source), attributes(path)
    for name in there.keys() - wanted.keys():
        os.removexattr(path, name, follow_symlinks=False)
    for name, value in wanted.items():
        if there.get(name) != value:
            os.setxattr(path, name, value, follow_symlinks=False)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def whiteout(status):
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def opaque(folder):
    return "trusted.overlay.opaque" in os.listxattr(folder, follow_symlinks=False)


class Keeper:
    def __init__(self):
        # By the file's path: which state of it was copied, and the copy's inode.
        self.copied = {}
        self.made = []
        self.sums = {}
        self.linked = {}

    def copy(self, source, path, status):
        digest = hashlib.sha256()
        with open(source, "rb", buffering=0) as file, open(path, "xb", buffering=0) as copy:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
                copy.write(chunk)
            inode = os.fstat(copy.fileno()).st_ino
        as_it_is(source, path, status)
        self.sums[inode] = digest.hexdigest()
        self.copied[source] = (status.st_ino, status.st_ctime_ns, inode)

    def ahead(self, upper, tree, finished):
        """Files that are not likely to change any more; everything else is left to the end."""
        for entry in list(os.scandir(upper)):
            if os.path.exists(finished):
                return
            try:
                self.one_ahead(entry, os.path.join(tree, entry.name), finished)
            except (FileNotFoundError, NotADirectoryError):
                # The step has removed it meanwhile.
                continue

    def one_ahead(self, entry, path, finished):
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            if os.path.islink(path) or (os.path.lexists(path) and not os.path.isdir(path)) or opaque(entry.path):
                return
            if not os.path.lexists(path):
                os.mkdir(path)
                self.made.append((entry.path, path))
            self.ahead(entry.path, path, finished)
        elif stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and time.time_ns() - status.st_ctime_ns > RACY:
            remove(path)
            self.made.append((entry.path, path))
            self.copy(entry.path, path, status)

    def is_kept(self, source, path, status):
        if source not in self.copied or not os.path.lexists(path):
            return False
        return self.copied[source] == (status.st_ino, status.st_ctime_ns, os.lstat(path).st_ino)

    def whole(self, upper, tree):
        """All of a folder, as it is now."""
        status = os.lstat(upper)
        if opaque(upper) or os.path.islink(tree) or not os.path.isdir(tree):
            remove(tree)
            os.mkdir(tree)
        for entry in list(os.scandir(upper)):
            self.one(entry.path, os.path.join(tree, entry.name), entry.stat(follow_symlinks=False))
        as_it_is(upper, tree, status)

    def one(self, source, path, status):
        if stat.S_ISDIR(status.st_mode):
            return self.whole(source, path)
        if self.is_kept(source, path, status):
            return
        remove(path)
        if whiteout(status):
            return
        if status.st_nlink > 1:
            if first := self.linked.get(status.st_ino):
                return os.link(first, path, follow_symlinks=False)
            self.linked[status.st_ino] = path
        if stat.S_ISREG(status.st_mode):
            return self.copy(source, path, status)
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(source), path)
        else:
            os.mknod(path, status.st_mode, status.st_rdev)
        as_it_is(source, path, status)

    def forget(self):
        """What was copied and has gone since."""
        for source, path in reversed(self.made):
            if not os.path.lexists(source):
                remove(path)


def main(upper, tree, unpacked, finished):
    keeper = Keeper()
    ahead = False
    while not os.path.exists(finished):
        if not ahead and os.path.exists(unpacked):
            ahead = True
            keeper.ahead(upper, tree, finished)
        time.sleep(0.02)
    keeper.forget()
    keeper.whole(upper, tree)
    for inode, digest in keeper.sums.items():
        print(inode, digest)


main(*sys.argv[1:])
