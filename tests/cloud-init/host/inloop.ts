// A generation that uses every action once, and what it needs: secrets, a release of a small application, units and configuration.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Check, Rendered } from "../../../cloud-init/plan.ts";
import { sha256 } from "../../../lib/digest.ts";
import { type HandWritten, step } from "./machine.ts";

/** Secrets as the store makes them; the weak ones are for the renderer's sake. */
export function makeSecrets(): Record<string, string> {
  const folder = mkdtempSync(join(tmpdir(), "ingot-secrets-"));
  const key = (name: string) => {
    execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", join(folder, name)]);
    return readFileSync(join(folder, name), "utf8");
  };
  const tls = execFileSync("openssl", ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], { encoding: "utf8" });
  const secrets = {
    "database/inloop": "Pass/w0rd with:@ signs and \"quotes\" $HOME `x` 'y' \\",
    django: "f".repeat(10) + "0123456789abcdef0123456789abcdef",
    "ssh/host": key("host"),
    "ssh/huey": key("huey"),
    "superuser/admin": "ErsterAdminPasswort12345678901234",
    "tls/inloop": tls,
  };
  rmSync(folder, { recursive: true });
  return secrets;
}

const manage = `#!/usr/bin/env python
import os, sys
assert os.getcwd() == os.path.dirname(os.path.abspath(__file__)), os.getcwd()
assert os.environ["GREETING"] == "hello 'world' $HOME", os.environ["GREETING"]
assert "ARG_COMMAND" not in os.environ and "ARG_ENV" not in os.environ
state = "/var/lib/inloop/superuser"
if sys.argv[1] == "migrate":
    print("migrating as", os.getuid(), sys.argv[2:])
    open("/var/lib/inloop/migrated", "a").write(repr(sys.argv[2:]) + "\\n")
elif sys.argv[1] == "createsuperuser":
    assert os.environ["DJANGO_SUPERUSER_PASSWORD"].startswith("ErsterAdmin")
    if os.path.exists(state):
        sys.exit("CommandError: Error: That username is already taken.")
    open(state, "w").write(" ".join(sys.argv[2:]))
`;
const serve = `import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"release {os.getcwd()} greeting {os.environ['GREETING']}\\n".encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    do_HEAD = do_GET
http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
`;

/** A release as a tar.zst: manage.py, serve.py, a venv that is the machine's own Python. */
export function makeRelease(version: string): { sha256: string; bytes: Uint8Array } {
  const folder = mkdtempSync(join(tmpdir(), "ingot-release-"));
  mkdirSync(join(folder, "venv/bin"), { recursive: true });
  mkdirSync(join(folder, "app"));
  symlinkSync("/usr/bin/python3", join(folder, "venv/bin/python"));
  writeFileSync(join(folder, "app/manage.py"), manage);
  writeFileSync(join(folder, "app/serve.py"), serve);
  writeFileSync(join(folder, "VERSION"), version);
  const bytes = execFileSync("tar", ["--zstd", "-C", folder, "-c", "."], { maxBuffer: 1 << 28 });
  rmSync(folder, { recursive: true });
  return { sha256: sha256(bytes), bytes };
}

export interface Variant {
  release: string;
  greeting?: string;
  /** Leave out the worker and its unit. */
  withoutWorker?: true;
  settings?: string;
  attributes?: string[];
}

const publicKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDm7nhZ1cF0dDkcpSZPN+tWdlbzgGOb0WYbUXvPQ9Q0x ops@example.org";

