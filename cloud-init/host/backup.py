#!/usr/bin/python3
"""Backups of this host, by what /etc/ingot/backup/settings.json says (cloud-init/resources/backup.ts). Called by its timers, by the actions
backup.sh and restore.sh, and by `ingot backup`, `backups` and `rebuild` through exec.

  backup.py run full|differential|incremental|directories   makes one; prints what it made as JSON
  backup.py list                                what there is, up to when a restore would reach, and what is late, as JSON
  backup.py in-time                             says what is late, and fails when something is
  backup.py heartbeat                           writes a row every few seconds, for as long as it lives
  backup.py wake                                what a backup that was killed has left quiet goes on
  backup.py prepare                             makes the repositories that are not there, and the first backups
  backup.py prepared                            exit code 0 where that would do nothing
  backup.py restore                             restores what facts.json asks for, where there is nothing yet; prints what it did as JSON

One backup at a time: a second waits. Exit code 1: it failed, and why is on standard error.
"""
import calendar
import concurrent.futures
import contextlib
import datetime
import fcntl
import functools
import json
import os
import pwd
import re
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import backup_store  # noqa: E402
import facts  # noqa: E402
from backup_place import GATE, INSTANCE, Failed, place_of, run  # noqa: E402

SETTINGS = "/etc/ingot/backup/settings.json"
LOCK = "/run/ingot/backup.lock"
# What is to be run when a backup that makes something quiet has not come to do it.
QUIET = "/run/ingot/backup-quiet"
# A named point in the log of transactions, as strftime has it: rows are counted there.
POINT = "ingot-%Y%m%dT%H%M%SZ"
BEAT = 5
# Its name among PostgreSQL's clients.
HEARTBEAT = "ingot-heartbeat"
# In a directory while it is restored.
RESTORING = ".ingot-restoring"
# What restore() did.
RESTORED = "/var/lib/ingot/restored.json"
# Held by whoever reads what would be too old soon (stacks/recovery/drill.ts).
READING = "/run/ingot/backup-reading.lock"
# Seconds by which a backup may be later than its time before it is called late.
GRACE = 3600


@functools.cache
def settings():
    with open(SETTINGS, encoding="utf-8") as file:
        return json.load(file)


@functools.cache
def place():
    return place_of(settings())


def utc(form, at=None):
    """A time, seconds since 1970, in a form of strftime's; of now, where none is given."""
    return time.strftime(form, time.gmtime(at))


def stamp_of(at=None):
    """ISO 8601."""
    return utc("%Y-%m-%dT%H:%M:%SZ", at)


def seconds_of(stamp):
    """Of an ISO 8601 stamp, as restic and this program write them: seconds since 1970."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)", stamp)
    if not match:
        raise Failed(f"no time: {stamp!r}")
    zone = match[3].replace("Z", "+00:00")
    return datetime.datetime.fromisoformat(match[1] + zone).timestamp()


# --- PostgreSQL ---------------------------------------------------------------------------------------------------------------


def program(kept, name):
    """One of PostgreSQL's own, of the cluster's version."""
    return f"/usr/lib/postgresql/{kept['version']}/bin/{name}"


def sql(kept, database, statements, host=None):
    where = ["-h", host] if host else []
    argv = [program(kept, "psql"), *where, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database]
    return run(argv, user="postgres", text=statements).strip()


def control_of(kept):
    """What the cluster's control file says, as pg_controldata prints it."""
    return run([program(kept, "pg_controldata"), kept["data"]], user="postgres")


# pgBackRest's words.
TYPES = {"full": "full", "differential": "diff", "incremental": "incr"}


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def table_name(table):
    schema, _, name = table.rpartition(".")
    return f"{quoted(schema or 'public')}.{quoted(name)}"


def sums(table):
    """Rows, and a sum over them in which their order does not count, as one line of JSON."""
    return (
        "select json_build_object('rows', count(*), 'sum', "
        "coalesce(sum(('x' || substr(md5(t::text), 1, 15))::bit(60)::bigint), 0)::text) "
        f"from {table_name(table)} t;"
    )


