// The whole line: INLOOP from its YAML to a verified host, and what its manual asks of it; then a second launch of the same host.
import { createHash, generateKeyPairSync } from "node:crypto";
import { copyFileSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { type IncomingMessage, request as plainRequest } from "node:http";
import { request } from "node:https";
import { join } from "node:path";
import { load } from "js-yaml";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { asRoot, type RunError, run } from "../../lib/run.ts";
import { type TestProject, testProject } from "./project.ts";

interface UpResult {
  ok: boolean;
  hosts: { steps: { step: string; outcome: string }[] }[];
  checks: { id: string; ok: boolean; message: string; seen: string }[];
  machines: { forwards: Record<string, string> }[];
}

const test = suite("inloop");
let project: TestProject;
let first: UpResult;

interface Answer {
  status: number;
  headers: IncomingMessage["headers"];
  rawHeaders: string[];
  body: Buffer;
}

/** Asks the host over this computer's loopback, as a browser here would. `status` 0: closed without an answer. */
function ask(
  path: string,
  options: { method?: string; headers?: Record<string, string>; name?: string; form?: string; plain?: true } = {},
): Promise<Answer> {
  const { method = "GET", headers = {}, name = "inloop.localhost", form } = options;
  const [host, port] = (first.machines[0]?.forwards[options.plain ? 80 : 443] ?? ":").split(":");
  const authority = options.plain ? name : `${name}:${port}`;
  return new Promise((resolve, reject) => {
    const outgoing = (options.plain ? plainRequest : request)(
      {
        host,
        port,
        path,
        method,
        headers: { host: authority, ...(form && { "content-type": "application/x-www-form-urlencoded" }), ...headers },
        ...(!options.plain && { servername: "inloop.localhost", rejectUnauthorized: false }),
        agent: false,
      },
      (answer) => {
        const chunks: Buffer[] = [];
        answer.on("data", (c: Buffer) => chunks.push(c));
        answer.on("end", () =>
          resolve({ status: answer.statusCode ?? 0, headers: answer.headers, rawHeaders: answer.rawHeaders, body: Buffer.concat(chunks) }),
        );
      },
    );
    outgoing.on("error", (error: NodeJS.ErrnoException) =>
      error.code === "ECONNRESET" || error.message.includes("socket hang up")
        ? resolve({ status: 0, headers: {}, rawHeaders: [], body: Buffer.alloc(0) })
        : reject(error),
    );
    outgoing.end(form);
  });
}

const lines = (text: string): string[] => text.trim().split("\n");

const operatorKey = () => join(project.folder, "operator");

test.before(async () => {
  project = await testProject();
  await run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "operator", "-f", operatorKey()]);
  copyFileSync(`${operatorKey()}.pub`, join(project.folder, "stacks/keys/ops.pub"));
});
test.after(async () => {
  await project?.remove();
});

test("`up` gives a verified host", async () => {
  first = (await project.json(["up", "inloop"])) as UpResult;
  assert.equal(
    first.hosts.flatMap((h) => h.steps).filter((s) => s.outcome !== "changed" && s.outcome !== "unchanged"),
    [],
  );
  assert.equal(
    first.checks.filter((c) => !c.ok),
    [],
  );
  assert.ok(first.ok);
  for (const seen of ["inside", "operator", "stranger"])
    assert.ok(
      first.checks.some((c) => c.seen === seen),
      `checks seen from ${seen}`,
    );
});

test("cloud-init itself is content, and did nothing but names and files", async () => {
  const { stdout } = await project.on("inloop", "cloud-init status --wait >/dev/null; cat /run/cloud-init/result.json");
  assert.equal((JSON.parse(stdout) as { v1: { errors: unknown[]; datasource: string } }).v1.errors, []);
  assert.match(stdout, /DataSourceNoCloud/);
});

test("the user-data is valid for the image's cloud-init, and PyYAML reads the same values from it", async () => {
  const rendered = (await project.json(["render", "inloop"])) as { text: string; bytes: number; limit: number }[];
  const text = rendered[0]?.text ?? "";
  assert.ok((rendered[0]?.bytes ?? Number.POSITIVE_INFINITY) <= 16_384);
  const schema = await project.on("inloop", "cat >/tmp/user-data && cloud-init schema --config-file /tmp/user-data", text);
  assert.is(schema.code, 0, schema.stdout + schema.stderr);
  const yaml = await project.on("inloop", "python3 -c 'import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)'", text);
  assert.equal(JSON.parse(yaml.stdout), load(text));
});

