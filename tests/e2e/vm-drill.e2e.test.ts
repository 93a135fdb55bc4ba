// A drill while production runs in QEMU and a client commits: its disk is copied while it goes on, and it does go on; nothing is left, also when the drill
// is killed. In the long suite: without KVM a first boot takes minutes. The copy alone: tests/stacks/vm-disk.e2e.test.ts.
import { copyFileSync, existsSync, readdirSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { toolFolder } from "../../lib/paths.ts";
import { run, tryRun } from "../../lib/run.ts";
import { suite } from "../suite.ts";
import { type Drills, drillsOf, mustBeWhole } from "./drill.ts";
import { type TestProject, testProject } from "./project.ts";
import { fillShop } from "./shop.ts";
import { late, launched } from "./vm.ts";
import { writer } from "./writer.ts";

const test = suite("a drill beside QEMU");
const long = process.env.INGOT_TEST_LONG ? test : test.skip;
let project: TestProject;
let drills: Drills;
const on = (script: string) => project.must("kept/db", script);
const sql = (text: string) => project.sql("kept/db", "shop", text);
const boot = () => on("cat /proc/sys/kernel/random/boot_id");

/** Files of a drill that a process of this computer has open. */
const open = () =>
  readdirSync("/proc")
    .filter((pid) => /^\d+$/.test(pid) && existsSync(`/proc/${pid}/fd`))
    .flatMap((pid) => {
      try {
        return readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
      } catch {
        return []; // it ended meanwhile
      }
    })
    .filter((file) => file.startsWith(drills.state("drills")));

test.before(async () => {
  if (!process.env.INGOT_TEST_LONG) return;
  process.env.INGOT_ON = "vm";
  project = await testProject(["inloop"]);
  drills = drillsOf(project, "kept");
  copyFileSync(join(toolFolder, "tests/e2e/kept.yaml"), join(project.folder, "stacks/kept.yaml"));
  // Without KVM a busy computer takes longer than 5 s to bring a piece of the log away, and a backup waits for all of them.
  project.edit("stacks/kept.yaml", "archive_seconds: 5", "archive_seconds: 30");
  await launched(project, "kept", "uefi");
  await fillShop({ sql, on });
  // What its timers make on the hour is not what is looked for.
  await on("systemctl stop 'ingot-backup-*.timer'");
  assert.is((await project.ingot(["backup", "kept", "--full"])).code, 0);
});
test.after(async () => {
  await project?.remove();
});

long("while a client commits: what was committed is in it, production goes on as it was, and nothing is left", async () => {
  const before = await boot();
  const { child, told, wrong } = writer(project.folder, "kept/db");
  await new Promise((resolve) => setTimeout(resolve, 20_000));
  const running = drills.drilled();
  await drills.activated("db");
  const restored = Number(await drills.inside("db", "cd / && runuser -u postgres -- psql -XqAt shop -c 'select max(id) from orders'"));
  const { code, drill, stderr } = await running;
  child.kill();
  assert.is(code, 0, `${stderr}${JSON.stringify(drill)}`);
  const lost = told.find((row) => row.id > restored)?.at ?? Number.POSITIVE_INFINITY;
  const behind = Date.parse(drill.began) / 1000 - lost;
  console.log(
    `RTO ${drill.rto_seconds} s, RPO ${drill.rpo_seconds} s, the client's first lost commit ${behind.toFixed(1)} s before the drill; ${drill.phases.map((p) => `${p.phase} ${p.seconds}`).join(", ")}; ${told.length} commits`,
  );
  // The copy was made some seconds after the drill began, the heartbeat is 5 s apart, and the machine's clock another.
  assert.ok(behind <= (drill.rpo_seconds ?? 0) + 5 && restored >= 1000, `${restored}: ${behind} s`);
  assert.equal(drill.repository, { db: "copy" });
  assert.equal(
    drill.hosts.map((h) => [h.host, h.production]),
    [["db", "same"]],
  );
  mustBeWhole(drill, late);
  drills.nothingLeft();
  assert.equal(open(), []);
  assert.is(await boot(), before);
  // Each commit that the client was told of, and he was told of them all the while.
  assert.ok(told.length > 50, wrong());
  assert.ok(Number(await sql("select max(id) from orders")) >= (told.at(-1)?.id ?? 0));
  assert.is(await sql("select count(*) = max(id), (select timeline_id from pg_control_checkpoint()) from orders"), "t|1");
  const after = await project.ingot(["backup", "kept"]);
  assert.is(after.code, 0, after.stdout + after.stderr);
});

long("killed, also while the disk is being copied: the next command undoes it, and production goes on", async () => {
  const before = await boot();
  for (const mark of ["look into production's repositories", "started at"]) {
    await drills.killedAt(mark);
    assert.equal(open(), []);
  }
  assert.is(await boot(), before);
  await sql("insert into orders select max(id)+1 from orders");
});

long("asked for on the wrong target, it says where production is", async () => {
  const { code, stderr } = await project.ingot(["drill", "kept", "--on", "container"]);
  assert.is(code, 1);
  assert.match(stderr, /kept is not up on container\n.*kept is up on vm: add `--on vm`/);
});

long("powered off, its disks are whole, and a drill reads the one with the backups", async () => {
  assert.is((await project.ingot(["stop", "kept"])).code, 0);
  const { code, drill, stderr } = await drills.drilled();
  assert.is(code, 0, `${stderr}${JSON.stringify(drill)}`);
  // One that is so slow that its time for an orderly end is over leaves its journal to be brought in.
  assert.match(drill.repository.db ?? "", /^(read-only|copy)$/);
  drills.nothingLeft();
  for (const volume of ["data", "backup"]) {
    const disk = project.disk("kept/db", volume);
    await tryRun(["e2fsck", "-p", disk]);
    await run(["e2fsck", "-n", "-f", disk]);
  }
});

test.run();
