// A live host: only what is named is brought, only what changed is restarted, one change at a time; what fails, at whatever step, leaves what was.
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { suite } from "../suite.ts";
import { type TestProject, testProject } from "./project.ts";

const all = suite("live");
let project: TestProject;
/** What fails in one must not fail the next. */
const test = (name: string, work: () => Promise<void>): void => {
  all(name, async () => {
    const was = stack();
    await work().catch((error: unknown) => {
      writeFileSync(stackFile(), was);
      throw error;
    });
  });
};
const path = (name: string) => join(project.folder, name);
const stackFile = () => path("stacks/live.yaml");
const stack = () => readFileSync(stackFile(), "utf8");
const edit = (from: string | RegExp, to: string) => project.edit(stackFile(), from, to);
const web = async (script: string) => (await project.on("live/web", script)).stdout.trim();

const declared = (commit: string): string => `stack: live
hosts:
  web:
    image: debian-12
    users:
      app: { system: true }
      clerk: { system: true }
    applications:
      hello:
        source: { git: ../repository, commit: ${commit} }
        user: app
        env: { GREETING: hello, SECRET: { secret: given } }
        before_live: ["test '!' -e one", "test '!' -e two"]
        after_live: ["test '!' -e three"]
    services:
      hello: { application: hello, user: app, command: python3 serve.py 8001, listens: 127.0.0.1:8001 }
      worker: { application: hello, user: app, command: "python3 -c 'import hello, time; time.sleep(100000)'" }
      other: { user: clerk, command: sleep 100000 }
    timers:
      tick: { application: hello, user: app, command: "true", every: 1d }
    sites:
      hello: { names: [hello.localhost], http: true, proxy: service/hello }
      plain: { names: [plain.localhost], http: true, locations: { /: { files: /srv/plain } } }
    directories:
      /srv/plain: {}
    files:
      /srv/plain/index.html: { content: "plain\\n" }
      /etc/one.conf: { content: "one\\n" }
    checks:
      home: { site: hello, get: /, contains: '"release"' }
      plain: { site: plain, get: /, contains: plain }
  side:
    image: debian-12
    files:
      /etc/two.conf: { content: "two\\n" }
`;

/** Commits what `change` makes of the application; gives the commit. */
function commit(name: string, change: (folder: string) => void): string {
  const git = (...words: string[]) =>
    execFileSync("git", ["-C", path("repository"), "-c", "user.name=t", "-c", "user.email=t@example.org", ...words], {
      encoding: "utf8",
    }).trim();
  git("checkout", "--quiet", "-B", name, ...(name === "main" ? [] : ["main"]));
  change(path("repository"));
  git("add", "-A");
  git("commit", "--quiet", "--allow-empty", "-m", name);
  return git("rev-parse", "HEAD");
}
/** In hello.py. */
const replaced = (from: string, to: string) => (folder: string) => {
  const text = readFileSync(join(folder, "hello.py"), "utf8");
  assert.ok(text.includes(from));
  writeFileSync(join(folder, "hello.py"), text.replace(from, to));
};

const serving = async () =>
  JSON.parse(await web("curl -s -H 'Host: hello.localhost' http://127.0.0.1/")) as {
    release: string;
    environment: { GREETING: string; SECRET: string };
  };
/** Main processes by unit: what has another was started anew. */
const pids = async () =>
  Object.fromEntries(
    (await web('for u in nginx hello worker other; do echo "$u $(systemctl show --property=MainPID --value $u)"; done'))
      .split("\n")
      .map((l) => l.split(" ")),
  );
interface Applied {
  ok: boolean;
  changed: string[];
}
const apply = async (...more: string[]) => (await project.json(["apply", "live", ...more])) as Applied;
const generation = async () => web("readlink /var/lib/ingot/current");
const live = async () => web("readlink /srv/hello/current");

all.before(async () => {
  project = await testProject();
  cpSync(path("tests/apps/hello"), path("repository"), { recursive: true });
  execFileSync("git", ["-C", path("repository"), "init", "--quiet"]);
  writeFileSync(stackFile(), declared(commit("main", () => {})));
  mkdirSync(path(".ingot/secrets/live"), { recursive: true, mode: 0o700 });
  writeFileSync(path(".ingot/secrets/live/given"), "first", { mode: 0o600 });
});
all.after(() => project?.remove());

