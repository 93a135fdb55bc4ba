#!/usr/bin/python3
"""Which packages an initramfs is made of, for them to be configured first: `early.py <root>`.

Those that have a hook, a script or a setting in it, kernels, and all that they depend on: of several that would do, each that is there.
Called by packages.sh. Source: deb-control(5), dpkg's status file; initramfs-tools(7).
"""

import os
import re
import sys


def packages(root):
    """Of each package its fields."""
    with open(os.path.join(root, "var/lib/dpkg/status"), encoding="utf-8") as file:
        for paragraph in file.read().split("\n\n"):
            fields = dict(re.findall(r"^([A-Za-z-]+): *(.*)$", paragraph, re.MULTILINE))
            if fields.get("Status", "").startswith("install ok"):
                yield fields


def names(field):
    """Every name in a list of dependencies, its alternatives included."""
    return re.findall(r"(?:^|[,|])\s*([a-z0-9][a-z0-9+.-]+)", field)


def files(root, package):
    folder = os.path.join(root, "var/lib/dpkg/info")
    for name in (f"{package['Package']}.list", f"{package['Package']}:{package['Architecture']}.list"):
        path = os.path.join(folder, name)
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                return file.read().split("\n")
    return []


def main(root):
    there = list(packages(root))
    called = {}
    for package in there:
        for name in [package["Package"], *names(package.get("Provides", ""))]:
            called.setdefault(name, []).append(package)
    folders = re.compile(r"^(/usr/share|/etc)/initramfs-tools/.|^/boot/vmlinuz-")
    left = [package for package in there if any(map(folders.match, files(root, package)))]
    early = {}
    while left:
        package = left.pop()
        if package["Package"] not in early:
            early[package["Package"]] = package
            needed = names(package.get("Depends", "")) + names(package.get("Pre-Depends", ""))
            left.extend(other for name in needed for other in called.get(name, []))
    for name, package in sorted(early.items()):
        if "unpacked" in package["Status"]:
            print(name)


main(sys.argv[1])
