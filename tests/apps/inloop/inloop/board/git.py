"""Fetches repositories below GIT_ROOT, over ssh with the worker's own key."""

import os
import re
import subprocess

from django.conf import settings

SECONDS = 120
# No part begins with a dot or a dash: no path leads elsewhere, no name is an option.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*")
URL = re.compile(
    r"(ssh://)?[a-z][a-z0-9-]*@[A-Za-z0-9][A-Za-z0-9.-]*[:/][A-Za-z0-9_./-]+"
)


class GitError(Exception):
    """What git said when it failed."""


def fetch(name: str, url: str) -> str:
    """Bring GIT_ROOT/<name> to what `url` has by default; its commit."""
    folder = settings.GIT_ROOT / name
    folder.mkdir(parents=True, exist_ok=True)
    git = ["git", "-C", str(folder)]
    _run([*git, "init", "--quiet"])
    _run([*git, "fetch", "--quiet", "--depth=1", "--", url, "HEAD"])
    _run([*git, "reset", "--quiet", "--hard", "FETCH_HEAD"])
    return _run([*git, "rev-parse", "HEAD"])


def _run(command: list[str]) -> str:
    # Neither of them may ask anybody: a question would wait for ever.
    asking = {"GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": "ssh -o BatchMode=yes"}
    done = subprocess.run(
        command,
        env={**os.environ, **asking, "GIT_ALLOW_PROTOCOL": "ssh"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if done.returncode:
        raise GitError(f"{' '.join(command[3:5])}: {done.stderr.strip()}")
    return done.stdout.strip()