test("hosts that do not depend on each other boot side by side; an apply meanwhile waits for the launch, and finds nothing to do", async () => {
  const up = project.begin(["up", "live"]);
  const starting = async () => ((await project.json(["status"])) as { state: string }[]).some((m) => m.state === "starting");
  while (up.child.exitCode === null && !(await starting())) await new Promise((resolve) => setTimeout(resolve, 50));
  const applied = await project.ingot(["apply", "live", "--json"]);
  const launched = await up.ended;
  assert.is(launched.code, 0, launched.stderr);
  assert.match(applied.stderr, /waiting for up live \(process \d+\)/);
  assert.equal((JSON.parse(applied.stdout) as Applied).changed, []);
  // From the start of its first process to the end of its activation, by one clock.
  const when = async (host: string) =>
    (await project.on(`live/${host}`, 'date -d "$(ps -o lstart= -p 1)" +%s; stat -c %Y /var/lib/ingot/current')).stdout
      .trim()
      .split("\n")
      .map(Number);
  const [[webBegan = 0, webEnded = 0], [sideBegan = 0, sideEnded = 0]] = await Promise.all([when("web"), when("side")]);
  assert.ok(Math.max(webBegan, sideBegan) <= Math.min(webEnded, sideEnded), JSON.stringify({ webBegan, webEnded, sideBegan, sideEnded }));
});

test("only what is named is brought, with what it needs and what takes it over; the rest waits for an apply of the whole", async () => {
  const before = await generation();
  edit('"one\\n"', '"ONE\\n"');
  edit('"two\\n"', '"TWO\\n"');
  edit("clerk: { system: true }", "clerk: { system: true, groups: [adm] }");
  edit("command: sleep 100000", "command: sleep 100001");
  const unknown = await project.ingot(["apply", "live", "service/othr"]);
  assert.is(unknown.code, 1);
  assert.match(unknown.stderr, /live has no resource `service\/othr`[\s\S]*did you mean `service\/other`\?/);

  const foreseen = (await project.json(["apply", "live", "service/other", "--check"])) as {
    hosts: { steps: { step: string }[]; files: { path: string }[] }[];
  };
  assert.equal(
    foreseen.hosts.map((h) => h.steps.map((s) => s.step)),
    [["user/clerk", "service/other"]],
  );
  assert.equal(
    foreseen.hosts.map((h) => h.files.map((f) => f.path)),
    [["/etc/systemd/system/other.service"]],
  );
  assert.is(await generation(), before);

  const some = await project.ingot(["apply", "live", "service/other", "--json"]);
  assert.match(some.stderr, /and with it: user\/clerk/);
  assert.equal((JSON.parse(some.stdout) as Applied).changed.sort(), ["service/other", "user/clerk"]);
  assert.is(await web("cat /etc/one.conf"), "one");
  // It is what it says that it is: nothing of the stack's that was not done.
  assert.is(await web("grep -c \"$(printf 'one\\n' | sha256sum | cut -c 1-64)\" /var/lib/ingot/current/plan.json"), "1");
  assert.equal((await apply("service/other")).changed, []);

  assert.equal((await apply()).changed.sort(), ["file//etc/one.conf", "file//etc/two.conf"]);
  assert.equal((await apply()).changed, []);
  const history = await project.ingot(["history", "live/web"]);
  assert.match(history.stdout, /first boot\n.* apply live service\/other\n.* now +apply live\n$/);
});

test("what changed is restarted, or reloaded where that is enough, and nothing else", async () => {
  const before = await pids();
  edit("time.sleep(100000)", "time.sleep(100001)");
  edit("plain: { names: [plain.localhost],", "plain: { names: [plain.localhost, more.localhost],");
  assert.equal((await apply()).changed.sort(), ["nginx", "service/worker"]);
  const after = await pids();
  assert.equal({ ...after, worker: before.worker }, before);
  assert.is.not(after.worker, before.worker);
  assert.is(await web("curl -s -H 'Host: more.localhost' http://127.0.0.1/"), "plain");
});

