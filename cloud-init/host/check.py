#!/usr/bin/python3
"""Asks a running host whether it is what its declaration says: `check.py < checks.json`, a list of {id, check, args}, gives a JSON list
of {id, ok, message, seen} in the same order. Runs on the host (seen: inside), and beside it on the operator's computer (`http`, `tls`,
`tcp` only need a socket), so: Python's standard library, and root only where a check says so.

A check is a function below `# --- Checks`; its parameters are the arguments it knows. It returns what it has seen, or raises Wrong.
Every check takes `timeout` (seconds, default 10); those that wait for something take `within` (seconds, default 0).
"""
import base64
import glob
import grp
import hashlib
import http.client
import inspect
import json
import os
import pwd
import re
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
import urllib.parse

SECRETS = "/var/lib/ingot/secrets"


def patience():
    """So many times longer than elsewhere a check may take: where a processor is computed by a program. From outside the caller says it."""
    try:
        with open("/run/ingot/facts/facts.json", encoding="utf-8") as file:
            return json.load(file).get("patience", 1)
    except (OSError, ValueError):
        return int(os.environ.get("INGOT_PATIENCE", 1))


PATIENCE = patience()
TIMEOUT = 10 * PATIENCE
CHECKS = {}


class Wrong(Exception):
    """The host is not what it should be: what was expected, and what was seen. `stays`: waiting would not help."""

    def __init__(self, message, seen=None, stays=False):
        super().__init__(message)
        self.seen = seen
        self.stays = stays


def check(function):
    CHECKS[function.__name__] = function
    return function


def expect(what, expected, seen):
    if expected != seen:
        raise Wrong(f"{what} is {show(seen)}, expected {show(expected)}", seen)


def show(value):
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 300 else text[:300] + "…"


# What runs when its check's time is over; ended, so that nothing is left behind.
children = set()


def run(argv, **options):
    """A program to its end: exit code, output, errors."""
    try:
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/", **options)
    except FileNotFoundError:
        raise Wrong(f"there is no program {argv[0]}") from None
    except PermissionError as error:
        raise Wrong(f"{argv[0]}: {error.strerror}") from None
    children.add(child)
    output, errors = child.communicate()
    children.discard(child)
    return child.returncode, output.decode(errors="replace"), errors.decode(errors="replace")


def as_user(name):
    """Options of run() for a program that another user runs, with all groups of that user."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise Wrong(f"there is no user {name}") from None
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": entry.pw_dir, "USER": name, "LOGNAME": name, "LANG": "C.UTF-8"}
    if os.geteuid() == entry.pw_uid:
        return {"env": environment}
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": os.getgrouplist(name, entry.pw_gid), "env": environment}


def sql(statement, server=None, **variables):
    """One row of PostgreSQL's answer; None when there is no row. Asked as postgres on the local socket, or as a role of another server:
    its `host`, `port`, `role` and the `secret` that holds its password."""
    programs = sorted(glob.glob("/usr/lib/postgresql/*/bin/psql"), key=lambda path: float(path.split("/")[4]))
    if not programs:
        raise Wrong("PostgreSQL is not installed")
    argv = [programs[-1], "-X", "-q", "-A", "-t", "-F", "\x1f", "-v", "ON_ERROR_STOP=1", "-d", variables["database"] if server else "postgres"]
    asking = as_user("postgres") if server is None else {"env": {**os.environ, **reached(server)}}
    for name, value in variables.items():
        argv += ["-v", f"{name}={value}"]
    # Variables are put in by -f, not by -c.
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as file:
        file.write(statement)
    child = subprocess.Popen(argv, stdin=reader, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/", **asking)
    os.close(reader)
    children.add(child)
    output, errors = child.communicate()
    children.discard(child)
    if child.returncode != 0:
        raise Wrong(f"PostgreSQL: {errors.decode(errors='replace').strip()}")
    text = output.decode().rstrip("\n")
    return text.split("\x1f") if text else None


def reached(server):
    """libpq's variables for a role of another server."""
    with open(os.path.join(SECRETS, server["secret"]), encoding="utf-8") as file:
        password = file.read().removesuffix("\n")
    return {"PGHOST": server["host"], "PGPORT": server["port"], "PGUSER": server["role"], "PGPASSWORD": password}


# --- Checks: what is inside the host ------------------------------------------------------------------------------------------


def name_of(number, lookup):
    """Of a user or group; the number itself where nobody has it."""
    try:
        return lookup(number)[0]
    except KeyError:
        return str(number)


@check
def path(path, type=None, owner=None, group=None, mode=None, target=None):
    try:
        info = os.lstat(path)
    except OSError as error:
        raise Wrong(f"{path}: {error.strerror}") from None
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFSOCK: "socket", stat.S_IFBLK: "device"}
    seen = {
        "type": kinds.get(stat.S_IFMT(info.st_mode), "other"),
        "owner": name_of(info.st_uid, pwd.getpwuid),
        "group": name_of(info.st_gid, grp.getgrgid),
        "mode": f"{stat.S_IMODE(info.st_mode):04o}",
    }
    if seen["type"] == "symlink":
        seen["target"] = os.readlink(path)
    expected = {"type": type, "owner": owner, "group": group, "mode": None if mode is None else f"{int(str(mode), 8):04o}", "target": target}
    for key, value in expected.items():
        if value is not None and value != seen.get(key):
            raise Wrong(f"{path}: {key} is {show(seen.get(key))}, expected {value}", seen)
    return seen


@check
def contents(path, owner, group=None, mode=None, apart=None, timeout=TIMEOUT):
    """Whose everything in a folder is, at any depth, and what it allows at most; what is declared for itself is looked at by itself."""
    def wrong_with(info):
        if info.st_uid != pwd.getpwnam(owner).pw_uid:
            return f"owner is {name_of(info.st_uid, pwd.getpwuid)}, expected {owner}"
        if group is not None and info.st_gid != grp.getgrnam(group).gr_gid:
            return f"group is {name_of(info.st_gid, grp.getgrgid)}, expected {group}"
        # A symlink's own mode says nothing.
        if mode is not None and not stat.S_ISLNK(info.st_mode) and stat.S_IMODE(info.st_mode) & 0o777 & ~int(mode, 8):
            return f"mode is {stat.S_IMODE(info.st_mode):04o}, expected {mode} at most"
        return None

    device = os.lstat(path).st_dev
    seen, wrong, folders = 0, [], [path]
    until = time.monotonic() + timeout
    while folders:
        if time.monotonic() > until:
            raise Wrong(f"{path}: after {timeout} s and {seen} things in it there are more", seen)
        try:
            entries = list(os.scandir(folders.pop()))
        except FileNotFoundError:
            continue  # it went meanwhile
        for entry in entries:
            try:
                info = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            # What is mounted below is a place of its own; e2fsck's folder is root's.
            if entry.path in (apart or []) or info.st_dev != device or (entry.name == "lost+found" and info.st_uid == 0):
                continue
            seen += 1
            problem = wrong_with(info)
            if problem:
                wrong.append(f"{entry.path}: {problem}")
            if stat.S_ISDIR(info.st_mode):
                folders.append(entry.path)
    if wrong:
        wrong.sort()
        more = f", and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise Wrong("; ".join(wrong[:3]) + more, wrong[:20])
    return seen


