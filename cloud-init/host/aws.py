"""What a host on EC2 needs of AWS, with the standard library alone: the metadata service (IMDSv2), requests signed by Signature Version 4,
and the few calls of SSM, Secrets Manager and S3. Used by facts.py, fetch.py and report.py; elsewhere only by backup_s3.py.

Sources: Amazon EC2 User Guide, "Use IMDSv2"; AWS IAM User Guide, "Create a signed AWS API request". The standard variables are honoured:
AWS_ENDPOINT_URL, AWS_EC2_METADATA_SERVICE_ENDPOINT, AWS_REGION, from the environment or from /etc/ingot/aws.env (NAME=value lines).
"""
import base64
import datetime
import hashlib
import hmac
import json
import os
import random
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request

SETTINGS = "/etc/ingot/aws.env"
TRIES = 6
# No proxy of the environment's: the metadata service is on this very host, and the rest is reached as the role.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class AwsError(RuntimeError):
    """Says what AWS refused and what to do, without any secret."""


def settings():
    values = {}
    try:
        with open(SETTINGS, encoding="utf-8") as file:
            for line in file:
                name, found, value = line.strip().partition("=")
                if found and not name.startswith("#"):
                    values[name] = value
    except FileNotFoundError:
        pass
    return values


def setting(name):
    return os.environ.get(name) or settings().get(name)


def is_ec2():
    """By what the firmware says, as cloud-init does; or because somebody says where the metadata service is."""
    if setting("AWS_EC2_METADATA_SERVICE_ENDPOINT"):
        return True
    try:
        with open("/sys/class/dmi/id/sys_vendor", encoding="utf-8") as file:
            return file.read().strip() == "Amazon EC2"
    except OSError:
        return False


def pause(attempt):
    """Seconds before the next try: longer each time, and never the same for all hosts that were throttled together."""
    time.sleep(random.uniform(0, min(10, 0.3 * 2**attempt)))


# --- The metadata service -------------------------------------------------------------------------------------------------------


class Metadata:
    def __init__(self):
        self.base = (setting("AWS_EC2_METADATA_SERVICE_ENDPOINT") or "http://169.254.169.254").rstrip("/")
        self.token = None

    def request(self, path, method="GET", headers=None):
        for attempt in range(TRIES):
            try:
                request = urllib.request.Request(f"{self.base}/latest/{path}", method=method, headers=headers or {})
                with OPENER.open(request, timeout=5) as answer:
                    return answer.read().decode()
            except urllib.error.HTTPError as error:
                if error.code < 500 or attempt == TRIES - 1:
                    raise
            except OSError as error:
                if attempt == TRIES - 1:
                    raise AwsError(f"the metadata service at {self.base} does not answer: {error}") from None
            pause(attempt)

    def get(self, path):
        """The text of a path below meta-data/ or dynamic/; None when there is none."""
        for _ in range(2):
            if self.token is None:
                self.token = self.request("api/token", "PUT", {"X-aws-ec2-metadata-token-ttl-seconds": "21600"})
            try:
                return self.request(path, headers={"X-aws-ec2-metadata-token": self.token})
            except urllib.error.HTTPError as error:
                if error.code == 404:
                    return None
                if error.code != 401:
                    raise AwsError(f"the metadata service answers {error.code} to {path}") from None
                self.token = None  # it has expired
        raise AwsError("the metadata service takes no token")


# --- Requests, signed -----------------------------------------------------------------------------------------------------------


def canonical_request(method, path, query, headers, payload_hash):
    """The canonical request and the list of signed headers. `path` is percent-encoded already, `query` is pairs."""
    encode = lambda text: urllib.parse.quote(text, safe="-_.~")  # noqa: E731
    pairs = "&".join(f"{encode(k)}={encode(v)}" for k, v in sorted(query))
    lower = {name.lower(): re.sub(" +", " ", value.strip()) for name, value in headers.items()}
    names = ";".join(sorted(lower))
    lines = "".join(f"{name}:{lower[name]}\n" for name in sorted(lower))
    return f"{method}\n{path or '/'}\n{pairs}\n{lines}\n{names}\n{payload_hash}", names