test("a secret that is another is brought by an apply: once, to those who run with it", async () => {
  const before = await pids();
  writeFileSync(path(".ingot/secrets/live/given"), "second", { mode: 0o600 });
  assert.equal((await apply()).changed.sort(), ["application/hello:env", "service/hello", "service/worker"]);
  assert.is((await serving()).environment.SECRET, "second");
  const after = await pids();
  assert.equal({ ...after, hello: before.hello, worker: before.worker }, before);
  assert.equal((await apply()).changed, []);
  assert.equal(await pids(), after);
});

test("two at once: one waits, and says so; so does one that finds another's activation on the machine", async () => {
  edit('"ONE\\n"', '"one\\n"');
  // Somebody's activation, for as long as the others are needed to wait.
  const activation = "touch /run/held; until [ -e /run/over ]; do sleep 0.05; done";
  const other = project.begin(["exec", "live/web", "--", "flock", "/var/lib/ingot/lock", "sh", "-c", activation]);
  await web("until [ -e /run/held ]; do sleep 0.05; done");
  const first = project.begin(["apply", "live", "--json"]);
  await first.said(/waiting for the activation that runs on live\/web/);
  const second = project.begin(["apply", "live/web", "--json"]);
  await second.said(new RegExp(`waiting for apply live \\(process ${first.child.pid}\\)`));
  await web("touch /run/over");
  const both = await Promise.all([first.ended, second.ended]);
  assert.equal(
    both.map((o) => o.code),
    [0, 0],
    both.map((o) => o.stderr).join("\n"),
  );
  assert.equal(
    both.map((o) => (JSON.parse(o.stdout) as Applied).changed),
    [["file//etc/one.conf"], []],
  );
  await other.ended;
});

test("a change whose check fails puts the configuration before it back; --keep leaves it to look at", async () => {
  const [before, was] = [await generation(), stack()];
  edit("/: { files: /srv/plain }", "/: { files: /srv/nothing }");
  const failed = await project.ingot(["apply", "live"]);
  assert.is(failed.code, 1);
  assert.match(failed.stderr, /FAILED +(web: )?check\/plain/);
  assert.match(failed.stderr, /live is again what it was before\n$/);
  assert.is(await generation(), before);
  assert.is(await web("curl -s -H 'Host: plain.localhost' http://127.0.0.1/"), "plain");
  const kept = await project.ingot(["apply", "live", "--keep"]);
  assert.is(kept.code, 1);
  assert.match(kept.stderr, /live is left as it is now/);
  assert.is.not(await generation(), before);
  writeFileSync(stackFile(), was);
  assert.ok((await apply()).ok);
  assert.is(await generation(), before);
});

test("configuration that its program refuses does not count: the one before is in its place, and served", async () => {
  const was = stack();
  // Nothing in the image, and on the host what nginx does not know.
  edit(
    "plain: { names: [plain.localhost, more.localhost], http: true,",
    'plain: { names: [plain.localhost, other.localhost], http: true, snippet: "include /etc/on*.conf;",',
  );
  edit(
    "    files:\n      /srv/plain",
    '    files:\n      /etc/sudoers.d/wrong: { content: "clerk may everything\\n", mode: "0440" }\n      /etc/ssh/sshd_config.d/wrong.conf: { content: "Nonsense yes\\n" }\n      /srv/plain',
  );
  const refused = await project.ingot(["apply", "live", "--keep"]);
  assert.is(refused.code, 1);
  assert.match(refused.stderr, /unknown directive|unexpected end of file/);
  assert.match(refused.stderr, /visudo refuses it: \/etc\/sudoers\.d\/wrong is as it was/);
  assert.match(refused.stderr, /Bad configuration option: Nonsense[\s\S]*sshd refuses it/);
  assert.is(await web("ls /etc/sudoers.d/wrong /etc/ssh/sshd_config.d/wrong.conf 2>&1 | grep -c 'No such file'"), "2");
  assert.is(
    await web(
      "nginx -t -q && grep -l more.localhost /etc/nginx/sites-enabled/* | wc -l; grep -l 'on.[.]conf' /etc/nginx/sites-enabled/* | wc -l",
    ),
    "1\n0",
  );
  assert.is(await web("systemctl restart nginx && curl -s -H 'Host: more.localhost' http://127.0.0.1/"), "plain");
  writeFileSync(stackFile(), was);
  assert.ok((await apply()).ok);
});

