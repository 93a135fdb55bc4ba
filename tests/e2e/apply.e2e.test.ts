// A live host: the kinds that INLOOP has no use for, what is taken out of the declaration, and what a running machine cannot be given.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { suite } from "../suite.ts";
import { type TestProject, testProject } from "./project.ts";

const test = suite("apply");
let project: TestProject;
const file = () => join(project.folder, "stacks/live.yaml");

const base = `stack: live
hosts:
  web:
    image: debian-12
    domain: example.org
    groups:
      editors: { gid: 3000 }
    users:
      ops: { groups: [editors] }
      worker: { system: true }
    packages:
      acl: {}
    directories:
      /srv/live: { owner: worker, group: editors, mode: "2775" }
    files:
      /srv/live/index.html: { content: "hello\\n", owner: worker, mode: "0644" }
      /etc/live.conf: { source: live.conf, mode: "0640" }
    services:
      worker: { user: worker, command: python3 -m http.server --bind 127.0.0.1 8001, listens: 127.0.0.1:8001 }
`;
const more = `    redis: { databases: { cache: 0 }, memory: 64mb }
    certificates:
      live: {}
    sites:
      live: { names: [live.example.org, live.localhost], certificate: live, locations: { /: { files: /srv/live }, /worker/: { proxy: service/worker } } }
    checks:
      hello: { site: live, get: /index.html, contains: hello }
`;

interface Applied {
  ok: boolean;
  changed: string[];
  files: { written: number; removed: number };
}

test.before(async () => {
  project = await testProject();
  writeFileSync(join(project.folder, "stacks/live.conf"), "from a file beside the stack\n");
  writeFileSync(file(), base + more);
});
test.after(async () => {
  await project?.remove();
});

test("groups, files, packages, a plain site: up and verified", async () => {
  const up = await project.ingot(["up", "live"]);
  assert.is(up.code, 0, up.stderr);
  const { stdout } = await project.on(
    "live",
    "getent group editors; id -nG ops; stat -c '%U:%G %a' /srv/live /etc/live.conf; cat /srv/live/index.html /etc/live.conf; redis-cli config get maxmemory",
  );
  assert.equal(stdout.trim().split("\n"), [
    "editors:x:3000:ops",
    "ops editors",
    "worker:editors 2775",
    "root:root 640",
    "hello",
    "from a file beside the stack",
    "maxmemory",
    "67108864",
  ]);
});

test("every resource has a log that names it", async () => {
  for (const [resource, said] of [
    ["nginx", /nginx/],
    ["redis", /redis|Redis/],
    ["service/worker", /worker/],
    ["user/ops", /ops/],
  ] as const) {
    const logs = await project.ingot(["logs", "live", resource]);
    assert.is(logs.code, 0, logs.stderr);
    assert.match(logs.stdout, said, resource);
  }
  const unknown = await project.ingot(["logs", "live", "service/wroker"]);
  assert.is(unknown.code, 1);
  assert.match(unknown.stderr, /no resource `service\/wroker`/);
});

test("a changed file is written, and the site serves it at once", async () => {
  writeFileSync(file(), (base + more).replaceAll("hello", "changed"));
  const applied = (await project.json(["apply", "live"])) as Applied;
  assert.equal(applied.changed, ["file//srv/live/index.html"]);
  assert.is((await project.ingot(["verify", "live"])).code, 0);
});

test("servers that are declared no more are stopped, their files are gone, and the host still proves itself", async () => {
  writeFileSync(file(), base);
  const applied = (await project.json(["apply", "live"])) as Applied;
  assert.ok(applied.ok);
  assert.ok(applied.files.removed >= 6, JSON.stringify(applied.files));
  const { stdout } = await project.on(
    "live",
    "systemctl is-active nginx redis-server worker; systemctl is-enabled nginx redis-server; ls /etc/nginx/ingot /etc/redis/ingot.conf 2>&1 | grep -c 'No such file'",
  );
  assert.equal(stdout.trim().split("\n"), ["inactive", "inactive", "active", "disabled", "disabled", "2"]);
  const verified = await project.ingot(["verify", "live"]);
  assert.is(verified.code, 0, verified.stdout + verified.stderr);
});

test("what was taken out can be declared again", async () => {
  writeFileSync(file(), base + more);
  assert.ok(((await project.json(["apply", "live"])) as Applied).ok);
  const verified = await project.ingot(["verify", "live"]);
  assert.is(verified.code, 0, verified.stdout + verified.stderr);
});

test("a new volume is refused with the way to have it", async () => {
  writeFileSync(file(), `${base}    volumes:\n      data: { mount: /srv/data, size: 64MiB }\n`);
  const applied = await project.ingot(["apply", "live"]);
  assert.is(applied.code, 1);
  assert.match(applied.stderr, /launched without the volume data/);
  assert.match(applied.stderr, /ingot down live/);
});

test("a wrong stack is told before anything is touched", async () => {
  writeFileSync(file(), base.replace("owner: worker, group", "owner: wroker, group"));
  for (const command of ["apply", "up", "verify", "plan", "render", "validate"]) {
    const result = await project.ingot([command, "live"]);
    assert.is(result.code, 2, command);
    assert.match(result.stderr, /stacks\/live\.yaml:14:27 error ING1203: web has no user `wroker`/, command);
    assert.match(result.stderr, /did you mean `worker`\?/, command);
  }
  writeFileSync(file(), readFileSync(file(), "utf8").replace("wroker", "worker"));
});

test("a command's exit code, arguments and streams are its own", async () => {
  const result = await project.ingot(
    ["exec", "live/web", "--", "sh", "-c", 'cat; printf "%s|" "$@"; echo to stderr >&2; exit 7', "sh", "a b", "$HOME", "'quoted'", ""],
    "in\n",
  );
  assert.equal([result.code, result.stdout, result.stderr], [7, "in\na b|$HOME|'quoted'||", "to stderr\n"]);
});

test.run();