@check
def user(name, uid=None, gid=None, groups=None, home=None, shell=None, login=None):
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise Wrong(f"there is no user {name}") from None
    supplementary = sorted(grp.getgrgid(gid).gr_name for gid in os.getgrouplist(name, entry.pw_gid) if gid != entry.pw_gid)
    nologin = entry.pw_shell.rsplit("/", 1)[-1] in ("nologin", "false")
    seen = {"uid": entry.pw_uid, "gid": entry.pw_gid, "groups": supplementary, "home": entry.pw_dir, "shell": entry.pw_shell, "login": not nologin}
    expected = {"uid": uid, "gid": gid, "groups": None if groups is None else sorted(groups), "home": home, "shell": shell, "login": login}
    for key, value in expected.items():
        if value is not None and value != seen[key]:
            raise Wrong(f"user {name}: {key} is {show(seen[key])}, expected {show(value)}", seen)
    return seen


@check
def expires(name, day):
    code, output, errors = run(["getent", "shadow", name])
    if code != 0:
        raise Wrong(f"there is no user {name}: {errors.strip()}")
    field = output.strip().split(":")[7]
    seen = time.strftime("%Y-%m-%d", time.gmtime(int(field) * 86400)) if field else "never"
    expect(f"user {name}: the last day", day, seen)
    return seen


@check
def group(name, gid=None, members=None):
    try:
        entry = grp.getgrnam(name)
    except KeyError:
        raise Wrong(f"there is no group {name}") from None
    seen = {"gid": entry.gr_gid, "members": sorted(entry.gr_mem)}
    if gid is not None:
        expect(f"group {name}: its number", gid, seen["gid"])
    if members is not None:
        expect(f"group {name}: its members", sorted(members), seen["members"])
    return seen


@check
def sudo(user, passwordless=True):
    code, _, errors = run(["runuser", "-u", user, "--", "sudo", "-n", "true"])
    if passwordless and code != 0:
        raise Wrong(f"{user} cannot use sudo without a password: {errors.strip()}", False)
    if not passwordless and code == 0:
        raise Wrong(f"{user} can use sudo without a password", True)
    return code == 0


@check
def sudo_command(user, argv):
    """A user may run exactly this as root without a password; asked, not run."""
    code, _, errors = run(["runuser", "-u", user, "--", "sudo", "-n", "-l", "--", *argv])
    if code != 0:
        raise Wrong(f"{user} may not run {' '.join(argv)} by sudo: {errors.strip()}", False)
    if run(["runuser", "-u", user, "--", "sudo", "-n", "-l", "--", *argv, "more"])[0] == 0:
        raise Wrong(f"{user} may run {' '.join(argv)} with further arguments, too", True)
    return True


@check
def authorized_keys(user, keys):
    """The keys by which a user may log in are these and no others."""
    path = os.path.join(pwd.getpwnam(user).pw_dir, ".ssh/authorized_keys")
    try:
        with open(path, encoding="utf-8") as file:
            seen = [line.strip() for line in file if line.strip()]
    except FileNotFoundError:
        seen = []
    expect(f"{path}", sorted(key.strip() for key in keys), sorted(seen))
    return len(seen)


@check
def command(argv, user=None, env=None, status=0, stdout=None, contains=None):
    options = as_user(user) if user else {}
    if env:
        options["env"] = {**options.get("env", os.environ), **env}
    code, output, errors = run(argv, **options)
    name = " ".join(argv)
    if code != status:
        raise Wrong(f"{name}: exit code {code}, expected {status}: {show((errors or output).strip())}", code)
    if stdout is not None:
        expect(f"{name}: its output", stdout.rstrip("\n"), output.rstrip("\n"))
    if contains is not None and contains not in output:
        raise Wrong(f"{name}: {show(contains)} is not in its output: {show(output)}", output[:300])
    return output[:300]


@check
def unit(name, active=None, enabled=None, user=None, groups=None, type=None, may_end=False):
    keys = "LoadState,ActiveState,SubState,MainPID,NRestarts,Result"
    _, output, _ = run(["systemctl", "show", f"--property={keys}", "--", name])
    seen = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
    if seen.get("LoadState") != "loaded":
        raise Wrong(f"{name}: no such unit ({seen.get('LoadState')})", seen)
    state = f"{seen['ActiveState']} ({seen['SubState']})"
    if may_end and (seen["ActiveState"], seen["Result"]) == ("inactive", "success"):
        return state
    if active is not None and (seen["ActiveState"] == "active") != active:
        raise Wrong(f"{name} is {state}, expected {'active' if active else 'inactive'}", state)
    if enabled is not None:
        # Of the files themselves: what the manager shows is as old as its last daemon-reload.
        _, output, _ = run(["systemctl", "is-enabled", "--", name])
        state_of_file = output.strip() or "not enabled"
        if (state_of_file in ("enabled", "enabled-runtime", "alias", "static", "generated")) != enabled:
            raise Wrong(f"{name} is {state_of_file}, expected {'enabled' if enabled else 'disabled'}", state_of_file)
    if user is not None or groups is not None:
        pid = seen["MainPID"]
        if pid == "0":
            raise Wrong(f"{name} has no main process", state)
        identity(name, pid, user, groups)
    return state


@check
def limits(unit, expected):
    """What systemd holds a unit to: bytes, microseconds in a second, numbers."""
    _, output, _ = run(["systemctl", "show", f"--property={','.join(expected)}", "--", unit])
    seen = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
    if "CPUQuotaPerSecUSec" in seen:
        seen["CPUQuotaPerSecUSec"] = microseconds(seen["CPUQuotaPerSecUSec"])
    expect(f"{unit}: its limits", {key: str(value) for key, value in expected.items()}, seen)
    return seen


def microseconds(span):
    """`1.500s`, `500ms` and `infinity`, as systemctl shows spans, in microseconds."""
    found = re.fullmatch(r"([0-9.]+)(us|ms|s)", span)
    return span if found is None else str(round(float(found[1]) * {"us": 1, "ms": 1000, "s": 1000000}[found[2]]))


