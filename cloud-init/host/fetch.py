#!/usr/bin/python3
"""Brings the secrets of a plan to /var/lib/ingot/secrets (root, 0700 and 0600), from where the machine facts say they are.

fetch.py            secrets of the next generation (else of the current one), all of them anew; one that is nowhere is an error
fetch.py --missing  after a reboot: only what is not there, and nothing is an error
Secrets that the plan does not name are not copied; activate forgets them once it has succeeded. Called by activate and ingot-secrets.service.
"""
import json
import os
import stat
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import render  # noqa: E402

STATE = "/var/lib/ingot"
FACTS = "/run/ingot/facts/facts.json"


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


def source():
    """The folder of secrets that the target gave to this machine, or None."""
    try:
        with open(FACTS, encoding="utf-8") as file:
            folder = json.load(file).get("secrets")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise FetchError(f"{FACTS}: {error}") from None
    return folder if folder and os.path.isdir(folder) else None


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
    origin = source()
    missing = []
    for name in sorted(names):
        path = render.secret_path(name, target)
        there = os.path.isfile(path)
        if there and only_missing:
            continue
        data = None
        if origin:
            try:
                with open(render.secret_path(name, origin), "rb") as file:
                    data = file.read()
            except (FileNotFoundError, NotADirectoryError):
                pass
        if data is None:
            if not there:
                missing.append(name)
            continue
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
        raise FetchError(f"not at {origin or f'a source ({FACTS} names none)'} and not kept here: secret {', '.join(missing)}")


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
    if sys.argv[1:] and not only_missing:
        sys.exit("usage: fetch.py [--missing]")
    try:
        fetch(secrets_of(plan_of_machine()), only_missing)
    except (FetchError, render.RenderError, OSError, ValueError) as error:
        print(f"fetch: {error}", file=sys.stderr)
        sys.exit(0 if only_missing else 1)


if __name__ == "__main__":
    main()
