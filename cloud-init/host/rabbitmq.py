#!/usr/bin/python3
"""What RabbitMQ is told of users and virtual hosts. Called by actions/rabbitmq.sh with the action's arguments in the environment:
ARG_USERS, lines of name, a tab, tags with commas; ARG_PASSWORD_1…, the path of each one's secret; ARG_VHOSTS, lines of names;
ARG_PERMISSIONS, lines of vhost, user, configure, write, read with tabs in between.

`rabbitmq.py definitions OLD`   prints the definitions as JSON; the salt of a password that is in OLD already stays
`rabbitmq.py surplus`           of what the server has, prints what is not declared as arguments of rabbitmqctl, with tabs in between; reads
                                lines of user, or of vhost and user, with a tab
`rabbitmq.py ready`             ends with 0 when every user gets into every virtual host of his
"""
import base64
import hashlib
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import amqp  # noqa: E402


def lines(name):
    return [line.split("\t") for line in os.environ.get(name, "").split("\n") if line]


def password(number):
    with open(os.environ[f"ARG_PASSWORD_{number + 1}"], encoding="utf-8") as file:
        return file.read().removesuffix("\n")


USERS = {name: (tags, number) for number, (name, tags) in enumerate(lines("ARG_USERS"))}
VHOSTS = [name for name, in lines("ARG_VHOSTS")]
PERMISSIONS = lines("ARG_PERMISSIONS")


def hashed(value, salt):
    """Source: RabbitMQ's "Passwords": a salt of four bytes and SHA-256 over salt and password, in base64."""
    return base64.b64encode(salt + hashlib.sha256(salt + value.encode()).digest()).decode()


def definitions(old):
    try:
        with open(old, encoding="utf-8") as file:
            there = {user["name"]: user["password_hash"] for user in json.load(file)["users"]}
    except (OSError, ValueError, KeyError):
        there = {}
    users = []
    for name, (tags, number) in USERS.items():
        known = there.get(name, "")
        salt = base64.b64decode(known)[:4] if known else os.urandom(4)
        users.append({
            "name": name,
            "password_hash": hashed(password(number), salt),
            "hashing_algorithm": "rabbit_password_hashing_sha256",
            "tags": [tag for tag in tags.split(",") if tag],
        })  # fmt: skip
    keys = ("vhost", "user", "configure", "write", "read")
    return {"users": users, "vhosts": [{"name": name} for name in VHOSTS], "permissions": [dict(zip(keys, line)) for line in PERMISSIONS]}


def surplus(server):
    declared = {(vhost, user) for vhost, user, *_ in PERMISSIONS}
    for *vhost, user in server:
        if not vhost and user not in USERS:
            yield "delete_user", user
        if vhost and user in USERS and (vhost[0], user) not in declared:
            yield "clear_permissions", "-p", vhost[0], user


def main():
    verb = sys.argv[1]
    if verb == "definitions":
        json.dump(definitions(sys.argv[2]), sys.stdout, indent=1)
    elif verb == "surplus":
        for words in surplus(line.rstrip("\n").split("\t") for line in sys.stdin):
            print("\t".join(words))
    else:
        for vhost, user, *_ in PERMISSIONS:
            try:
                amqp.connect("127.0.0.1", 5672, user, password(USERS[user][1]), vhost)
            except (amqp.Refused, OSError) as error:
                sys.exit(f"{user} does not get into {vhost}: {error}")


if __name__ == "__main__":
    main()