def signature(secret, date, region, service, text):
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def authorization(credentials, region, service, method, path, query, headers, payload_hash):
    """The Authorization header; `headers` hold Host and X-Amz-Date already."""
    when = headers["X-Amz-Date"]
    scope = f"{when[:8]}/{region}/{service}/aws4_request"
    request, names = canonical_request(method, path, query, headers, payload_hash)
    text = f"AWS4-HMAC-SHA256\n{when}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signed = signature(credentials["SecretAccessKey"], when[:8], region, service, text)
    return f"AWS4-HMAC-SHA256 Credential={credentials['AccessKeyId']}/{scope}, SignedHeaders={names}, Signature={signed}"


def explain(status, body, what):
    """Words for an answer that is none, and whether trying again may help."""
    text = body.decode(errors="replace")
    try:
        data = json.loads(text)
        code = str(data.get("__type", "")).rpartition("#")[2]
        message = data.get("message") or data.get("Message") or ""
    except (ValueError, AttributeError):
        code = (re.findall(r"<Code>([^<]*)</Code>", text) or [""])[0]
        message = (re.findall(r"<Message>([^<]*)</Message>", text) or [""])[0]
    again = status >= 500 or status == 429 or re.search(r"Throttl|SlowDown|TooManyRequests|RequestLimitExceeded", code)
    if re.search("Skew|Signature.*(expired|not yet current)", f"{code} {message}"):
        message += "; is this host's clock right (timedatectl)?"
    return f"{what}: {code or status} {message}".strip(), bool(again), code


