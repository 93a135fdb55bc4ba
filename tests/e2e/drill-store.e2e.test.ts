// A drill of a stack in which one host keeps the backups of another: both stand beside production, the one reads its backups from the other by ssh,
// and what production keeps, which goes on being written to, is not touched; also when the drill is killed.
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { toolFolder } from "../../lib/paths.ts";
import { suite } from "../suite.ts";
import { type Drills, drillsOf, mustBeWhole } from "./drill.ts";
import { type TestProject, testProject } from "./project.ts";
import { writer } from "./writer.ts";

const test = suite("drill of a store");
/** Each is two machines more: in the long suite. */
const long = process.env.INGOT_TEST_LONG ? test : test.skip;
let project: TestProject;
let drills: Drills;
const on = (host: string, script: string) => project.must(`kept-store/${host}`, script);
const sql = (text: string) => project.sql("kept-store/db", "shop", text);
const holder = () => on("vault", "cat /srv/backups/db/holder");

/** Production's machines, and the files that are kept for db with their sums, modes and owners. */
async function production(): Promise<{ machines: string; files: Map<string, string> }> {
  const text = await on(
    "vault",
    "cd /srv/backups && find . -type f ! -path './db/lock/*' -exec sha256sum {} + | sort -k2; find . ! -path './db/lock/*' -printf '%p %y %m %U %G\\n' | sort",
  );
  const lines = text.split("\n").map((line): [string, string] => {
    const [, sum, file] = /^([0-9a-f]{64}) {2}(.*)$/.exec(line) ?? [];
    return sum && file ? [file, sum] : [`${line.split(" ")[0]} (mode)`, line];
  });
  return { machines: `${drills.machine("vault")}\n${drills.machine("db")}`, files: new Map(lines) };
}

/** Production is what it was; among what it keeps there is more of its own log, and nothing else is new or another. */
function untouched(before: Awaited<ReturnType<typeof production>>, after: Awaited<ReturnType<typeof production>>): void {
  assert.is(after.machines, before.machines);
  for (const [file, sum] of before.files) assert.is(after.files.get(file), sum, file);
  const more = [...after.files.keys()].filter((f) => !before.files.has(f));
  const log = /^\.\/db\/postgresql\/archive\/main\/15-1\/00000001[0-9A-F]{8}(\/00000001[0-9A-F]{16}-[0-9a-f]{40}\.zst)?( \(mode\))?$/;
  assert.equal(
    more.filter((f) => !log.test(f)),
    [],
  );
}

test.before(async () => {
  if (!process.env.INGOT_TEST_LONG) return;
  project = await testProject(["inloop"]);
  drills = drillsOf(project, "kept-store");
  copyFileSync(join(toolFolder, "tests/e2e/kept-store.yaml"), join(project.folder, "stacks/kept-store.yaml"));
  const { code, stdout, stderr } = await project.ingot(["up", "kept-store"]);
  assert.is(code, 0, stdout + stderr);
  await sql(
    "create table orders (id int primary key); alter table orders owner to shop; insert into orders select generate_series(1,1000);",
  );
  await on("db", "echo picture >/srv/data/media/one");
  assert.is((await project.ingot(["backup", "kept-store"])).code, 0);
  // What its timers make on the hour is not what is looked for.
  await on("db", "systemctl stop 'ingot-backup-*.timer'");
});
test.after(async () => {
  await project?.remove();
});

long(
  "a drill while a client commits: db is restored from the drill's own vault; what production keeps is untouched, and nothing is left",
  async () => {
    const [before, held] = [await production(), await holder()];
    const rows = Number(await sql("select count(*) from orders"));
    const { child } = writer(project.folder, "kept-store/db");
    const running = drills.drilled("--max-rto", "10m", "--max-rpo", "60s");
    await drills.activated("db");
    const tried = await drills.inside(
      "vault",
      "cat /srv/backups/db/holder; cd /run/ingot/repository/backups/db; cat holder; touch x; mount -o remount,bind,rw ..; mount -o remount,rw ..; touch x && echo written",
    );
    const { code, drill, stderr } = await running;
    child.kill();
    assert.is(code, 0, `${stderr}${JSON.stringify(drill)}`);
    // The drill's own store is the drill's machine's to write to; production's is not.
    assert.match(tried, new RegExp(`^kept-store-db-\\w+\n${held}\n`));
    assert.not.match(tried, new RegExp(`^${held}\n`));
    assert.match(tried, /Read-only file system/);
    assert.not.match(tried, /^written$/m);

    assert.equal(drill.repository, { vault: "shared" });
    assert.equal(
      drill.hosts.map((h) => [h.host, h.production, h.proof !== undefined]),
      [
        ["vault", "same", false],
        ["db", "same", true],
      ],
    );
    mustBeWhole(drill);
    assert.ok((drill.rto_seconds ?? 0) > 3, String(drill.rto_seconds));

    untouched(before, await production());
    assert.is(await holder(), held);
    drills.nothingLeft();
    assert.ok(Number(await sql("select count(*) from orders")) > rows + 10);
    assert.is(await sql("select timeline_id from pg_control_checkpoint()"), "1");
  },
);

long("killed while it restores, the next command undoes it, and what production keeps is untouched", async () => {
  const [before, held] = [await production(), await holder()];
  await drills.killedAt("started at");
  untouched(before, await production());
  assert.is(await holder(), held);
});

long("killed anywhere else, too; with the store's machine dead its disk is read; the next drill is right", async () => {
  const [before, held] = [await production(), await holder()];
  for (const mark of ["look into production's repositories", "first boot of kept-store", "prove what was restored", "done   write"])
    await drills.killedAt(mark);
  untouched(before, await production());
  assert.is(await holder(), held);
  await project.cutPower("kept-store/vault");
  // Which backups there are is read from its disk, too.
  const refused = await project.ingot(["rebuild", "kept-store/db", "--backup", "20200101-000000F", "--dry-run"]);
  assert.is(refused.code, 1);
  assert.match(refused.stderr, /there is no backup 20200101-000000F\n.*there are \d{8}-\d{6}F/);
  const { code, drill } = await drills.drilled();
  assert.is(code, 0, JSON.stringify(drill));
  assert.match(drill.repository.vault ?? "", /^(read-only|copy)$/);
  drills.nothingLeft();
});

test.run();
