#!/usr/bin/python3
"""Brings the secrets of a plan to /var/lib/ingot/secrets (root, 0700 and 0600), from where the machine facts say they are: a folder, SSM
parameters ("ssm:/path/") or Secrets Manager ("secretsmanager:prefix/"). On EC2 artifacts and spilled files too, from S3 by their sha256.

fetch.py            secrets of the next generation (else of the current one), all of them anew; one that is nowhere is an error
fetch.py --missing  after a reboot: only what is not there, and nothing is an error
fetch.py --artifact SHA256  an artifact, to /run/ingot/artifacts (the file itself lies on the disk)
Secrets that the plan does not name are not copied; activate forgets them once it has succeeded. Called by activate and ingot-secrets.service.
"""
import json
import os
import stat
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import facts  # noqa: E402
import render  # noqa: E402

STATE = "/var/lib/ingot"
ARTIFACTS = "/run/ingot/artifacts"


class FetchError(Exception):
    pass


def secrets_of(plan):
    """Names of all secrets in the arguments of a plan's steps."""
    names = set()

    def walk(value):
        if isinstance(value, dict):
            if isinstance(value.get("secret"), str):
                names.add(value["secret"])
            else:
                for member in value.values():
                    walk(member)
        elif isinstance(value, list):
            for member in value:
                walk(member)

    for step in plan["steps"]:
        walk(step["args"])
    return names


def known():
    """The machine facts."""
    try:
        return facts.read()
    except (OSError, ValueError) as error:
        raise FetchError(f"{facts.FACTS}: {error}") from None


def values_from(origin, names):
    """The secrets that are there, by name. `origin`: what the facts say of where."""
    if not origin or not names:
        return {}
    kind, _, place = origin.partition(":")
    if kind == "ssm":
        import aws

        found = aws.Client().parameters([place + name for name in names])
        return {name: found[place + name].encode() for name in names if place + name in found}
    if kind == "secretsmanager":
        import aws

        client = aws.Client()
        values = {name: client.secret(place + name) for name in names}
        return {name: value for name, value in values.items() if value is not None}
    values = {}
    for name in names:
        try:
            with open(render.secret_path(name, origin), "rb") as file:
                values[name] = file.read()
        except (FileNotFoundError, NotADirectoryError):
            pass
    return values


def download(place, name, path):
    """A file of the bucket by its sha256. Raises AwsError."""
    import aws

    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    aws.Client().download(place + name, path, name)


def fetch_artifact(name):
    """/run may be smaller than an artifact, so the file itself is on the disk until the activation is done (forget_artifacts)."""
    place = known().get("artifacts")
    if not place:
        raise FetchError(f"artifact {name} is not here, and the facts name no place to fetch it from")
    path = f"{STATE}/artifacts/{name}"
    if not os.path.exists(path):
        download(place, name, path)
    os.makedirs(ARTIFACTS, 0o755, exist_ok=True)
    if not os.path.lexists(f"{ARTIFACTS}/{name}"):
        os.symlink(path, f"{ARTIFACTS}/{name}")


def forget_artifacts():
    """What has been unpacked is not needed again."""
    try:
        names = os.listdir(f"{STATE}/artifacts")
    except FileNotFoundError:
        return
    for name in names:
        os.unlink(f"{STATE}/artifacts/{name}")
        if os.path.islink(f"{ARTIFACTS}/{name}"):
            os.unlink(f"{ARTIFACTS}/{name}")


def fetch_generation(digest):
    """What user-data had no room for, where the facts say there may be such files."""
    place = known().get("files")
    folder = f"{STATE}/generations/{digest}"
    if not place or len(digest) != 64:
        return
    if not os.path.exists(f"{folder}/plan.json"):
        download(place, digest, f"{folder}/plan.json")
    with open(f"{folder}/plan.json", encoding="utf-8") as file:
        files = json.load(file)["files"]
    for name in sorted({entry["sha256"] for entry in files.values()}):
        if not os.path.exists(f"{folder}/files/{name}"):
            download(place, name, f"{folder}/files/{name}")


def folder_for(path, top):
    """Makes the folders between `top` and a secret's file, each root's own."""
    current = top
    for part in os.path.relpath(os.path.dirname(path), top).split("/"):
        current = os.path.normpath(os.path.join(current, part))
        try:
            os.mkdir(current, 0o700)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(current).st_mode):
                raise FetchError(f"{current} is not a folder") from None


def fetch(names, only_missing=False):
    """Fills the folder. Raises FetchError when a secret is neither at the source nor here, unless `only_missing`."""
    target = f"{STATE}/secrets"
    os.makedirs(target, 0o700, exist_ok=True)
    os.chmod(target, 0o700)
    os.chown(target, 0, 0) if os.geteuid() == 0 else None
    origin = known().get("secrets")
    here = {name for name in names if os.path.isfile(render.secret_path(name, target))}
    values = values_from(origin, sorted(names - here if only_missing else names))
    missing = sorted(names - here - set(values))
    for name, data in sorted(values.items()):
        path = render.secret_path(name, target)
        there = name in here
        folder_for(path, target)
        if there:
            with open(path, "rb") as file:
                if file.read() == data and stat.S_IMODE(os.lstat(path).st_mode) == 0o600:
                    continue
        render.write(path, data)
    if only_missing:
        for name in missing:
            print(f"secret {name} is not here and not at its source", file=sys.stderr)
        return
    if missing:
        raise FetchError(f"not at {origin or f'a source ({facts.FACTS} names none)'} and not kept here: secret {', '.join(missing)}")


def forget(names):
    """Removes the secrets that a plan does not name. Only after its activation: until then the old services may start again."""
    target = f"{STATE}/secrets"
    keep = {render.secret_path(name, target) for name in names}
    for folder, _, files in os.walk(target, topdown=False):
        for file in files:
            if os.path.join(folder, file) not in keep:
                os.unlink(os.path.join(folder, file))
        if folder != target and not os.listdir(folder):
            os.rmdir(folder)


def plan_of_machine():
    """The plan that the machine is to follow: of `next`, else of `current`."""
    try:
        with open(f"{STATE}/next", encoding="utf-8") as file:
            folder = f"{STATE}/generations/{file.read().strip()}"
    except FileNotFoundError:
        folder = f"{STATE}/current"
    with open(f"{folder}/plan.json", encoding="utf-8") as file:
        return json.load(file)


def main():
    only_missing = sys.argv[1:] == ["--missing"]
    artifact = sys.argv[2] if len(sys.argv) == 3 and sys.argv[1] == "--artifact" else None
    if sys.argv[1:] and not only_missing and artifact is None:
        sys.exit("usage: fetch.py [--missing | --artifact SHA256]")
    try:
        if artifact is not None:
            fetch_artifact(artifact)
        else:
            fetch(secrets_of(plan_of_machine()), only_missing)
    except (FetchError, render.RenderError, RuntimeError, OSError, ValueError) as error:
        print(f"fetch: {error}", file=sys.stderr)
        sys.exit(0 if only_missing else 1)


if __name__ == "__main__":
    main()
