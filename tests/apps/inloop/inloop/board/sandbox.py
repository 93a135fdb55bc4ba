"""Runs what somebody has uploaded, in a Docker container that holds it in.

The solution goes in by standard input and what it prints comes out: no file
is shared. The daemon's slice bounds all containers of the host together; what
is set here bounds each of them.
"""

import subprocess
import threading
import uuid
from dataclasses import dataclass

IMAGE = "inloop-sandbox"
SECONDS = 10
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
    script = 'cat >/tmp/solution && exec sh /tmp/solution "$@"'
    command = [
        "docker",
        "run",
        "--rm",
        "--pull=never",
        "--interactive",
        f"--name={name}",
    ]
    command += [*LIMITS, IMAGE, "sh", "-c", script, "solution", *arguments]
    ended: list[str] = []

    def end(reason: str) -> None:
        ended.append(reason)
        subprocess.run(["docker", "kill", name], capture_output=True, check=False)

    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdin and process.stdout
        timer = threading.Timer(SECONDS, end, ["took too long"])
        timer.start()
        try:
            _write(process.stdin, solution)
            output = process.stdout.read(OUTPUT_BYTES + 1)
            if len(output) > OUTPUT_BYTES:
                end("said too much")
            status = process.wait()
        finally:
            timer.cancel()
    said = output[:OUTPUT_BYTES].decode(errors="replace")
    if status in _DOCKER_FAILED:
        raise SandboxError(said.strip() or f"docker ended with {status}")
    if status == 137 and not ended:
        ended.append("took too much memory")
    return Outcome(said, status, ended[0] if ended else "")


def _write(stream: object, solution: bytes) -> None:
    try:
        stream.write(solution)  # type: ignore[attr-defined]
        stream.close()  # type: ignore[attr-defined]
    except BrokenPipeError:
        pass  # it was ended before it had read all of it