export function inloop({
  release,
  greeting = "hello 'world' $HOME",
  withoutWorker,
  settings = "work_mem = 5MB",
  attributes = ["login"],
}: Variant): HandWritten {
  const path = `/srv/inloop/releases/${release.slice(0, 12)}`;
  const envPath = "/var/lib/ingot/applications/inloop.env";
  const env: Rendered = {
    format: "env",
    values: {
      GREETING: [greeting],
      DATABASE_URL: ["postgres://inloop:", { secret: "database/inloop", encode: "url" }, "@127.0.0.1:5432/inloop"],
      SECRET_KEY: [{ secret: "django" }],
    },
  };
  const application = { application: "inloop", release: path, env: envPath, user: "gunicorn" };
  const files: HandWritten["files"] = {
    "/etc/systemd/system/data.mount": {
      content:
        "[Unit]\nDescription=Data\n[Mount]\nWhat=/dev/disk/by-id/ingot-data\nWhere=/data\nType=ext4\nOptions=nodev,nosuid\n[Install]\nWantedBy=multi-user.target\n",
    },
    "/etc/ssh/sshd_config.d/ingot.conf": { content: "HostKey /etc/ssh/ssh_host_ed25519_key\nPasswordAuthentication no\n" },
    "/etc/ingot/postgresql.conf": { content: `${settings}\n` },
    "/etc/ingot/pg_hba.conf": { content: "local all postgres peer\nlocal all all peer\nhost all all 127.0.0.1/32 scram-sha-256\n" },
    "/etc/redis/ingot.conf": { content: 'bind 127.0.0.1\nport 6379\ndir /var/lib/redis\nsave ""\n' },
    "/etc/systemd/system/redis-server.service.d/ingot.conf": {
      content: "[Service]\nExecStart=\nExecStart=/usr/bin/redis-server /etc/redis/ingot.conf --supervised systemd --daemonize no\n",
    },
    "/etc/systemd/system/gunicorn.service": {
      content: `[Unit]\nDescription=gunicorn\nAfter=network.target postgresql@15-main.service\n[Service]\nUser=gunicorn\nEnvironmentFile=${envPath}\nWorkingDirectory=/srv/inloop/current/app\nExecStart=/srv/inloop/current/venv/bin/python serve.py\nRestart=on-failure\n[Install]\nWantedBy=multi-user.target\n`,
    },
    "/etc/nginx/sites-enabled/inloop.conf": {
      content:
        "server { listen 80 default_server; return 444; }\nserver { listen 443 ssl; server_name inloop.localhost; ssl_certificate /etc/ssl/ingot/inloop.crt; ssl_certificate_key /etc/ssl/ingot/inloop.key; location / { proxy_pass http://127.0.0.1:8000; add_header X-Frame-Options DENY; } }\n",
    },
    ...(withoutWorker
      ? {}
      : {
          "/etc/systemd/system/huey.service": {
            content:
              "[Unit]\nDescription=huey\n[Service]\nUser=huey\nSupplementaryGroups=docker\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
          },
          "/etc/systemd/system/huey.service.d/limits.conf": { content: "[Service]\nMemoryMax=200M\n" },
        }),
  };
  const steps = [
    step("hostname/inloop", "hostname", { hostname: "inloop", fqdn: "inloop.inf.example.org" }),
    step("host-key/ssh", "ssh-host-key", {
      unit: "ssh.service",
      key: { secret: "ssh/host" },
      inputs: ["/etc/ssh/sshd_config.d/ingot.conf"],
      listens: ["0.0.0.0:22"],
    }),
    step("group/operators", "group", { name: "operators", gid: 1500, system: false }),
    step(
      "user/inloop",
      "user",
      {
        name: "inloop",
        uid: 1200,
        system: false,
        groups: ["sudo", "docker", "operators"],
        sudo: "passwordless",
        comment: "INLOOP",
      },
      { after: ["group/operators"] },
    ),
    step("user/inloop:ssh-keys", "authorized-keys", { user: "inloop", keys: [publicKey] }, { after: ["user/inloop"] }),
    step("user/gunicorn", "user", { name: "gunicorn", uid: 701, system: true, home: "/", groups: [], sudo: "none" }),
    step("user/huey", "user", { name: "huey", uid: 702, system: true, home: "/var/lib/inloop", groups: [], sudo: "none" }),
    step("user/huey:ssh-key", "ssh-key", { user: "huey", key: { secret: "ssh/huey" } }, { after: ["directory//var/lib/inloop"] }),
    step("volume/data", "volume", { device: "/dev/disk/by-id/ingot-data", mount: "/data", filesystem: "ext4", unit: "data.mount" }),
    // The application writes its marks there as gunicorn.
    step(
      "directory//var/lib/inloop",
      "directory",
      { path: "/var/lib/inloop", owner: "huey", group: "gunicorn", mode: "0775" },
      { after: ["user/huey", "user/gunicorn"] },
    ),
    step(
      "directory//var/lib/inloop/media/solutions",
      "directory",
      { path: "/var/lib/inloop/media/solutions", owner: "gunicorn", group: "gunicorn", mode: "2750" },
      { after: ["directory//var/lib/inloop", "user/gunicorn"] },
    ),
    step(
      "file//var/lib/inloop/note",
      "file",
      { path: "/var/lib/inloop/note", owner: "huey", group: "huey", mode: "0640", source: "/etc/ingot/pg_hba.conf" },
      { after: ["directory//var/lib/inloop"] },
    ),
    step(
      "postgresql/main",
      "postgresql",
      {
        unit: "postgresql@15-main.service",
        version: 15,
        locale: "en_US.UTF-8",
        data: "/data/15/main",
        mount: "/data",
        settings_file: "/etc/ingot/postgresql.conf",
        hba_file: "/etc/ingot/pg_hba.conf",
      },
      { after: ["volume/data"] },
    ),
    step("role/inloop", "role", { name: "inloop", password: { secret: "database/inloop" }, attributes }, { after: ["postgresql/main"] }),
    step(
      "database/inloop",
      "database",
      { name: "inloop", owner: "inloop", encoding: "UTF8", locale: "en_US.UTF-8", template: "template0" },
      { after: ["role/inloop"] },
    ),
    step("redis/main", "service", { unit: "redis-server.service", inputs: ["/etc/redis/ingot.conf"], listens: ["127.0.0.1:6379"] }),
    step("certificate/inloop", "certificate", {
      name: "inloop",
      key: { secret: "tls/inloop" },
      names: ["inloop.inf.example.org", "inloop.localhost", "127.0.0.1"],
      days: 825,
      certificate: "/etc/ssl/ingot/inloop.crt",
      key_path: "/etc/ssl/ingot/inloop.key",
    }),
    step("application/inloop:release", "release", { artifact: release, path }),
    step("application/inloop:env", "application-env", { env: { render: env }, path: envPath }),
    step(
      "application/inloop:migrate",
      "application-command",
      { ...application, command: ["manage.py", "migrate", "--name", "two words $HOME", "it's"] },
      {
        done: "stamp",
        stampIn: { database: "inloop" },
        after: ["application/inloop:release", "application/inloop:env", "database/inloop", "directory//var/lib/inloop/media/solutions"],
      },
    ),
    step(
      "application/inloop:superuser",
      "application-superuser",
      { ...application, name: "admin", email: "ops@example.org", password: { secret: "superuser/admin" } },
      { done: "stamp", stampIn: { database: "inloop" }, after: ["application/inloop:migrate"] },
    ),
    step(
      "application/inloop:live",
      "application-live",
      { path: "/srv/inloop/current", release: path },
      { after: ["application/inloop:migrate"] },
    ),
    step(
      "service/gunicorn",
      "service",
      {
        unit: "gunicorn.service",
        inputs: [envPath, "/srv/inloop/current"],
        listens: ["127.0.0.1:8000"],
        ready: "inloop.localhost",
        timeout: 10,
      },
      { after: ["application/inloop:live"] },
    ),
    ...(withoutWorker
      ? []
      : [step("service/huey", "service", { unit: "huey.service", hash: "kept with its last blank " }, { after: ["user/huey"] })]),
    step(
      "site/nginx",
      "nginx",
      {
        unit: "nginx.service",
        inputs: ["/etc/nginx/sites-enabled/inloop.conf", "/etc/ssl/ingot/inloop.crt", "/etc/ssl/ingot/inloop.key"],
        listens: ["0.0.0.0:80", "0.0.0.0:443"],
      },
      { after: ["certificate/inloop", "service/gunicorn"] },
    ),
  ];
  return { steps, files };
}

