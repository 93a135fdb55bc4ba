// A drill while production, whose backups are in a bucket, runs in QEMU: the bucket is read by the way that its machine has, through the machine's
// network. In the long suite: without KVM a first boot takes minutes. What the drill's own machine may do there: drill-s3.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { keptInBucket, type TestBucket } from "./bucket.ts";
import { type Drills, drillsOf, mustBeWhole } from "./drill.ts";
import { type TestProject, testProject } from "./project.ts";
import { late } from "./vm.ts";
import { writer } from "./writer.ts";

const test = suite("a drill of a bucket beside QEMU");
const long = process.env.INGOT_TEST_LONG ? test : test.skip;
let project: TestProject;
let bucket: TestBucket;
let drills: Drills;
const on = (script: string) => project.must("kept-s3/db", script);
/** Whether production may take away what is too old. */
const expires = () => on("flock --exclusive --nonblock /run/ingot/backup-reading.lock echo yes || echo no");

test.before(async () => {
  if (!process.env.INGOT_TEST_LONG) return;
  process.env.INGOT_ON = "vm";
  project = await testProject(["inloop"]);
  bucket = await keptInBucket(project);
  drills = drillsOf(project, "kept-s3");
  const { code, stdout, stderr } = await project.ingot(["backup", "kept-s3"]);
  assert.is(code, 0, stdout + stderr);
  // What its timers make on the hour is not what is looked for.
  await on("systemctl stop 'ingot-backup-*.timer'");
});
test.after(async () => {
  await project?.remove();
  await bucket?.stop();
});

long(
  "restored from the bucket while a client commits; production keeps what is read until then, and nothing else is written there",
  async () => {
    const before = await bucket.objects();
    const { child, told, wrong } = writer(project.folder, "kept-s3/db");
    const running = drills.drilled();
    await drills.activated("db");
    assert.is(await expires(), "no");
    const { code, drill, stderr } = await running;
    child.kill();
    assert.is(code, 0, `${stderr}${JSON.stringify(drill)}`);
    console.log(`RTO ${drill.rto_seconds} s, RPO ${drill.rpo_seconds} s; ${told.length} commits`);
    assert.equal(drill.repository, { db: "bucket" });
    mustBeWhole(drill, late);
    drills.nothingLeft();
    assert.is(await expires(), "yes");
    assert.ok(told.length > 20, wrong());
    const after = await bucket.objects();
    for (const [key, etag] of before) assert.is(after.get(key), etag, key);
    assert.equal(
      [...after.keys()].filter((key) => !before.has(key) && !key.startsWith("kept-s3/db/postgresql/archive/main/15-1/00000001")),
      [],
    );
  },
);

test.run();