class Client:
    """The calls that a host makes, with the credentials of its role, or with `keys` that somebody declared; at AWS, or at an `endpoint` of its own, whose
    certificate is signed by the one in the file `ca`, or by whom this host knows. A request is tried so many times, each for so many seconds."""

    def __init__(self, metadata=None, region=None, endpoint=None, ca=None, keys=None, tries=TRIES, seconds=60):
        self.tries, self.seconds = tries, seconds
        self.metadata = metadata or Metadata()
        self.declared, self.keys = keys, None
        self.endpoint = endpoint or setting("AWS_ENDPOINT_URL")
        own = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca)) if ca else None
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), own) if own else OPENER
        self.region = region or setting("AWS_REGION") or self.metadata.get("meta-data/placement/region")
        if not self.region:
            raise AwsError("the metadata service does not say which region this is")

    def credentials(self):
        """Those that were declared, or of the instance's role: anew five minutes before they expire."""
        if self.declared:
            return self.declared
        now = datetime.datetime.now(datetime.timezone.utc)
        if self.keys and datetime.datetime.fromisoformat(self.keys["Expiration"].replace("Z", "+00:00")) - now > datetime.timedelta(minutes=5):
            return self.keys
        role = self.metadata.get("meta-data/iam/security-credentials/")
        found = role and self.metadata.get(f"meta-data/iam/security-credentials/{role.splitlines()[0]}")
        if not found:
            raise AwsError("this instance has no role: it was launched without an instance profile")
        self.keys = json.loads(found)
        return self.keys

    def send(self, service, method, what, path="/", headers=None, body=b"", bucket=None, sink=None, query=()):
        """Sends a signed request, again when that may help. Gives the answer's body, or streams it into `sink`."""
        suffix = "amazonaws.com.cn" if self.region.startswith("cn-") else "amazonaws.com"
        if self.endpoint:
            base, path = self.endpoint.rstrip("/"), f"/{bucket}{path}" if bucket else path
        else:
            base = f"https://{bucket + '.' if bucket else ''}{service}.{self.region}.{suffix}"
        for attempt in range(self.tries):
            keys = self.credentials()
            payload_hash = hashlib.sha256(body).hexdigest()
            signed = {
                "Host": urllib.parse.urlsplit(base).netloc,
                "X-Amz-Date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ"),
                **({"X-Amz-Security-Token": keys["Token"]} if keys.get("Token") else {}),
                **({"X-Amz-Content-Sha256": payload_hash} if service == "s3" else {}),
                **(headers or {}),
            }
            signed["Authorization"] = authorization(keys, self.region, service, method, path, query, signed, payload_hash)
            asked = f"?{urllib.parse.urlencode(query, quote_via=urllib.parse.quote, safe='-_.~')}" if query else ""
            request = urllib.request.Request(base + path + asked, data=body if method != "GET" else None, method=method, headers=signed)
            last = attempt == self.tries - 1
            try:
                with self.opener.open(request, timeout=self.seconds) as answer:
                    if sink is None:
                        return answer.read()
                    sink(answer)
                    return b""
            except urllib.error.HTTPError as error:
                message, again, code = explain(error.code, error.read(), what)
                if code in ("ExpiredToken", "ExpiredTokenException"):
                    self.keys, again = None, True
                if last or not again:
                    failure = AwsError(message)
                    failure.code = code or str(error.code)
                    raise failure from None
            except OSError as error:
                if last:
                    raise AwsError(f"{what}: {base} does not answer: {error}") from None
            pause(attempt)

    def call(self, service, target, arguments, what):
        """A call of a JSON 1.1 service."""
        headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target}
        return json.loads(self.send(service, "POST", what, headers=headers, body=json.dumps(arguments).encode()))

    def parameters(self, names):
        """Values of SSM parameters by name, decrypted; what is not there is not in the answer."""
        values = {}
        names = sorted(names)
        for start in range(0, len(names), 10):
            some = names[start : start + 10]
            answer = self.call("ssm", "AmazonSSM.GetParameters", {"Names": some, "WithDecryption": True}, f"ssm:GetParameters of {', '.join(some)}")
            values.update({p["Name"]: p["Value"] for p in answer["Parameters"]})
        return values

    def secret(self, name):
        """The value of a secret of Secrets Manager; None when there is none."""
        try:
            answer = self.call("secretsmanager", "secretsmanager.GetSecretValue", {"SecretId": name}, f"secretsmanager:GetSecretValue of {name}")
        except AwsError as error:
            if getattr(error, "code", "") == "ResourceNotFoundException":
                return None
            raise
        return answer["SecretString"].encode() if "SecretString" in answer else base64.b64decode(answer["SecretBinary"])

    def download(self, url, path, sha256):
        """Brings s3://bucket/key to a file, all of it or nothing, when it is what its hash says."""
        bucket, key = split(url)
        partial = f"{path}.{os.getpid()}"

        def sink(answer):
            found = hashlib.sha256()
            with open(partial, "wb") as file:
                os.fchmod(file.fileno(), 0o600)
                while chunk := answer.read(1 << 20):
                    found.update(chunk)
                    file.write(chunk)
            if found.hexdigest() != sha256:
                raise AwsError(f"{url} is not what its name says: its sha256 is {found.hexdigest()}")

        try:
            self.send("s3", "GET", f"s3:GetObject of {url}", f"/{urllib.parse.quote(key)}", bucket=bucket, sink=sink)
            os.rename(partial, path)
        finally:
            if os.path.exists(partial):
                os.unlink(partial)

    def put(self, url, body):
        bucket, key = split(url)
        self.send("s3", "PUT", f"s3:PutObject of {url}", f"/{urllib.parse.quote(key)}", {"Content-Type": "application/octet-stream"}, body, bucket)


def split(url):
    match = re.fullmatch(r"s3://([^/]+)/(.+)", url)
    if not match:
        raise AwsError(f"not a place in S3: {url}")
    return match.groups()