test("the machine has the manual's names, users, groups and directories", async () => {
  const script =
    "hostname; hostname -f; id -nG inloop; runuser -u inloop -- sudo -n id -un; getent passwd gunicorn huey | cut -d: -f1,6,7; stat -c '%U:%G %a %n' /var/lib/inloop /var/lib/inloop/media /var/lib/inloop/media/solutions; systemctl show -P SupplementaryGroups huey";
  const { stdout } = await project.on("inloop", script);
  assert.equal(lines(stdout), [
    "inloop",
    "inloop.inf.example.org",
    "inloop sudo docker",
    "root",
    "gunicorn:/:/usr/sbin/nologin",
    "huey:/var/lib/inloop:/usr/sbin/nologin",
    "huey:huey 755 /var/lib/inloop",
    "huey:huey 755 /var/lib/inloop/media",
    "gunicorn:www-data 2750 /var/lib/inloop/media/solutions",
    "docker",
  ]);
});

test("huey has a deployment key without passphrase, and the login key of the operator may log in", async () => {
  const { stdout } = await project.on(
    "inloop",
    "runuser -u huey -- ssh-keygen -y -P '' -f /var/lib/inloop/.ssh/id_ed25519 | cut -d' ' -f1; stat -c '%U %a' /var/lib/inloop/.ssh/id_ed25519; cat /home/inloop/.ssh/authorized_keys",
  );
  assert.equal(lines(stdout), ["ssh-ed25519", "huey 600", readFileSync(join(project.folder, "stacks/keys/ops.pub"), "utf8").trim()]);
});

test("the operator logs in by ssh with the key, to the host key that the store keeps, and is root by sudo", async () => {
  const [host, port] = (first.machines[0]?.forwards[22] ?? ":").split(":");
  const hostKey = (await run(["ssh-keygen", "-y", "-f", join(project.folder, ".ingot/secrets/inloop/web/ssh-host-key")])).stdout.trim();
  writeFileSync(join(project.folder, "known_hosts"), `[${host}]:${port} ${hostKey}\n`);
  const login = [
    "ssh",
    "-F",
    "none",
    "-i",
    operatorKey(),
    "-p",
    String(port),
    "-o",
    "BatchMode=yes",
    "-o",
    "StrictHostKeyChecking=yes",
    "-o",
    `UserKnownHostsFile=${join(project.folder, "known_hosts")}`,
    `inloop@${host}`,
  ];
  assert.is((await run([...login, "sudo -n id -un; hostname"])).stdout, "root\ninloop\n");
});

test("the database is the manual's, on a volume of its own", async () => {
  const { stdout } = await project.on(
    "inloop",
    `runuser -u postgres -- psql -XAtc "select pg_catalog.pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datctype from pg_database where datname = 'inloop'"; findmnt --noheadings --output FSTYPE,OPTIONS /var/lib/postgresql`,
  );
  const [database, mount] = lines(stdout);
  assert.is(database, "inloop|UTF8|en_US.UTF-8|en_US.UTF-8");
  assert.match(mount ?? "", /^ext4 .*nosuid.*nodev.*noexec/);
});

test("the environment has every variable that the manual requires, in a file that only root reads", async () => {
  const { stdout } = await project.on(
    "inloop",
    "stat -c '%U %a' /var/lib/ingot/applications/inloop.env; cut -d= -f1 /var/lib/ingot/applications/inloop.env; runuser -u gunicorn -- cat /var/lib/ingot/applications/inloop.env 2>&1 | tail -n 1",
  );
  const [rights, ...names] = lines(stdout);
  assert.is(rights, "root 600");
  for (const name of [
    "ADMINS",
    "ALLOWED_HOSTS",
    "CACHE_URL",
    "DATABASE_URL",
    "DJANGO_SETTINGS_MODULE",
    "FROM_EMAIL",
    "GITHUB_SECRET",
    "GIT_ROOT",
    "LANG",
    "MEDIA_ROOT",
    "PYTHONPATH",
    "REDIS_URL",
    "SECRET_KEY",
    "STATIC_ROOT",
    "PROXY_ENABLED",
    "X_ACCEL_LOCATION",
  ]) {
    assert.ok(names.includes(name), name);
  }
  assert.match(names.at(-1) ?? "", /Permission denied/);
});

