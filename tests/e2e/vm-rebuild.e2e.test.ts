// A host of the `vm` target back from nothing: its disk destroyed while a client commits, and one command. In the long suite: without KVM a first
// boot takes minutes. Everything else of a rebuild is the container target's (rebuild*.e2e.test.ts), whose code it is.
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { toolFolder } from "../../lib/paths.ts";
import type { Rebuild } from "../../stacks/recovery/rebuild.ts";
import { suite } from "../suite.ts";
import { type TestProject, testProject } from "./project.ts";
import { holds, launched } from "./vm.ts";
import { writer } from "./writer.ts";

const test = suite("a rebuild in QEMU");
const long = process.env.INGOT_TEST_LONG ? test : test.skip;
let project: TestProject;

test.before(async () => {
  if (!process.env.INGOT_TEST_LONG) return;
  process.env.INGOT_ON = "vm";
  project = await testProject(["inloop"]);
  copyFileSync(join(toolFolder, "tests/e2e/kept.yaml"), join(project.folder, "stacks/kept.yaml"));
});
test.after(async () => {
  await project?.remove();
});

long("its disk destroyed while a client commits: it is back with its rows and files, and at most the last seconds are lost", async () => {
  await launched(project, "kept", "uefi");
  await project.sql("kept/db", "shop", "create table orders (id int primary key); insert into orders select generate_series(1,1000)");
  await project.must("kept/db", "echo picture >/srv/data/media/one");
  await project.must("kept/db", "echo mine >/srv/scratch/x; sync /srv/scratch");
  assert.is((await project.ingot(["backup", "kept", "--full"])).code, 0);
  const { child, told, wrong } = writer(project.folder, "kept/db");
  await new Promise((resolve) => setTimeout(resolve, 60_000));
  assert.ok(told.length > 50, wrong());
  await project.cutPower("kept/db");
  const died = Date.now() / 1000;
  child.kill();
  project.ruin("kept/db", "data");
  const began = performance.now();
  const { code, stdout, stderr } = await project.ingot(["rebuild", "kept/db", "--json"]);
  assert.is(code, 0, stdout + stderr);
  const result = JSON.parse(stdout) as Rebuild;
  assert.equal(result.source?.attached, ["scratch", "backup"]);
  const last = Number(await project.sql("kept/db", "shop", "select max(id) from orders"));
  assert.is(await project.sql("kept/db", "shop", "select count(*) = max(id) from orders"), "t");
  const lost = told.filter((row) => row.id > last);
  const seconds = died - (lost[0]?.at ?? died);
  console.log(
    `back in ${((performance.now() - began) / 1000).toFixed(0)} s; ${lost.length} of ${told.length} commits lost, ${seconds.toFixed(1)} s`,
  );
  // 5 s of archive_timeout, and what it takes to copy a piece of the log where a processor is translated.
  assert.ok(seconds < 30, `${seconds} s`);
  assert.is(await project.must("kept/db", "cat /srv/data/media/one /srv/scratch/x"), "picture\nmine");
  await holds(project, "kept");
});

test.run();
