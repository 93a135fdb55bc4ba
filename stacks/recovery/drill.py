#!/usr/bin/python3
"""What a drill asks the machine that stands beside production, restored from its backups. `ingot drill` gives it to the machine's python on
standard input; words say what is asked, JSON is the answer.

  drill.py prove [MOMENT]           what was restored, how old it is, and whether it is whole: pages, indexes, repositories; and that no way leads out.
                                    MOMENT: when the copy was made that it was read from, by production's clock; without it, it was read until the end
  drill.py write                    commits a row
  drill.py scratch TO OVER LABEL…   of the machine that has the repositories, TO, and production's, OVER: that these backups are on the drill's own
                                    disk, and that nobody can write to production's

Exit code 1: it could not be asked. What is wrong is in `wrong` of the answer.
"""
import errno
import glob
import json
import os
import re
import sys
import time

sys.path.insert(0, "/usr/lib/ingot")
import backup  # noqa: E402
import backup_store  # noqa: E402

def restored():
    try:
        with open(backup.RESTORED, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return {}


def age_of(done, kept, moment):
    """Seconds from the last row that production's heartbeat has in what was restored to the moment at which there was no more to restore, which is
    when the new timeline began (its history file)."""
    began = moment or max(map(os.path.getmtime, glob.glob(f"{kept['data']}/pg_wal/*.history")), default=None)
    return None if began is None or done.get("beat") is None else round(max(0.0, began - done["beat"]), 1)


def amcheck(kept):
    """Every table and index of every database, each row held against its indexes. Reading a page checks its sum."""
    began = time.monotonic()
    program = f"/usr/lib/postgresql/{kept['version']}/bin/pg_amcheck"
    try:
        said = backup.run(
            ["sh", "-c", 'exec "$0" "$@" 2>&1', program, "--all", "--install-missing", "--heapallindexed", "--parent-check", "--progress", "--no-strict-names"],
            user="postgres",
        )
        wrong = []
    except backup.Failed as error:
        said, wrong = "", [str(error)]
    counts = re.findall(r"(\d+)/\d+ relations \(\d+%\), +(\d+)/\d+ pages", said)
    relations, pages = map(int, counts[-1]) if counts else (None, None)
    return {"relations": relations, "pages": pages, "seconds": round(time.monotonic() - began, 1), "wrong": wrong}


def invalid_in(answer):
    """What `pgbackrest verify` says is not as it was written."""
    lines = [line.strip() for line in answer.splitlines() if re.search(r"status: invalid|(missing|invalid|other): *[1-9]", line)]
    return lines or ([] if "status: ok" in answer else [answer.strip()])


def postgresql(said, done, moment):
    kept = said["postgresql"]
    line = backup.sql(
        kept,
        "postgres",
        "select json_build_object('recovering', pg_is_in_recovery(), 'timeline', timeline_id, 'read_only', current_setting('transaction_read_only'), "
        "'page_sums', current_setting('data_checksums')) from pg_control_checkpoint();",
    )
    state = json.loads(line)
    checked = amcheck(kept)
    wrong = [f"amcheck: {w}" for w in checked.pop("wrong")]
    if state["recovering"]:
        wrong.append("PostgreSQL is still in recovery")
    if done.get("postgresql") in (None, "kept"):
        wrong.append("PostgreSQL was not restored")
    elif state["timeline"] < 2:
        wrong.append(f"PostgreSQL is on timeline {state['timeline']}: a restored one has a new one")
    began = time.monotonic()
    # pg_verifybackup is for what pg_basebackup made. pgBackRest compares each file's sum while it restores, and `verify` reads all that is kept.
    try:
        answer = backup.place().pgbackrest("verify", "--output=text", "--verbose")
        wrong += [f"pgbackrest verify: {line}" for line in invalid_in(answer)]
    except backup.Failed as error:
        wrong.append(f"pgbackrest verify: {error}")
    return {
        "backup": done.get("postgresql"),
        "timeline": state["timeline"],
        "age_seconds": age_of(done, kept, moment),
        "rows": done["rows"]["same"] if isinstance(done.get("rows"), dict) else done.get("rows"),
        "amcheck": checked,
        "page_sums": state["page_sums"] == "on",
        "verify_seconds": round(time.monotonic() - began, 1),
    }, wrong


def directories(said, done, moment):
    began = time.monotonic()
    wrong = []
    copies = str(done.get("directories")).split(", ")
    ages = [s["at"] for s in backup.snapshots_of(said) if s["id"] in copies]
    if not ages:
        wrong.append("directories were not restored")
    wrong += [f"{path} is in no copy" for path in done.get("not_in_it", [])]
    try:
        # Its lock would be for it alone, which the host's own timer may have just then.
        backup.place().restic("check", "--no-lock")
    except backup.Failed as error:
        wrong.append(f"restic check: {error}")
    return {
        "copy": done.get("directories"),
        "paths": done.get("restored", []),
        # Of the oldest of them, when the restore began.
        "age_seconds": round(max(0.0, (moment or backup.seconds_of(done["began"])) - min(ages)), 1) if ages else None,
        "check_seconds": round(time.monotonic() - began, 1),
    }, wrong


def ways_out():
    """Routes that lead farther than the machine's own network."""
    with open("/proc/net/route", encoding="utf-8") as file:
        four = [line.split() for line in file.readlines()[1:]]
    found = [f"{r[0]}: a route by a gateway" for r in four if int(r[3], 16) & 2]
    if os.path.exists("/proc/net/ipv6_route"):
        with open("/proc/net/ipv6_route", encoding="utf-8") as file:
            six = [line.split() for line in file]
        found += [f"{r[9]}: a route by a gateway" for r in six if int(r[8], 16) & 2]
    return found


def prove(said, moment=None):
    moment = moment and float(moment)
    done = restored()
    answer, wrong = {"began": done.get("began"), "ended": done.get("ended")}, [f"a way leads out of the drill: {w}" for w in ways_out()]
    if said.get("postgresql"):
        answer["postgresql"], found = postgresql(said, done, moment)
        wrong += found
    if said["directories"]:
        answer["directories"], found = directories(said, done, moment)
        wrong += found
    return {**answer, "wrong": wrong}


def write(said):
    kept = said.get("postgresql")
    if not kept:
        return {"wrong": []}
    before = backup.sql(kept, "postgres", "select pg_current_wal_flush_lsn();")
    backup.sql(
        kept,
        "postgres",
        "create table ingot.drill (at timestamptz primary key); insert into ingot.drill values (clock_timestamp()); select pg_switch_wal();",
    )
    flushed = backup.sql(kept, "postgres", f"select pg_current_wal_flush_lsn() > '{before}' and exists (select from ingot.drill);")
    return {"wrong": [] if flushed == "t" else ["what was committed is not there"]}


def scratch(to, production, *labels):
    """`labels`: of PostgreSQL's backups, or of restic's copies."""
    wrong = []
    own = f"{to}/.drill"
    for label in labels:
        places = [f"postgresql/backup/{backup_store.STANZA}/{label}", f"files/snapshots/{label}*"]
        if not any(glob.glob(f"{own}/{name}/written/{rest}") for name, _, rest in (p.partition("/") for p in places)):
            wrong.append(f"the backup {label} is not on the drill's own disk")
        if any(glob.glob(f"{production}/{p}") for p in places):
            wrong.append(f"the backup {label} is in production's repository")
    try:
        with open(f"{production}/.drill", "w", encoding="utf-8"):
            wrong.append("production's repository can be written to")
    except OSError as error:
        if error.errno != errno.EROFS:
            wrong.append(f"production's repository refuses a write otherwise than it should: {error}")
    return {"wrong": wrong}


def main(words):
    if words[:1] == ["scratch"]:
        return scratch(*words[1:])
    return {"prove": prove, "write": write}[words[0]](backup.settings(), *words[1:])


try:
    print(json.dumps(main(sys.argv[1:])))
except backup.Failed as failed:
    sys.exit(str(failed))
