// The whole line: INLOOP from its YAML to a verified host, and what its manual asks of it; then a second launch of the same host.
import { createHash, createHmac, generateKeyPairSync } from "node:crypto";
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { load } from "js-yaml";
import * as assert from "uvu/assert";
import { asRoot, type RunError, run } from "../../lib/run.ts";
import { suite } from "../suite.ts";
import { type Answer, ask as askAt, Browser, commit, type Question, type Surroundings, surround } from "./inloop.ts";
import { type TestProject, testProject, until } from "./project.ts";
import { openFrom } from "./scan.ts";

interface UpResult {
  ok: boolean;
  hosts: { steps: { step: string; outcome: string }[] }[];
  checks: { id: string; ok: boolean; message: string; seen: string }[];
  machines: { host: string; forwards: Record<string, string> }[];
}

const test = suite("inloop");
let project: TestProject;
let around: Surroundings;
let first: UpResult;
/** Where this computer's loopback leads to the host. */
let forwards: Record<string, string>;
/** An administrator's. */
let browser: Browser;

const ask = (path: string, question: Question = {}): Promise<Answer> => askAt(forwards, path, question);
const on = (script: string, input?: string) => project.on("inloop/web", script, input);
const servers = async (script: string) => (await project.on("inloop/servers", script)).stdout;
const daemons = ["nginx", "gunicorn", "huey", "postgresql@15-main", "redis-server", "docker"];
/** Nanoseconds on the processors that all containers have had; from cgroup v2, where it counts microseconds. */
const processorTime =
  "cat /sys/fs/cgroup/cpuacct/docker.slice/cpuacct.usage 2>/dev/null || awk '/^usage_usec/ { print $2 * 1000 }' /sys/fs/cgroup/docker.slice/cpu.stat";

/** The page of a solution that was uploaded. */
async function upload(solution: string): Promise<string> {
  const page = String((await browser.send("/solutions/", {}, solution)).headers.location);
  assert.match(page, /^\/solutions\/[0-9a-f-]{36}\/$/);
  return page;
}
/** That page, once there is a verdict on it. */
const logIn = () => {
  const password = readFileSync(join(project.folder, ".ingot/secrets/inloop/web/application/inloop/superuser"), "utf8").trim();
  return browser.send("/login/", { username: "admin", password });
};
const verdict = (page: string) => until(async (path) => (await browser.open(path)).body.toString(), page, /id="state">(passed|failed)/);

const lines = (text: string): string[] => text.trim().split("\n");

test.before(async () => {
  project = await testProject(["inloop"]);
  around = await surround(project);
});
test.after(async () => {
  await project?.remove();
});

test("`up` gives a verified host", async () => {
  first = (await project.json(["up", "inloop"])) as UpResult;
  forwards = first.machines.find((m) => m.host === "web")?.forwards ?? {};
  browser = new Browser(forwards);
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
  const { stdout } = await on("cloud-init status --wait >/dev/null; cat /run/cloud-init/result.json");
  assert.equal((JSON.parse(stdout) as { v1: { errors: unknown[]; datasource: string } }).v1.errors, []);
  assert.match(stdout, /DataSourceNoCloud/);
});

test("the user-data is valid for the image's cloud-init, and PyYAML reads the same values from it", async () => {
  const rendered = (await project.json(["render", "inloop"])) as { text: string; bytes: number; limit: number }[];
  const text = rendered[0]?.text ?? "";
  assert.ok((rendered[0]?.bytes ?? Number.POSITIVE_INFINITY) <= 16_384);
  const schema = await on("cat >/tmp/user-data && cloud-init schema --config-file /tmp/user-data", text);
  assert.is(schema.code, 0, schema.stdout + schema.stderr);
  const yaml = await on("python3 -c 'import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)'", text);
  assert.equal(JSON.parse(yaml.stdout), load(text));
});

test("the machine has the manual's names, users, groups and directories", async () => {
  const script =
    "hostname; hostname -f; id -nG inloop; runuser -u inloop -- sudo -n id -un; getent passwd gunicorn huey | cut -d: -f1,6,7; stat -c '%U:%G %a %n' /var/lib/inloop /var/lib/inloop/media /var/lib/inloop/media/solutions; systemctl show -P SupplementaryGroups huey";
  const { stdout } = await on(script);
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
  const { stdout } = await on(
    "runuser -u huey -- ssh-keygen -y -P '' -f /var/lib/inloop/.ssh/id_ed25519 | cut -d' ' -f1; stat -c '%U %a' /var/lib/inloop/.ssh/id_ed25519; cat /home/inloop/.ssh/authorized_keys",
  );
  assert.equal(lines(stdout), ["ssh-ed25519", "huey 600", readFileSync(join(project.folder, "stacks/keys/ops.pub"), "utf8").trim()]);
});

