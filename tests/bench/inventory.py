"""The machine that the bench has booted, for pyinfra."""
import json
import os

with open(os.path.join(os.environ["BENCH"], "variables.json"), encoding="utf-8") as file:
    variables = json.load(file)

hosts = [
    (
        variables["ansible_host"],
        {
            **{name: value for name, value in variables.items() if not name.startswith("ansible_")},
            "ssh_port": variables["ansible_port"],
            "ssh_user": variables["ansible_user"],
            "ssh_key": variables["ansible_ssh_private_key_file"],
            "ssh_known_hosts_file": "/dev/null",
            "ssh_strict_host_key_checking": "no",
            "_sudo": True,
        },
    )
]
