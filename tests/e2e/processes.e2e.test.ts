// Supervisor, uWSGI's emperor and RabbitMQ: each program as its user with its environment, one changed without the others, healed, removed.
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { sha256 } from "../../lib/digest.ts";
import { toolFolder } from "../../lib/paths.ts";
import { suite } from "../suite.ts";
import { underLoad } from "./load.ts";
import { type TestProject, testProject, until } from "./project.ts";

const test = suite("processes");
let project: TestProject;
let port = 0;
const file = (name = "stacks/processes.yaml") => join(project.folder, name);
const edit = (from: string | RegExp, to: string, name?: string) => project.edit(file(name), from, to);
const on = async (script: string) => {
  const { stdout, stderr } = await project.on("processes", script);
  return stdout || stderr;
};
const apply = async () => (await project.json(["apply", "processes"])) as { ok: boolean; changed: string[] };

const verified = async () => {
  const verify = await project.ingot(["verify", "processes", "--within", "300"]);
  assert.is(verify.code, 0, verify.stderr + verify.stdout);
};

const awkward = `a'b"c\\d$e%f{}#\u00fc\u{1f600} `;

interface Said {
  release: string;
  pid: number;
  user: string;
  groups: string[];
  folder: string;
  environment: Record<string, string | null>;
  capabilities: string[];
  headers: Record<string, string>;
}