test("the operator logs in by ssh with the key, to the host key that the store keeps, and is root by sudo", async () => {
  const [host, port] = (forwards[22] ?? ":").split(":");
  const hostKey = (await run(["ssh-keygen", "-y", "-f", join(project.folder, ".ingot/secrets/inloop/web/ssh-host-key")])).stdout.trim();
  writeFileSync(join(project.folder, "known_hosts"), `[${host}]:${port} ${hostKey}\n`);
  const login = [
    "ssh",
    "-F",
    "none",
    "-i",
    around.operatorKey,
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
  const { stdout } = await on(
    `runuser -u postgres -- psql -XAtc "select pg_catalog.pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datctype from pg_database where datname = 'inloop'"; findmnt --noheadings --output FSTYPE,OPTIONS /var/lib/postgresql`,
  );
  const [database, mount] = lines(stdout);
  assert.is(database, "inloop|UTF8|en_US.UTF-8|en_US.UTF-8");
  assert.match(mount ?? "", /^ext4 .*nosuid.*nodev.*noexec/);
});

test("the environment has every variable that the manual requires, in a file that only root reads", async () => {
  const { stdout } = await on(
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
  const job = JSON.parse((await ask("/jobs/?wait=25", { method: "POST" })).body.toString()) as {
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

test("someone logs in, uploads a solution, and sees what became of it in a container", async () => {
  assert.is((await ask("/solutions/")).headers.location, "/login/?next=/solutions/");
  const refused = await new Browser(forwards).send("/login/", { username: "admin", password: "wrong" });
  assert.match(refused.body.toString(), /correct username and password/);
  const login = await logIn();
  assert.equal([login.status, login.headers.location], [302, "/solutions/"]);
  assert.match(String(login.headers["set-cookie"]), /sessionid=[^;]+;.*HttpOnly;.*Secure/);
  assert.is((await browser.open("/solutions/", { method: "POST", form: "a=b" })).status, 403, "a form without its token");

  const right = await upload('echo "$(($1 + $2))"\n');
  assert.match(await verdict(right), /id="state">passed</);
  const file = await browser.open(`${right}file/`);
  assert.is(file.body.toString(), 'echo "$(($1 + $2))"\n');
  assert.is((await ask(`${right}file/`)).status, 302, "nobody else gets it");
  assert.is((await on("stat -c '%U:%G %a' /var/lib/inloop/media/solutions/*.sh | sort -u")).stdout, "gunicorn:www-data 640\n");
  assert.match(await verdict(await upload("echo 41\n")), /id="state">failed: wrong at 20 \+ 22</);
  // What it sees: a file system that is not the host's and that it may not change, and no network.
  const look = await verdict(await upload("cat /etc/passwd; echo x >/x; cat /proc/net/dev\n"));
  for (const seen of [/passwd: No such file/, /\/x: Read-only file system/, / lo:/]) assert.match(look, seen);
  assert.not.match(look, /root:|eth0/);
});

test("a job that burns memory or time is ended, and all of them together stay below the slice's limits", async () => {
  assert.match(await verdict(await upload("a=x; while :; do a=$a$a; done\n")), /failed: took too much memory|Out of (space|memory)/i);
  // A container that burns for as long as is looked, and beside it one of huey's, whose time is short: between them, half of one processor.
  await on("docker run --detach --rm --network=none --name=burner inloop-sandbox sh -c 'while :; do :; done'");
  const page = await upload("while :; do :; done\n");
  await until(async (script) => (await on(script)).stdout, "docker ps --quiet | wc --lines", /^2$/m);
  const burnt = async () => Number((await on(processorTime)).stdout);
  const [before, began] = [await burnt(), performance.now()];
  await new Promise((resolve) => setTimeout(resolve, 2500));
  const share = ((await burnt()) - before) / 1e6 / (performance.now() - began);
  assert.ok(share > 0.02 && share < 0.65, `they took ${share.toFixed(2)} of a processor`);
  assert.match(await verdict(page), /failed: took too long/);
  await on("docker kill burner");
  // What has ended is still being taken away for a moment.
  await until(async (script) => (await on(script)).stdout, "docker ps --all --quiet | wc --lines", /^0$/m);
});

test("what GitHub has signed makes huey fetch with its deployment key; anybody else is refused", async () => {
  const head = await servers(`cd /tmp && git init -q -b main w && cd w && echo one >task && git add -A &&
    git -c user.name=ann -c user.email=ann@example.org commit -qm one && git -c safe.directory='*' push -q /srv/git/tasks.git main &&
    chown -R git: /srv/git/tasks.git && git rev-parse HEAD`);
  const secret = readFileSync(join(project.folder, ".ingot/secrets/inloop/github-webhook"), "utf8").trim();
  const repository = { full_name: "inloop/tasks", ssh_url: "git@servers.example.org:tasks.git" };
  const push = JSON.stringify({ ref: "refs/heads/main", repository });
  const elsewhere = JSON.stringify({ repository: { ...repository, ssh_url: "file:///etc" } });
  const signed = (key: string, body = push) => `sha256=${createHmac("sha256", key).update(body).digest("hex")}`;
  const hook = async (signature: string, body = push) => {
    const headers = { "content-type": "application/json", "x-github-event": "push", "x-hub-signature-256": signature };
    return (await ask("/github/webhook/", { method: "POST", body, headers })).status;
  };
  assert.is(await hook(""), 403);
  assert.is(await hook(signed("another")), 403);
  assert.is(await hook(signed(secret), `${push} `), 403);
  assert.is(await hook(signed(secret, elsewhere), elsewhere), 400);
  assert.is((await on("ls -A /var/lib/inloop/media/git")).stdout, "");
  assert.is(await hook(signed(secret)), 202);
  await until(async (path) => (await ask(path)).body.toString(), "/", new RegExp(`inloop/tasks at ${head.trim()}`));
  assert.is((await on("cd /var/lib/inloop/media/git/inloop/tasks && stat -c %U task && cat task")).stdout, "huey\none\n");
});

test("a server error sends a report to the admins through the relay; only an internal address sees it in the browser", async () => {
  const answer = await browser.open("/broken/");
  assert.is(answer.status, 500);
  assert.match(answer.body.toString(), /The administrators have a report of it/);
  const report = await until(servers, "cat /srv/outbox/* 2>/dev/null", /Internal Server Error: \/broken\//);
  assert.match(report, /with ESMTPSA[\s\S]*ERROR \(EXTERNAL IP\)[\s\S]*To: ops@example\.org[\s\S]*RuntimeError at \/broken\//);
  const internal = [
    ["Host", "inloop.localhost"],
    ["X-Forwarded-Proto", "https"],
    ["X-Forwarded-For", "127.0.0.1"],
    ["Cookie", browser.cookie()],
  ].map(([name, value]) => `-H '${name}: ${value}'`);
  assert.match((await on(`curl -s ${internal.join(" ")} http://127.0.0.1:8000/broken/ | grep -c 'broken on purpose'`)).stdout, /^[1-9]/);
  // Nothing else has been reported: not by a check, nor by Ingot's own question whether Gunicorn is up.
  const others = await servers("grep -h ^Subject: /srv/outbox/* | grep -v /broken/ | sort -u");
  assert.is(others, "");
});

test("from another host only the declared ports answer", async () => {
  const open = await openFrom(project, "inloop/servers", "10.1.4.2");
  const plan = (await project.json(["plan", "inloop"])) as { hosts: { host: string; ports: { port: number }[] }[] };
  const declared = plan.hosts.find((h) => h.host === "web")?.ports.map((p) => p.port) ?? [];
  assert.equal(
    open,
    [...new Set(declared)].sort((a, b) => a - b),
  );
  assert.equal(open, [22, 80, 443]);
});

test("each process is its own user, and reads nobody else's secrets", async () => {
  const users = await on(`for u in ${daemons.join(" ")}; do
    p=$(systemctl show -P MainPID $u); ps -o user= -p $p --ppid $p | sort -u | paste -sd+; done`);
  assert.equal(lines(users.stdout), ["root+www-data", "gunicorn", "huey", "postgres", "redis", "root"]);
  const secrets = [
    "/proc/$(systemctl show -P MainPID gunicorn)/environ",
    "/proc/$(systemctl show -P MainPID huey)/environ",
    "/var/lib/ingot/applications/inloop.env",
    "/var/lib/ingot/secrets/django",
    "/etc/postfix/ingot-relay",
    "/etc/ssl/ingot/inloop.key",
    "/var/lib/inloop/.ssh/id_ed25519",
  ];
  const read = await on(`for u in gunicorn huey www-data postgres redis postfix nobody; do for f in ${secrets.join(" ")}; do
    runuser -u $u -- cat $f >/dev/null 2>&1 && echo "$u \${f##*/}"; done; done`);
  assert.equal(lines(read.stdout), ["gunicorn environ", "huey environ", "huey id_ed25519"]);
  // Docker, and no further: the group is of huey's service alone, and sudo knows neither.
  assert.is((await on("id -nG huey; runuser -u huey -- sudo -n true 2>/dev/null || echo refused")).stdout, "huey\nrefused\n");
  // SPT_NOENV: setproctitle has named the process, and its environment is still there for whoever may see it.
  const title = await on("p=$(systemctl show -P MainPID gunicorn); ps -o args= -p $p; tr '\\0' '\\n' </proc/$p/environ | grep ^SPT_NOENV");
  assert.equal(lines(title.stdout), ["gunicorn: master [inloop.wsgi:application]", "SPT_NOENV=1"]);
});

test("wrong owner or mode anywhere below a declared directory is found, and named with its line", async () => {
  const media = "/var/lib/inloop/media";
  await on(`cd ${media}/git && mkdir -p a/b && chmod -R 0750 a && chown -R huey: a && touch a/b/c; chmod 0644 ../solutions/hello.txt`);
  const verified = await project.ingot(["verify", "inloop"]);
  assert.is(verified.code, 1);
  const stack = readFileSync(join(project.folder, "stacks/inloop.yaml"), "utf8").split("\n");
  for (const [path, what] of [
    [`${media}/git`, `${media}/git/a/b/c: owner is root, expected huey`],
    [`${media}/solutions`, `${media}/solutions/hello.txt: mode is 0644, expected 0750 at most`],
  ] as const) {
    const line = stack.findIndex((l) => l.startsWith(`      ${path}:`)) + 1;
    const said = `directory/${path}:contents, seen from inside: ${what} (stacks/inloop.yaml:${line}:7)`;
    assert.ok(verified.stderr.includes(said), `${said}\nis not in\n${verified.stderr}`);
  }
  assert.is(verified.stderr.match(/FAILED/g)?.length, 2);
  await on(`rm -r ${media}/git/a; chmod 0640 ${media}/solutions/hello.txt`);
  assert.is((await project.ingot(["verify", "inloop"])).code, 0);
});

test("every process that is killed is back", async () => {
  const pids = async () =>
    lines(
      (await on(`for u in ${daemons.join(" ")}; do systemctl show -P MainPID $u; done; tr -d ' ' </var/spool/postfix/pid/master.pid`))
        .stdout,
    );
  const before = await pids();
  await on(`kill -KILL ${before.join(" ")}`);
  const verified = await project.ingot(["verify", "inloop", "--within", "300"]);
  assert.is(verified.code, 0, verified.stderr);
  const after = await pids();
  for (const [i, pid] of before.entries())
    assert.ok(after[i] !== pid && Number(after[i]) > 0, `${[...daemons, "postfix"][i]} is another process`);
});

test("what the application expects of its environment is said before anything is launched", async () => {
  const file = join(project.folder, "stacks/inloop.yaml");
  const text = readFileSync(file, "utf8");
  const said = async (from: string | RegExp, to: string) => {
    writeFileSync(file, text.replace(from, to));
    const { code, stdout, stderr } = await project.ingot(["validate", "stacks/inloop.yaml"]);
    writeFileSync(file, text);
    assert.is(code, 2, stdout);
    return stdout + stderr;
  };
  assert.match(await said(/ {10}X_ACCEL_LOCATION: .*\n/, ""), /X_ACCEL_LOCATION is not set, which PROXY_ENABLED asks for/);
  assert.match(
    await said("GIT_ROOT: /var/lib/inloop/media/git", "GIT_ROOT: /srv/git"),
    /GIT_ROOT \(\/srv\/git\) must lie inside of MEDIA_ROOT/,
  );
  assert.match(await said(/ {10}ADMINS: .*\n/, ""), /ADMINS is not set, and the application expects it/);
  const production = await project.ingot(["plan", "inloop", "--env", "production"]);
  assert.is(production.code, 0, production.stderr);
  assert.match(production.stdout, /certificate\/inloop:issue/);
});

test("an update is another commit of the branch: deployed beside the old one, proven, and live", async () => {
  const template = join(around.work, "inloop/board/templates/500.html");
  writeFileSync(template, readFileSync(template, "utf8").replace("a report of it", "a report of it already"));
  const pinned = commit(around.repository, around.work, "another word");
  const before = (await on("readlink /srv/inloop/current")).stdout;
  const deploy = await project.ingot(["deploy", "inloop/inloop", "--ref", "master"]);
  assert.is(deploy.code, 0, deploy.stderr);
  assert.match(deploy.stdout + deploy.stderr, new RegExp(`commit: ${pinned}`));
  around.edit(/commit: [0-9a-f]{40}/, `commit: ${pinned}`);
  await logIn(); // Redis was killed meanwhile, and sessions are a cache's
  assert.match((await browser.open("/broken/")).body.toString(), /a report of it already/);
  assert.is.not((await on("readlink /srv/inloop/current")).stdout, before);
  assert.match((await on("inloop-manage check --deploy")).stdout, /no issues/);
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
  const found = await on(search, `${values.join("\n")}\n`);
  assert.equal(lines(found.stdout), ["searched"]);
  const image =
    ((await project.json(["status", "inloop"])) as { host: string; imageDigest: string }[]).find((m) => m.host === "web")?.imageDigest ??
    "";
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
  await on(
    "systemctl stop huey; chmod 0777 /var/lib/inloop/media; echo 'work_mem = 1MB' >>/etc/postgresql/15/main/conf.d/ingot.conf; gpasswd --delete inloop docker",
  );
  const failed = async () =>
    ((await project.json(["verify", "inloop"])) as { checks: { id: string; ok: boolean }[] }).checks.filter((c) => !c.ok).map((c) => c.id);
  assert.equal((await failed()).sort(), [
    "check/job-done",
    "directory//var/lib/inloop/media",
    "docker:members",
    "service/huey",
    "service/huey:workers",
    "user/inloop",
  ]);
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
  await project.reboot("inloop/web");
  const all = [...daemons, "postfix@-"];
  assert.is((await on(`systemctl is-active ${all.join(" ")}`)).stdout, "active\n".repeat(all.length));
  const verified = (await project.json(["verify", "inloop", "--within", "300"])) as {
    ok: boolean;
    checks: { ok: boolean; id: string; message: string }[];
  };
  assert.equal(
    verified.checks.filter((c) => !c.ok),
    [],
  );
  const steps = await on(
    "journalctl --boot --no-pager --output=cat --unit='ingot-step-*' | wc -l; systemctl show -P ConditionResult ingot-boot",
  );
  assert.equal(lines(steps.stdout), ["0", "no"]);
});

test("a change is applied, what is no longer declared goes, an unchanged service is left alone", async () => {
  const file = join(project.folder, "stacks/inloop.yaml");
  const text = readFileSync(file, "utf8");
  const pid = async () => (await on("systemctl show -P MainPID gunicorn")).stdout;
  const before = await pid();
  try {
    const changed = text
      .replace(/ {6}huey:\n {8}user: huey\n(?: {8}.*\n)+/, "")
      .replace("    directories:\n", '    directories:\n      /srv/extra: { owner: huey, mode: "0700" }\n')
      .replace(/ {6}job-done:.*\n/g, "");
    assert.not.equal(changed, text);
    writeFileSync(file, changed);
    const applied = (await project.json(["apply", "inloop"])) as { ok: boolean; changed: string[] };
    assert.equal([applied.ok, applied.changed], [true, ["directory//srv/extra"]]);
    const { stdout } = await on(
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
  assert.match((await on("systemctl is-active huey")).stdout, /^active/);
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
  const before = await on(identity);
  const secrets = fingerprint();
  assert.is((await project.ingot(["down", "inloop"])).code, 0);
  assert.equal(project.left(), []);
  const again = (await project.json(["up", "inloop"])) as UpResult;
  assert.ok(again.ok, JSON.stringify(again.checks.filter((c) => !c.ok)));
  assert.is(fingerprint(), secrets);
  assert.is((await on(identity)).stdout, before.stdout);
  const migrate = again.hosts.flatMap((h) => h.steps).find((s) => s.step === "application/inloop:before-live-2");
  assert.is(migrate?.outcome, "unchanged", "a migration's stamp lives with the data");
});

test.run();
