// Kano-Konnect as its users and its operator have it: a task goes through RabbitMQ and comes back, static files come from the repository,
// what is killed comes back, a release is tried, switched to and taken back, a pipeline deploys, everything is there after a reboot.
import { spawn } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { toolFolder } from "../../lib/paths.ts";
import { suite } from "../suite.ts";
import { type TestProject, testProject } from "./project.ts";
import { openPorts } from "./scan.ts";

const test = suite("kano-konnect");
let project: TestProject;
let port = 0;
let original = "";
/** The pipeline's tests of the release that the machine boots with. */
let testing: Promise<{ code: number; said: string }>;
const on = async (script: string) => {
  const { stdout, stderr } = await project.on("kano-konnect", script);
  return stdout || stderr;
};

interface Answer {
  status: number;
  body: string;
  headers: Record<string, unknown>;
}
const ask = (path: string, form?: string, host = "kano-konnect.localhost"): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const headers = { Host: host, ...(form !== undefined && { "Content-Type": "application/x-www-form-urlencoded" }) };
    const asked = request({ host: "127.0.0.1", port, path, method: form === undefined ? "GET" : "POST", headers }, (answer) => {
      let body = "";
      answer.on("data", (chunk: Buffer) => (body += chunk.toString()));
      answer.on("end", () => resolve({ status: answer.statusCode ?? 0, body, headers: answer.headers }));
    });
    asked.on("error", reject);
    asked.end(form);
  });
const json = async (path: string, form?: string, host?: string) =>
  JSON.parse((await ask(path, form, host)).body) as Record<string, unknown>;
