#!/usr/bin/python3
"""What is unwell on this machine, as JSON: failed and restarting units with the end of their journals, full disks, memory, certificates that
expire, and the last errors in the logs that programs keep themselves. Looks and changes nothing. `ingot doctor` gives it to a machine's python on
standard input, so that a machine of an older Ingot can be asked too.
"""
import glob
import json
import os
import subprocess
import time

# Logs beside the journal, as the packages of Debian have them.
LOGS = [
    "/var/log/nginx/error.log",
    "/var/log/postgresql/*.log",
    "/var/log/supervisor/*.log",
    "/var/log/uwsgi/*.log",
    "/var/log/uwsgi/app/*.log",
    "/var/log/redis/*.log",
    "/var/log/rabbitmq/*.log",
    "/var/log/mail.err",
]
DAY = 86400
# Seconds for which the backups are asked for: who keeps them may be gone without a word.
PATIENCE = 60
MARKS = ("error", "crit", "fatal", "alert", "emerg", "traceback", "denied", "panic", "no space")


def run(argv):
    try:
        result = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout


def units():
    """Those that have failed, and services that systemd has started again five times or more."""
    shown = run(["systemctl", "show", "*.service", "*.mount", "*.timer", "*.socket", "--property=Id,ActiveState,Result,NRestarts,ExecMainStatus,InactiveEnterTimestamp,ActiveEnterTimestamp", "--timestamp=unix"])
    found = []
    for block in shown.strip().split("\n\n"):
        unit = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        restarts = int(unit.get("NRestarts") or 0)
        if unit.get("ActiveState") != "failed" and not (restarts >= 5 and recent(unit)):
            continue
        name = unit["Id"]
        if name.startswith("ingot-step-"):
            continue  # What an activation did is not what runs now.
        log = run(["journalctl", "--no-pager", "--quiet", "--output=cat", "--lines=8", f"--unit={name}"]).splitlines()
        since = stamp(unit.get("InactiveEnterTimestamp"))
        found.append(
            {
                "unit": name,
                "state": unit.get("ActiveState"),
                "result": unit.get("Result"),
                "status": int(unit.get("ExecMainStatus") or 0),
                "restarts": restarts,
                "since": since,
                "log": log,
            }
        )
    return found


def stamp(text):
    return int(text[1:]) if text and text.startswith("@") else None


def recent(unit):
    """It came up within the last ten minutes: still at it."""
    began = stamp(unit.get("ActiveEnterTimestamp"))
    return began is None or time.time() - began < 600


def disks():
    found = []
    seen = set()
    with open("/proc/mounts", encoding="utf-8") as file:
        for line in file:
            _, mount, kind, options = line.split()[:4]
            mount = mount.replace("\\040", " ")
            if kind not in ("ext4", "xfs", "btrfs", "overlay") or mount.startswith(("/run/", "/var/lib/docker/")):
                continue
            # Whatever fills it, it is not this machine.
            if "ro" in options.split(","):
                continue
            try:
                told, device = os.statvfs(mount), os.stat(mount).st_dev
            except OSError as error:
                found.append({"mount": mount, "error": error.strerror})
                continue
            if device in seen or not told.f_blocks:
                continue
            seen.add(device)
            used = 1 - told.f_bavail / told.f_blocks
            files = 1 - told.f_favail / told.f_files if told.f_files else 0
            found.append({"mount": mount, "used": round(used, 3), "inodes": round(files, 3), "free": told.f_bavail * told.f_frsize})
    return found


def memory():
    with open("/proc/meminfo", encoding="utf-8") as file:
        told = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in file}
    killed = run(["journalctl", "--no-pager", "--quiet", "--output=cat", "--since=-1d", "--grep=Out of memory|oom-kill|A process of this unit has been killed by the OOM killer"])
    return {"total": told["MemTotal"], "available": told["MemAvailable"], "killed": killed.splitlines()[-3:]}


def certificates():
    found = []
    for path in sorted(glob.glob("/etc/ssl/ingot/*.crt")):
        line = run(["openssl", "x509", "-in", path, "-noout", "-enddate"]).strip()
        if line.startswith("notAfter="):
            ends = time.mktime(time.strptime(line[len("notAfter="):], "%b %d %H:%M:%S %Y %Z")) - time.timezone
            found.append({"path": path, "days": round((ends - time.time()) / DAY, 1)})
    return found


def logs():
    """The last lines that look like an error, of files that were written to within a day."""
    found = {}
    for path in sorted({p for pattern in LOGS for p in glob.glob(pattern)}):
        try:
            if time.time() - os.stat(path).st_mtime > DAY:
                continue
            with open(path, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - 65536))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            continue
        wrong = [line[:300] for line in lines if any(mark in line.lower() for mark in MARKS)]
        if wrong:
            found[path] = wrong[-5:]
    return found


def backups():
    program = "/usr/lib/ingot/backup.py"
    if not os.path.exists("/etc/ingot/backup/settings.json") or not os.path.exists(program):
        return []
    try:
        result = subprocess.run([program, "list"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return [f"what there is of backups was not known within {PATIENCE} s"]
    if result.returncode == 0:
        return json.loads(result.stdout)["late"]
    return [result.stderr.strip() or f"{program} ended with exit code {result.returncode}"]


print(
    json.dumps(
        {
            "units": units(),
            "disks": disks(),
            "memory": memory(),
            "certificates": certificates(),
            "logs": logs(),
            "backups": backups(),
            "up": float(open("/proc/uptime", encoding="utf-8").read().split()[0]),
        }
    )
)