/** What the application behind a name says; headers of the answer too. By a connection of its own: one that was kept may be closed just then. */
const ask = (host: string): Promise<{ status: number; said: Said; headers: Record<string, unknown> }> =>
  new Promise((resolve, reject) => {
    const lies = { "X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "https", Forwarded: "for=6.6.6.6" };
    const asked = request(
      { agent: false, host: "127.0.0.1", port, path: "/", headers: { Host: `${host}.localhost`, ...lies } },
      (answer) => {
        let body = "";
        answer.on("data", (chunk: Buffer) => (body += chunk.toString()));
        answer.on("end", () => {
          const said = answer.statusCode === 200 ? (JSON.parse(body) as Said) : ({} as Said);
          resolve({ status: answer.statusCode ?? 0, said, headers: answer.headers });
        });
      },
    );
    asked.on("error", reject);
    asked.end();
  });

test.before(async () => {
  project = await testProject(["kano-konnect"]);
  cpSync(join(toolFolder, "tests/e2e/processes.yaml"), file());
  // As archives of releases are: one folder around everything.
  const archive = file("stacks/bundle.tar.gz");
  execFileSync("tar", ["-czf", archive, "--transform", "s,^hello,bundle-1.0.0,", "-C", file("tests/apps"), "hello"]);
  edit("SHA256", sha256(readFileSync(archive)));
  mkdirSync(file(".ingot/secrets/processes"), { recursive: true, mode: 0o700 });
  writeFileSync(file(".ingot/secrets/processes/awkward"), awkward, { mode: 0o600 });
});
test.after(() => project?.remove());

test("all of them boot, and every check holds", async () => {
  const up = await project.ingot(["up", "processes"]);
  assert.is(up.code, 0, up.stderr + up.stdout);
  port = Number(/http:\/\/vassal\.localhost:(\d+)/.exec(up.stdout)?.[1]);
  assert.ok(port > 0, up.stdout);
});

test("each runs as its user, without any right of root's, with the application's environment to the letter", async () => {
  const greeting = `it's 100% $HOME; "quoted" \\ #1`;
  for (const [host, user, groups] of [
    ["supervised", "program", ["extra", "program"]],
    ["vassal", "vassal", ["extra", "vassal"]],
    ["open", "other", ["other"]],
  ] as const) {
    const { said, headers } = await ask(host);
    assert.is(said.user, user);
    assert.equal(said.groups, groups);
    assert.equal(said.capabilities, ["0000000000000000", "0000000000000000"]);
    assert.is(said.environment.GREETING, greeting);
    assert.match(said.environment.SECRET ?? "", /^[0-9a-f]{64}$/);
    assert.match(said.folder, /^\/srv\/hello\/releases\/[0-9a-f]{16}\/app$/);
    assert.is.not(said.headers.HTTP_X_FORWARDED_FOR, "6.6.6.6");
    assert.is(said.headers.HTTP_X_FORWARDED_PROTO, "http");
    assert.not.ok(said.headers.HTTP_FORWARDED);
    assert.is(headers["x-frame-options"], host === "open" ? "SAMEORIGIN" : "DENY");
  }
  assert.is(await on("tr '\\0' '\\n' <\"/proc/$(supervisorctl pid hello:web)/environ\" | grep ^OTHER="), "OTHER=50% ; # $PATH 'x'\n");
  assert.is(await on("ps -o user= -C nginx | sort | uniq -c | tr -s ' '"), " 2 nobody\n 1 root\n");
});

test("nobody but nginx opens the vassal's socket, and nobody else reads the secrets", async () => {
  const knock = `python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect("/run/uwsgi/hello/hello.sock"); print("open")' 2>&1 | tail -1`;
  assert.match(await on(`runuser -u other -- ${knock}`), /Permission denied/);
  assert.is(await on(`runuser -u nobody -g nogroup -- ${knock}`), "open\n");
  assert.match(await on("runuser -u other -- cat /var/lib/ingot/applications/hello.env 2>&1"), /Permission denied/);
  assert.match(await on("runuser -u other -- sh -c 'cat /proc/$(pgrep -u vassal uwsgi | head -1)/environ' 2>&1"), /Permission denied/);
});

test("a site has its own headers, each once, its limits, its snippet; hidden files are nobody's", async () => {
  const get = async (path: string) => on(`curl -s -i -H 'Host: open.localhost' http://127.0.0.1${path}`);
  const home = (await get("/")).toLowerCase();
  for (const [name, value] of [
    ["x-frame-options", "sameorigin"],
    ["content-security-policy", "default-src 'self'; img-src *"],
    ["x-content-type-options", "nosniff"],
  ])
    assert.equal(
      [...home.matchAll(new RegExp(`^${name}: (.*)\r$`, "gm"))].map((m) => m[1]),
      [value],
      name,
    );
  assert.not.match(home, /^referrer-policy/m);
  await on("mkdir -p /srv/program/.git; echo secret >/srv/program/.git/HEAD; echo fine >/srv/program/fine");
  assert.match(await get("/static/.git/HEAD"), /^HTTP\/1.1 404[\s\S]*nothing here/);
  assert.match(await get("/static/fine"), /200 OK[\s\S]*fine/);
  // By one program: six of them may take longer than the second after which one more is let through.
  const codes = await on("curl -s -o /dev/null -w '%{http_code} ' -H 'Host: open.localhost' 'http://127.0.0.1/slow?[1-6]'");
  assert.match(codes, /^200 200 200 429 429/);
});

test("a snippet that nginx refuses is said before anything is touched", async () => {
  const text = readFileSync(file(), "utf8");
  edit("error_page 404 /missing;", "error_page 404 /missing;\n          proxi_pass http://x;");
  const refused = await project.ingot(["apply", "processes"]);
  assert.is(refused.code, 2);
  assert.match(refused.stderr, /ING1435: nginx refuses the snippet of open: line 2: unknown directive "proxi_pass"/);
  writeFileSync(file(), text);
});

test("while a site is being maintained it says so, and its checks know", async () => {
  edit("        headers: { X-Frame", "        maintenance: back at noon\n        headers: { X-Frame");
  assert.equal((await apply()).changed, ["nginx"]);
  assert.match(await on("curl -s -i -H 'Host: open.localhost' http://127.0.0.1/"), /503 Service[\s\S]*back at noon/);
  assert.is((await project.ingot(["verify", "processes"])).code, 0);
  edit("        maintenance: back at noon\n", "");
  assert.equal((await apply()).changed, ["nginx"]);
});

test("a settings file holds what was declared to the letter, and only its programs read it", async () => {
  const shown = JSON.parse(await on("bundle-manage show")) as {
    settings: Record<string, unknown>;
    user: string;
    greeting: string;
    folder: string;
  };
  assert.equal([shown.user, shown.greeting], ["vassal", "from the bundle"]);
  assert.match(shown.folder, /^\/srv\/bundle\/releases\/[0-9a-f]{16}\/app$/);
  const { SECRET_KEY, URL, ...settings } = shown.settings;
  assert.equal(settings, {
    ADMINS: [["Ops", "ops@example.org"]],
    DATABASES: { default: { NAME: 'it\'s "quoted"', PASSWORD: awkward, TEST: { CHARSET: "utf8" } } },
    DEBUG: false,
    LANGUAGE_CODE: "en-us",
    LIMIT: 10,
    NOTHING: null,
  });
  assert.match(String(SECRET_KEY), /^[0-9a-f]{64}$/);
  assert.match(String(URL), /^amqp:\/\/hello:[A-Za-z0-9]{32}@127\.0\.0\.1:5672\/hello$/);
  const read = "cat /srv/bundle/current/app/hello_settings/production.py";
  assert.match(await on(`runuser -u other -- ${read} 2>&1`), /Permission denied/);
  // A program of another user's, that runs the application.
  assert.match(
    await on(
      "grep ^Groups /proc/$(supervisorctl pid bundled)/status | tr -s '\\t ' '\\n' | tail -n +2 | while read -r g; do getent group $g; done | cut -d: -f1",
    ),
    /^bundle-settings$/m,
  );
  // Its packages of npm are there, without a script of theirs having run; what comes after the release is live saw it live.
  assert.is(
    await on("cat /srv/bundle/current/app/node_modules/left/left.js; ls /tmp/ingot-npm-script-ran 2>&1 | grep -c 'No such'"),
    'module.exports = "left";\n1\n',
  );
  const [ran, live] = (await on("cat /srv/bundle/shared/live")).trim().split(" ");
  assert.ok(ran !== undefined && ran === live, `${ran} ${live}`);
});

test("a commit of a repository is the same as its tarball; another tarball than the declared one is refused", async () => {
  const repository = file("repository");
  cpSync(file("tests/apps/hello"), repository, { recursive: true });
  const git = (...words: string[]) =>
    execFileSync("git", ["-C", repository, "-c", "user.name=t", "-c", "user.email=t@example.org", ...words], { encoding: "utf8" }).trim();
  for (const words of [
    ["init", "-q"],
    ["add", "-A"],
    ["commit", "-qm", "one"],
  ])
    git(...words);
  const before = await on("cd /srv/bundle/current/app && find . -name __pycache__ -prune -o -type f -print | sort | xargs sha256sum");
  edit(/source: \{ tarball.*\}/, `source: { git: ../repository, commit: ${git("rev-parse", "HEAD")} }`);
  const applied = await project.ingot(["apply", "processes"]);
  assert.is(applied.code, 0, applied.stderr);
  assert.is(await on("cd /srv/bundle/current/app && find . -name __pycache__ -prune -o -type f -print | sort | xargs sha256sum"), before);
  assert.is((await on("cat /srv/bundle/shared/live")).trim().split("\n").length, 2);
  const text = readFileSync(file(), "utf8");
  edit(/commit: [0-9a-f]{40}/, `commit: ${"deadbeef".repeat(5)}`);
  assert.match((await project.ingot(["apply", "processes"])).stderr, /repository has no commit deadbeef/);
  writeFileSync(file(), text);
  edit(/source: \{ git.*\}/, `source: { tarball: bundle.tar.gz, sha256: "${"0".repeat(64)}" }`);
  assert.match(
    (await project.ingot(["apply", "processes"])).stderr,
    /bundle\.tar\.gz is not what the stack says: its sha256 is [0-9a-f]{64}/,
  );
  writeFileSync(file(), text);
});

test("applied again, nothing changes; one program is restarted without the others", async () => {
  assert.equal((await apply()).changed, []);
  const before = await on("supervisorctl status | sed 's/,.*//'");
  edit("echo tick;", "echo tock;");
  assert.equal((await apply()).changed, ["supervisord:ticker"]);
  const after = await on("supervisorctl status | sed 's/,.*//'");
  const others = (text: string) => text.replace(/^hello:ticker.*$/m, "");
  assert.is(others(after), others(before));
  assert.is.not(after, before);
  await until(on, "tail -1 /var/log/supervisor/ticker.log; stat -c %U /srv/program/ticked", /tock\nprogram/);
});

test("a new release is taken over by all of them; a vassal loses no request while it reloads", async () => {
  edit('RELEASE = "one"', 'RELEASE = "two"', "tests/apps/hello/hello.py");
  const master = await on("pgrep -o -u vassal uwsgi");
  const seen = new Map<string, number>();
  const answered = await underLoad(project.folder, `http://vassal.localhost:${port}/`, async () => {
    const applied = project.json(["apply", "processes"]) as Promise<{ ok: boolean; changed: string[] }>;
    let over = false;
    void applied.finally(() => (over = true)).catch(() => {});
    // And once when it is over.
    for (let last = false; !last; ) {
      last = over;
      const { status, said } = await ask("vassal");
      const key = `${status} ${said.release}`;
      seen.set(key, (seen.get(key) ?? 0) + 1);
    }
    assert.is((await applied).ok, true);
  });
  assert.ok(answered > 50, String(answered));
  assert.equal([...seen.keys()].sort(), ["200 one", "200 two"]);
  for (const host of ["supervised", "vassal", "open"]) assert.is((await ask(host)).said.release, "two", host);
  assert.is(await on("pgrep -o -u vassal uwsgi"), master);
  assert.is((await project.ingot(["verify", "processes"])).code, 0);
});

test("a release whose module cannot be loaded is said, with the end of the log; the one before comes back", async () => {
  edit("import grp", "import grp, nothing_of_the_kind", "tests/apps/hello/hello.py");
  const refused = await project.ingot(["apply", "processes"]);
  assert.is(refused.code, 1);
  assert.match(refused.stderr, /ING3001: \S+ failed[\s\S]*the end of its log[\s\S]*No module named 'nothing_of_the_kind'/);
  edit("import grp, nothing_of_the_kind", "import grp", "tests/apps/hello/hello.py");
  const applied = await project.ingot(["apply", "processes"]);
  assert.is(applied.code, 0, applied.stderr);
  assert.is((await project.ingot(["verify", "processes"])).code, 0);
});

test("whatever is killed comes back", async () => {
  await on("pkill -KILL -u vassal; pkill -KILL -u program; pkill -KILL -u other; pkill -KILL epmd; pkill -KILL beam.smp; true");
  await verified();
  await on("systemctl kill -s KILL supervisor.service uwsgi.service");
  await verified();
  assert.is((await apply()).ok, true);
});

test("RabbitMQ lets in who is declared, to what is declared; who is no longer declared is gone", async () => {
  const users = "rabbitmqctl -q --no-table-headers list_users | sort; rabbitmqctl -q --no-table-headers list_permissions -p other | sort";
  assert.is(await on(users), "hello\t[]\nops\t[administrator]\nother\t[]\nhello\t\t\t.*\nother\t.*\t.*\t.*\n");
  edit(/ {6}users:\n {8}ops: .*\n/, "");
  edit('users: [other, hello], permissions: { hello: { configure: "", write: "" } }', "users: [other]");
  assert.equal((await apply()).changed, ["rabbitmq"]);
  assert.is(await on(users), "hello\t[]\nother\t[]\nother\t.*\t.*\t.*\n");
  // Somebody changed the password by hand: it is the declared one again.
  await on("rabbitmqctl -q change_password hello guessed");
  assert.match((await project.ingot(["verify", "processes"])).stderr, /hello does not get into RabbitMQ's hello: 403/);
  assert.equal((await apply()).changed, ["rabbitmq"]);
  assert.is((await project.ingot(["verify", "processes"])).code, 0);
});

test("what is taken out of the declaration ends", async () => {
  edit(/ {6}loner:.*\n/, "");
  edit(/ {6}open: \{ application.*\n/, "");
  edit(/ {6}open:\n {8}names[\s\S]*$/, "");
  assert.is((await apply()).ok, true);
  assert.is(
    await on("supervisorctl status loner; ls /etc/uwsgi/sites; pgrep -u other || echo none"),
    "loner: ERROR (no such process)\nhello.ini\nnone\n",
  );
});

test("after a reboot it is as it was", async () => {
  assert.is((await project.ingot(["stop", "processes"])).code, 0);
  const start = await project.ingot(["start", "processes"]);
  assert.is(start.code, 0, start.stderr + start.stdout);
  assert.equal((await apply()).changed, []);
});

test.run();