const serves = async (name: string, release: string, current: string): Promise<void> => {
  assert.is((await serving()).release, release, name);
  assert.is(await live(), current, name);
  assert.is(await web("systemctl is-active hello worker tick.timer | sort -u"), "active", name);
};

test("a release is deployed by its name, at any commit; the file says what is kept, and the next apply brings that", async () => {
  const first = await live();
  const wrong = await project.ingot(["deploy", "live/helo"]);
  assert.match(wrong.stderr, /live has no application `helo`[\s\S]*did you mean `live\/hello`\?/);
  assert.match((await project.ingot(["deploy", "live/web"])).stderr, /it is a host: ingot apply live\/web/);
  assert.match(
    (await project.ingot(["deploy", "live/hello", "--ref", "secnd"])).stderr,
    /no branch, tag or commit `secnd`[\s\S]*did you mean `second`\?|there are/,
  );
  edit('"TWO\\n"', '"later\\n"'); // of another host, and no matter of the application's
  const second = commit("second", replaced('RELEASE = "one"', 'RELEASE = "second"'));
  const before = await pids();
  const deploy = await project.ingot(["deploy", "live/hello", "--ref", "second"]);
  assert.is(deploy.code, 0, deploy.stderr);
  assert.match(deploy.stdout, new RegExp(`to keep it, write into stacks/live\\.yaml:10: commit: ${second}`));
  await serves("second", "second", await live());
  const after = await pids();
  assert.equal({ ...after, hello: before.hello, worker: before.worker }, before);
  assert.ok(after.hello !== before.hello && after.worker !== before.worker);
  const releases = (await project.json(["releases", "live/hello"])) as {
    hosts: { host: string; releases: { live: boolean; rollback: boolean; source: string; bytes: number }[] }[];
  };
  const own = releases.hosts.find((h) => h.host === "web")?.releases ?? [];
  assert.equal(own.map((r) => [r.live, r.rollback, r.bytes > 0]).sort(), [
    [false, true, true],
    [true, false, true],
  ]);
  assert.match(own.find((r) => r.live)?.source ?? "", new RegExp(`commit ${second} of \\.\\./repository`));
  const applied = await project.ingot(["apply", "live/web"]);
  assert.match(
    applied.stderr,
    /application\/hello was deployed as second \(commit [0-9a-f]{40} of \.\.\/repository\); it becomes what the stack says/,
  );
  await serves("back to the stack's", "one", first);
});

for (const [name, change, broken, said] of [
  ["the build", () => edit("user: app\n", 'user: app\n        static: { collect: "false" }\n'), commitOf(() => {}), /release of hello/],
  ["unpacking", () => web("cd /srv/hello && mv releases kept && ln -s kept releases"), commitOf(() => {}), /releases is a symlink/],
  ["its environment", () => writeFileSync(path(".ingot/secrets/live/given"), "\u0001"), commitOf(() => {}), /SECRET/],
  ["the first command before it is live", () => {}, commitOf((f) => writeFileSync(join(f, "one"), "")), /before-live-1 failed/],
  ["the last command before it is live", () => {}, commitOf((f) => writeFileSync(join(f, "two"), "")), /before-live-2 failed/],
  [
    "the start of its service",
    () => {},
    commitOf(replaced("import grp", "import grp, nothing_of_the_kind")),
    /service\/hello failed[\s\S]*nothing_of_the_kind/,
  ],
  ["the command after it is live", () => {}, commitOf((f) => writeFileSync(join(f, "three"), "")), /after-live-1 failed/],
  ["a check", () => {}, commitOf(replaced('"release"', '"reles"')), /FAILED +(web: )?check\/home/],
] as const)
  test(`a release that fails at ${name} leaves the one before serving`, async () => {
    const [was, current, before] = [stack(), await live(), await pids()];
    broken(name.replaceAll(" ", "-"));
    await change();
    const deploy = await project.ingot(["deploy", "live/hello", "--ref", name.replaceAll(" ", "-")]);
    assert.is(deploy.code, 1, deploy.stdout + deploy.stderr);
    assert.match(deploy.stderr, said);
    writeFileSync(stackFile(), was);
    writeFileSync(path(".ingot/secrets/live/given"), "second", { mode: 0o600 });
    if (name === "unpacking") await web("cd /srv/hello && rm releases && mv kept releases");
    await serves(name, "one", current);
    // Where nothing was switched, nothing was even restarted.
    if (!/start|after|check/.test(name)) assert.equal(await pids(), before);
  });

