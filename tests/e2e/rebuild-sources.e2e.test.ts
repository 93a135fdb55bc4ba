// What a rebuild restores from, and where to: an incremental backup, one that is named, a volume that is too small for it; and the old machine of a
// host that comes back with the repository at hand after another took its place.
import { copyFileSync, existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { toolFolder } from "../../lib/paths.ts";
import { asRoot, run } from "../../lib/run.ts";
import type { Backups } from "../../stacks/recovery/backups.ts";
import type { Rebuild } from "../../stacks/recovery/rebuild.ts";
import { suite } from "../suite.ts";
import { archivesNothing, bringBack, putAside } from "./old-machine.ts";
import { type TestProject, testProject } from "./project.ts";
import { archived } from "./shop.ts";

const test = suite("sources of a rebuild");
/** Each is a machine or two more: in the long suite. */
const long = process.env.INGOT_TEST_LONG ? test : test.skip;
let project: TestProject;
const on = (script: string) => project.must("kept/db", script);
const sql = (text: string) => project.sql("kept/db", "shop", text);
const disks = () => join(project.folder, ".ingot/volumes/kept/db");
const backups = async () => ((await project.json(["backups", "kept"])) as Backups[])[0] as Backups;

type Result = Rebuild & { restored: { postgresql?: string; rows?: { same: Record<string, { rows: number }> } } };
async function rebuilt(...more: string[]): Promise<Result> {
  const { code, stdout, stderr } = await project.ingot(["rebuild", "kept/db", ...more, "--json"]);
  assert.is(code, 0, stdout + stderr);
  return JSON.parse(stdout) as Result;
}

test.before(async () => {
  if (!process.env.INGOT_TEST_LONG) return;
  project = await testProject(["inloop"]);
  copyFileSync(join(toolFolder, "tests/e2e/kept.yaml"), join(project.folder, "stacks/kept.yaml"));
  const { code, stdout, stderr } = await project.ingot(["up", "kept"]);
  assert.is(code, 0, stdout + stderr);
  await sql(
    "create table orders (id int primary key); alter table orders owner to shop; insert into orders select generate_series(1,1000);",
  );
  await on("echo one >/srv/data/media/file");
});
test.after(async () => {
  await project?.remove();
});

let named: string;
long("an incremental backup stands on the last one, and a restore comes from it", async () => {
  assert.is((await project.ingot(["backup", "kept", "--full"])).code, 0);
  named = (await backups()).postgresql.at(-1)?.label ?? "";
  await on("echo two >/srv/data/media/file");
  await sql("insert into orders select generate_series(1001,1100)");
  await on("/usr/lib/ingot/backup.py run incremental && /usr/lib/ingot/backup.py run directories");
  const found = await backups();
  assert.equal(found.late, []);
  assert.is(found.postgresql.at(-1)?.type, "incr");
  assert.match(found.postgresql.at(-1)?.label ?? "", new RegExp(`^${named}_\\d{8}-\\d{6}I$`));
  await sql("insert into orders select generate_series(1101,1200)");
  await archived(sql);
  await project.cutPower("kept/db");
  rmSync(project.disk("kept/db", "data"));
  const result = await rebuilt();
  assert.is(result.restored.postgresql, found.postgresql.at(-1)?.label);
  assert.is(result.restored.rows?.same["shop:orders"]?.rows, 1100);
  assert.is(await sql("select count(*) from orders"), "1200");
});

long("a backup that is named: everything is as it was in it, whatever came after, on whichever timeline", async () => {
  const wrong = await project.ingot(["rebuild", "kept/db", "--at", "2026-11-24T10:00:00Z", "--backup", named]);
  assert.is(wrong.code, 2);
  const foreseen = await project.ingot(["rebuild", "kept/db", "--backup", named, "--dry-run"]);
  assert.match(foreseen.stdout, new RegExp(`volume data: put aside, and restored as it was in the backup ${named}`));
  const result = await rebuilt("--backup", named);
  assert.is(result.restored.postgresql, named);
  assert.is(result.restored.rows?.same["shop:orders"]?.rows, 1000);
  assert.is(await sql("select count(*) from orders"), "1000");
  assert.is(await sql("select pg_is_in_recovery()"), "f");
  assert.is(await on("cat /srv/data/media/file"), "one");
  assert.equal((await backups()).late, []);
});

/** Refused before anything was written down or changed; what there is, is said. */
async function refused(there: string, ...past: string[]): Promise<string> {
  const { code, stderr } = await project.ingot(["rebuild", "kept/db", ...past]);
  assert.is(code, 1, stderr);
  assert.match(stderr, new RegExp(`there are .*${there} .*Nothing was changed`));
  assert.not.ok(existsSync(begun()));
  return stderr;
}
const begun = () => join(project.folder, ".ingot/recovery/kept.db.json");

long("a past that is not there is refused before anything is changed, with the machine running and with it off", async () => {
  const before = readdirSync(disks()).sort();
  const there = (await backups()).postgresql.at(-1)?.label ?? "";
  for (const past of [
    ["--at", "last monday"],
    ["--at", "2126-01-01T00:00:00Z"],
  ])
    assert.is((await project.ingot(["rebuild", "kept/db", ...past])).code, 2);
  for (const state of ["running", "stopped"]) {
    if (state === "stopped") await project.cutPower("kept/db");
    assert.match(await refused(there, "--backup", "20200101-000000F"), /kept\/db: there is no backup 20200101-000000F/);
    assert.match(
      await refused(there, "--at", "2026-01-01T00:00:00Z"),
      /kept\/db: there is no backup of PostgreSQL from before 2026-01-01T00:00:00Z/,
    );
    await refused(there, "--backup", "20200101-000000F", "--dry-run");
    const machines = (await project.json(["status", "kept"])) as { state: string }[];
    assert.equal(
      machines.map((m) => m.state),
      [state],
    );
    assert.equal(readdirSync(disks()).sort(), before);
  }
});

long("where nobody knows what there is, the new machine says it, and the same rebuild goes on with another past", async () => {
  await project.ingot(["start", "kept"]);
  const there = (await backups()).postgresql.at(-1)?.label ?? "";
  await on("rm /srv/backup/backups.*.json");
  await project.cutPower("kept/db");
  const first = await project.ingot(["rebuild", "kept/db", "--backup", "20200101-000000F"]);
  assert.is(first.code, 1);
  assert.match(first.stderr, new RegExp(`there is no backup 20200101-000000F; there are .*${there}`));
  const plain = await project.ingot(["rebuild", "kept/db"]);
  assert.is(plain.code, 1);
  assert.match(plain.stderr, /has not ended[\s\S]*or choose another past by --at or --backup/);
  const { source } = JSON.parse(readFileSync(begun(), "utf8")) as Rebuild;
  const real = source?.restored[0]?.aside ?? "";
  assert.ok(existsSync(real));
  const result = await rebuilt("--backup", there);
  assert.is(result.restored.postgresql, there);
  assert.equal(result.aside, [real]);
  assert.ok(existsSync(real));
  assert.ok(existsSync(result.source?.restored[0]?.aside ?? ""));
  assert.is(await sql("select count(*) from orders"), "1000");
  assert.not.ok(existsSync(begun()));
});

long("a volume that is too small is said before anything is put aside; with its size back, the rebuild goes on", async () => {
  await sql("create table blob as select g, repeat(md5(random()::text), 40) from generate_series(1, 140000) g");
  assert.is((await project.ingot(["backup", "kept", "--full"])).code, 0);
  await project.cutPower("kept/db");
  // Its beginning is ruined, so that it is to be put aside.
  await run(asRoot(["dd", "if=/dev/zero", `of=${project.disk("kept/db", "data")}`, "bs=1M", "count=8", "conv=notrunc", "status=none"]));
  const before = readdirSync(disks()).sort();
  project.edit("stacks/kept.yaml", "data: { mount: /srv/data, size: 1GiB }", "data: { mount: /srv/data, size: 256MiB }");
  const { code, stderr } = await project.ingot(["rebuild", "kept/db"]);
  assert.is(code, 1);
  assert.match(stderr, /the volume data of kept\/db would have 256 MiB, and PostgreSQL of that backup wants \d+ MiB/);
  assert.equal(readdirSync(disks()).sort(), before);
  project.edit("stacks/kept.yaml", "data: { mount: /srv/data, size: 256MiB }", "data: { mount: /srv/data, size: 1GiB }");
  await rebuilt();
  assert.is(await sql("select count(*) from orders"), "1000");
});

long("where nobody knows the backup's size, the new machine says it, and restores nothing", async () => {
  await on("rm /srv/backup/backups.*.json");
  await project.cutPower("kept/db");
  rmSync(project.disk("kept/db", "data"));
  project.edit("stacks/kept.yaml", "data: { mount: /srv/data, size: 1GiB }", "data: { mount: /srv/data, size: 256MiB }");
  const { code, stderr } = await project.ingot(["rebuild", "kept/db"]);
  assert.is(code, 1);
  assert.match(
    stderr,
    /\/srv\/data has room for \d+ MiB, and PostgreSQL of the backup \S+ wants \d+ MiB: give its volume a larger `size:`/,
  );
  project.edit("stacks/kept.yaml", "data: { mount: /srv/data, size: 256MiB }", "data: { mount: /srv/data, size: 1GiB }");
  await rebuilt();
  assert.is(await sql("select count(*) from orders"), "1000");
});

long("the old machine comes back with the repository at hand: what it archives is refused, and the repository stays as it is", async () => {
  await sql("insert into orders select generate_series(2001,2010)");
  await archived(sql);
  await project.cutPower("kept/db");
  const old = await putAside(project, "kept/db");
  await rebuilt();
  assert.is(await sql("select count(*) from orders"), "1010");
  await project.cutPower("kept/db");
  // The old root, the old disk, and who it was; the repository is the one that the new machine writes to.
  await bringBack(project, "kept/db", old);
  await project.ingot(["start", "kept"]);
  const sums = () => on("cd /srv/backup && find . -type f ! -path './lost+found/*' -exec sha256sum {} + | sort | sha256sum");
  const before = await sums();
  assert.match(await archivesNothing(project, "kept/db"), /^kept-db-\w+ has taken the place of kept-db-\w+: nothing is archived any more/);
  assert.match((await project.ingot(["backups", "kept"])).stdout, /LATE kept\/db: kept-db-\w+ has taken the place of this machine/);
  assert.is(await sums(), before);
  rmSync(join(old, "new.img"));
});

test.run();