def marked(kept):
    """A named point in the log of transactions, and what the declared tables hold just there: writers wait for as long as it takes to count."""
    point = utc(POINT)
    by_database = {}
    for entry in kept["tables"]:
        by_database.setdefault(entry["database"], []).append(entry["table"])
    if len(by_database) > 1:
        # A lock is of one database: of several, what is counted first could change before the point is set.
        raise Failed("tables of several databases cannot be held against one point; declare those of one")
    rows = {}
    for database, declared in by_database.items():
        # One that no migration has made yet has no rows to lose.
        tables = [t for t in declared if sql(kept, database, f"select to_regclass('{table_name(t)}') is not null;") == "t"]
        lines = sql(
            kept,
            database,
            "begin; set local lock_timeout = '10s';\n"
            + "".join(f"lock table {table_name(t)} in share mode;\n" for t in tables)
            + "".join(f"{sums(t)}\n" for t in tables)
            + f"select pg_create_restore_point('{point}');\ncommit;\n",
        ).splitlines()
        for table, line in zip(tables, lines):
            rows[f"{database}:{table}"] = json.loads(line)
    if not by_database:
        sql(kept, "postgres", f"select pg_create_restore_point('{point}');")
    sql(kept, "postgres", "select pg_switch_wal();")
    return point, rows


def run_postgresql(kind, kept):
    began = time.monotonic()
    place().pgbackrest("backup", f"--type={TYPES[kind]}", "--no-expire-auto")
    backup = backups_of()[-1]
    point, rows = marked(kept)
    # What is not in the repository is in no backup: the point's own piece of the log, too.
    place().pgbackrest("check")
    place().pgbackrest("annotate", f"--set={backup['label']}", f"--annotation=point={point}", f"--annotation=rows={json.dumps(rows, separators=(',', ':'))}")
    with expiring() as may:
        if may:
            place().pgbackrest("expire")
    place().note("postgresql", [{name: b[name] for name in ("label", "ended", "bytes", "stored", "wal")} for b in backups_of()])
    return {"what": kind, "label": backup["label"], "point": point, "rows": rows, "seconds": round(time.monotonic() - began, 1)}


def backups_of():
    """Those of PostgreSQL, the oldest first."""
    found = json.loads(place().pgbackrest("info", "--output=json"))
    listed = [b for s in found if s["name"] == backup_store.STANZA for b in s["backup"]]
    entries = [
        {
            "label": b["label"],
            "type": b["type"],
            "began": b["timestamp"]["start"],
            "ended": b["timestamp"]["stop"],
            "bytes": b["info"]["size"],
            "stored": b["info"]["repository"].get("delta", 0),
            "error": bool(b.get("error")),
            "wal": b["archive"]["start"],
            # The point at which rows were counted, and what they were (run_postgresql).
            "point": (b.get("annotation") or {}).get("point"),
            "rows": json.loads((b.get("annotation") or {}).get("rows", "{}")),
        }
        for b in listed
    ]
    return sorted(entries, key=lambda b: b["ended"])


def pieces_after(backup):
    """The pieces of the log since a backup's beginning that are in the repository: number → when it came. A piece is 16 MiB, and its name says
    timeline and number (PostgreSQL's documentation, "WAL Internals")."""
    there = {}
    for path, entry in json.loads(place().pgbackrest("repo-ls", "--recurse", "--output=json", f"archive/{backup_store.STANZA}")).items():
        match = re.fullmatch(r".*/([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})-[0-9a-f]{40}(\.\w+)?", path)
        if match and match[1] >= backup["wal"][:8]:
            number = piece_number(match[2] + match[3])
            if number >= piece_number(backup["wal"][8:]):
                there[number] = max(entry["time"], there.get(number, 0))
    return there


def piece_number(name):
    return int(name[:8], 16) * 256 + int(name[8:], 16)


def gap_in(pieces):
    """The first piece that is not in the repository although later ones are, and when the one before it came: what a restore does not get across.
    None: there is none."""
    for number in range(min(pieces, default=0), max(pieces, default=0)):
        if number not in pieces:
            return {"piece": f"{number // 256:08X}{number % 256:08X}", "until": pieces[number - 1]}
    return None


