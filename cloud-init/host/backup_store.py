#!/usr/bin/python3
"""What a host may do over ssh with the backups that another one keeps for it, and what that one may do here: the ForceCommand of sshd
(cloud-init/backup/ssh.ts). Whoever holds the key gets no shell, only these, as the account that he logged in to.
backup.py and backup_place.py use what both ends need.

  backup_store.py serve HOST     on the host with the store, as backup-HOST: what backup.py of HOST asks for
  backup_store.py lay HOST       in a drill, on the host with the store: production's files of HOST are seen, and not written to (backup-store.sh)
  backup_store.py cluster        on the host with the cluster, as postgres: pgBackRest of the store's host reads the cluster

Asked for, in $SSH_ORIGINAL_COMMAND:
  take                           the asking machine ($INGOT_INSTANCE) is now the one that may write
  ready                          what there is, as JSON
  note postgresql|directories    its own list of what there is, as JSON on standard input
  run backup|stanza-create|annotate|expire|verify …   pgBackRest here, on the files of HOST
  pgbackrest … <command>:remote  the other end of a pgBackRest that runs there
  sftp-server                    restic
"""
import json
import os
import re
import shlex
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import facts  # noqa: E402

SFTP = "/usr/lib/openssh/sftp-server"
STANZA = "main"
# What pgBackRest does where the repository is, and there alone. `verify` from elsewhere ends with a segmentation fault of the other end (2.45).
AT_REPOSITORY = ("backup", "stanza-create", "annotate", "expire", "verify")
# Options that the other end may give to ours; paths, hosts and programs are this host's own configuration's.
REMOTE = re.compile(
    r"--(exec-id=[\w-]+|log-level-(console|file|stderr)=\w+|log-subprocess|no-log-subprocess|pg(1)?=1|pg1-(path|socket-path|port|database)=[\w/.-]+"
    r"|process=\d+|remote-type=(pg|repo)|repo=1|stanza=main|buffer-size=\w+|compress-level-network=\d+|io-timeout=[\w.]+"
    r"|protocol-timeout=[\w.]+|db-timeout=[\w.]+|neutral-umask|no-neutral-umask|lock-path=[\w/.-]+|set=[\w-]+)"
)
RUN = re.compile(r"--(type=(full|incr|diff)|no-expire-auto|output=text|verbose|set=[\dFDI_-]+|annotation=(point|rows)=.*)", re.DOTALL)


def refuse(why):
    print(f"refused: {why}", file=sys.stderr)
    sys.exit(77)


def first_line(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.readline().strip()
    except FileNotFoundError:
        return None


def remote(words, config):
    """The other end's pgBackRest gets ours, with the configuration that lies here."""
    command = words[-1] if words else ""
    if not re.fullmatch(r"[a-z-]+:(remote|local)", command) or command.endswith(":local"):
        refuse(f"no remote of pgBackRest's: {command}")
    for word in words[:-1]:
        if not REMOTE.fullmatch(word):
            refuse(f"{word} is not to be given from elsewhere")
    os.execvp("pgbackrest", ["pgbackrest", f"--config={config}", *words])


def cluster(words):
    if words[:1] != ["pgbackrest"] or "--remote-type=pg" not in words:
        refuse("only a backup of the cluster")
    remote(words[1:], "/etc/ingot/backup/pgbackrest.conf")


def write_line(path, line, mode):
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), mode)
        file.write(f"{line}\n")
        file.flush()
        os.fsync(file.fileno())
    os.rename(f"{path}.new", path)


def ready(place):
    backups, snapshots = f"{place}/postgresql/backup/{STANZA}", f"{place}/files/snapshots"
    return {
        "full": os.path.isdir(backups) and any(re.fullmatch(r"\d+-\d+F", f) for f in os.listdir(backups)),
        "files": os.path.exists(f"{place}/files/config"),
        "copies": os.path.isdir(snapshots) and bool(os.listdir(snapshots)),
        "holder": first_line(f"{place}/holder"),
    }