def identity(what, pid, user=None, groups=None, group=None):
    """As whom a process runs."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    primary = int(status["Gid"].split()[1])
    if user is not None:
        expect(f"{what}: the user of its process", user, pwd.getpwuid(int(status["Uid"].split()[1])).pw_name)
    if group is not None:
        expect(f"{what}: the group of its process", group, grp.getgrgid(primary).gr_name)
    if groups is not None:
        names = sorted(grp.getgrgid(int(gid)).gr_name for gid in status["Groups"].split() if int(gid) != primary)
        # Those that the user itself is in come by themselves, and once the process has started anew.
        own = {grp.getgrgid(gid).gr_name for gid in os.getgrouplist(pwd.getpwuid(int(status["Uid"].split()[1])).pw_name, primary)}
        if not set(groups) <= set(names) <= set(groups) | own:
            expect(f"{what}: the supplementary groups of its process", sorted(groups), names)


def children_of(pid):
    """Its children, with their arguments."""
    found = {}
    for file in glob.glob(f"/proc/{pid}/task/*/children"):
        with open(file, encoding="ascii") as stream:
            for child in stream.read().split():
                with open(f"/proc/{child}/cmdline", "rb") as arguments:
                    found[child] = arguments.read().decode(errors="replace").split("\0")
    return found


def main_pid(name):
    pid = run(["systemctl", "show", "--property=MainPID", "--value", "--", name])[1].strip()
    if pid in ("", "0"):
        raise Wrong(f"{name} does not run")
    return pid


@check
def workers(unit, user=None, group=None, processes=None, threads=None):
    """Who works for a unit: the children of its main process, or the threads beside that process's own."""
    main = main_pid(unit)
    if threads is not None:
        expect(f"{unit}: the threads of its main process, but for the first", threads, len(os.listdir(f"/proc/{main}/task")) - 1)
        return threads
    pids = children_of(main)
    if processes is not None:
        expect(f"{unit}: the processes that its main process started", processes, len(pids))
    if not pids:
        raise Wrong(f"{unit} has no worker")
    for pid in pids:
        identity(f"a worker of {unit}", pid, user, group=group)
    return len(pids)


@check
def issued(settings):
    """An authority has signed the certificate, where one can."""
    code, output, _ = run(["/usr/lib/ingot/acme", "--done", settings])
    if code != 0:
        name = os.path.basename(settings)
        _, log, _ = run(["journalctl", "--quiet", "--no-pager", "--output=cat", "--lines=5", f"_SYSTEMD_UNIT=ingot-acme-{name}.service", "+", f"SYSLOG_IDENTIFIER=certificate/{name}:issue"])
        raise Wrong(f"the certificate {name} is not signed yet; it is tried again every hour, and now by `systemctl start ingot-acme-{name}`. {show(log.strip())}")
    return True


@check
def supervised(name, user=None, groups=None):
    """A program of supervisor's runs, as its user."""
    _, output, errors = run(["supervisorctl", "status", name])
    found = re.match(r"\S+\s+RUNNING\s+pid (\d+)", output)
    if not found:
        raise Wrong(f"{name}: {show((output or errors).strip())}, expected RUNNING", output.strip())
    identity(name, found[1], user, groups)
    return " ".join(output.split()[1:])


@check
def vassal(name, user=None, groups=None, processes=None, emperor="uwsgi.service"):
    """An application of uWSGI's emperor is served, by so many workers, as its user."""
    masters = [pid for pid, words in children_of(main_pid(emperor)).items() if any(word.endswith(f"/{name}.ini") for word in words)]
    if not masters:
        raise Wrong(f"uWSGI's emperor has no vassal {name}")
    pids = children_of(masters[0])
    for pid in [masters[0], *pids]:
        identity(f"{name} ({pid})", pid, user, groups)
    if processes is not None:
        expect(f"{name}: its workers", processes, len(pids))
    return len(pids)


@check
def hostname(hostname, fqdn):
    expect("hostname", hostname, run(["hostname"])[1].strip())
    code, output, errors = run(["hostname", "-f"])
    expect("hostname -f", fqdn, output.strip() if code == 0 else errors.strip())
    return output.strip()


@check
def resolves(name, address):
    code, output, _ = run(["getent", "ahostsv4", name])
    seen = sorted({line.split()[0] for line in output.splitlines() if line.strip()})
    if code != 0 or address not in seen:
        raise Wrong(f"{name} leads to {', '.join(seen) or 'nothing'}, expected {address}", seen)
    return seen


@check
def timer(name):
    """It waits for its next time, and what it last started has ended well."""
    keys = "LoadState,ActiveState,NextElapseUSecRealtime,NextElapseUSecMonotonic,Result"
    _, output, _ = run(["systemctl", "show", f"--property={keys}", "--", f"{name}.timer"])
    seen = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
    if seen.get("ActiveState") != "active":
        raise Wrong(f"{name}.timer is {seen.get('ActiveState')}, expected active", seen)
    _, output, _ = run(["systemctl", "show", "--property=ActiveState,Result,ExecMainStatus,ExecMainExitTimestamp", "--", f"{name}.service"])
    last = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
    if last.get("Result") != "success":
        raise Wrong(f"{name} failed when it last ran ({last.get('Result')}, exit code {last.get('ExecMainStatus')}, {last.get('ExecMainExitTimestamp')})", last)
    return last.get("ExecMainExitTimestamp") or "not yet run"


@check
def mailbox(name, server, user=None):
    """Mail is fetched: by a service that runs as a user, or, without one, by a timer whose last run was well."""
    try:
        return timer(name) if user is None else unit(f"{name}.service", active=True, enabled=True, user=user)
    except Wrong:
        if not unknown_here(server):
            raise
    return unit(f"{name}.service", enabled=True) if user else True


def unknown_here(server):
    """A server of the world's: a machine on its operator's own computer has no way out, and does not even find its address."""
    with open("/run/ingot/facts/facts.json", encoding="utf-8") as file:
        if json.load(file)["target"] == "aws":
            return False
    try:
        socket.getaddrinfo(server, None)
    except OSError:
        return True
    return False


@check
def package(name, version=None):
    code, output, _ = run(["dpkg-query", "--show", "--showformat=${db:Status-Abbrev}${Version}", name])
    if code != 0 or not output.startswith("ii"):
        raise Wrong(f"the package {name} is not installed")
    if version is not None:
        expect(f"the version of {name}", version, output[3:].strip())
    return output[3:].strip()


