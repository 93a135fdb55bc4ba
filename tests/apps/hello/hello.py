"""A WSGI application that says as whom it runs, with what, and who asked: for the tests of what serves one."""
import grp
import json
import os
import pwd

RELEASE = "one"


def application(environ, start_response):
    body = {
        "release": RELEASE,
        "pid": os.getpid(),
        "user": pwd.getpwuid(os.geteuid()).pw_name,
        "groups": sorted(grp.getgrgid(gid).gr_name for gid in os.getgroups()),
        "folder": os.getcwd(),
        "environment": {name: os.environ.get(name) for name in ("GREETING", "SECRET", "HOME")},
        "capabilities": [line.split()[1] for line in open("/proc/self/status", encoding="ascii") if line.startswith(("CapBnd", "CapEff"))],
        "headers": {name: value for name, value in sorted(environ.items()) if name.startswith("HTTP_")},
    }
    start_response("200 OK", [("Content-Type", "application/json"), ("X-Frame-Options", "ALLOWALL")])
    return [json.dumps(body).encode()]