/** What the host must be afterwards, asked through check.py. */
export function checks(secrets: Record<string, string>): Check[] {
  const inside = (id: string, check: string, args: Check["args"]): Check => ({ id, resource: id, seen: "inside", check, args });
  return [
    inside("hostname", "hostname", { hostname: "inloop", fqdn: "inloop.inf.example.org" }),
    inside("inloop", "user", {
      name: "inloop",
      uid: 1200,
      groups: ["docker", "operators", "sudo"],
      home: "/home/inloop",
      shell: "/bin/bash",
      login: true,
    }),
    inside("gunicorn", "user", { name: "gunicorn", uid: 701, groups: [], home: "/", login: false }),
    inside("operators", "group", { name: "operators", gid: 1500, members: ["inloop"] }),
    inside("sudo", "sudo", { user: "inloop", passwordless: true }),
    inside("keys", "authorized_keys", { user: "inloop", keys: [publicKey] }),
    inside("id", "command", { argv: ["id", "-un"], user: "huey", status: 0, stdout: "huey" }),
    inside("solutions", "path", {
      path: "/var/lib/inloop/media/solutions",
      type: "directory",
      owner: "gunicorn",
      group: "gunicorn",
      mode: "2750",
    }),
    inside("media", "path", { path: "/var/lib/inloop/media", type: "directory", owner: "root", group: "root", mode: "0755" }),
    inside("note", "path", { path: "/var/lib/inloop/note", type: "file", owner: "huey", group: "huey", mode: "0640" }),
    inside("huey-key", "openssh_key", { path: "/var/lib/inloop/.ssh/id_ed25519", owner: "huey" }),
    inside("host-key", "openssh_key", { path: "/etc/ssh/ssh_host_ed25519_key", owner: "root" }),
    inside("current", "path", { path: "/srv/inloop/current", type: "symlink" }),
    inside("mount", "mount", { path: "/data", source: "/dev/disk/by-id/ingot-data", filesystem: "ext4", options: ["nodev", "nosuid"] }),
    inside("postgresql", "unit", { name: "postgresql@15-main.service", active: true, enabled: true, user: "postgres" }),
    inside("huey", "unit", { name: "huey.service", active: true, enabled: true, user: "huey", groups: ["docker"] }),
    inside("database", "postgresql_database", { name: "inloop", owner: "inloop", encoding: "UTF8", collate: "en_US.UTF-8" }),
    inside("role", "postgresql_role", { name: "inloop", login: true, attributes: ["login"] }),
    inside("login", "command", {
      argv: ["psql", "-h", "127.0.0.1", "-U", "inloop", "-d", "inloop", "-Atc", "select current_user"],
      env: { PGPASSWORD: secrets["database/inloop"] ?? "" },
      status: 0,
      stdout: "inloop",
    }),
    inside("work_mem", "postgresql_setting", { name: "work_mem", value: "5MB" }),
    inside("checksums", "postgresql_setting", { name: "data_checksums", value: "on" }),
    inside("redis", "redis", { database: 1 }),
    inside("listening", "listening", { allowed: [22, 80, 443].map((port) => ({ port, protocol: "tcp" })) }),
    inside("ssh", "tcp", { host: "127.0.0.1", port: 22, open: true }),
    inside("closed", "tcp", { host: "127.0.0.1", port: 23, open: false }),
    inside("tls", "tls", {
      connect: "127.0.0.1",
      port: 443,
      sni: "inloop.localhost",
      names: ["127.0.0.1", "inloop.inf.example.org", "inloop.localhost"],
    }),
    inside("https", "http", {
      url: "https://inloop.localhost/",
      connect: "127.0.0.1:443",
      status: 200,
      contains: "greeting hello 'world' $HOME",
      headers: { "X-Frame-Options": "DENY", "X-Nothing": null },
      once: ["X-Frame-Options"],
      ca: "/etc/ssl/ingot/inloop.crt",
    }),
    inside("closed-request", "http", { url: "http://other.example/", connect: "127.0.0.1:80", status: 0 }),
    inside("nginx", "package", { name: "nginx" }),
    inside("secrets", "secret_files", {}),
  ];
}
