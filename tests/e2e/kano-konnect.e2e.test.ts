// Kano-Konnect as its users and its operator have it: a task goes through RabbitMQ and comes back, static files come from the repository,
// what is killed comes back, and everything is there again after a reboot.
import { request } from "node:http";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type TestProject, testProject } from "./project.ts";

const test = suite("kano-konnect");
let project: TestProject;
let port = 0;
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
const json = async (path: string, form?: string) => JSON.parse((await ask(path, form)).body) as Record<string, unknown>;
const verified = async () => {
  let verify = await project.ingot(["verify", "kano-konnect"]);
  for (let tries = 0; tries < 30 && verify.code !== 0; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    verify = await project.ingot(["verify", "kano-konnect"]);
  }
  assert.is(verify.code, 0, verify.stderr + verify.stdout);
};

test.before(async () => {
  project = await testProject(["kano-konnect"]);
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
  assert.is(await on("nft list chain inet ingot input | grep -c 'dport'"), "4\n"); // 22 and 80, and what brings addresses
  assert.match(
    await on("runuser -u nobody -g nogroup -- cat /srv/kano_konnect/current/app/kano_konnect/manage.py"),
    /execute_from_command_line/,
  );
  assert.match(await on("runuser -u nobody -g nogroup -- cat /var/lib/ingot/applications/kano_konnect.env 2>&1"), /Permission denied/);
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

test("what is killed comes back", async () => {
  await on("pkill -KILL -u uwsgi; pkill -KILL -u celery; pkill -KILL beam.smp; pkill -KILL supervisord; true");
  await verified();
});

test("after a reboot everything is back without help", async () => {
  assert.is((await project.ingot(["stop", "kano-konnect"])).code, 0);
  const start = await project.ingot(["start", "kano-konnect"]);
  assert.is(start.code, 0, start.stderr + start.stdout);
});

test.run();
