"""Backups in a bucket of S3, or of a server that speaks as it does: what is there, which machine may write, and what restic is told. Called by backup.py
with the `s3` of its settings (cloud-init/backup/bucket.ts); pgBackRest has the same in a configuration of its own.

The bucket keeps `holder` as any other object and holds nobody to it: it is Ingot's programs on the machine that ask before they write (backup.py,
pgbackrest-archive). Who ignores them and has keys is refused only once the keys are: on EC2 by the fence of a rebuild, elsewhere by whoever gave them.
"""
import contextlib
import json
import re
import urllib.parse
import xml.etree.ElementTree

import aws

# Access key and secret key, a line each, where they are declared.
KEYS = "/etc/ingot/backup/s3-keys"
NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


def keys_of(s3):
    """Those that are declared: (access key, secret key); None: the machine's role has them. Raises AwsError where it can have none."""
    if "access_key" in s3:
        with open(KEYS, encoding="utf-8") as file:
            return tuple(file.read().splitlines()[:2])
    if not aws.is_ec2():
        raise aws.AwsError(f"{place(s3)}: no keys are declared, and only on EC2 does a machine's role have them: write `access_key:` and `secret_key:`")
    return None


def place(s3):
    return f"s3://{s3['bucket']}/{s3['prefix']}"


def client(s3):
    keys = keys_of(s3)
    declared = keys and {"AccessKeyId": keys[0], "SecretAccessKey": keys[1]}
    # Small things are asked for, by people among others: that a server is gone without a word is said after a minute.
    return aws.Client(region=s3["region"], endpoint=s3.get("endpoint"), ca=s3.get("ca"), keys=declared, tries=4, seconds=15)


@contextlib.contextmanager
def in_words(s3):
    """What S3 refuses, as what the person who declared it can mend. Raises AwsError."""
    try:
        yield
    except aws.AwsError as error:
        code = getattr(error, "code", "")
        who = f"the access key of the secret {s3['access_key']}" if "access_key" in s3 else "this machine's role"
        where = s3.get("endpoint") or f"S3 in {s3['region']}"
        words = {
            "NoSuchBucket": f"{where} has no bucket {s3['bucket']}: make it first",
            "InvalidAccessKeyId": f"{where} does not know {who}",
            "SignatureDoesNotMatch": f"the secret {s3.get('secret_key')} is not the secret key of {who}",
            "AccessDenied": f"{who} may not do this in {place(s3)}: it needs ListBucket below the prefix, GetObject, PutObject and DeleteObject",
            "PermanentRedirect": f"the bucket {s3['bucket']} is in another region than {s3['region']}",
            "AuthorizationHeaderMalformed": f"the bucket {s3['bucket']} is in another region than {s3['region']}",
        }.get(code)
        if words is None and "CERTIFICATE_VERIFY_FAILED" in str(error):
            words = f"the certificate of {where} is not signed by {s3.get('ca') or 'anybody whom this host knows'}"
        raise aws.AwsError(f"{words} ({error})" if words else str(error)) from None


def below(client_, s3, folder):
    """Names of what lies in a folder of the prefix; those of folders end with a slash."""
    prefix = f"{s3['prefix']}/{folder}"
    found, token = set(), None
    while True:
        query = [("delimiter", "/"), ("list-type", "2"), ("prefix", prefix), *([("continuation-token", token)] if token else [])]
        answer = client_.send("s3", "GET", f"s3:ListBucket of {s3['bucket']}", bucket=s3["bucket"], query=query)
        tree = xml.etree.ElementTree.fromstring(answer)
        paths = [e.text for tag in ("Contents/{0}Key", "CommonPrefixes/{0}Prefix") for e in tree.findall(NAMESPACE + tag.format(NAMESPACE))]
        found.update(p[len(prefix) :] for p in paths)
        token = tree.findtext(f"{NAMESPACE}NextContinuationToken")
        if not token:
            return found


def key(s3, name):
    return f"/{urllib.parse.quote(s3['prefix'])}/{name}"


def ready(s3):
    """As backup_store.ready(), of the bucket. Raises AwsError."""
    with in_words(s3):
        c = client(s3)
        top, files = below(c, s3, ""), below(c, s3, "files/")
        backups = below(c, s3, "postgresql/backup/main/") if "postgresql/" in top else set()
        holder = c.send("s3", "GET", f"s3:GetObject of {place(s3)}/holder", key(s3, "holder"), bucket=s3["bucket"]) if "holder" in top else None
    return {
        "full": any(re.fullmatch(r"\d+-\d+F/", name) for name in backups),
        "files": "config" in files,
        "copies": "snapshots/" in files,
        "holder": holder.decode().strip() if holder is not None else None,
    }


def take(s3, instance):
    """Writes down which machine may write from now on. Raises AwsError."""
    with in_words(s3):
        what, headers = f"s3:PutObject of {place(s3)}/holder", {"Content-Type": "text/plain"}
        client(s3).send("s3", "PUT", what, key(s3, "holder"), headers, f"{instance}\n".encode(), s3["bucket"])


def note(s3, what, entries):
    """As backup_store.note(). Raises AwsError."""
    with in_words(s3):
        name, headers = f"backups.{what}.json", {"Content-Type": "application/json"}
        body = f"{json.dumps(entries)}\n".encode()
        client(s3).send("s3", "PUT", f"s3:PutObject of {place(s3)}/{name}", key(s3, name), headers, body, s3["bucket"])


def bring(s3, folder, to, names):
    """Files of a folder of this host into one below the prefix, in their order. Raises AwsError."""
    with in_words(s3):
        c = client(s3)
        for name in names:
            with open(f"{folder}/{name}", "rb") as file:
                what, headers = f"s3:PutObject of {place(s3)}/{to}/{name}", {"Content-Type": "application/octet-stream"}
                c.send("s3", "PUT", what, key(s3, f"{to}/{name}"), headers, file.read(), s3["bucket"])


def restic(s3):
    """restic's repository, options and environment. A role's keys it gets, and renews, by itself (IMDSv2, since 0.13). Raises AwsError."""
    keys = keys_of(s3)
    ca = ["--cacert", s3["ca"]] if "ca" in s3 else []
    env = {"AWS_ACCESS_KEY_ID": keys[0], "AWS_SECRET_ACCESS_KEY": keys[1]} if keys else {}
    return s3["restic"]["repository"], [*s3["restic"]["options"], *ca], env
