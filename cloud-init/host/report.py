#!/usr/bin/python3
"""On EC2: puts the report of an activation (/run/ingot/report/steps.jsonl) where the facts say, for whoever waits for this host.

activate runs Reporter while its steps end. As a program, after ingot-boot.service is over however it ended: once more, whole.
"""
import json
import os
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import facts  # noqa: E402

REPORT = "/run/ingot/report/steps.jsonl"
# Seconds between two looks at the report.
EVERY = 1


def place():
    """Where the report goes; None where somebody else reads it."""
    known = facts.read()
    return f"{known['report']}{known['instance']}.jsonl" if known.get("report") else None


def content():
    try:
        with open(REPORT, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


class Reporter:
    """Sends the report beside the work, whenever it has grown; what cannot be sent is sent with the next."""

    def __init__(self):
        self.over = threading.Event()
        self.thread = None

    def start(self):
        url = place()
        if url is None or self.thread:
            return
        self.thread = threading.Thread(target=self.run, args=(url,), daemon=True)
        self.thread.start()

    def run(self, url):
        import aws

        client, sent = None, b""
        while True:
            last = self.over.wait(EVERY)
            data = content()
            if data != sent:
                try:
                    client = client or aws.Client()
                    client.put(url, data)
                    sent = data
                except (aws.AwsError, OSError, ValueError) as error:
                    print(f"report: {error}", file=sys.stderr)
            if last:
                return

    def end(self):
        """Sends the whole and waits for it, two minutes at most."""
        self.start()
        self.over.set()
        if self.thread:
            self.thread.join(120)


def main():
    url = place()
    data = content()
    if url is None:
        return
    import aws

    lines = [line for line in data.decode(errors="replace").splitlines() if line]
    try:
        done = "generation" in json.loads(lines[-1])
    except (IndexError, ValueError, TypeError):
        done = False
    # An activation that said its end has sent it; this is for one that was killed.
    if not done:
        end = {"generation": "", "outcome": "failed", "seconds": 0, "error": "the activator ended without saying how"}
        try:
            aws.Client().put(url, data + json.dumps(end).encode() + b"\n")
        except aws.AwsError as error:
            sys.exit(f"report: {error}")


if __name__ == "__main__":
    main()
