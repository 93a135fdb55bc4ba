"""INLOOP's host by pyinfra, as stacks/inloop.yaml declares it and inloop.yaml beside this has it for Ansible."""
from io import StringIO

from pyinfra import host
from pyinfra.facts.files import File
from pyinfra.operations import files, postgres, server, systemd

data = host.data
RELEASE = f"/srv/inloop/releases/{data.release_id}"
ENVIRONMENT = "/etc/inloop/env"
POSTGRESQL = "postgresql@15-main"


def manage(*words, before=""):
    """A command of the application, as its user and with its environment."""
    user = "setpriv --reuid=gunicorn --regid=gunicorn --init-groups"
    return f"cd {RELEASE}/app && set -a && . {ENVIRONMENT} && {before} exec {user} {RELEASE}/venv/bin/python manage.py {' '.join(words)}"


server.hostname(hostname="inloop")
files.line(path="/etc/hosts", line=r"127\.0\.1\.1.*", replace="127.0.1.1 inloop.inf.example.org inloop")
ssh = files.put(src="files/sshd.conf", dest="/etc/ssh/sshd_config.d/inloop.conf", mode="644")
systemd.service(service="ssh", restarted=True, _if=ssh.did_change)

server.user(user="inloop", groups=["sudo", "docker"], shell="/bin/bash", public_keys=[data.operator_key])
server.user(user="gunicorn", system=True, home="/", create_home=False, ensure_home=False, shell="/usr/sbin/nologin")
server.user(user="huey", system=True, home="/var/lib/inloop", create_home=False, ensure_home=False, shell="/usr/sbin/nologin")
files.put(src=StringIO("inloop ALL=(ALL:ALL) NOPASSWD: ALL\n"), dest="/etc/sudoers.d/inloop", mode="440")
for path, user, group, mode in [
    ("/var/lib/inloop", "huey", "huey", "755"),
    ("/var/lib/inloop/.ssh", "huey", "huey", "700"),
    ("/var/lib/inloop/media", "huey", "huey", "755"),
    ("/var/lib/inloop/media/git", "huey", "huey", "750"),
    ("/var/lib/inloop/media/solutions", "gunicorn", "www-data", "2750"),
    ("/srv/inloop", "root", "root", "755"),
    ("/srv/inloop/shared", "gunicorn", "gunicorn", "750"),
    (RELEASE, "root", "root", "755"),
    ("/etc/inloop", "root", "root", "755"),
]:
    files.directory(path=path, user=user, group=group, mode=mode)
files.put(src=StringIO(data.huey_key), dest="/var/lib/inloop/.ssh/id_ed25519", user="huey", group="huey", mode="600")

server.shell(
    commands=["pg_createcluster --locale en_US.UTF-8 15 main -- --data-checksums"],
    _if=lambda: not host.get_fact(File, path="/etc/postgresql/15/main/postgresql.conf"),
)
settings = [
    files.put(src=f"files/{src}", dest=f"/etc/postgresql/15/main/{dest}", user="postgres", mode="640")
    for src, dest in [("postgresql.conf", "conf.d/inloop.conf"), ("pg_hba.conf", "pg_hba.conf")]
]
systemd.service(service=POSTGRESQL, restarted=True, _if=lambda: any(s.did_change() for s in settings))
systemd.service(service=POSTGRESQL, enabled=True)
systemd.service(service="redis-server", enabled=True)
postgres.role(role="inloop", password=data.database_password, _su_user="postgres")
postgres.database(database="inloop", owner="inloop", encoding="UTF8", _su_user="postgres")

archive = f"/var/cache/{data.release_id}.tar.zst"
unpacked = files.put(src=data.archive, dest=archive)
server.shell(commands=[f"tar --extract --zstd --file={archive} --directory={RELEASE}"], _if=unpacked.did_change)
environment = files.template(src="templates/env.j2", dest=ENVIRONMENT, mode="600", **{name: data.get(name) for name in ["database_password", "github_secret", "django_secret"]})
server.shell(
    commands=[
        f"sh -c {command!r}"
        for command in [
            manage("check", "--deploy"),
            manage("migrate", "--noinput"),
            manage("set_default_site", "--system-fqdn", "--name", "INLOOP"),
            manage("createsuperuser", "--noinput", "--username", "admin", "--email", "ops@example.org", before="DJANGO_SUPERUSER_PASSWORD=$PASSWORD"),
        ]
    ],
    _env={"PASSWORD": data.superuser_password},
    _if=unpacked.did_change,
)
live = files.link(path="/srv/inloop/current", target=RELEASE)
units = [files.put(src=f"files/{unit}", dest=f"/etc/systemd/system/{unit}", mode="644") for unit in ["gunicorn.socket", "gunicorn.service", "huey.service"]]
systemd.daemon_reload(_if=lambda: any(u.did_change() for u in units))
systemd.service(service="gunicorn.socket", enabled=True)
for unit in ["gunicorn.service", "huey.service"]:
    systemd.service(service=unit, restarted=True, _if=lambda: any(o.did_change() for o in [environment, live, *units]))
    systemd.service(service=unit, enabled=True)

server.shell(
    commands=[
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj /CN=inloop.inf.example.org"
        " -addext subjectAltName=DNS:inloop.inf.example.org,DNS:inloop.localhost"
        " -keyout /etc/ssl/private/inloop.key -out /etc/ssl/certs/inloop.crt"
    ],
    _if=lambda: not host.get_fact(File, path="/etc/ssl/certs/inloop.crt"),
)
site = files.put(src="files/nginx.conf", dest="/etc/nginx/sites-enabled/inloop.conf", mode="644")
systemd.service(service="nginx", reloaded=True, _if=site.did_change)
systemd.service(service="nginx", enabled=True)
