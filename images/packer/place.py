#!/usr/bin/python3
"""Puts the tree that build.sh has made into the place of the builder's own system, on the same file system, while that runs: `place.py <grub.cfg> [off]`.

What stays of the builder's disk are its partitions and its boot loader (/boot/grub, but for the configuration). From then on whatever the builder
still writes until it is switched off goes into memory: over every folder that it could write to lies an overlay. What is on the disk in the end is
read again, and has to be what was proven. With `off` the machine is switched off some seconds later: nobody can log in any more who could. As root;
called by Packer, after the facts were found right.
Source: https://docs.kernel.org/filesystems/overlayfs.html; rename(2), EBUSY.
"""

import io
import os
import shutil
import subprocess
import sys

FOLDER = "/var/lib/ingot-build"
DISK = "/run/ingot-disk"
OVER = "/run/ingot-over"
# Mounted over while the system runs: not renamed, but filled anew beneath.
MOUNTED = ("dev", "proc", "run", "sys", "tmp")
OLD, NEW = ".ingot-old", ".ingot-new"


def run(*argv):
    subprocess.run(argv, check=True)


def said(*argv):
    return subprocess.run(argv, check=False, capture_output=True, text=True).stdout.strip()


def boot_files(tree, configuration):
    """The boot loader of the builder's disk, which finds the kernel of the tree by the same configuration as on a disk of Ingot's."""
    if said("systemd-detect-virt", "--container") not in ("", "none"):
        # Nothing boots from here.
        return
    root = said("findmnt", "--noheadings", "--output", "UUID", "/")
    if not root:
        sys.exit("ingot: the root of the builder has no UUID to boot by")
    subprocess.run(("umount", "--lazy", "/boot/efi"), check=False, capture_output=True)
    with open(configuration, encoding="utf-8") as file:
        text = file.read().replace("@ROOT@", root)
    before = {path: os.stat(path) for path in (f"{tree}/boot", f"{tree}/etc")}
    if os.path.isdir("/boot/grub"):
        shutil.copytree("/boot/grub", f"{tree}/boot/grub", symlinks=True, dirs_exist_ok=True)
    os.makedirs(f"{tree}/boot/grub", exist_ok=True)
    with open(f"{tree}/boot/grub/grub.cfg", "w", encoding="utf-8") as file:
        file.write(text)
    with open(f"{tree}/etc/fstab", "w", encoding="utf-8") as file:
        file.write(f"UUID={root} / ext4 defaults,errors=remount-ro 0 1\n")
    for path, status in before.items():
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def unmount_below():
    """What is mounted somewhere in the system that goes: seeds, /boot/efi, a service's own folder."""
    with open("/proc/self/mounts", encoding="utf-8") as mounts:
        paths = [line.split()[1].encode().decode("unicode_escape") for line in mounts]
    for path in reversed(paths):
        top = path.strip("/").split("/")[0]
        if top and top not in MOUNTED:
            subprocess.run(("umount", "--lazy", path), check=False, capture_output=True)


def empty(folder):
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)


def like(status, path):
    """Owner, mode and times of a folder, as they were before anything was taken out of it."""
    os.chown(path, status.st_uid, status.st_gid)
    os.chmod(path, status.st_mode & 0o7777)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def place(tree):
    """Each of the topmost names takes the place of its like; a program that is called meanwhile finds the one or the other."""
    old, new = f"{DISK}/{OLD}", f"{DISK}/{NEW}"
    os.mkdir(old)
    # Out of /var, which goes with the others.
    os.rename(tree, new)
    there = set()
    for name in sorted(os.listdir(new)):
        to = f"{DISK}/{name}"
        if name in MOUNTED:
            status = os.stat(f"{new}/{name}")
            os.makedirs(to, exist_ok=True)
            empty(to)
            for inner in os.listdir(f"{new}/{name}"):
                os.rename(f"{new}/{name}/{inner}", f"{to}/{inner}")
            like(status, to)
            os.rmdir(f"{new}/{name}")
        else:
            if os.path.lexists(to):
                os.rename(to, f"{old}/{name}")
            os.rename(f"{new}/{name}", to)
            there.add(name)
    for name in os.listdir(DISK):
        if name not in (*there, *MOUNTED, OLD, NEW, "lost+found"):
            os.rename(f"{DISK}/{name}", f"{old}/{name}")
    return old, new


def cover():
    """Whatever is still written goes into memory."""
    os.makedirs(OVER)
    for name in sorted(os.listdir(DISK)):
        path = f"/{name}"
        if name in MOUNTED and os.path.ismount(path):
            continue
        if name in (OLD, NEW, "lost+found") or os.path.islink(path) or not os.path.isdir(path):
            continue
        upper, work = f"{OVER}/{name}.upper", f"{OVER}/{name}.work"
        for folder in (upper, work):
            os.mkdir(folder)
        status = os.stat(path)
        os.chown(upper, status.st_uid, status.st_gid)
        os.chmod(upper, status.st_mode & 0o7777)
        run("mount", "-t", "overlay", "-o", f"lowerdir={path},upperdir={upper},workdir={work}", "ingot-over", path)


def listing(program, root):
    """What images/provision/listing.py says of a tree, in this process."""
    said, sys.argv, sys.stdout = sys.stdout, ["listing.py", root], io.TextIOWrapper(io.BytesIO())
    try:
        exec(program, {"__name__": "listing"})
        return sys.stdout.buffer.getvalue()
    finally:
        sys.stdout = said


def proven(lines):
    """The lines of it but for those of the boot loader, which is the builder's."""
    own = ("/boot/grub", "/etc/fstab", "/lost+found")
    for line in lines.split(b"\n"):
        path = line.rsplit(b"\t", 1)[-1].decode("utf-8", "replace")
        if path and path not in own and not path.startswith("/boot/grub/"):
            yield line


def prove(wanted, now):
    """What is not on the disk as it was proven ends the build."""
    wanted, now = set(proven(wanted)), set(proven(now))
    for what, lines in (("proven, and not on the disk", wanted - now), ("on the disk, and not proven", now - wanted)):
        for line in sorted(lines)[:20]:
            print(f"ingot: {what}: {line.decode('utf-8', 'replace')}", flush=True)
    if wanted != now:
        sys.exit(1)


def main(configuration, then=None):
    print("ingot: phase place", flush=True)
    last = f"{FOLDER}/steps/{sorted(os.listdir(f'{FOLDER}/steps'))[-1]}"
    with open(f"{last}/facts/files", "rb") as file:
        wanted = file.read()
    with open(f"{FOLDER}/provision/listing.py", encoding="utf-8") as file:
        program = compile(file.read(), "listing.py", "exec")
    # Once of nothing: the image that takes the place may have no Python, so that all of its modules are loaded now.
    listing(program, f"{last}/facts")
    boot_files(f"{last}/root", configuration)
    os.makedirs(DISK)
    run("mount", "--bind", "/", DISK)
    # What is mounted over the system's folders is not mounted over these.
    run("mount", "--make-private", DISK)
    unmount_below()
    status = os.stat(f"{last}/root")
    old, new = place(f"{DISK}{last}/root")
    cover()
    shutil.rmtree(old)
    os.rmdir(new)
    like(status, DISK)
    prove(wanted, listing(program, DISK))
    run("sync")
    run("umount", DISK)
    if then == "off":
        # By systemd, which knows nothing of who is logged in.
        run("systemd-run", "--quiet", "--on-active=5", "systemctl", "poweroff")
    print("ingot: placed", flush=True)


main(*sys.argv[1:])