test("the site answers on loopback with each security header once", async () => {
  const answer = await ask("/");
  assert.is(answer.status, 200);
  assert.match(answer.body.toString(), /INLOOP/);
  for (const name of [
    "strict-transport-security",
    "x-content-type-options",
    "x-frame-options",
    "referrer-policy",
    "cross-origin-opener-policy",
  ]) {
    assert.is(answer.rawHeaders.filter((h, i) => i % 2 === 0 && h.toLowerCase() === name).length, 1, name);
  }
});

test("the proxy alone sets the forwarded headers", async () => {
  const spoofed = {
    "x-forwarded-host": "evil.example",
    "x-forwarded-proto": "http",
    "x-forwarded-port": "1",
    forwarded: "host=evil.example;proto=http",
  };
  const whoami = JSON.parse((await ask("/whoami/", { headers: spoofed })).body.toString()) as Record<string, unknown>;
  assert.match(String(whoami.host), /^inloop\.localhost/);
  assert.is(whoami.scheme, "https");
  assert.is(String(whoami.port), "443");
});

test("plain HTTP is redirected, other names are closed without an answer", async () => {
  const answer = await ask("/a?b=1", { plain: true });
  assert.is(answer.status, 301);
  assert.is(answer.headers.location, "https://inloop.localhost/a?b=1");
  assert.is((await ask("/", { plain: true, name: "stranger.example" })).status, 0);
  assert.is((await ask("/", { name: "stranger.example" })).status, 0);
});

test("a session lives in Redis, a row in PostgreSQL, a job is done by huey", async () => {
  const cookie = String((await ask("/")).headers["set-cookie"]).split(";")[0] ?? "";
  assert.match((await ask("/", { headers: { cookie } })).body.toString(), /id="visits">2</);
  const row = await ask("/entries/", { method: "POST", form: "text=kept" });
  assert.is(row.status, 201);
  const job = JSON.parse((await ask("/jobs/?wait=15", { method: "POST" })).body.toString()) as {
    state: string;
    result: { user: string; groups: string[] };
  };
  assert.is(job.state, "done");
  assert.is(job.result.user, "huey");
  assert.ok(job.result.groups.includes("docker"));
});

test("static files are pre-compressed and cached; the protected file comes through X-Accel-Redirect only", async () => {
  const style = await ask("/static/board/board.css", { headers: { "accept-encoding": "gzip" } });
  assert.is(style.headers["content-encoding"], "gzip");
  assert.is(style.headers["cache-control"], "max-age=2592000");
  const file = await ask("/protected/hello.txt");
  assert.is(file.status, 200);
  assert.is(file.headers["x-accel-redirect"], undefined);
  assert.ok(file.body.length > 0);
  assert.is((await ask("/sendfile/solutions/hello.txt")).status, 404);
});

test("a service that dies comes back", async () => {
  const { stdout } = await project.on(
    "inloop",
    "before=$(systemctl show -P MainPID gunicorn); kill -KILL $before; sleep 3; systemctl is-active gunicorn; [ $before != $(systemctl show -P MainPID gunicorn) ] && echo another",
  );
  assert.equal(lines(stdout), ["active", "another"]);
});