@check
def cloud_config(sha256):
    """What cloud-init was told beside the generation, when the machine was first booted, and whether it could do it."""
    import yaml  # cloud-init brings it, and nobody else needs it

    with open("/var/lib/cloud/instance/cloud-config.txt", encoding="utf-8") as file:
        told = yaml.safe_load(file)
    own = {"hostname", "fqdn", "write_files", "cloud_init_modules", "cloud_config_modules", "cloud_final_modules"}
    text = json.dumps({key: value for key, value in told.items() if key not in own}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if hashlib.sha256(text.encode()).hexdigest() != sha256:
        raise Wrong("this machine was booted with another `cloud_config:`, which holds at first boot alone: launch it anew", stays=True)
    if not os.path.exists("/run/cloud-init/result.json"):
        raise Wrong("cloud-init is not through yet")
    with open("/run/cloud-init/result.json", encoding="utf-8") as file:
        failed = json.load(file)["v1"]["errors"]
    if failed:
        raise Wrong(f"what cloud-init could not do is {show(failed)}", failed, stays=True)
    return sorted(set(told) - own)


@check
def listening(allowed):
    """Nothing but these may be reached from outside: every listening socket that is not on loopback."""
    code, output, errors = run(["ss", "-Htulnp"])
    if code != 0:
        raise Wrong(f"ss: {errors.strip()}")
    wanted = {(entry.get("protocol", "tcp"), int(entry["port"])) for entry in allowed}
    seen, surplus = set(), []
    for line in output.splitlines():
        fields = line.split()
        protocol, (address, port) = fields[0], fields[4].rsplit(":", 1)
        address = address.strip("[]").split("%")[0].strip("[]")
        if address.startswith("127.") or address == "::1" or address.startswith("::ffff:127."):
            continue
        seen.add(f"{port}/{protocol}")
        if (protocol, int(port)) not in wanted:
            process = re.search(r'users:\(\("([^"]+)"', line)
            surplus.append(f"{fields[4]} ({protocol}{', ' + process[1] if process else ''})")
    if surplus:
        raise Wrong(f"open without being declared: {', '.join(sorted(surplus))}", sorted(seen))
    return sorted(seen)


@check
def swap(file, bytes):
    """The file is there, and the kernel swaps to it; in a container, whose kernel is another's, the file alone."""
    info = os.lstat(file)
    expect(f"{file}: its size", bytes, info.st_size)
    expect(f"{file}: its mode", "0600", f"{stat.S_IMODE(info.st_mode):04o}")
    if run(["systemd-detect-virt", "--container"])[0] == 0:
        return "a container"
    with open("/proc/swaps", encoding="utf-8") as stream:
        if not any(line.split()[0] == file for line in stream.readlines()[1:]):
            raise Wrong(f"the kernel does not swap to {file}")
    return "on"


@check
def acl(path, entries):
    """The access control list of a path beyond its mode, as getfacl prints it."""
    code, output, errors = run(["getfacl", "--omit-header", "--absolute-names", "--no-effective", "--", path])
    if code != 0:
        raise Wrong(f"{path}: {errors.strip()}")
    seen = sorted(line for line in output.split() if re.match(r"(default:)?(user|group):[^:]", line))
    expect(f"{path}: its access control list", sorted(entries), seen)
    return seen


def docker_cli(*words):
    code, output, errors = run(["docker", *words], env={**os.environ, "HOME": "/root"})
    if code != 0:
        raise Wrong(f"docker {' '.join(words)}: {show(errors.strip())}")
    return output


@check
def docker(root, settings):
    """The daemon answers, and has taken its settings."""
    with open(settings, encoding="utf-8") as file:
        declared = json.load(file)
    seen = json.loads(docker_cli("info", "--format", "{{json .}}"))
    expect("Docker's data", root, seen["DockerRootDir"])
    expect("Docker's cgroup driver", "systemd", seen["CgroupDriver"])
    expect("Docker's log driver", declared["log-driver"], seen["LoggingDriver"])
    expect("live restore", declared["live-restore"], seen["LiveRestoreEnabled"])
    return {"storage": seen["Driver"], "version": seen["ServerVersion"]}


def cgroup_of(unit, controller):
    """The folder of a unit's control group that has the controller, and whether control groups are of the second version."""
    path = run(["systemctl", "show", "--property=ControlGroup", "--value", "--", unit])[1].strip()
    if not path:
        raise Wrong(f"{unit} has no control group")
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        return f"/sys/fs/cgroup{path}", True
    return f"/sys/fs/cgroup/{controller}{path}", False


def cgroup_number(folder, *names):
    """The first of these files that is there: a number, None for no limit."""
    for name in names:
        try:
            with open(f"{folder}/{name}", encoding="ascii") as file:
                text = file.read().split()
        except FileNotFoundError:
            continue
        return text if len(text) > 1 else None if text[0] in ("max", "-1") else int(text[0])
    raise Wrong(f"{folder}: the kernel keeps it to nothing")


def cpu_limit(unit):
    """Percent of one processor."""
    folder, second = cgroup_of(unit, "cpu")
    if second:
        quota, period = cgroup_number(folder, "cpu.max")
        return None if quota == "max" else round(100 * int(quota) / int(period))
    quota = cgroup_number(folder, "cpu.cfs_quota_us")
    return None if quota is None else round(100 * quota / cgroup_number(folder, "cpu.cfs_period_us"))


@check
def docker_slice(slice, cpu=None, memory=None, tasks=None):
    """The kernel holds the slice to its limits, and every container is in it."""
    seen = {}
    if cpu is not None:
        seen["cpu"] = cpu_limit(slice)
        expect(f"{slice}: percent of a processor", cpu, seen["cpu"])
    if memory is not None:
        seen["memory"] = cgroup_number(cgroup_of(slice, "memory")[0], "memory.max", "memory.limit_in_bytes")
        expect(f"{slice}: bytes of memory", memory, seen["memory"])
    if tasks is not None:
        seen["tasks"] = cgroup_number(cgroup_of(slice, "pids")[0], "pids.max")
        expect(f"{slice}: tasks", tasks, seen["tasks"])
    for name in docker_cli("container", "ls", "--quiet", "--no-trunc").split():
        try:
            pid = docker_cli("container", "inspect", "--format", "{{.State.Pid}}", name).strip()
            with open(f"/proc/{pid}/cgroup", encoding="ascii") as file:
                groups = [line.rstrip("\n").split(":", 2) for line in file]
        except (Wrong, FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
        outside = [path for _, controllers, path in groups if controllers in ("", "memory", "cpu", "pids") and f"/{slice}/" not in path and path != "/"]
        if outside:
            raise Wrong(f"the container {name[:12]} runs outside of {slice}: {outside[0]}")
    return seen


@check
def docker_image(name, record):
    """The image of this name is the one that the archive gave."""
    try:
        with open(record, encoding="ascii") as file:
            expected = file.read().strip()
    except FileNotFoundError:
        raise Wrong(f"the archive of {name} was never loaded") from None
    expect(f"the image {name}", expected, docker_cli("image", "inspect", "--format", "{{.Id}}", name).strip())
    return expected


@check
def firewall(rules, forwards=False):
    """What comes in is dropped, unless one of these rules takes it; what is published by containers, too."""
    code, output, errors = run(["nft", "--stateless", "list", "chain", "inet", "ingot", "input"])
    if code != 0:
        raise Wrong(f"there is no firewall: {show(errors.strip())}")
    if "policy drop" not in output:
        raise Wrong("the firewall lets in what no rule refuses", output)

    def plain(rule):
        return re.sub(r"\s+", " ", rule).replace("{ ", "").replace(" }", "").strip()

    expected = sorted(plain(rule) for rule in rules)
    seen = {plain(line) for line in output.splitlines() if " dport " in line and "udp sport" not in line}
    expect("the firewall's rules", expected, sorted(seen))
    if forwards:
        _, output, _ = run(["nft", "--stateless", "list", "chain", "inet", "ingot", "forward"])
        through = {re.sub(r"meta l4proto (\w+) ct original proto-dst", r"\1 dport", plain(line)) for line in output.splitlines() if "proto-dst" in line}
        expect("what it lets through to containers", expected, sorted(through))
        if len(re.findall("oifname .* drop", output)) != 2:
            raise Wrong("the firewall lets through to containers what no rule refuses", output)
    return sorted(seen)


def locale_of(name):
    return name.lower().replace("-", "")


@check
def postgresql_database(name, owner=None, encoding=None, collate=None):
    row = sql("select pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datctype from pg_database where datname = :'name';", name=name)
    if not row:
        raise Wrong(f"there is no database {name}")
    seen = dict(zip(("owner", "encoding", "collate", "ctype"), row))
    if owner is not None:
        expect(f"database {name}: owner", owner, seen["owner"])
    if encoding is not None and locale_of(encoding) != locale_of(seen["encoding"]):
        raise Wrong(f"database {name}: encoding is {seen['encoding']}, expected {encoding}", seen)
    if collate is not None and {locale_of(seen["collate"]), locale_of(seen["ctype"])} != {locale_of(collate)}:
        raise Wrong(f"database {name}: collate and ctype are {seen['collate']} and {seen['ctype']}, expected {collate}", seen)
    return seen


def all_there(database, what, names, catalog, column):
    """A database has all of these in a catalog of its own."""
    question = f"\\connect :\"database\"\nselect 1 from {catalog} where {column} = :'name';"
    lacking = [name for name in names if not sql(question, database=database, name=name)]
    if lacking:
        raise Wrong(f"database {database} lacks the {what} {', '.join(lacking)}", lacking)
    return sorted(names)


@check
def postgresql_extensions(database, extensions):
    return all_there(database, "extension", extensions, "pg_extension", "extname")


@check
def postgresql_grant(database, schema, role, object, privileges, server=None):
    """What a role may do with a table or view."""
    lacking = []
    for privilege in privileges:
        row = sql(
            "\\connect :\"database\"\nselect has_table_privilege(:'role', format('%I.%I', :'schema'::text, :'object'::text), :'privilege');",
            server, database=database, schema=schema, role=role, object=object, privilege=privilege,
        )
        if row != ["t"]:
            lacking.append(privilege)
    if lacking:
        raise Wrong(f"{role} may not {', '.join(lacking)} {schema}.{object} in {database}", lacking)
    return sorted(privileges)


@check
def postgresql_role(name, login=None, attributes=None, member_of=None):
    row = sql(
        "select rolcanlogin, rolcreatedb, rolcreaterole, rolsuper, rolreplication, rolbypassrls from pg_roles where rolname = :'name';", name=name
    )
    if not row:
        raise Wrong(f"there is no role {name}")
    names = ("login", "createdb", "createrole", "superuser", "replication", "bypassrls")
    seen = [attribute for attribute, value in zip(names, row) if value == "t"]
    if login is not None:
        expect(f"role {name}: login", login, "login" in seen)
    if attributes is not None:
        expect(f"role {name}: attributes", sorted(attributes), sorted(seen))
    for group in member_of or []:
        if sql("select pg_has_role(:'name', :'group', 'member');", name=name, group=group) != ["t"]:
            raise Wrong(f"role {name} is not a member of {group}", seen)
    return seen


@check
def postgresql_login(host, port, database, role, secret, timeout=TIMEOUT):
    """A role logs in to a database of a server, with the password of that secret."""
    import login as protocol  # beside this file on the host

    with open(os.path.join(SECRETS, secret), encoding="utf-8") as file:
        password = file.read().removesuffix("\n")
    try:
        protocol.login(host, int(port), database, role, password, timeout)
    except (protocol.Refused, OSError, ValueError, KeyError) as error:
        raise Wrong(f"{role} cannot log in to {database} at {host}:{port}: {error}") from None
    return True


@check
def postgresql_schemas(database, schemas):
    return all_there(database, "schema", schemas, "pg_namespace", "nspname")


@check
def postgresql_setting(name, value):
    row = sql("select current_setting(:'name', true);", name=name)
    expect(f"PostgreSQL's {name}", str(value), row[0] if row else None)
    return row[0]


@check
def redis(database=0, host="127.0.0.1", port=6379, secret=None, refuses=False, timeout=TIMEOUT):
    """A database answers, with the password of that secret; `refuses`: nobody gets an answer without one."""
    questions = [(["SELECT", str(database)], b"+OK"), (["PING"], b"+PONG")]
    if secret is not None:
        with open(os.path.join(SECRETS, secret), encoding="utf-8") as file:
            questions.insert(0, (["AUTH", file.read().removesuffix("\n")], b"+OK"))
    with socket.create_connection((host, port), timeout) as connection:
        stream = connection.makefile("rwb")
        for words, good in questions:
            stream.write(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w.encode()), w.encode()) for w in words))
            stream.flush()
            answer = stream.readline().strip()
            if refuses:
                if not answer.startswith(b"-NOAUTH"):
                    raise Wrong(f"Redis answers {answer.decode(errors='replace')} without a password")
                return "NOAUTH"
            if answer != good:
                raise Wrong(f"Redis answers {answer.decode(errors='replace')} to {words[0]}", answer.decode(errors="replace"))
    return "PONG"


