// A host back from nothing: its disk destroyed while a client commits, its machine destroyed with its disk kept, a rebuild killed after each of its
// phases, two at once, a gap in the log, another cluster's backups. Committed transactions are counted by their client, who is told of each.
import { copyFileSync, existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { toolFolder } from "../../lib/paths.ts";
import type { Backups } from "../../stacks/recovery/backups.ts";
import { phases, type Rebuild } from "../../stacks/recovery/rebuild.ts";
import { suite } from "../suite.ts";
import { type TestProject, testProject, until } from "./project.ts";
import { keepsUp } from "./shop.ts";
import { writer } from "./writer.ts";

const test = suite("rebuild");
/** Each is a machine or two more: in the long suite. */
const long = process.env.INGOT_TEST_LONG ? test : test.skip;
let project: TestProject;
const on = (script: string) => project.must("kept/db", script);
const sql = (text: string) => project.sql("kept/db", "shop", text);
const disk = (name: string) => project.disk("kept/db", name);
const powerFails = () => project.cutPower("kept/db");
const backups = async () => ((await project.json(["backups", "kept"])) as Backups[])[0] as Backups;

async function rebuilt(
  ...more: string[]
): Promise<Rebuild & { restored: { rows?: { same: Record<string, { rows: number }> } }; stderr: string }> {
  const { code, stdout, stderr } = await project.ingot(["rebuild", "kept/db", ...more, "--json"]);
  assert.is(code, 0, stdout + stderr);
  return { ...(JSON.parse(stdout) as Rebuild & { restored: object }), stderr };
}

test.before(async () => {
  project = await testProject(["inloop"]);
  copyFileSync(join(toolFolder, "tests/e2e/kept.yaml"), join(project.folder, "stacks/kept.yaml"));
  const { code, stdout, stderr } = await project.ingot(["up", "kept"]);
  assert.is(code, 0, stdout + stderr);
  await sql(
    "create table orders (id int primary key); alter table orders owner to shop; insert into orders select generate_series(1,1000);",
  );
  await on(
    "echo picture >/srv/data/media/one && chown www-data: /srv/data/media/one && chmod 0640 /srv/data/media/one; echo mine >/srv/scratch/x",
  );
});
test.after(async () => {
  await project?.remove();
});

test("a host that was never launched: there is nothing to rebuild it from, and no rebuild is begun", async () => {
  const other = await testProject(["inloop"]);
  copyFileSync(join(toolFolder, "tests/e2e/kept.yaml"), join(other.folder, "stacks/kept.yaml"));
  const dry = await other.ingot(["rebuild", "kept/db", "--dry-run"]);
  assert.match(dry.stdout, /^volume backup: there is nothing on it; the rebuild would be refused, since it holds the backups$/m);
  const { code, stderr } = await other.ingot(["rebuild", "kept/db"]);
  assert.is(code, 1);
  assert.match(stderr, /the volume backup, with the backups of kept\/db, is lost: there is nothing on it/);
  assert.not.ok(existsSync(join(other.folder, ".ingot/recovery/kept.db.json")));
  await other.remove();
});

test("a backup is made, listed with its rows, and nothing is late; a second apply changes nothing", async () => {
  const { code, stdout } = await project.ingot(["backup", "kept", "--full"]);
  assert.is(code, 0, stdout);
  assert.match(stdout, /kept\/db: full: \d{8}-\d{6}F, shop:orders 1000 rows/);
  const found = await backups();
  assert.equal(found.late, []);
  assert.is(found.postgresql.at(-1)?.type, "full");
  // Others may have the processor for a while.
  await until(async () => `${(await backups()).archive?.rpo_seconds} s`, "what a lost disk would cost", /^(\d|1[0-4])(\.\d+)? s$/);
  const applied = (await project.json(["apply", "kept"])) as { hosts: { steps: { step: string; outcome: string }[] }[] };
  assert.equal(
    applied.hosts.flatMap((h) => h.steps.filter((s) => s.outcome !== "unchanged")),
    [],
  );
});

test("PostgreSQL, restarted, archives its log as soon as ever", async () => {
  await on("systemctl restart postgresql@15-main");
  const archived = async () => Number(await sql("select archived_count from pg_stat_archiver"));
  const before = await archived();
  const began = performance.now();
  await until(async () => ((await archived()) >= before + 2 ? "yes" : "no"), "two more pieces of the log archived", /yes/);
  // By itself it would begin after checkpoint_timeout, 300 s.
  assert.ok(performance.now() - began < 150_000, `${performance.now() - began} ms`);
});

test("the repositories hold nothing that can be read without the password", async () => {
  assert.is(await on("grep -rls -e picture -e generate_series /srv/backup | wc -l"), "0");
  assert.is(await on("stat -c %U:%a /etc/ingot/backup/pgbackrest.conf /etc/ingot/backup/password"), "postgres:400\nroot:400");
});

test("what a rebuild would do is said, and done by nobody", async () => {
  const { code, stdout } = await project.ingot(["rebuild", "kept/db", "--dry-run"]);
  assert.is(code, 0);
  assert.match(stdout, /fence: db is running, and would be powered off/);
  assert.match(
    stdout,
    /volume data: looked at once .* restored from the backups \(\/srv\/data\/media, \/srv\/data\/postgresql\/15\/main\)/,
  );
  assert.match(stdout, /volume scratch: .* new and empty: nothing of it is backed up/);
  assert.match(stdout, /at most 5 s before the end/);
  assert.is(await sql("select count(*) from orders"), "1000");
});

test("the disk destroyed while pgbench writes, and a client who counts what it was told: at most the last seconds are lost, and of no transaction a half is there", async () => {
  const pgbench = "/usr/lib/postgresql/15/bin/pgbench";
  await on(`cd / && runuser -u postgres -- ${pgbench} --initialize --quiet shop 2>&1`);
  await on(`systemd-run --quiet --unit=pgbench --uid=postgres ${pgbench} --client=4 --rate=50 --time=900 shop`);
  const { child, told } = writer(project.folder, "kept/db");
  const heard = () => `${told.length} rows in ${Math.floor((told.at(-1)?.at ?? 0) - (told[0]?.at ?? 0))} s`;
  await until(async () => heard(), "rows that are told", /^(5[1-9]|[6-9]\d|\d{3,}) rows in (1[5-9]|[2-9]\d|\d{3,}) s$/);
  await keepsUp(sql);
  await powerFails();
  const died = Date.now() / 1000;
  child.kill();
  project.ruin("kept/db", "data");
  const result = await rebuilt();
  assert.equal(result.source?.attached, ["scratch", "backup"]);
  assert.match(result.source?.restored[0]?.because ?? "", /broken|nothing on it/);
  // Nothing is deleted: the ruined disk is there by another name.
  assert.ok(existsSync(result.source?.restored[0]?.aside ?? ""));
  assert.is(result.restored.rows?.same["shop:orders"]?.rows, 1000);
  const last = Number(await sql("select max(id) from orders"));
  assert.is(await sql("select count(*) = max(id) from orders"), "t");
  const lost = told.filter((row) => row.id > last);
  const first = lost[0]?.at ?? died;
  // 5 s of archive_timeout, and what it takes to copy a piece of the log.
  assert.ok(died - first < 10, `${lost.length} of ${told.length} commits lost, the first ${died - first} s before the end`);
  // Each of pgbench's transactions adds one number to an account, a teller and a branch, and keeps it in a row of its history.
  const sums = ["accounts.abalance", "tellers.tbalance", "branches.bbalance", "history.delta"].map((column) => {
    const [table, name] = column.split(".");
    return `select sum(${name}) from pgbench_${table}`;
  });
  assert.is(await sql(`select count(distinct sum) from (${sums.join(" union all ")}) sums`), "1");
  const history = `select count(*) > 0, extract(epoch from max(mtime) at time zone 'UTC') > ${died - 10} from pgbench_history`;
  assert.is(await sql(history), "t|t");
  assert.is(
    await on("cat /srv/data/media/one; stat -c %U:%G:%a /srv/data/media/one /srv/data/media; cat /srv/scratch/x"),
    "picture\nwww-data:www-data:640\nwww-data:www-data:750\nmine",
  );
  // A timeline of its own, and a backup that begins it.
  assert.is(await sql("select pg_is_in_recovery(), timeline_id from pg_control_checkpoint()"), "f|2");
  assert.equal((await backups()).late, []);
});

long("the machine destroyed and its disks kept: they are attached, and nothing is lost", async () => {
  await sql("insert into orders select max(id)+1 from orders");
  const before = await sql("select count(*) from orders");
  await powerFails();
  const result = await rebuilt();
  assert.equal(result.source?.restored, []);
  assert.is(await sql("select count(*) from orders"), before);
});

long("as it was at a time: what was committed since is put aside with its disk", async () => {
  await project.ingot(["backup", "kept"]);
  await new Promise((resolve) => setTimeout(resolve, 2000));
  const before = await sql("select count(*) from orders");
  const at = `${new Date().toISOString().slice(0, 19)}Z`;
  await new Promise((resolve) => setTimeout(resolve, 2000));
  await sql("delete from orders where id > 10; select pg_switch_wal()");
  await new Promise((resolve) => setTimeout(resolve, 3000));
  const result = await rebuilt("--at", at);
  assert.match(result.source?.restored[0]?.because ?? "", new RegExp(`as it was at ${at}`));
  assert.is(await sql("select count(*) from orders"), before);
});

long("killed after each of its phases, it is gone on with; nobody else begins another meanwhile", async () => {
  await powerFails();
  rmSync(disk("data"));
  const file = join(project.folder, ".ingot/recovery/kept.db.json");
  const ended = () =>
    existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as Rebuild).phases.filter((p) => p.ended).map((p) => p.phase) : [];
  for (const [i, name] of phases.slice(0, -1).entries()) {
    const { child, ended: over } = project.begin(["rebuild", "kept/db"]);
    for (let n = 0; n < 1200 && !ended().includes(name); n++) await new Promise((resolve) => setTimeout(resolve, 100));
    if (i === 0) {
      const second = await project.ingot(["rebuild", "kept/db"]);
      assert.is(second.code, 1);
      assert.match(second.stderr, /rebuild kept\/db \(process \d+\) is at it already/);
    }
    child.kill("SIGKILL");
    await over;
    assert.equal(ended().slice(0, i + 1), phases.slice(0, i + 1));
  }
  const wrong = await project.ingot(["rebuild", "kept/db", "--at", "2026-01-01T00:00:00Z"]);
  assert.match(wrong.stderr, /a rebuild of kept\/db was begun .* and has not ended/);
  const result = await rebuilt();
  assert.match(result.stderr, /going on with the rebuild/);
  assert.equal(
    result.phases.map((p) => p.phase),
    [...phases],
  );
  assert.is(await sql("select count(*) = max(id) from orders"), "t");
  assert.not.ok(existsSync(file));
});