test("no secret is in user-data, argv, journal, world-readable files or the image", async () => {
  const folder = join(project.folder, ".ingot/secrets/inloop");
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((f) => statSync(join(folder, f)).isFile());
  assert.ok(files.length >= 6, `secrets: ${files.join(", ")}`);
  for (const file of files) assert.is(statSync(join(folder, file)).mode & 0o777, 0o600, file);
  // Of a key, its longest line says it all.
  const values = files.map(
    (f) =>
      readFileSync(join(folder, f), "utf8")
        .trim()
        .split("\n")
        .sort((a, b) => b.length - a.length)[0] ?? "",
  );
  const text = ((await project.json(["render", "inloop"])) as { text: string }[])[0]?.text ?? "";
  for (const value of values) assert.not.ok(text.includes(value));
  const search = `patterns=$(mktemp) && cat >"$patterns" && chmod 600 "$patterns"
    cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -F -f "$patterns" && echo 'in argv'
    journalctl --no-pager --all | grep -F -f "$patterns" && echo 'in the journal'
    find / -xdev \\( -path /proc -o -path /sys \\) -prune -o -type f -perm -o+r -newer /etc/hostname -print0 | xargs -0 grep -lF -f "$patterns"
    find /run /var/log /srv /etc /tmp -type f -perm -o+r -print0 | xargs -0 grep -lF -f "$patterns"
    rm "$patterns"; echo searched`;
  const found = await project.on("inloop", search, `${values.join("\n")}\n`);
  assert.equal(lines(found.stdout), ["searched"]);
  const image = ((await project.json(["status", "inloop"])) as { imageDigest: string }[])[0]?.imageDigest ?? "";
  const root = join(project.folder, ".ingot/images", image, "root");
  assert.not.ok(existsSync(join(root, "var/lib/ingot")), "the image holds nothing of a host");
  const inImage = await run(
    asRoot([
      "grep",
      "--recursive",
      "--files-with-matches",
      "--no-messages",
      "--fixed-strings",
      "--file=-",
      join(root, "etc"),
      join(root, "var"),
      join(root, "root"),
      join(root, "home"),
      join(root, "usr/lib/ingot"),
    ]),
    { input: `${values.join("\n")}\n` },
  ).catch((error: RunError) => error.result);
  assert.equal([inImage.code, inImage.stdout], [1, ""], "grep found nothing in the image");
});

test("applying twice changes nothing", async () => {
  for (const time of ["first", "second"]) {
    const applied = (await project.json(["apply", "inloop"])) as { ok: boolean; changed: string[] };
    assert.equal([time, applied.ok, applied.changed], [time, true, []]);
  }
});

test("what is broken on the host is said by `verify`, and mended by `apply`", async () => {
  await project.on(
    "inloop",
    "systemctl stop huey; chmod 0777 /var/lib/inloop/media; echo 'work_mem = 1MB' >>/etc/postgresql/15/main/conf.d/ingot.conf; gpasswd --delete inloop docker",
  );
  const failed = async () =>
    ((await project.json(["verify", "inloop"])) as { checks: { id: string; ok: boolean }[] }).checks.filter((c) => !c.ok).map((c) => c.id);
  assert.equal((await failed()).sort(), ["check/job-done", "directory//var/lib/inloop/media", "service/huey", "user/inloop"]);
  const applied = (await project.json(["apply", "inloop"])) as { ok: boolean; changed: string[] };
  assert.ok(applied.ok);
  assert.equal([...applied.changed].sort(), ["directory//var/lib/inloop/media", "postgresql", "service/huey", "user/inloop"]);
  assert.equal(await failed(), []);
});