def archive_of(kept):
    """Up to when a restore of this moment would reach, and what keeps it."""
    line = sql(
        kept,
        "postgres",
        "select json_build_object('archived', extract(epoch from last_archived_time), 'failed', extract(epoch from last_failed_time), "
        "'now', extract(epoch from now()), 'beats', extract(epoch from now() - coalesce((select min(backend_start) from pg_stat_activity "
        f"where application_name = '{HEARTBEAT}'), pg_postmaster_start_time()))) from pg_stat_archiver;",
    )
    said = json.loads(line)
    archived, failed = said["archived"], said["failed"]
    return {
        "archived": archived and round(archived),
        "rpo_seconds": archived and round(said["now"] - archived, 1),
        "failing": bool(failed and failed > (archived or 0)),
        # A server that was off, or that nobody has written to since, has archived nothing meanwhile, and lost nothing by it.
        "late_seconds": round(min(said["beats"], said["now"] - (archived or 0)), 1),
    }


def cost_of(said):
    """What a lost disk would cost of PostgreSQL, in words; empty where nobody can say."""
    with contextlib.suppress(Failed):
        archive = archive_of(said["postgresql"]) if said.get("postgresql") else None
        if archive and archive["archived"]:
            return f"\nPostgreSQL's log was last archived {round(archive['rpo_seconds'])} s ago: a lost disk would cost what was committed since"
    return ""


def heartbeat(kept):
    note_beat(kept)
    sql(
        kept,
        "postgres",
        # A checkpointer that comes up before recovery is over sleeps for checkpoint_timeout, 5 minutes, whatever archive_timeout says: it thinks of
        # that only outside of recovery (PostgreSQL 15, CheckpointerMain). Any signal wakes it, and this is run at each start of the server.
        "select pg_reload_conf();\n"
        "create schema if not exists ingot;\n"
        "create table if not exists ingot.heartbeat (one boolean primary key default true check (one), at timestamptz not null);\n"
        "insert into ingot.heartbeat (at) values (clock_timestamp()) on conflict (one) do nothing;\n",
    )
    account = pwd.getpwnam("postgres")
    os.setgroups(os.getgrouplist("postgres", account.pw_gid))
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    script = f"update ingot.heartbeat set at = clock_timestamp() \\watch {BEAT}\n"
    reading, writing = os.pipe()
    os.write(writing, script.encode())
    os.close(writing)
    os.dup2(reading, 0)
    os.environ["PGAPPNAME"] = HEARTBEAT
    os.execv(program(kept, "psql"), ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "postgres", "-o", "/dev/null"])


def note_beat(kept):
    """On a machine that was restored: the last row that the lost one wrote, before this one's own goes over it."""
    if not os.path.exists(RESTORED):
        return
    with open(RESTORED, encoding="utf-8") as file:
        done = json.load(file)
    if "beat" not in done:
        there = sql(kept, "postgres", "select to_regclass('ingot.heartbeat') is not null;") == "t"
        beat = sql(kept, "postgres", "select extract(epoch from at) from ingot.heartbeat;") if there else ""
        facts.write(RESTORED, {**done, "beat": float(beat) if beat else None}, 0o644)


# --- Directories --------------------------------------------------------------------------------------------------------------


def snapshots_of(said):
    """Copies, the oldest first, by what they are of: a server's name, a directory with commands around it, or `directories` for the others."""
    if not said["directories"] or not place().ready()["files"]:
        return []
    # A lock would have to be written, which a full disk refuses: then what there is must be said all the more.
    found = json.loads(place().restic("snapshots", "--no-lock", "--json", "--tag=ingot") or "[]") or []
    return [
        {"id": s["short_id"], "of": next(t for t in s["tags"] if t != "ingot"), "at": round(seconds_of(s["time"])), "paths": s["paths"]}
        for s in sorted(found, key=lambda s: s["time"])
    ]


def wake():
    if not os.path.exists(QUIET):
        return
    with open(QUIET, encoding="utf-8") as file:
        command = file.read()
    run(["sh", "-c", command])
    os.unlink(QUIET)


@contextlib.contextmanager
def quiet(entry):
    """Nobody writes there, from its command `before` to its command `after`, which is run whatever happens."""
    if "after" in entry:
        with open(f"{QUIET}.new", "w", encoding="utf-8") as file:
            file.write(entry["after"])
        os.rename(f"{QUIET}.new", QUIET)
    try:
        if "before" in entry:
            run(["sh", "-c", entry["before"]])
        yield
    finally:
        wake()


def not_held(said):
    held = {path for entry in said["held"] for path in entry["paths"]}
    return [path for path in said["directories"] if path not in held]


def copies(said):
    """What there is a copy of each time, by the names that the copies bear."""
    return [*(["directories"] if not_held(said) else []), *(entry["name"] for entry in said["held"])]


