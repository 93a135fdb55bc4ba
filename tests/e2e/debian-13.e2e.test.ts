// INLOOP's stack on Debian 13 in place of 12: newer systemd, cloud-init, PostgreSQL, Redis, Docker and Python under the same declaration.
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { suite } from "../suite.ts";
import { type TestProject, testProject } from "./project.ts";

const test = suite("debian-13");
// It bakes an image of its own: the long test suite's.
const when = process.env.INGOT_TEST_LONG ? test : test.skip;
let project: TestProject | undefined;

when("INLOOP is up and verified; applied again, nothing is to change; a reboot brings all of it back", async () => {
  project = await testProject(["debian-13"]);
  const { folder } = project;
  const recipe = join(folder, "images/inloop.yaml");
  writeFileSync(recipe, readFileSync(recipe, "utf8").replace("extends: debian-12", "extends: debian-13"));
  rmSync(join(folder, "images/inloop.lock.json"));
  const up = await project.ingot(["up", "inloop"]);
  assert.is(up.code, 0, up.stdout + up.stderr);
  const { stdout } = await project.on(
    "inloop",
    ". /etc/os-release; echo $VERSION_CODENAME; ls /usr/lib/postgresql; systemctl is-system-running",
  );
  assert.equal(stdout.trim().split("\n"), ["trixie", "17", "running"]);
  // systemd 257 makes one unit of ssh.service and of its alias when it reloads: it knew the alias before the link was there (lib.sh).
  assert.is(await project.must("inloop", "systemctl daemon-reload; systemctl is-active ssh.service sshd.service"), "active\nactive");
  const applied = (await project.json(["apply", "inloop"])) as { ok: boolean; changed: string[] };
  assert.equal([applied.ok, applied.changed], [true, []]);
  for (const command of ["stop", "start", "verify"]) {
    const outcome = await project.ingot([command, "inloop"]);
    assert.is(outcome.code, 0, outcome.stdout + outcome.stderr);
  }
});
test.after(async () => {
  await project?.remove();
});

test.run();
