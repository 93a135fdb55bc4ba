#!/usr/bin/python3
"""Writes /run/ingot/facts/facts.json, which the container target brings along (MachineFacts in cloud-init/plan.ts). In a machine of the vm
target it is on a disk of its own, with secrets and artifacts (ingot-facts.service runs this). On EC2 instance and address come from the
metadata service, everything else from the SSM parameter /ingot/<stack>/<host>/facts. Called by activate.

The disks of data volumes get their names from here: /var/lib/ingot/volumes.json (serial -> name) is what the udev rule reads, so that
after a reboot they are there before the network is.
"""
import json
import os
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

FACTS = "/run/ingot/facts/facts.json"
VOLUMES = "/var/lib/ingot/volumes.json"
# The disks of a machine of QEMU's (stacks/local/vm.ts).
DISK = "/dev/disk/by-id/virtio-ingot-facts"
ARTIFACTS = "/dev/disk/by-id/virtio-ingot-artifacts"
# Seconds: EC2 attaches data volumes beside the boot.
DISK_WAIT = 120


def read():
    try:
        with open(FACTS, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return {}


def write(path, value, mode):
    os.makedirs(os.path.dirname(path), 0o700 if mode == 0o600 else 0o755, exist_ok=True)
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), mode)
        json.dump(value, file, sort_keys=True)
    os.rename(f"{path}.new", path)


def ask():
    """The facts of this instance. Raises AwsError."""
    import aws

    metadata = aws.Metadata()
    stack, host = (metadata.get(f"meta-data/tags/instance/ingot:{tag}") for tag in ("stack", "host"))
    if not stack or not host:
        raise aws.AwsError("this instance has no tags ingot:stack and ingot:host, or its metadata does not show tags (InstanceMetadataTags)")
    name = f"/ingot/{stack}/{host}/facts"
    value = aws.Client(metadata).parameters([name]).get(name)
    if value is None:
        raise aws.AwsError(f"there is no SSM parameter {name}")
    return {
        **json.loads(value),
        "target": "aws",
        "instance": metadata.get("meta-data/instance-id"),
        "address": metadata.get("meta-data/local-ipv4"),
    }


def link(name):
    return f"/dev/disk/by-id/ingot-{name}"


def name_disks(volumes):
    """Waits until each data volume is there by its name. Raises AwsError."""
    import aws

    write(VOLUMES, {serial: name for name, serial in volumes.items()}, 0o644)
    end = time.monotonic() + DISK_WAIT
    while missing := [name for name in volumes if not os.path.exists(link(name))]:
        if time.monotonic() > end:
            raise aws.AwsError("; ".join(f"the data volume {name} ({volumes[name]}) is not attached" for name in missing))
        # The rule in /usr/lib/udev/rules.d makes the links; disks that came before the map was written are looked at again.
        subprocess.run(["udevadm", "trigger", "--settle", "--subsystem-match=block", "--action=change"], capture_output=True, check=False)
        time.sleep(0.5)


def bring():
    """What is on the disks of a machine of QEMU's, at the places where a container has it. The disk is read and left: at the next boot it may
    have other facts."""
    folder, disk = os.path.dirname(FACTS), "/run/ingot/disk"
    # Others than root have things below it: what keeps them out lies deeper.
    os.makedirs("/run/ingot", exist_ok=True)
    os.chmod("/run/ingot", 0o755)
    os.makedirs(disk, 0o700, exist_ok=True)
    subprocess.run(["mount", "-o", "ro", DISK, disk], check=True)
    try:
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder, 0o700)
        for parent, _, files in os.walk(disk):
            if "lost+found" in parent:
                continue
            there = os.path.join(folder, os.path.relpath(parent, disk))
            os.makedirs(there, 0o700, exist_ok=True)
            for name in files:
                shutil.copyfile(os.path.join(parent, name), os.path.join(there, name))
                os.chmod(os.path.join(there, name), 0o600)
    finally:
        subprocess.run(["umount", disk], check=True)
    os.makedirs("/run/ingot/artifacts", 0o755, exist_ok=True)
    if os.path.exists(ARTIFACTS):
        os.makedirs("/run/ingot/brought", 0o755, exist_ok=True)
        subprocess.run(["mount", "-o", "ro", ARTIFACTS, "/run/ingot/brought"], check=True)
        for name in os.listdir("/run/ingot/brought"):
            if name != "lost+found" and not os.path.lexists(f"/run/ingot/artifacts/{name}"):
                os.symlink(f"/run/ingot/brought/{name}", f"/run/ingot/artifacts/{name}")
    known = read()
    if "patience" in known:
        os.makedirs("/run/systemd/system.conf.d", 0o755, exist_ok=True)
        with open("/run/systemd/system.conf.d/ingot.conf", "w", encoding="utf-8") as file:
            file.write(f"[Manager]\nDefaultTimeoutStartSec={90 * known['patience']}\n")
        os.chmod("/run/systemd/system.conf.d", 0o755)
        os.chmod("/run/systemd/system.conf.d/ingot.conf", 0o644)
    name_disks(known.get("volumes", {}))


def prepare():
    """Brings the facts up to date, where it is for the host to do so. Raises AwsError."""
    if not os.path.exists(FACTS) and os.path.exists(DISK):
        bring()
    known = read()
    if known and known.get("target") != "aws":
        return
    import aws  # only here: a machine elsewhere does not wait for what it never uses

    if not aws.is_ec2():
        return
    facts = ask()
    write(FACTS, facts, 0o600)
    name_disks(facts.get("volumes", {}))


if __name__ == "__main__":
    os.umask(0o077)
    bring()