test("a lost disk without a rebuild: the new cluster is not backed up over the old one's backups", async () => {
  await powerFails();
  rmSync(disk("data"));
  await project.ingot(["down", "kept"]);
  const { code, stderr } = await project.ingot(["up", "kept"]);
  assert.is(code, 1);
  assert.match(stderr, /backup:repository failed/);
  assert.match(stderr, /holds the backups of another cluster .* `ingot rebuild` restores them/);
});

long("a gap in the log is said, with the time up to which a restore is possible, and a restore to before it works", async () => {
  // The disk that the last test has made is a cluster of its own: away with it.
  await project.ingot(["down", "kept"]);
  rmSync(disk("data"));
  await rebuilt();
  await sql("select pg_switch_wal()");
  await new Promise((resolve) => setTimeout(resolve, 1500));
  const archive = "cd /srv/backup/postgresql/archive/main/*/ && find . -name '????????????????????????-*'";
  const last = (await on(`${archive} | sort -t/ -k3 | tail -n 2 | head -n 1`)).split("/").pop() ?? "";
  await on(
    "cd / && for i in 1 2 3; do echo 'insert into orders select max(id)+1 from orders; select pg_switch_wal();' | runuser -u postgres -- psql -XqAt shop; sleep 1; done; sleep 3",
  );
  await on(`${archive} -name '${last}' -delete`);
  const listed = await project.ingot(["backups", "kept"]);
  assert.is(listed.code, 1);
  assert.match(listed.stdout, /LATE kept\/db: PostgreSQL's log has a gap/);
  await powerFails();
  rmSync(disk("data"));
  const { code, stderr } = await project.ingot(["rebuild", "kept/db"]);
  assert.is(code, 1);
  const [, until] = /a restore is possible up to (\S+Z)/.exec(stderr) ?? [];
  assert.ok(until, stderr);
  assert.match(stderr, /Nothing was put aside/);
  const later = await project.ingot(["rebuild", "kept/db", "--at", `${new Date().toISOString().slice(0, 19)}Z`]);
  assert.is(later.code, 1);
  assert.match(later.stderr, /the log of transactions has a gap: .* Nothing was changed/s);
  // The rebuild that was begun goes on with that past.
  const result = await rebuilt("--at", until ?? "");
  assert.match(result.stderr, new RegExp(`going on with the rebuild that was begun .*, now --at ${until}`));
  assert.is(await sql("select count(*) = max(id) from orders"), "t");
});

long("its own folder lost, .ingot/ but for disks and secrets: it is rebuilt from the recipe", async () => {
  await powerFails();
  await project.ingot(["down", "kept"]);
  rmSync(disk("data"));
  for (const name of readdirSync(join(project.folder, ".ingot")).filter((f) => !["images", "cache", "volumes", "secrets"].includes(f)))
    rmSync(join(project.folder, ".ingot", name), { recursive: true });
  const result = await rebuilt();
  assert.equal(result.images, {});
  assert.is(await sql("select count(*) > 1000 from orders"), "t");
});

test.run();