@check
def amqp(user, vhost, secret, host="127.0.0.1", port=5672, timeout=TIMEOUT):
    """A user gets into a virtual host of RabbitMQ, with the password of that secret, and may send messages there."""
    import amqp as protocol  # beside this file on the host

    with open(os.path.join(SECRETS, secret), encoding="utf-8") as file:
        password = file.read().removesuffix("\n")
    try:
        protocol.connect(host, port, user, password, vhost, timeout)
    except protocol.Blocked as error:
        raise Wrong(f"RabbitMQ takes no messages: {error}") from None
    except (protocol.Refused, OSError) as error:
        raise Wrong(f"{user} does not get into RabbitMQ's {vhost}: {error}") from None
    return True


@check
def mount(path, source=None, filesystem=None, options=None):
    found = None
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            left, right = line.rstrip("\n").split(" - ", 1)
            fields, (kind, device, superblock) = left.split(" "), right.split(" ")[:3]
            if re.sub(r"\\(\d{3})", lambda m: chr(int(m[1], 8)), fields[4]) == path:
                found = {"source": device, "filesystem": kind, "options": sorted(set(fields[5].split(",")) | set(superblock.split(",")))}
    if not found:
        raise Wrong(f"nothing is mounted on {path}")
    if source is not None and os.path.realpath(source) != os.path.realpath(found["source"]):
        raise Wrong(f"{path} is mounted from {found['source']}, expected {source}", found)
    if filesystem is not None:
        expect(f"{path}: its file system", filesystem, found["filesystem"])
    missing = sorted(set(options or []) - set(found["options"]))
    if missing:
        raise Wrong(f"{path} is mounted without {', '.join(missing)}", found)
    return found