test("whoever answers with another key than the store's is not the host", async () => {
  const key = join(project.folder, ".ingot/secrets/inloop/web/certificate/inloop/key");
  const own = readFileSync(key);
  try {
    writeFileSync(key, generateKeyPairSync("ec", { namedCurve: "prime256v1" }).privateKey.export({ type: "pkcs8", format: "pem" }));
    const verified = await project.ingot(["verify", "inloop"]);
    assert.is(verified.code, 1);
    assert.match(verified.stderr, /site\/inloop:certificate, seen from stranger: .*pin of its certificate's key/);
  } finally {
    writeFileSync(key, own);
  }
});

test("a machine that is up is not launched again", async () => {
  const again = await project.ingot(["up", "inloop"]);
  assert.is(again.code, 1);
  assert.match(again.stderr, /inloop is up already/);
});

test("after a reboot everything is back without Ingot's help", async () => {
  const boot = async () =>
    (
      await project.on(
        "inloop",
        "cat /proc/sys/kernel/random/boot_id /run/ingot/report/steps.jsonl | sha256sum; systemctl show -P ActiveEnterTimestampMonotonic nginx; uptime -s",
      )
    ).stdout;
  const before = await boot();
  await project.on("inloop", "systemctl reboot");
  await until(async () => {
    const result = await project.on(
      "inloop",
      "systemctl is-system-running --wait; systemctl is-active nginx gunicorn huey postgresql@15-main redis-server",
    );
    return !result.stdout.includes("inactive") && (result.stdout.match(/^active$/gm)?.length ?? 0) >= 5 && (await boot()) !== before;
  });
  const verified = (await project.json(["verify", "inloop"])) as { ok: boolean; checks: { ok: boolean; id: string; message: string }[] };
  assert.equal(
    verified.checks.filter((c) => !c.ok),
    [],
  );
  const steps = await project.on(
    "inloop",
    "journalctl --boot --no-pager --output=cat --unit='ingot-step-*' | wc -l; systemctl show -P ConditionResult ingot-boot",
  );
  assert.equal(lines(steps.stdout), ["0", "no"]);
});

test("a change is applied, what is no longer declared goes, an unchanged service is left alone", async () => {
  const file = join(project.folder, "stacks/inloop.yaml");
  const text = readFileSync(file, "utf8");
  const pid = async () => (await project.on("inloop", "systemctl show -P MainPID gunicorn")).stdout;
  const before = await pid();
  try {
    const changed = text
      .replace(/ {6}huey:\n {8}user: huey\n(?: {8}.*\n)+/, "")
      .replace("    directories:\n", '    directories:\n      /srv/extra: { owner: huey, mode: "0700" }\n')
      .replace(/ {6}job-done:.*\n/, "");
    assert.not.equal(changed, text);
    writeFileSync(file, changed);
    const applied = (await project.json(["apply", "inloop"])) as { ok: boolean; changed: string[] };
    assert.equal([applied.ok, applied.changed], [true, ["directory//srv/extra"]]);
    const { stdout } = await project.on(
      "inloop",
      "stat -c '%U %a' /srv/extra; systemctl is-active huey; ls /etc/systemd/system/huey.service 2>&1 | tail -n 1",
    );
    const [extra, active, unit] = lines(stdout);
    assert.is(extra, "huey 700");
    assert.is(active, "inactive");
    assert.match(unit ?? "", /No such file/);
    assert.is(await pid(), before);
  } finally {
    writeFileSync(file, text);
  }
  assert.ok(((await project.json(["apply", "inloop"])) as { ok: boolean }).ok);
  assert.match((await project.on("inloop", "systemctl is-active huey")).stdout, /^active/);
});

test("`down` and `up` again: the same secrets, the same host key, the same data", async () => {
  const fingerprint = () => {
    const folder = join(project.folder, ".ingot/secrets/inloop");
    const hash = createHash("sha256");
    for (const file of readdirSync(folder, { recursive: true, encoding: "utf8" }).sort())
      if (statSync(join(folder, file)).isFile()) hash.update(file).update(readFileSync(join(folder, file)));
    return hash.digest("hex");
  };
  const identity =
    "cat /etc/ssh/ssh_host_ed25519_key.pub; runuser -u postgres -- psql -XAt -d inloop -c \"select count(*) from board_entry where text = 'kept'\" -c 'select system_identifier from pg_control_system()'; cat /var/lib/inloop/media/solutions/hello.txt";
  const before = await project.on("inloop", identity);
  const secrets = fingerprint();
  assert.is((await project.ingot(["down", "inloop"])).code, 0);
  assert.equal(project.left(), []);
  const again = (await project.json(["up", "inloop"])) as UpResult;
  assert.ok(again.ok, JSON.stringify(again.checks.filter((c) => !c.ok)));
  assert.is(fingerprint(), secrets);
  assert.is((await project.on("inloop", identity)).stdout, before.stdout);
  const migrate = again.hosts[0]?.steps.find((s) => s.step === "application/inloop:before-live-2");
  assert.is(migrate?.outcome, "unchanged", "a migration's stamp lives with the data");
});

async function until(ready: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 60; tries++) {
    if (await ready()) return;
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  throw new Error("it did not become so within 30 s");
}

test.run();