def copy(name, paths):
    there = [path for path in paths if os.path.exists(path)]
    if not there:
        raise Failed(f"there is nothing to copy: {', '.join(paths)} {'is' if len(paths) == 1 else 'are'} not there")
    # What was being written while it was read is in the next one.
    out = place().restic("backup", "--json", "--tag=ingot", f"--tag={name}", "--one-file-system", *there, okay=(0, 3))
    return next((line for line in map(json.loads, out.splitlines()) if line.get("message_type") == "summary"), {})


def run_directories(said):
    done = copy_all(said)
    began = time.monotonic()
    with expiring() as may:
        if may:
            place().restic("forget", "--tag=ingot", "--group-by=tags", f"--keep-last={said['keep']}", "--prune")
    place().note("directories", [{**{name: s[name] for name in ("id", "of", "at")}, **sized(done, s["id"])} for s in snapshots_of(said)])
    return {**done, "seconds": round(done["seconds"] + time.monotonic() - began, 1)}


def sized(done, snapshot):
    """Bytes of a copy that was just made."""
    return {"bytes": done["sizes"][snapshot]} if snapshot in done["sizes"] else {}


def copy_all(said):
    began = time.monotonic()
    plain = not_held(said)
    made = [copy("directories", plain)] if plain else []
    for entry in said["held"]:
        with quiet(entry):
            made.append(copy(entry["name"], entry["paths"]))
    return {
        "what": "directories",
        "id": ", ".join(m.get("snapshot_id", "")[:8] for m in made),
        "sizes": {m["snapshot_id"][:8]: m.get("total_bytes_processed", 0) for m in made if "snapshot_id" in m},
        "files": sum(m.get("total_files_processed", 0) for m in made),
        "bytes": sum(m.get("total_bytes_processed", 0) for m in made),
        "seconds": round(time.monotonic() - began, 1),
    }


# --- The right to write ---------------------------------------------------------------------------------------------------------


def withdrawn(holder):
    """Why this machine may not write, in words; None: it may."""
    own = backup_store.first_line(INSTANCE)
    if own is None or holder == own:
        return None
    return f"{holder or 'nobody'} has taken the place of this machine, {own}, whose right to write to {place().to} is withdrawn"


def held_by_us():
    """Raises Failed where another machine has taken this one's place."""
    why = withdrawn(place().ready()["holder"])
    if why:
        raise Failed(why)


def take():
    """A machine takes its right once in its life, from whoever had it before: one that comes back after another took its place does not get it
    again. Raises Failed."""
    instance = facts.read().get("instance")
    if not instance or not place().may_be_written():
        return
    if backup_store.first_line(INSTANCE) == instance:
        return held_by_us()
    place().take(instance)
    backup_store.write_line(INSTANCE, instance, 0o644)


