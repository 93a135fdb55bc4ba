"""Runs what somebody has uploaded, in a Docker container that holds it in.

The solution goes in by standard input and what it prints comes out: no file
is shared. The daemon's slice bounds all containers of the host together; what
is set here bounds each of them.
"""

import os
import select
import subprocess
import time
import uuid
from dataclasses import dataclass
from typing import IO

IMAGE = "inloop-sandbox"
SECONDS = 10
# For Docker to start a container, which is not the solution's time.
START_SECONDS = 60
OUTPUT_BYTES = 16 * 1024
LIMITS = [
    "--memory=48m",
    "--memory-swap=48m",
    "--pids-limit=16",
    "--network=none",
    "--read-only",
    "--tmpfs=/tmp:size=1m,mode=1777",
    "--user=65534:65534",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
]
# Docker's own exit codes: the container never ran.
_DOCKER_FAILED = {125, 126, 127}


class SandboxError(Exception):
    """Docker itself failed, which is not the solution's fault."""


@dataclass(frozen=True)
class Outcome:
    output: str
    status: int
    # Why it was ended, empty when it ended by itself.
    ended: str


def run(solution: bytes, arguments: list[str]) -> Outcome:
    """Run a shell script with these arguments; raises SandboxError."""
    name = f"inloop-{uuid.uuid4()}"
    script = 'echo && cat >/tmp/solution && exec sh /tmp/solution "$@"'
    command = [
        "docker",
        "run",
        "--rm",
        "--pull=never",
        "--interactive",
        f"--name={name}",
    ]
    command += [*LIMITS, IMAGE, "sh", "-c", script, "solution", *arguments]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdin and process.stdout
        _write(process.stdin, solution)
        # The script's empty line: the container runs, and the solution's time begins.
        select.select([process.stdout], [], [], START_SECONDS)
        output, ended = _read(process.stdout, time.monotonic() + SECONDS)
        if ended:
            subprocess.run(["docker", "kill", name], capture_output=True, check=False)
        # Nobody waits for somebody who wants to say more.
        process.stdout.close()
        try:
            status = process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            # Docker had not come to start it, and then there was nothing to kill.
            process.kill()
            raise
    said = output[:OUTPUT_BYTES].decode(errors="replace").removeprefix("\n")
    if status in _DOCKER_FAILED and not ended:
        raise SandboxError(said.strip() or f"docker ended with {status}")
    if status == 137 and not ended:
        ended = "took too much memory"
    return Outcome(said, status, ended)


def _read(stream: IO[bytes], deadline: float) -> tuple[bytes, str]:
    """What is said until the end, and why it must be ended before that.

    Without a thread of its own: how many there are says how many workers.
    """
    output = b""
    while len(output) <= OUTPUT_BYTES:
        left = max(0.0, deadline - time.monotonic())
        if not select.select([stream], [], [], left)[0]:
            return output, "took too long"
        chunk = os.read(stream.fileno(), OUTPUT_BYTES)
        if not chunk:
            return output, ""
        output += chunk
    return output, "said too much"


def _write(stream: IO[bytes], solution: bytes) -> None:
    try:
        stream.write(solution)
        stream.close()
    except BrokenPipeError:
        pass  # it was ended before it had read all of it