const stack = () => join(project.folder, "stacks/kano-konnect.yaml");
/** The file in which an application says which release it is. */
const release = (app: string) => join(project.folder, "tests/apps", app, "kano_konnect/kano_konnect/__init__.py");
/** The commands of a stage of the pipeline in the docs, run as Jenkins does: each by a shell, in the project's folder. */
async function stage(name: string): Promise<{ code: number; said: string }> {
  const pipeline = readFileSync(join(toolFolder, "docs/systems/kano-konnect.Jenkinsfile"), "utf8");
  const [, steps = ""] = new RegExp(`stage\\('${name}'\\)([\\s\\S]*?)(?=stage\\(|$)`).exec(pipeline) ?? [];
  const commands = [...steps.matchAll(/sh '(.*)'/g)].map((m) => m[1] ?? "");
  assert.ok(commands.length > 0, name);
  const env = { ...process.env, INGOT_ON: "container" };
  let said = "";
  for (const command of commands) {
    const shell = spawn("sh", ["-xe", "-c", command], { cwd: project.folder, env, stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [shell.stdout, shell.stderr]) stream.on("data", (chunk: Buffer) => (said += chunk.toString()));
    const code = await new Promise<number>((resolve) => shell.on("close", (c) => resolve(c ?? 1)));
    if (code !== 0) return { code, said };
  }
  return { code: 0, said };
}
const verified = async () => {
  const verify = await project.ingot(["verify", "kano-konnect", "--within", "300"]);
  assert.is(verify.code, 0, verify.stderr + verify.stdout);
};

test.before(async () => {
  project = await testProject(["kano-konnect"]);
  original = readFileSync(stack(), "utf8");
  mkdirSync(join(project.folder, "node_modules/.bin"), { recursive: true });
  symlinkSync(join(toolFolder, "dist/ingot.js"), join(project.folder, "node_modules/.bin/ingot"));
  testing = stage("Test");
});
test.after(() => project?.remove());

test("one command boots it, and every check holds", async () => {
  const up = await project.ingot(["up", "kano-konnect"]);
  assert.is(up.code, 0, up.stderr + up.stdout);
  port = Number(/http:\/\/kano-konnect\.localhost:(\d+)/.exec(up.stdout)?.[1]);
});

test("a task goes through RabbitMQ to Celery and comes back; each program is its own user", async () => {
  assert.equal(await json("/sums", "x=19&y=23"), { sum: 42, user: "celery" });
  const home = await json("/");
  assert.equal([home.release, home.user], ["one", "uwsgi"]);
  assert.ok(Number(home.sums) >= 1);
  assert.is(await on("ps -o user= -C nginx | sort | uniq -c | tr -s ' '"), " 2 nobody\n 1 root\n");
  assert.match(await on("ls /var/log/supervisor"), /kano_konnect-celeryd\.log[\s\S]*kano_konnect-uwsgi\.log/);
  assert.match(
    await on(
      "psql -d kano_konnect -XAtc 'select 1' -U kano_konnect -h 127.0.0.1 2>&1; runuser -u postgres -- psql -XAtc '\\l' | grep -c ^kano_konnect",
    ),
    /1\n$/,
  );
});

test("static files come from the repository's assets; the code, strangers and other ports get nothing", async () => {
  const logo = await ask("/static/logo.svg");
  assert.equal([logo.status, logo.headers["content-type"]], [200, "image/svg+xml"]);
  assert.is((await ask("/static/../kano_konnect/settings/production.py")).status, 404);
  await assert_refused(ask("/", undefined, "stranger.example.org"));
  assert.equal(await openPorts(project, "kano-konnect", "webserver"), [22, 80]);
  assert.match(
    await on("runuser -u nobody -g nogroup -- cat /srv/kano_konnect/current/app/kano_konnect/manage.py"),
    /execute_from_command_line/,
  );
  assert.match(await on("runuser -u nobody -g nogroup -- cat /var/lib/ingot/applications/kano_konnect.env 2>&1"), /Permission denied/);
  assert.match(
    await on("runuser -u ubuntu -- bash -c '. /srv/kano_konnect/shared/env/bin/activate && which celery'"),
    /releases\/\w+\/venv\/bin\/celery/,
  );
  assert.match(await on("runuser -u celery -- sh -c 'cat /proc/$(pgrep -o -u uwsgi)/environ' 2>&1"), /Permission denied/);
});

/** nginx closes the connection without an answer. */
async function assert_refused(answer: Promise<Answer>): Promise<void> {
  try {
    const { status } = await answer;
    assert.unreachable(`answered with ${status}`);
  } catch (error) {
    assert.match(String(error), /socket hang up|ECONNRESET/);
  }
}

test("all of it lives within the 1 GiB that the instance has, and knows when RabbitMQ has too little", async () => {
  assert.is((await project.on("kano-konnect", "python3 -c 'b = bytearray(1100 << 20)'")).code, 137, "more than 1 GiB was to be had");
  const kilobytes = Number(await on("cat /proc/[0-9]*/smaps_rollup 2>/dev/null | awk '/^Pss:/ { sum += $2 } END { print sum }'"));
  assert.ok(kilobytes > 100_000 && kilobytes < 700_000, `${kilobytes} kB`);
  await on("rabbitmqctl -q set_vm_memory_high_watermark absolute 50MB");
  assert.match((await project.ingot(["verify", "kano-konnect"])).stderr, /RabbitMQ takes no messages: low on memory/);
  await on("rabbitmqctl -q set_vm_memory_high_watermark absolute 256MB");
});

test("RabbitMQ gets other settings: it is restarted, and what waits at its connections with it", async () => {
  project.edit(stack(), "memory: 256MB", "memory: 320MB");
  original = readFileSync(stack(), "utf8");
  const { ok, changed } = (await project.json(["apply", "kano-konnect"])) as { ok: boolean; changed: string[] };
  assert.is(ok, true);
  assert.equal(changed.sort(), ["rabbitmq", "supervisord:kano_konnect-celeryd", "supervisord:kano_konnect-uwsgi"]);
  assert.match(await on("rabbitmqctl -q eval 'application:get_env(rabbit, vm_memory_high_watermark).'"), /320MB/);
  assert.equal(await json("/sums", "x=1&y=2"), { sum: 3, user: "celery" });
});

test("what is killed comes back", async () => {
  // Processes that wait for results at RabbitMQ's old connection are replaced, both by the first question to each.
  await on(
    "old=$(pgrep -x beam.smp); kill -KILL $old; while [ -e /proc/$old ]; do sleep 0.1; done; while ! ss -Hltn sport = :5672 | grep -q .; do sleep 0.2; done",
  );
  await Promise.allSettled([json("/sums", "x=1&y=1"), json("/sums", "x=1&y=1")]);
  await verified();
  await on("pkill -KILL -u uwsgi; pkill -KILL -u celery; pkill -KILL epmd; pkill -KILL supervisord; true");
  await on("pkill -KILL nginx; pkill -KILL -o -u postgres postgres; pkill -KILL -o sshd; true");
  await verified();
});

test("a release is tried on its own port beside the live one, which is not touched", async () => {
  cpSync(join(project.folder, "tests/apps/kano_konnect"), join(project.folder, "tests/apps/kano_konnect_next"), { recursive: true });
  project.edit(release("kano_konnect_next"), '"one"', '"two"');
  // What the docs say is to be written, to the letter.
  const docs = readFileSync(join(toolFolder, "docs/systems/kano-konnect.md"), "utf8");
  const [, lines = ""] = /```yaml\n(applications:[\s\S]*?)```/.exec(docs) ?? [];
  const below = new Map([...lines.matchAll(/^(\w+):\n((?: .*\n)+)/gm)].map((m) => [m[1], (m[2] ?? "").replace(/^/gm, "    ").trimEnd()]));
  project.edit(
    stack(),
    /(?<= {4}applications:\n(?: {6}.*\n)+)(?! {6})/,
    `${below.get("applications")}\n\n    services:\n${below.get("services")}\n`,
  );
  project.edit(stack(), /(?<= {4}sites:\n(?: {6}.*\n)+)(?! {6})/, `${below.get("sites")}\n`);
  project.edit(stack(), "        env:\n", "        env: &environment\n");
  const programs = "supervisorctl status | sed 's/,.*//'";
  const live = await on(programs);
  const tried = (await project.json(["apply", "kano-konnect"])) as { ok: boolean };
  assert.is(tried.ok, true, JSON.stringify(tried));
  assert.is((await json("/")).release, "one");
  assert.is((await json("/", undefined, "next.kano-konnect.localhost")).release, "two");
  assert.equal(await json("/sums", "x=1&y=2", "next.kano-konnect.localhost"), { sum: 3, user: "celery" });
  assert.match(await on("ss -Hltn sport = :9091"), /127\.0\.0\.1:9091/);
  assert.is(await on(programs), live);
});

test("the pipeline switches to it once its tests pass; it is rolled back by one command, and the trial is ended by another", async () => {
  const { code: tested, said: tests } = await testing;
  assert.is(tested, 0, tests);
  project.edit(stack(), "tests/apps/kano_konnect ", "tests/apps/kano_konnect_next ");
  const { code, said } = await stage("Deploy");
  assert.is(code, 0, said);
  assert.is((await json("/")).release, "two");
  assert.equal(await json("/sums", "x=1&y=1"), { sum: 2, user: "celery" });
  const back = await project.ingot(["rollback", "kano-konnect"]);
  assert.is(back.code, 0, back.stderr + back.stdout);
  assert.is((await json("/")).release, "one");
  writeFileSync(stack(), original);
  const ended = await project.ingot(["apply", "kano-konnect"]);
  assert.is(ended.code, 0, ended.stderr);
  assert.is(await on("ss -Hltn sport = :9091"), "");
});

test("what fails the pipeline's tests, or its health check, never stays live", async () => {
  const tasks = join(project.folder, "tests/apps/kano_konnect/kano_konnect/kano_konnect/tasks.py");
  project.edit(tasks, "x + y", "x - y");
  const { code: tested, said: tests } = await stage("Test");
  assert.is(tested, 1, tests);
  assert.match(tests, /FAILED \(failures=1\)/);
  project.edit(tasks, "x - y", "x + y");
  // It starts, and its tests pass: only who asks the live site sees it.
  const production = join(project.folder, "tests/apps/kano_konnect/kano_konnect/kano_konnect/settings/production.py");
  project.edit(production, /^ALLOWED_HOSTS = .*/m, 'ALLOWED_HOSTS = ["elsewhere.example.org"]');
  const { code, said } = await stage("Deploy");
  assert.is(code, 1, said);
  assert.match(said, /check\/home/);
  assert.match(said, /kano-konnect is again what it was before/);
  project.edit(production, /^ALLOWED_HOSTS = .*/m, 'ALLOWED_HOSTS = os.environ["ALLOWED_HOSTS"].split(",")');
  assert.is((await json("/")).release, "one");
  assert.equal(await json("/sums", "x=1&y=1"), { sum: 2, user: "celery" });
});

test("after a reboot everything is back without help", async () => {
  assert.is((await project.ingot(["stop", "kano-konnect"])).code, 0);
  const start = await project.ingot(["start", "kano-konnect"]);
  assert.is(start.code, 0, start.stderr + start.stdout);
});

test.run();