# --- Making them ------------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def alone(how=0):
    """One at a time: what another one has left quiet goes on first. With LOCK_NB raises BlockingIOError where another one is at it."""
    os.makedirs(os.path.dirname(LOCK), exist_ok=True)
    with open(LOCK, "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX | how)
        wake()
        yield


@contextlib.contextmanager
def expiring():
    """Whether what is too old may go now: nobody reads it. What stays goes the next time."""
    with open(READING, "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            may = True
        except BlockingIOError:
            may = False
        yield may


def run_one(what, said):
    place().must_be_there()
    held_by_us()
    if what == "directories":
        return run_directories(said)
    return run_postgresql(what, said["postgresql"])


def prepare(said):
    """The repositories and the first backups. A repository of another cluster is refused: it is the only way back to that one."""
    place().must_be_there()
    place().make()
    place().wait()
    if place().open_to_others:
        not_anothers(said)
    take()
    if said.get("postgresql"):
        stanza_made()
    # Beside each other: restic is at its password for half a second each time, and pgBackRest waits for the disk.
    with concurrent.futures.ThreadPoolExecutor() as both:
        made = [both.submit(first, said) for first in (first_of_postgresql, first_of_directories)]
    return [one.result() for one in made if one.result()]


def not_anothers(said):
    """Who has made a cluster of his own does not take the right of the machine whose backups are there. Raises Failed."""
    kept, there = said.get("postgresql"), place().ready()
    if kept and there["full"] and there["holder"] != facts.read().get("instance") and not is_ours(kept):
        raise Failed(anothers())


def anothers():
    folder = f"{place().to}/postgresql"
    return (
        f"{folder} holds the backups of another cluster than the one that this host has made: `ingot rebuild` restores them; "
        f"to begin anew, move {folder} away"
    )


def stanza_made():
    place().make("postgresql", 0o750, "postgres")
    try:
        place().pgbackrest("stanza-create")
    except Failed as error:
        if "do not match" in str(error) or "system-id" in str(error):
            raise Failed(f"{anothers()}\n{error}") from None
        raise


def first_of_postgresql(said):
    """The first backup where there is none. Returns what was made; None: nothing."""
    if not said.get("postgresql") or any(b["type"] == "full" for b in backups_of()):
        return None
    return run_postgresql("full", said["postgresql"])


def first_of_directories(said):
    """restic's repository and the first copies in it, where there are none. Returns what was made; None: nothing."""
    if not said["directories"]:
        return None
    place().make("files", 0o700)
    if place().ready()["files"]:
        if snapshots_of(said):
            return None
    else:
        place().init_restic()
    at = round(time.time())
    done = copy_all(said)
    # What restic would say of them, without half a second of its own.
    place().note("directories", [{"id": made, "of": name, "at": at, **sized(done, made)} for name, made in zip(copies(said), done["id"].split(", "))])
    return done


def is_ours(kept):
    """Whether the repository's last cluster is the one that this host has, by the number that initdb gave it."""
    own = re.search(r"^Database system identifier: +(\d+)$", control_of(kept), re.MULTILINE)
    known = [d["system-id"] for s in json.loads(place().pgbackrest("info", "--output=json")) if s["name"] == backup_store.STANZA for d in s["db"]]
    return bool(own and known and int(own[1]) == known[-1])


def prepared(said):
    """Whether prepare() would do nothing, told from what lies there: an apply asks at each run."""
    there = place().ready()
    if there["holder"] is None or there["holder"] != backup_store.first_line(INSTANCE):
        return False
    full = not said.get("postgresql") or (there["full"] and is_ours(said["postgresql"]))
    return bool(full and (not said["directories"] or there["copies"]))


# --- What there is, and what is late ------------------------------------------------------------------------------------------------


def next_after(calendar_text, stamp):
    """When a time of systemd's calendar, which is the host's own, is due next, seconds since 1970."""
    out = run(["systemd-analyze", "calendar", f"--base-time=@{stamp}", calendar_text])
    # "(in UTC)" stands there where the host's time is another.
    match = re.search(r"(?:\(in UTC\)|Next elapse): \w+ (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC", out)
    return calendar.timegm(time.strptime(match[1], "%Y-%m-%d %H:%M:%S")) if match else None


def listed(said):
    kept = backups_of() if said.get("postgresql") else []
    return {
        "postgresql": kept,
        "directories": snapshots_of(said),
        # Of the log since the last one.
        "gap": gap_in(pieces_after(kept[-1])) if kept else None,
    }


def late_of(said, found, archive):
    """What is late, in words."""
    late = []
    at = time.time()

    def judge(what, last):
        if last is None:
            late.append(f"there is no {what} backup")
            return
        due = next_after(said["times"][what], last)
        if due is not None and due + GRACE < at:
            late.append(f"the last {what} backup is {round((at - last) / 3600, 1)} h old")

    kept = said.get("postgresql")
    if kept:
        full = [b["ended"] for b in found["postgresql"] if b["type"] == "full"]
        judge("full", max(full, default=None))
        # A full one is a differential one as well.
        if full:
            judge("differential", max(b["ended"] for b in found["postgresql"] if b["type"] != "incr"))
            if "incremental" in said["times"]:
                judge("incremental", max(b["ended"] for b in found["postgresql"]))
        if archive["failing"]:
            late.append("PostgreSQL's log is not archived: pgBackRest fails at it")
        elif archive["late_seconds"] > 2 * kept["archive_seconds"] + 60:
            late.append(f"nothing of PostgreSQL's log has been archived for {archive['late_seconds']} s")
        if found["gap"]:
            gap = found["gap"]
            late.append(f"PostgreSQL's log has a gap, {gap['piece']}: no restore gets across it until there is another full backup")
        late += [f"the backup {b['label']} is broken" for b in found["postgresql"] if b["error"]]
    if said["directories"]:
        last = [max((s["at"] for s in found["directories"] if s["of"] == name), default=None) for name in copies(said)]
        judge("directories", None if None in last else min(last))
    return late


def list_all(said):
    try:
        why = withdrawn(place().ready()["holder"])
        if why:
            return {"postgresql": [], "directories": [], "gap": None, "archive": None, "late": [why]}
        found = listed(said)
    except Failed as error:
        # What a lost disk would cost is known here, whoever does not answer elsewhere.
        raise Failed(f"{error}{cost_of(said)}") from None
    archive = archive_of(said["postgresql"]) if said.get("postgresql") else None
    return {**found, "archive": archive, "late": late_of(said, found, archive)}


# --- Restore ------------------------------------------------------------------------------------------------------------------


def wanted():
    """What facts.json asks to restore: {} is all of it, as late as can be; None: nothing."""
    return facts.read().get("restore")


def is_empty(folder):
    return not os.path.exists(folder) or not [f for f in os.listdir(folder) if f != "lost+found"]


def choose(entries, end, at, what):
    """The last one that ended before `at` (seconds since 1970), or the last."""
    fit = [e for e in entries if at is None or end(e) <= at]
    if not fit:
        raise Failed(f"there is no backup of {what}{' from before that time' if entries else ''}")
    return fit[-1]


def time_in(said, request):
    """Up to when is restored, seconds since 1970; None: as late as can be. Raises Failed where a backup that is named is not there."""
    if "backup" not in request:
        return seconds_of(request["at"]) if "at" in request else None
    name = request["backup"]
    there = {b["label"]: b["ended"] for b in backups_of()} if said.get("postgresql") else {s["id"]: s["at"] for s in snapshots_of(said)}
    if name not in there:
        raise Failed(f"there is no backup {name}; there are {', '.join(there) or 'none'}; nothing was changed")
    return there[name]


def log_room(folder):
    """Bytes that the log of transactions keeps to there (postgresql.ts, logRoom)."""
    there = os.statvfs(folder)
    return min(max(64 << 20, there.f_blocks * there.f_frsize // 10), 1 << 30)


def room_for(size, folder):
    """Bytes that a cluster of this size wants, with its log while it is recovered."""
    return round(size * 1.1) + log_room(folder)


def existing(path):
    """It, or the nearest folder above it that is there."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def must_have_room(data, backup):
    """Raises Failed."""
    folder = existing(data)
    free = os.statvfs(folder).f_bfree * os.statvfs(folder).f_frsize
    needed = room_for(backup["bytes"], folder)
    if free < needed:
        raise Failed(
            f"{folder} has room for {free >> 20} MiB, and PostgreSQL of the backup {backup['label']} wants {needed >> 20} MiB: "
            "give its volume a larger `size:`; nothing was changed"
        )


def restore_postgresql(said, request):
    kept = said["postgresql"]
    data = kept["data"]
    if os.path.exists(f"{data}/global/pg_control") and not os.path.exists(f"{data}/recovery.signal"):
        return {"postgresql": "kept"}
    begun = os.path.exists(data) and not is_empty(data)
    # What an interrupted restore left bears pgBackRest's own manifest until it is whole.
    if begun and not any(os.path.exists(f"{data}/{f}") for f in ("backup.manifest", "recovery.signal")):
        raise Failed(f"{data} is neither empty nor a cluster; nothing was changed")
    at = time_in(said, request)
    named = "backup" in request
    backup = choose(backups_of(), lambda b: b["ended"], at, "PostgreSQL")
    if not begun:
        must_have_room(data, backup)
    pieces = pieces_after(backup)
    # Of a named one no more of the log is wanted than belongs to it.
    gap = None if named else gap_in(pieces)
    if gap and (at is None or at > gap["until"]):
        # PostgreSQL would take it for the log's end, and say nothing.
        until = stamp_of(gap["until"])
        raise Failed(
            f"the log of transactions has a gap: its piece {gap['piece']} is not in the repository, and later ones are; "
            f"a restore is possible up to {until} (rebuild --at {until}); nothing was changed"
        )
    if at is not None and not named and at >= (gap["until"] if gap else max(pieces.values(), default=0)):
        at = None  # All of it is from before: PostgreSQL would look for a later commit, and give up (recovery_target_time).
    os.makedirs(os.path.dirname(data), exist_ok=True)
    owner = pwd.getpwnam("postgres")
    os.makedirs(data, mode=0o700, exist_ok=True)
    os.chown(data, owner.pw_uid, owner.pw_gid)
    begun_again = ["--delta", "--force"] if begun else []
    done = {"postgresql": backup["label"], "rows": "not declared"}
    counted = backup["point"] and backup["rows"]
    # Rows are counted at a point after the backup's end, which a restore to a time before it does not reach, nor one that a gap ends.
    reached = counted and (named or at is None or at >= time_of(backup["point"])) and not (gap and time_of(backup["point"]) >= gap["until"])
    point = ["--type=name", f"--target={backup['point']}"] if backup["point"] else ["--type=immediate"]
    first = [*point, "--target-action=pause"] if reached else [*point, "--target-action=promote"] if named else target_of(at)
    if named:
        # Its own: a later one may have left it before.
        first.append("--target-timeline=current")
    # Nothing else of the host runs yet.
    place().pgbackrest("restore", f"--set={backup['label']}", f"--process-max={os.cpu_count()}", *begun_again, *first)
    if reached:
        # There a server of our own, on a socket of its own, says whether they are the same; the host's own server goes on from there.
        held_against(kept, backup)
        done["rows"] = {"point": backup["point"], "same": backup["rows"]}
        retarget(data, ["recovery_target_action = 'promote'\n"] if named else None, at)
    elif counted:
        done["rows"] = "counted after that time"
    return done


def time_of(point):
    return calendar.timegm(time.strptime(point, POINT))


def target_of(at):
    return ["--type=default"] if at is None else ["--type=time", f"--target={target_text(at)}", "--target-action=promote"]


def target_text(at):
    return utc("%Y-%m-%d %H:%M:%S+00", at)


def retarget(data, kept, at):
    """The recovery that pgBackRest has set up goes to its end, or to a time, instead of to the point; with `kept`, to the point, and ends there."""
    path = f"{data}/postgresql.auto.conf"
    with open(path, encoding="utf-8") as file:
        lines = [line for line in file if not line.startswith("recovery_target_action" if kept else "recovery_target")]
    if kept:
        lines += kept
    elif at is not None:
        lines += [f"recovery_target_time = '{target_text(at)}'\n", "recovery_target_action = 'promote'\n"]
    owner = pwd.getpwnam("postgres")
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        os.fchown(file.fileno(), owner.pw_uid, owner.pw_gid)
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())
    os.rename(f"{path}.new", path)


def held_against(kept, backup):
    """Starts the restored cluster at the point and counts. Raises Failed where a table is not what it was."""
    data, folder = kept["data"], "/run/ingot/restored"
    owner = pwd.getpwnam("postgres")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    os.chown(folder, owner.pw_uid, owner.pw_gid)
    # A standby must be given as much as its primary had. pg_controldata says "xact" where the settings say "transaction".
    needs = dict(re.findall(r"^(max_\w+) setting: +(\d+)$", control_of(kept), re.MULTILINE))
    with open(f"{folder}/postgresql.conf", "w", encoding="utf-8") as file:
        file.write(
            f"data_directory = '{data}'\nhba_file = '{folder}/pg_hba.conf'\nident_file = '{folder}/pg_ident.conf'\n"
            f"unix_socket_directories = '{folder}'\nlisten_addresses = ''\narchive_mode = off\nhot_standby = on\n"
            f"max_wal_size = {log_room(data) >> 20}MB\n"
            + "".join(f"{name.replace('xact', 'transaction')} = {value}\n" for name, value in needs.items())
        )
    with open(f"{folder}/pg_hba.conf", "w", encoding="utf-8") as file:
        file.write("local all postgres peer\n")
    with open(f"{folder}/pg_ident.conf", "w", encoding="utf-8") as file:
        file.write("")
    for name in os.listdir(folder):
        if not name.startswith("."):
            os.chmod(f"{folder}/{name}", 0o644)
    log = f"{folder}/log"
    pg_ctl = [program(kept, "pg_ctl"), f"--pgdata={data}", "--wait", "--silent"]
    try:
        run([*pg_ctl, f"--log={log}", "--timeout=86400", f"--options=-c config_file={folder}/postgresql.conf", "start"], user="postgres")
        wait_paused(kept, folder)
        wrong = []
        for name, then in backup["rows"].items():
            database, _, table = name.partition(":")
            found = json.loads(sql(kept, database, sums(table), folder))
            if found != then:
                wrong.append(f"{name} has {found['rows']} rows where it had {then['rows']}" if found["rows"] != then["rows"] else f"{name} has other rows")
        if wrong:
            raise Failed(f"the backup is not what it was at {backup['point']}: {'; '.join(wrong)}")
    except Failed as error:
        tail = ""
        if os.path.exists(log):
            with open(log, encoding="utf-8", errors="replace") as file:
                tail = "".join(file.readlines()[-15:])
        raise Failed(f"{error}\n{tail}".strip()) from None
    finally:
        run([*pg_ctl, "--mode=fast", "stop"], user="postgres", okay=(0, 1))


def wait_paused(kept, folder):
    while True:
        state = sql(kept, "postgres", "select case when pg_is_in_recovery() then pg_get_wal_replay_pause_state() else 'over' end;", folder)
        if state == "paused":
            return
        if state == "over":
            raise Failed("the log of transactions ended before the point at which rows were counted")
        time.sleep(0.2)


def on_root(path):
    return os.stat(existing(path)).st_dev == os.stat("/").st_dev


def restore_directories(said, request):
    # What is on the machine's own disk is the image's, which is no older state of it.
    paths = [p for p in said["directories"] if is_empty(p) or os.path.exists(f"{p}/{RESTORING}") or on_root(p)]
    if not paths:
        return {"directories": "kept"}
    at = time_in(said, request)
    snapshots = snapshots_of(said)
    there = [p for p in paths if any(p in s["paths"] for s in snapshots)]

    def copy_for(path):
        of = [s for s in snapshots if path in s["paths"]]
        # Of a backup that is named, the first copy after it, so that no file lacks that its rows name: `ingot backup` makes the two in this order.
        after = [s for s in of if s["at"] >= at] if "backup" in request else []
        return after[0] if after else choose(of, lambda s: s["at"], at, path)

    chosen = {}
    for path in there:
        chosen.setdefault(copy_for(path)["id"], []).append(path)
    # All that is in one copy at once: restic takes half a second to open its repository.
    for snapshot, paths_in in chosen.items():
        for path in paths_in:
            os.makedirs(path, exist_ok=True)
            # An interrupted restore is not taken for a whole one.
            with open(f"{path}/{RESTORING}", "w", encoding="utf-8"):
                pass
        only = [f"--include={path}" for path in paths_in]
        place().restic("restore", snapshot, "--target=/", *only, *(["--verify"] if "over" in request or os.path.exists(GATE) else []))
        os.sync()
        for path in paths_in:
            os.unlink(f"{path}/{RESTORING}")
    lacking = [p for p in paths if p not in there]
    return {"directories": ", ".join(chosen), "restored": there, **({"not_in_it": lacking} if lacking else {})}


def restore(said):
    request = wanted()
    if request is None:
        return {}
    place().must_be_there()
    if "over" in request:
        place().lay_over(request["over"])
    place().wait()
    take()
    done = {"began": stamp_of()}
    if said.get("postgresql"):
        done.update(restore_postgresql(said, request))
    if said["directories"]:
        done.update(restore_directories(said, request))
    done["ended"] = stamp_of()
    facts.write(RESTORED, done, 0o644)
    return done


def main(words):
    said = settings()
    if words == ["list"]:
        return list_all(said)
    if words == ["in-time"]:
        late = list_all(said)["late"]
        if late:
            raise Failed("; ".join(late))
        return None
    if words == ["prepared"]:
        return None if prepared(said) else sys.exit(1)
    if words == ["wake"]:
        # Where another backup is at it, that one has done so before it began.
        with contextlib.suppress(BlockingIOError), alone(fcntl.LOCK_NB):
            pass
        return None
    if words == ["heartbeat"]:
        return heartbeat(said["postgresql"])
    if words[:1] == ["run"] and len(words) == 2 and words[1] in said["times"]:
        with alone():
            return run_one(words[1], said)
    if words == ["prepare"]:
        with alone():
            return prepare(said)
    if words == ["restore"]:
        with alone():
            return restore(said)
    raise Failed("usage: backup.py run full|differential|incremental|directories | list | in-time | prepare | prepared | restore | wake | heartbeat")


if __name__ == "__main__":
    # Ended by whoever asked for it: what is quiet goes on first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        result = main(sys.argv[1:])
    except Failed as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    if result is not None:
        print(json.dumps(result))
