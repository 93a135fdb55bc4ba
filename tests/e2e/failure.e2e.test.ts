// First boots that go wrong: what the operator is told, what is left, and how it goes on.
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import * as assert from "uvu/assert";
import { suite } from "../suite.ts";
import { type TestProject, testProject } from "./project.ts";

const test = suite("failure");
let project: TestProject;

test.before(async () => {
  project = await testProject(["debian-12", "inloop"]);
});
test.after(async () => {
  await project?.remove();
});

// A test that failed must not fail the next.
test.after.each(async () => {
  for (const stack of ["broken", "small"]) await project.ingot(["down", stack]);
});

const migration = "inloop/board/migrations/0001_initial.py";

test("a migration that fails: exit code 1, the resource and its line, the end of its log, a machine to look at; apply finishes the rest", async () => {
  const app = join(project.folder, "tests/apps/broken");
  cpSync(join(project.folder, "tests/apps/inloop"), app, { recursive: true });
  const right = readFileSync(join(app, migration), "utf8");
  writeFileSync(join(app, migration), `raise RuntimeError("this migration is broken on purpose")\n${right}`);
  const stack = readFileSync(join(project.folder, "stacks/inloop.yaml"), "utf8")
    .replace("stack: inloop", "stack: broken")
    .replaceAll("../tests/apps/inloop", "../tests/apps/broken");
  writeFileSync(join(project.folder, "stacks/broken.yaml"), stack);

  const up = await project.ingot(["up", "broken"]);
  assert.is(up.code, 1, up.stderr);
  const line = stack.split("\n").indexOf("    applications:") + 2;
  assert.match(up.stderr, new RegExp(`stacks/broken\\.yaml:${line}:7 error ING3001: application/inloop:before-live-\\d failed`));
  assert.match(up.stderr, /RuntimeError: this migration is broken on purpose/);
  assert.match(up.stderr, /not run because of it: .*service\/gunicorn/);
  assert.match(up.stderr, /changed +database\/inloop/);
  assert.match(up.stderr, /not-run +nginx/);
  assert.match(up.stderr, /changed +redis/);

  const logs = await project.ingot(["logs", "broken", "application/inloop"]);
  assert.match(logs.stdout, /this migration is broken on purpose/);

  writeFileSync(join(app, migration), right);
  const applied = (await project.json(["apply", "broken"])) as { ok: boolean; changed: string[] };
  assert.ok(applied.ok);
  assert.ok(applied.changed.includes("service/gunicorn"));
  assert.not.ok(applied.changed.includes("database/inloop"));
  assert.is((await project.ingot(["verify", "broken"])).code, 0);
  assert.is((await project.ingot(["down", "broken"])).code, 0);
});

const small = (service: string): string => `stack: small
hosts:
  web:
    image: debian-12
    users:
      worker: { system: true }
    directories:
      /srv/independent: { owner: worker }
    services:
      worker:
        user: worker
        ${service}
`;

test("a service that never listens ends by its time limit, and --rm leaves nothing", async () => {
  writeFileSync(
    join(project.folder, "stacks/small.yaml"),
    small("command: sleep 1000\n        listens: 127.0.0.1:9999\n        start_seconds: 3"),
  );
  const up = await project.ingot(["up", "small", "--rm"]);
  assert.is(up.code, 1);
  assert.match(up.stderr, /stacks\/small\.yaml:10:7 error ING3001: service\/worker/);
  assert.match(up.stderr, /changed +directory\/\/srv\/independent/);
  assert.is((await project.ingot(["status", "small"])).code, 1);
  assert.equal(project.left(), []);
});

test("two launches of the same stack at once: one wins, the other says why not", async () => {
  writeFileSync(join(project.folder, "stacks/small.yaml"), small("command: sleep 1000"));
  const both = await Promise.all([project.ingot(["up", "small"]), project.ingot(["up", "small"])]);
  assert.equal(both.map((o) => o.code).sort(), [0, 1], both.map((o) => o.stderr).join("\n"));
  assert.match(both.find((o) => o.code === 1)?.stderr ?? "", /is at it already|is up already/);
  assert.is((await project.ingot(["verify", "small"])).code, 0);
  assert.is((await project.ingot(["down", "small"])).code, 0);
});

for (const signal of ["SIGINT", "SIGTERM", "SIGKILL"] as const) {
  test(`${signal} at any moment of \`up\` leaves nothing${signal === "SIGKILL" ? " once the next run has mended it" : ""}`, async () => {
    for (const milliseconds of [150, 400, 800, 1600, 3000]) {
      const { child, ended, listens } = project.begin(["up", "small"]);
      // How long a busy computer takes to begin the program is no matter of its.
      if (signal !== "SIGKILL") await listens(signal);
      await delay(milliseconds);
      child.kill(signal);
      const { code } = await ended;
      if (signal === "SIGKILL") assert.is((await project.ingot(["gc"])).code, 0);
      // Before its own code runs, Node ends it by the signal itself: then it had begun nothing.
      else if (code !== 0) assert.ok([128, signal === "SIGINT" ? 130 : 143].includes(code), `${code} at ${milliseconds} ms`);
      // On a quick computer the launch had ended, or its first boot had when the kill came: then it is up, known, and goes as any does.
      const up = (await project.ingot(["status", "small"])).code === 0;
      assert.ok(!up || code === 0 || signal === "SIGKILL", `up after ${signal} at ${milliseconds} ms`);
      if (up) assert.is((await project.ingot(["down", "small"])).code, 0);
      assert.equal([milliseconds, project.left()], [milliseconds, []]);
    }
    assert.is((await project.ingot(["up", "small"])).code, 0, "the next run works");
    assert.is((await project.ingot(["down", "small"])).code, 0);
  });
}

test.run();