def note(place, what, entries):
    """Beside the repositories: the backups that there are, of `postgresql` or `directories`."""
    write_line(f"{place}/backups.{what}.json", json.dumps(entries), 0o600)


def lay_over(to, production):
    """In a drill: what production has in its repositories, which nobody can write to here, is seen in ours; what is written goes to our own disk."""
    for name in os.listdir(production):
        below, place, own = f"{production}/{name}", f"{to}/{name}", f"{to}/.drill/{name}"
        # Who holds pgBackRest's locks at production's is not at ours.
        if name in ("lost+found", "lock") or not os.path.isdir(below) or os.path.ismount(place):
            continue
        for folder in (place, f"{own}/written", f"{own}/work"):
            os.makedirs(folder, exist_ok=True)
        is_of = os.stat(below)
        os.chown(f"{own}/written", is_of.st_uid, is_of.st_gid)
        os.chmod(f"{own}/written", is_of.st_mode & 0o7777)
        layers = f"lowerdir={below},upperdir={own}/written,workdir={own}/work"
        subprocess.run(["mount", "-t", "overlay", "-o", layers, "drill", place], check=True)
    # Nor is who reads or prunes with restic.
    locks = f"{to}/files/locks"
    for name in os.listdir(locks) if os.path.isdir(locks) else []:
        os.unlink(f"{locks}/{name}")


def settings_of(host):
    with open(f"/etc/ingot/backup-store/{host}/settings.json", encoding="utf-8") as file:
        return json.load(file)


def serve(host, words):
    said = settings_of(host)
    # The store beside its volume would fill the root, and go with it.
    if not os.path.ismount(said["mount"]):
        refuse(f"{said['mount']} is not mounted")
    place, config = said["place"], f"/etc/ingot/backup-store/{host}/pgbackrest.conf"
    os.umask(0o077)
    instance = os.environ.get("INGOT_INSTANCE", "")
    if not re.fullmatch(r"[A-Za-z0-9._-]+", instance):
        refuse("it does not say which machine it is")
    holder = f"{place}/holder"
    if words == ["take"]:
        return write_line(holder, instance, 0o600)
    if words == ["ready"]:
        return print(json.dumps(ready(place)))
    # Who has come back after another took its place must not write into what is that one's now.
    if first_line(holder) != instance:
        refuse(f"{first_line(holder)} has taken the place of {instance}, whose right to write here is withdrawn")
    if words[:1] == ["run"] and len(words) > 1 and words[1] in AT_REPOSITORY:
        if not all(RUN.fullmatch(word) for word in words[2:]):
            refuse("options that are not to be given from elsewhere")
        os.execvp("pgbackrest", ["pgbackrest", f"--config={config}", f"--stanza={STANZA}", *words[1:]])
    if words in (["note", "postgresql"], ["note", "directories"]):
        entries = json.loads(sys.stdin.read(1 << 20))
        return note(place, words[1], entries) if isinstance(entries, list) else refuse("no list")
    if words[:1] == ["pgbackrest"] and "--remote-type=repo" in words:
        return remote(words[1:], config)
    if words in ([SFTP], ["internal-sftp"]):
        os.execv(SFTP, [SFTP, "-d", place])
    return refuse("nothing that is done here")


if __name__ == "__main__":
    try:
        asked = shlex.split(os.environ.get("SSH_ORIGINAL_COMMAND", ""))
    except ValueError:
        refuse("it cannot be read")
    if sys.argv[1:2] == ["serve"] and len(sys.argv) == 3:
        try:
            serve(sys.argv[2], asked)
        except OSError as error:
            refuse(f"{error.strerror or error}, on {os.uname().nodename}")
    elif sys.argv[1:2] == ["lay"] and len(sys.argv) == 3:
        lay_over(settings_of(sys.argv[2])["place"], facts.read()["restore"]["kept"][sys.argv[2]])
    elif sys.argv[1:] == ["cluster"]:
        cluster(asked)
    else:
        sys.exit("usage: backup_store.py serve HOST | lay HOST | cluster")