@check
def exported(path, clients, shared):
    """What the server offers of a directory, and to whom; where the target has no NFS, that it is the folder which stands for it."""
    if os.path.isdir(shared):
        if not os.path.samefile(path, f"{shared}/data"):
            raise Wrong(f"{path} is not the folder that the hosts of the export share")
        return "shared folder"
    code, output, errors = run(["/usr/sbin/exportfs", "-s"])
    if code != 0:
        raise Wrong(f"exportfs: {errors.strip()}")
    seen = {}
    for line in output.splitlines():
        where, _, rest = line.rpartition("  ")
        client, _, options = rest.partition("(")
        where = re.sub(r"\\(\d{3})", lambda m: chr(int(m[1], 8)), where)
        if where == path:
            seen[client] = options.rstrip(")").split(",")
    expect(f"who may mount {path}", sorted(clients), sorted(seen))
    lax = sorted(client for client, options in seen.items() if "root_squash" not in options)
    if lax:
        raise Wrong(f"{path}: root of {', '.join(lax)} is root there", seen)
    return seen


@check
def shared(path, source, shared, options, owners):
    """A directory of another host is mounted, and who owns something there has the same number here."""
    found = mount(path, options=options)
    if os.path.isdir(shared):
        if not os.path.samefile(path, f"{shared}/data"):
            raise Wrong(f"{path} is not the folder that the hosts of the export share", found)
    else:
        expect(f"{path}: its source", source, found["source"])
        expect(f"{path}: its file system", "nfs4", found["filesystem"])
    for place, owner in owners.items():
        try:
            number = os.stat(place).st_uid
        except PermissionError:
            continue  # root of this host is nobody there
        expect(f"the owner of {place}", owner, pwd.getpwuid(number).pw_name if number in {u.pw_uid for u in pwd.getpwall()} else str(number))
    return found


@check
def openssh_key(path, type="ED25519", owner=None):
    """A private key that needs no passphrase, and its public half beside it."""
    code, public, errors = run(["ssh-keygen", "-y", "-P", "", "-f", path])
    if code != 0:
        raise Wrong(f"{path}: {errors.strip()}")
    with open(f"{path}.pub", encoding="utf-8") as file:
        if file.read().split()[:2] != public.split()[:2]:
            raise Wrong(f"{path}.pub is not the public half of {path}")
    code, line, errors = run(["ssh-keygen", "-l", "-f", path])
    kind = line.strip().rsplit("(", 1)[-1].rstrip(")")
    expect(f"{path}: its type", type, kind)
    if owner is not None:
        CHECKS["path"](path, type="file", owner=owner, mode="0600")
    return line.strip()


def needles():
    """What gives a secret away: its value, and its form inside a url. Of a key its last full line: the first is the same in all."""
    found = {}
    for folder, _, files in os.walk(SECRETS):
        for file in files:
            name = os.path.relpath(os.path.join(folder, file), SECRETS)
            with open(os.path.join(folder, file), "rb") as stream:
                value = stream.read().strip()
            if re.fullmatch(rb"ssh-ed25519 [A-Za-z0-9+/=]+", value):
                continue  # A public key, which is everybody's.
            lines = [line for line in value.split(b"\n") if line.strip() and not line.startswith(b"-----")]
            if len(lines) > 1:
                # base64: the line before the last has full length.
                value = max(lines[-2:], key=len)
            if len(value) >= 8:
                found[value] = name
                found[urllib.parse.quote(value, safe="").encode()] = name
    return found


