"""Where the backups of this host are kept: in a folder of its own, on another host of the stack, in a bucket of S3. backup.py asks each in the same
words, which Place explains; what is done elsewhere is backup_store.py's and backup_s3.py's to say."""
import json
import os
import pwd
import shlex
import subprocess
import tempfile
import time

import backup_store
import facts

CONFIG = "/etc/ingot/backup/pgbackrest.conf"
PASSWORD = "/etc/ingot/backup/password"
SSH = "/usr/lib/ingot/backup-ssh"
# Which machine this was when it was given the right to write to the repositories: what they have in `holder`, as long as nobody took its place.
INSTANCE = "/etc/ingot/backup/instance"
# In a drill of a host whose backups are in a bucket: the certificate of who stands in the bucket's place, who reads there and writes elsewhere
# (stacks/recovery/gate.ts). pgbackrest-archive looks for it as well.
GATE = "/run/ingot/repository/.bucket/authority.crt"
# Seconds for which another host, with the repositories, is waited for.
REACH = 900


class Failed(Exception):
    """What went wrong, for people."""


def run(argv, user=None, text=None, env=None, okay=(0,)):
    """Standard output. Raises Failed."""
    account = pwd.getpwnam(user) if user else None
    result = subprocess.run(
        argv,
        input=text,
        stdin=subprocess.DEVNULL if text is None else None,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=os.getgrouplist(user, account.pw_gid) if account else None,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", **(env or {})},
    )
    if result.returncode not in okay:
        raise Failed(f"{argv[0]} {' '.join(a for a in argv[1:] if not a.startswith('--'))}: {(result.stderr or result.stdout).strip()}")
    return result.stdout


class Place:
    """What every place answers. Whatever it does raises Failed."""

    # Whoever has its name in a stack reaches it, not only the host that has the volume or the key.
    open_to_others = False

    def __init__(self, to):
        # The folder of the repositories; of a bucket s3://bucket/prefix.
        self.to = to

    def must_be_there(self):
        """What would hold the repositories, if it is this host's own."""

    def wait(self):
        """Until it answers."""

    def make(self, name="", mode=0o755, owner=None):
        """The place, or a folder of it for a repository, where that is for this host to make."""

    def lay_over(self, production):
        """In a drill: production's repositories are seen below its own. Another host does so itself (backup-store.sh)."""

    def may_be_written(self):
        return True

    def ready(self):
        """Whether there are a full backup, restic's repository and copies in it, and which machine may write."""
        raise NotImplementedError

    def take(self, instance):
        """From now on that machine may write, and no other."""
        raise NotImplementedError

    def note(self, what, entries):
        """What there is of `postgresql` or `directories`, beside the repositories: for a rebuild, which cannot ask pgBackRest or restic of a disk that
        no machine has (stacks/recovery/past.ts)."""
        raise NotImplementedError

    def pgbackrest(self, *words):
        return run(["pgbackrest", f"--config={CONFIG}", f"--stanza={backup_store.STANZA}", *words], user="postgres")

    def restic_way(self):
        """restic's repository, the options by which it gets there, and what of its environment is for that."""
        return f"{self.to}/files", [], {}

    def restic(self, *words, okay=(0,)):
        repository, way, keys = self.restic_way()
        env = {"RESTIC_REPOSITORY": repository, "RESTIC_PASSWORD_FILE": PASSWORD, "RESTIC_CACHE_DIR": "/var/cache/ingot-restic", "HOME": "/root", **keys}
        try:
            return run(["restic", *way, *words], env=env, okay=okay)
        except Failed as error:
            if "wrong password or no key found" in str(error):
                raise Failed(f"{self.to}/files is encrypted with another password than this host's; nothing was changed\n{error}") from None
            raise

    def init_restic(self):
        """Its repository, empty."""
        self.restic("init")