/** A function that makes the branch of a name with the change in it, and a release of its own. */
function commitOf(change: (folder: string) => void) {
  return (name: string): string =>
    commit(name, (folder) => {
      writeFileSync(join(folder, "of"), name);
      change(folder);
    });
}

test("old releases go, and never the live one nor the one before it; a rollback is to that one, with its environment", async () => {
  edit("GREETING: hello", "GREETING: changed");
  for (const name of ["third", "fourth"]) {
    commit(name, replaced('RELEASE = "one"', `RELEASE = "${name}"`));
    const deploy = await project.ingot(["deploy", "live", "--ref", name]);
    assert.is(deploy.code, 0, deploy.stderr);
    if (name === "third") edit("GREETING: changed", "GREETING: again");
  }
  const kept = Number(await web("ls /srv/hello/releases | wc -l"));
  assert.ok(kept >= 2 && kept <= 4, String(kept));
  assert.equal((await serving()).environment.GREETING, "again");
  const back = await project.ingot(["rollback", "live/web"]);
  assert.is(back.code, 0, back.stderr);
  const { release, environment } = await serving();
  assert.equal([release, environment.GREETING], ["third", "changed"]);
  assert.ok((await apply()).ok);
});

// A fixed seed: mulberry32.
const random = (() => {
  let state = 20261125;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
})();

test("an apply or deploy that is stopped or killed at any moment is finished by the next", async () => {
  for (let n = 0; n < 3; n++) {
    edit(/GREETING: \w+/, `GREETING: killed${n}`);
    const { child, ended, listens } = project.begin(n % 2 ? ["deploy", "live"] : ["apply", "live"]);
    await listens("SIGINT");
    const milliseconds = Math.round(200 + random() * 4000);
    await new Promise((resolve) => setTimeout(resolve, milliseconds));
    child.kill(n ? "SIGKILL" : "SIGINT");
    const stopped = await ended;
    // Where it was not quicker.
    if (stopped.code !== 0 && n === 0) assert.match(stopped.stderr, /ingot: stopped; (live may be between|what was begun has been undone)/);
    const again = await project.ingot(["apply", "live"]);
    assert.is(again.code, 0, `${milliseconds} ms: ${again.stderr}`);
    assert.is((await serving()).environment.GREETING, `killed${n}`);
  }
  assert.equal((await apply()).changed, []);
  assert.is((await project.ingot(["verify", "live"])).code, 0);
});

test("a machine that nobody reaches, or that is powered off, is said to be so, and loses nothing", async () => {
  edit(/GREETING: \w+/, "GREETING: unreached");
  const link = await web("ip -o link show up | sed -n 's/^[0-9]*: \\([^:@]*\\).*/\\1/p' | grep -v '^lo$'");
  await web(`ip link set ${link} down`);
  const unreached = await project.ingot(["apply", "live/web"]);
  assert.is(unreached.code, 1, unreached.stderr);
  assert.match(unreached.stderr, /FAILED +check\/home, seen from /);
  assert.match(unreached.stderr, /live is what it should be, but for what failed before, too: .*check\/home/);
  await web(`ip link set ${link} up`);
  assert.is((await serving()).environment.GREETING, "unreached");
  assert.is((await project.ingot(["verify", "live", "--within", "300"])).code, 0);
  assert.is((await project.ingot(["stop", "live"])).code, 0);
  for (const command of ["apply", "deploy", "rollback", "releases", "history"]) {
    const off = await project.ingot([command, "live"]);
    assert.is(off.code, 1, command);
    assert.match(off.stderr, /live\/\w+ is powered off[\s\S]*ingot start live/, command);
  }
  assert.is((await project.ingot(["start", "live"])).code, 0);
  assert.equal((await apply()).changed, []);
});

all.run();