@check
def secret_files(limit=256):
    """Secrets are root's own; no value of one is in an argument, a file that others can read, or the journal. Looks at `limit` MiB."""
    for top in (SECRETS, "/run/ingot/rendered", "/var/lib/ingot/applications"):
        for folder, folders, files in os.walk(top):
            for name in [".", *folders, *files]:
                info = os.lstat(os.path.join(folder, name))
                if info.st_uid != 0 or stat.S_IMODE(info.st_mode) & 0o077:
                    raise Wrong(f"{os.path.normpath(os.path.join(folder, name))}: others than root may look in (mode {stat.S_IMODE(info.st_mode):04o}, owner {info.st_uid})")
    secrets = needles()

    def search(data, where):
        for value, name in secrets.items():
            if value in data:
                raise Wrong(f"the secret {name} is in {where}", where)

    for file in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(file, "rb") as stream:
                data = stream.read()
        except OSError:
            continue
        search(data, f"the arguments of a process ({data.split(bytes(1))[0].decode(errors='replace')})")
    left, count = limit << 20, 0
    for top in ("/etc", "/run", "/var/lib", "/srv"):
        for folder, folders, files in os.walk(top):
            # What others cannot enter, they cannot read. Packages' own data is not ours to read through.
            folders[:] = [name for name in folders if others_may(os.path.join(folder, name), 0o001) and os.path.join(folder, name) not in ("/var/lib/dpkg", "/var/lib/docker")]
            for name in files:
                file = os.path.join(folder, name)
                if not others_may(file, 0o004) or left <= 0:
                    continue
                try:
                    with open(file, "rb") as stream:
                        data = stream.read(min(left, 4 << 20))
                except OSError:
                    continue
                left -= len(data)
                count += 1
                search(data, file)
    journal = subprocess.Popen(["journalctl", "--quiet", "--boot", "--output=cat", "--lines=50000", "--no-pager"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    children.add(journal)
    search(journal.communicate()[0], "the journal")
    children.discard(journal)
    return f"{len(set(secrets.values()))} secrets, {count} files"


def others_may(file, bit):
    try:
        info = os.lstat(file)
    except OSError:
        return False
    return (stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode)) and bool(info.st_mode & bit)


# --- Checks: what answers over the network ------------------------------------------------------------------------------------


def connect(address, timeout):
    host, port = address.rsplit(":", 1)
    try:
        return socket.create_connection((host.strip("[]"), int(port)), timeout)
    except socket.timeout:
        raise Wrong(f"{address} does not answer", "timeout") from None
    except OSError as error:
        raise Wrong(f"{address}: {error.strerror or error}", "closed") from None


@check
def tcp(host, port, open=True, timeout=TIMEOUT):
    address = f"{host}:{port}"
    try:
        with socket.create_connection((host, int(port)), timeout if open else min(timeout, 3)):
            seen = "open"
    except OSError as error:
        seen = f"closed ({error.strerror or 'no answer'})"
    if (seen == "open") != open:
        raise Wrong(f"{address} is {seen}, expected {'open' if open else 'closed'}", seen)
    return seen


@check
def smtp(name=None, host="127.0.0.1", port=25, refuses=None, timeout=TIMEOUT):
    """A mail server greets by its name; `refuses`: it takes no mail for that address."""
    import smtplib

    address = f"{host}:{port}"
    try:
        with smtplib.SMTP(timeout=timeout) as server:
            code, said = server.connect(host, int(port))
            if code != 220:
                raise Wrong(f"{address} greets with {code} {said.decode(errors='replace')}", code)
            if name is not None:
                expect(f"{address}: the name that it greets by", name, said.decode(errors="replace").split()[0])
            server.ehlo("check.invalid")
            if refuses is not None:
                server.mail("check@check.invalid")
                code, said = server.rcpt(refuses)
                if code < 400:
                    raise Wrong(f"{address} takes mail for {refuses}: {code} {said.decode(errors='replace')}", code)
            return code
    except (smtplib.SMTPException, OSError) as error:
        raise Wrong(f"{address}: {error}") from None


def der(data):
    """The elements inside a DER value: (tag, header and content, content). X.690."""
    at = 0
    while at < len(data):
        start, tag, length = at, data[at], data[at + 1]
        at += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(data[at : at + size], "big")
            at += size
        yield tag, data[start : at + length], data[at : at + length]
        at += length


def certificate_of(raw):
    """Of an X.509 certificate (RFC 5280): the pin of its key (base64 of sha256 over the SubjectPublicKeyInfo), and its names."""
    (_, _, certificate), = der(raw)
    body = list(der(next(der(certificate))[2]))
    if body[0][0] == 0xA0:  # version
        body = body[1:]
    # serial, algorithm, issuer, validity, subject, key, …, [3] extensions
    pin = base64.b64encode(hashlib.sha256(body[5][1]).digest()).decode()
    end = next(content for tag, _, content in list(der(body[3][2]))[1:])
    names = []
    for tag, _, content in body[6:]:
        if tag != 0xA3:
            continue
        for _, _, extension in der(next(der(content))[2]):
            parts = list(der(extension))
            if parts[0][2] == bytes.fromhex("551d11"):  # subjectAltName
                for kind, _, name in der(next(der(parts[-1][2]))[2]):
                    if kind == 0x82:
                        names.append(name.decode())
                    elif kind == 0x87:
                        names.append(socket.inet_ntop(socket.AF_INET if len(name) == 4 else socket.AF_INET6, name))
    return {"pin": pin, "names": sorted(names), "until": end.decode()}


def handshake(connection, sni, ca=None):
    context = ssl.create_default_context(cafile=ca) if ca else ssl._create_unverified_context()
    return context.wrap_socket(connection, server_hostname=sni)


@check
def tls(connect, port=None, sni=None, names=None, pin=None, timeout=TIMEOUT):
    """The certificate that a server shows for a name."""
    address = connect if port is None else f"{connect}:{port}"
    with CONNECT(address, timeout) as connection:
        try:
            with handshake(connection, sni) as secure:
                seen = certificate_of(secure.getpeercert(True))
        except OSError as error:
            raise Wrong(f"{address}: TLS handshake: {error}") from None
    if names is not None:
        expect(f"{address}: the names of its certificate", sorted(names), seen["names"])
    if pin is not None:
        expect(f"{address}: the pin of its certificate's key", pin, seen["pin"])
    return seen


CONNECT = connect


class Answer:
    def __init__(self, status, reason, headers, body):
        self.status, self.reason, self.headers, self.body = status, reason, headers, body


def request(url, connect, method, headers, body, timeout, pin, ca, sni):
    """One HTTP request over a connection to `connect`. A connection closed without an answer (nginx: 444) has status 0."""
    parts = urllib.parse.urlsplit(url)
    secure = parts.scheme == "https"
    address = connect or f"{parts.hostname}:{parts.port or (443 if secure else 80)}"
    if not re.search(r":\d+$", address):
        address = f"{address}:{parts.port or (443 if secure else 80)}"
    connection = CONNECT(address, timeout)
    try:
        if secure:
            try:
                connection = handshake(connection, sni or parts.hostname, ca)
            except ssl.SSLCertVerificationError as error:
                raise Wrong(f"{url}: its certificate is not trusted: {error.verify_message}") from None
            except (ssl.SSLError, ConnectionError) as error:
                return Answer(0, f"closed in the TLS handshake ({error})", [], b"")
            if pin is not None:
                expect(f"{url}: the pin of its certificate's key", pin, certificate_of(connection.getpeercert(True))["pin"])
        client = http.client.HTTPConnection(parts.hostname, timeout=timeout)
        client.sock = connection
        target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        client.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in {"Host": parts.netloc, **headers}.items():
            client.putheader(name, value)
        if body is not None:
            client.putheader("Content-Length", str(len(body)))
        try:
            client.endheaders(body)
            answer = client.getresponse()
        except (http.client.RemoteDisconnected, ConnectionError, ssl.SSLError):
            return Answer(0, "closed without an answer", [], b"")
        try:
            data = answer.read(1 << 20)
        except (http.client.IncompleteRead, ConnectionError) as error:
            raise Wrong(f"{url}: the answer breaks off: {error}") from None
        return Answer(answer.status, answer.reason, answer.getheaders(), data)
    except socket.timeout:
        raise Wrong(f"{url} at {address}: no answer within {timeout} s", "timeout") from None
    except http.client.HTTPException as error:
        raise Wrong(f"{url} at {address}: not an answer in HTTP: {error!r}") from None
    finally:
        connection.close()


@check
def http_(url, connect=None, method="GET", status=200, headers=None, once=None, contains=None, location=None, form=None, json=None,
          send=None, pin=None, ca=None, sni=None, timeout=TIMEOUT):  # fmt: skip
    """`headers`: of the answer, null where one must be absent. `send`: of the request. `form`, `json`: the request's body."""
    sent, body = dict(send or {}), None
    if form is not None:
        sent["Content-Type"], body = "application/x-www-form-urlencoded", urllib.parse.urlencode(form).encode()
    elif json is not None:
        sent["Content-Type"], body = "application/json", JSON.dumps(json).encode()
    elif method in ("POST", "PUT", "PATCH"):
        body = b""
    answer = request(url, connect, method, sent, body, timeout, pin, ca, sni)
    text = answer.body.decode(errors="replace")
    what = f"{method} {url}"
    # None: whatever the application says, as long as somebody answered and did not fail.
    if answer.status != status if status is not None else answer.status == 0 or answer.status >= 500:
        said = f"{answer.status} {answer.reason}"
        raise Wrong(f"{what}: {said}, expected {status}" + (f": {show(text.strip())}" if text.strip() and answer.status >= 400 else ""), answer.status)
    found = {}
    for name, value in answer.headers:
        found.setdefault(name.lower(), []).append(value)
    if location is not None:
        expect(f"{what}: Location", location, ", ".join(found.get("location", [])))
    for name, value in (headers or {}).items():
        there = found.get(name.lower())
        if value is None and there:
            raise Wrong(f"{what}: the header {name} is there: {', '.join(there)}", there)
        if value is not None:
            expect(f"{what}: {name}", value, ", ".join(there) if there else None)
    for name in once or []:
        if len(found.get(name.lower(), [])) != 1:
            raise Wrong(f"{what}: the header {name} is there {len(found.get(name.lower(), []))} times, expected once", found.get(name.lower(), []))
    if contains is not None and contains not in text:
        raise Wrong(f"{what}: {show(contains)} is not in the answer: {show(text)}", text[:300])
    return answer.status


JSON = json
CHECKS["http"] = CHECKS.pop("http_")

# Checks that may be asked again until they hold.
WAITING = {"http", "smtp", "tcp", "tls", "unit", "redis", "amqp", "path", "supervised", "vassal", "mailbox", "workers", "cloud_config"}
# Checks that read much: their seconds, where the usual ones would not do on a busy host with several releases.
SECONDS = {"secret_files": 6 * TIMEOUT}


# --- Running them -------------------------------------------------------------------------------------------------------------


def one(entry):
    """The result of one check; never raises."""
    result = {"id": entry["id"]}
    arguments = dict(entry.get("args") or {})
    name = entry.get("check")
    function = CHECKS.get(name)
    if not function:
        return {**result, "ok": False, "message": f"there is no check {name!r}"}
    within = PATIENCE * arguments.pop("within", 0) if name in WAITING else 0
    parameters = inspect.signature(function).parameters
    asked = arguments.pop("timeout", None)
    if asked is not None and "timeout" in parameters:
        arguments["timeout"] = PATIENCE * asked
    unknown = [key for key in arguments if key not in parameters]
    missing = [key for key, value in parameters.items() if value.default is inspect.Parameter.empty and key not in arguments]
    if unknown or missing:
        said = [f"has no argument {key!r}" for key in unknown] + [f"needs the argument {key!r}" for key in missing]
        return {**result, "ok": False, "message": f"the check {name} {', '.join(said)} (it takes {', '.join(parameters)})"}
    deadline = time.monotonic() + float(within)
    while True:
        try:
            seen = function(**arguments)
            return {**result, "ok": True, "message": "", "seen": seen}
        except Wrong as wrong:
            answer = {**result, "ok": False, "message": str(wrong), "seen": wrong.seen}
            if wrong.stays:
                return answer
        except Exception as error:  # a wrong argument, or something gone while we looked: the person gets a sentence
            answer = {**result, "ok": False, "message": f"{name}: {type(error).__name__}: {error}", "seen": None}
        if time.monotonic() >= deadline:
            return answer
        time.sleep(0.1)


def limit(entry):
    """Seconds that a check has in all."""
    arguments = entry.get("args") or {}
    try:
        own = PATIENCE * float(arguments["timeout"]) if "timeout" in arguments else SECONDS.get(entry.get("check"), TIMEOUT)
        return own + PATIENCE * float(arguments.get("within", 0))
    except (TypeError, ValueError):
        return TIMEOUT


def run_all(entries):
    """Results in the order of the entries. A check that does not end in time is a failed one; nobody waits for it."""
    results = [None] * len(entries)
    began = [None] * len(entries)
    gate = threading.Semaphore(16)
    lock = threading.Condition()

    def work(number):
        with gate:
            began[number] = time.monotonic()
            answer = one(entries[number])
        with lock:
            if results[number] is None:
                results[number] = answer
            lock.notify()

    for number in range(len(entries)):
        threading.Thread(target=work, args=(number,), daemon=True).start()
    with lock:
        while any(result is None for result in results):
            lock.wait(0.2)
            for number, entry in enumerate(entries):
                start = began[number]
                if results[number] is None and start is not None and time.monotonic() - start > limit(entry) + 1:
                    results[number] = {"id": entry["id"], "ok": False, "message": f"no answer within {limit(entry):g} s", "seen": None}
    return results


def main():
    try:
        entries = json.load(sys.stdin)
        if not isinstance(entries, list) or not all(isinstance(entry, dict) and "id" in entry for entry in entries):
            raise ValueError("not a list of {id, check, args}")
    except ValueError as error:
        sys.exit(f"check: standard input: {error}")
    results = run_all(entries)
    json.dump(results, sys.stdout, ensure_ascii=False, default=str)
    sys.stdout.write("\n")
    sys.stdout.flush()
    for child in list(children):
        child.kill()
    os._exit(0)


if __name__ == "__main__":
    main()