class Folder(Place):
    """A folder of this host, on a volume of its own."""

    def must_be_there(self):
        # A repository beside its volume would fill the root, and go with it.
        path = self.to
        while not os.path.ismount(path):
            path = os.path.dirname(path)
        if path == "/":
            raise Failed(f"{self.to} is not on a mounted volume")

    def make(self, name="", mode=0o755, owner=None):
        os.makedirs(f"{self.to}/{name}", mode=mode, exist_ok=True)
        if owner:
            account = pwd.getpwnam(owner)
            os.chown(f"{self.to}/{name}", account.pw_uid, account.pw_gid)

    def lay_over(self, production):
        backup_store.lay_over(self.to, production)

    def may_be_written(self):
        return os.access(self.to, os.W_OK)

    def ready(self):
        return backup_store.ready(self.to)

    def take(self, instance):
        backup_store.write_line(f"{self.to}/holder", instance, 0o644)

    def note(self, what, entries):
        backup_store.note(self.to, what, entries)


class Store(Place):
    """Another host of the stack, which keeps them (backup_store.py, by ssh)."""

    def __init__(self, to, on):
        super().__init__(to)
        self.login = on["login"]

    def ask(self, *words, instance=None, text=None):
        return run([SSH, self.login, shlex.join(words)], env={"INGOT_INSTANCE": instance} if instance else None, text=text)

    def wait(self):
        # It may be on its way up, as this one is.
        end = time.monotonic() + REACH
        while True:
            try:
                self.ready()
                return
            except Failed:
                if time.monotonic() > end:
                    raise
                time.sleep(2)

    def ready(self):
        return json.loads(self.ask("ready", instance=backup_store.first_line(INSTANCE) or facts.read().get("instance")))

    def take(self, instance):
        self.ask("take", instance=instance)

    def note(self, what, entries):
        self.ask("note", what, text=json.dumps(entries))

    def pgbackrest(self, *words):
        return self.ask("run", *words) if words[0] in backup_store.AT_REPOSITORY else super().pgbackrest(*words)

    def restic_way(self):
        return f"sftp:{self.login}:files", ["-o", f"sftp.command={SSH} {self.login} -s sftp"], {}


class Bucket(Place):
    """A bucket of S3 (backup_s3.py)."""

    open_to_others = True

    def __init__(self, to, s3):
        super().__init__(to)
        self.s3 = {**s3, "ca": GATE} if os.path.exists(GATE) else s3

    def do(self, work, *more):
        """A function of backup_s3.py's, by its name."""
        import aws  # only here: what speaks HTTPS takes longer to load than most of what is asked of a host without a bucket
        import backup_s3

        try:
            return getattr(backup_s3, work)(self.s3, *more)
        except aws.AwsError as error:
            raise Failed(str(error)) from None

    def ready(self):
        return self.do("ready")

    def take(self, instance):
        self.do("take", instance)

    def note(self, what, entries):
        self.do("note", what, entries)

    def pgbackrest(self, *words):
        # Said here, a restore has it in the command by which PostgreSQL gets its log.
        trust = [f"--repo1-storage-ca-file={GATE}"] if self.s3.get("ca") == GATE else []
        return super().pgbackrest(*trust, *words)

    def restic_way(self):
        return self.do("restic")

    def init_restic(self):
        # Its own `init` asks for the bucket as a whole, which who may see below a prefix alone may not: made here, and brought there.
        with tempfile.TemporaryDirectory() as folder:
            run(["restic", "init"], env={"RESTIC_REPOSITORY": folder, "RESTIC_PASSWORD_FILE": PASSWORD, "HOME": "/root"})
            keys = [f"keys/{name}" for name in os.listdir(f"{folder}/keys")]
            self.do("bring", folder, "files", [*keys, "config"])


def place_of(said):
    """@param said backup.py's settings (cloud-init/backup/place.ts)"""
    if "on" in said:
        return Store(said["to"], said["on"])
    if "s3" in said:
        return Bucket(said["to"], said["s3"])
    return Folder(said["to"])
