#!/usr/bin/python3
"""Prepares a tree for what an overlay's upper folder has instead: `merge.py <upper> <tree>`, before a plain copy of the one over the other.

What was removed goes from the tree, and its mark from the upper folder; so does what the overlay noted for itself. Called by layer.sh.
Source: https://docs.kernel.org/filesystems/overlayfs.html, "whiteouts and opaque directories".
"""

import os
import shutil
import stat
import sys


def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def attributes(path):
    return set(os.listxattr(path, follow_symlinks=False))


def merge(upper, tree):
    own = attributes(upper)
    for name in own:
        if name.startswith("trusted.overlay."):
            os.removexattr(upper, name, follow_symlinks=False)
    if not os.path.isdir(upper) or os.path.islink(upper):
        return remove(tree)
    if "trusted.overlay.opaque" in own or os.path.islink(tree) or not os.path.isdir(tree):
        remove(tree)
    else:
        for name in attributes(tree) - own:
            os.removexattr(tree, name, follow_symlinks=False)
    times = os.lstat(upper)
    for entry in list(os.scandir(upper)):
        there = os.path.join(tree, entry.name)
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            remove(there)
            os.unlink(entry.path)
        else:
            merge(entry.path, there)
    # Taking the marks out has changed it.
    os.utime(upper, ns=(times.st_atime_ns, times.st_mtime_ns))


merge(*sys.argv[1:])
