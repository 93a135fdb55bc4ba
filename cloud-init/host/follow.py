#!/usr/bin/python3
"""Says the report of an activation, line by line as it grows, until the activation's own line. For the `vm` target, which reads it through
agent.py. Waits for a report that is not begun; exit code 3 when cloud-init is done and nobody is about to begin one.

follow.py          the first boot's
follow.py --again  the coming one's: whoever asks has taken the last one's away
"""
import json
import os
import subprocess
import sys
import time

REPORT = "/run/ingot/report/steps.jsonl"
RESULT = "/run/cloud-init/result.json"
# Seconds between two looks.
EVERY = 0.5


def idle():
    """Whether ingot-boot.service neither runs nor is about to."""
    show = ["systemctl", "show", "--property=ActiveState,Job", "ingot-boot.service"]
    said = dict(line.split("=", 1) for line in subprocess.run(show, capture_output=True, text=True, check=False).stdout.splitlines())
    return said.get("ActiveState") not in ("activating", "reloading", "deactivating") and said.get("Job", "0") in ("", "0")


def last(line):
    try:
        return "generation" in json.loads(line)
    except ValueError:
        return False


def main():
    first = "--again" not in sys.argv
    rest, quiet = "", 0
    report = None
    while True:
        if report is None and os.path.exists(REPORT):
            report = open(REPORT, encoding="utf-8")  # noqa: SIM115
        new = report.read() if report else ""
        rest += new
        while "\n" in rest:
            line, rest = rest.split("\n", 1)
            print(line, flush=True)
            if last(line):
                return 0
        quiet = 0 if new else quiet + 1
        # Every five seconds of silence: is anybody at work? Twice, since it may just have ended.
        if first and quiet % 10 == 9 and os.path.exists(RESULT) and idle():
            time.sleep(1)
            if idle() and not (os.path.exists(REPORT) and report is None) and not (report and report.read()):
                with open(RESULT, encoding="utf-8") as file:
                    print("; ".join(json.load(file).get("v1", {}).get("errors", [])), file=sys.stderr)
                return 3
        time.sleep(EVERY)


if __name__ == "__main__":
    sys.exit(main())
