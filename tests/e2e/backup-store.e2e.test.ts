// A host whose backups are kept by another one: lost with its machine and all its volumes, it is rebuilt from there; and when its old machine comes
// back, that one may not write there any more.
import { copyFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { toolFolder } from "../../lib/paths.ts";
import type { Backups } from "../../stacks/recovery/backups.ts";
import type { Finding } from "../../stacks/recovery/doctor.ts";
import { suite } from "../suite.ts";
import { archivesNothing, bringBack, putAside } from "./old-machine.ts";
import { type TestProject, testProject } from "./project.ts";
import { archived, fillShop, shopIsBack } from "./shop.ts";

const test = suite("backups on another host");
const long = process.env.INGOT_TEST_LONG ? test : test.skip;
let project: TestProject;
const on = (host: string, script: string) => project.must(`kept-store/${host}`, script);
const sql = (text: string) => project.sql("kept-store/db", "shop", text);
const shop = { sql, on: (script: string) => on("db", script) };
const backups = async () => ((await project.json(["backups", "kept-store"])) as Backups[])[0] as Backups;
const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

test.before(async () => {
  project = await testProject(["inloop"]);
  copyFileSync(join(toolFolder, "tests/e2e/kept-store.yaml"), join(project.folder, "stacks/kept-store.yaml"));
  const { code, stdout, stderr } = await project.ingot(["up", "kept-store"]);
  assert.is(code, 0, stdout + stderr);
  await fillShop(shop);
});
test.after(async () => {
  await project?.remove();
});

test("backups are made and listed, none is late; a second apply changes nothing", async () => {
  for (const what of process.env.INGOT_TEST_LONG ? [["--full"], []] : [[]]) {
    const { code, stdout, stderr } = await project.ingot(["backup", "kept-store/db", ...what]);
    assert.is(code, 0, stdout + stderr);
  }
  const found = await backups();
  assert.equal(found.late, []);
  assert.is(found.postgresql.at(-1)?.error, false);
  assert.is(found.directories.length > 0, true);
  const applied = (await project.json(["apply", "kept-store"])) as { hosts: { steps: { step: string; outcome: string }[] }[] };
  assert.equal(
    applied.hosts.flatMap((h) => h.steps.filter((s) => s.outcome !== "unchanged")),
    [],
  );
});

test("what is kept there cannot be read without the password, and its files are the account's alone", async () => {
  assert.is(await on("vault", "grep -rls -e picture -e generate_series /srv/backups | wc -l"), "0");
  assert.is(await on("vault", "find /srv/backups/db ! -user backup-db | wc -l; stat -c %U:%a /srv/backups/db"), "0\nbackup-db:700");
});

test("the host's key gets it no shell there, no other program, no port, and no configuration of its own", async () => {
  const asked = async (what: string) =>
    (await project.on("kept-store/db", `/usr/lib/ingot/backup-ssh backup-db@10.1.8.1 ${what} 2>&1`)).stdout.trim();
  for (const [words, answer] of [
    ["id", /^refused: nothing that is done here/],
    ["'run backup --type=full --repo1-path=/tmp'", /^refused: options that are not to be given/],
    ["'run backup --cmd-ssh=/bin/sh'", /^refused: options/],
    ["'pgbackrest --remote-type=repo --repo1-path=/etc archive-get:remote'", /^refused: --repo1-path=\/etc is not to be given/],
    ["'pgbackrest --remote-type=repo --stanza=main stanza-delete'", /^refused: no remote/],
    ["'sh; id'", /^refused/],
  ] as const)
    assert.match(await asked(words), answer, words);
  const forwarded = await project.on(
    "kept-store/db",
    "timeout 300 /usr/lib/ingot/backup-ssh -o ExitOnForwardFailure=yes -R 9999:127.0.0.1:22 backup-db@10.1.8.1 ready 2>&1",
  );
  assert.is.not(forwarded.code, 0);
  assert.match(forwarded.stdout, /forwarding failed/);
  // The other way round, the store's key is for backups of the cluster alone.
  const back = await project.on(
    "kept-store/vault",
    "runuser -u backup-db -- /usr/lib/ingot/backup-ssh postgres@10.1.8.2 'psql -c select' 2>&1; runuser -u backup-db -- /usr/lib/ingot/backup-ssh root@10.1.8.2 id 2>&1",
  );
  assert.match(back.stdout, /^refused: only a backup of the cluster\n.*Permission denied/s);
});

long(
  "the store goes away in the middle of a backup: it is said, nothing is broken, and with the store back it goes on by itself",
  async () => {
    await sql("create table blob as select g, repeat(md5(random()::text), 40) from generate_series(1, 100000) g");
    const { ended } = project.begin(["backup", "kept-store/db", "--full"]);
    await on("vault", "until pgrep -u backup-db -f 'stanza=main backup' >/dev/null; do sleep 0.1; done");
    await project.cutPower("kept-store/vault");
    const backup = await ended;
    assert.is(backup.code, 1, backup.stdout);
    assert.match(backup.stderr, /the full backup failed: /);
    const listed = await project.ingot(["backups", "kept-store"]);
    assert.is(listed.code, 1);
    await sql("select pg_switch_wal()");
    const start = await project.ingot(["start", "kept-store"]);
    assert.is(start.code === 0 || /backup/.test(start.stderr + start.stdout), true, start.stderr);
    assert.is((await project.ingot(["backup", "kept-store/db", "--full"])).code, 0);
    assert.equal((await backups()).late, []);
    assert.is((await backups()).postgresql.at(-1)?.error, false);
  },
);

/** Until there is one like it. */
async function found(like: (finding: Finding) => boolean): Promise<Finding[]> {
  let all: Finding[] = [];
  for (let i = 0; i < 20 && !all.some(like); i++) {
    await wait(1000);
    all = JSON.parse((await project.ingot(["doctor", "kept-store", "--json"])).stdout) as Finding[];
  }
  assert.ok(all.some(like), JSON.stringify(all));
  return all;
}

long(
  "ingot doctor: the store's volume is full, then its machine off: that comes first, and db's backups are said to be late by it",
  async () => {
    const isLate = (f: Finding) => f.host === "db" && f.resource === "backup";
    await on("vault", "dd if=/dev/zero of=/srv/backups/big bs=1M status=none 2>/dev/null; sync");
    await sql("create table touched (); select pg_switch_wal()");
    const full = await found(isLate);
    const take = await project.on("kept-store/db", "/usr/lib/ingot/backup-ssh backup-db@10.1.8.1 take 2>&1");
    assert.match(take.stdout, /^refused: No space left on device, on vault$/m);
    assert.match(full[0]?.what ?? "", /^\/srv\/backups is (100|99) % full \(space\)$/);
    assert.is(full[0]?.host, "vault");
    const late = full.find(isLate);
    assert.match(late?.what ?? "", /PostgreSQL's log is not archived/, late?.what);
    assert.equal(late?.because, ["vault:backup-store"]);
    await on("vault", "rm /srv/backups/big");
    await project.cutPower("kept-store/vault");
    const off = await found(isLate);
    assert.equal([off[0]?.host, off[0]?.what, off[0]?.next[0]], ["vault", "the machine is off", "ingot start kept-store"]);
    assert.equal(off.find(isLate)?.because, ["vault:backup-store"]);
    // What it says to type helps; what waited is archived.
    assert.is((await project.ingot(["start", "kept-store"])).code, 0);
    for (let i = 0; i < 30 && (await project.ingot(["doctor", "kept-store"])).code !== 0; i++) await wait(2000);
    const { code, stdout } = await project.ingot(["doctor", "kept-store"]);
    assert.is(code, 0, stdout);
    // Of this computer's own disk, which is the machines' root, it may say that it is soon full.
    assert.not.match(stdout, /backup/, stdout);
  },
);

let old: string;
test("the machine and all its volumes are lost: it comes back from the other host, which runs on", async () => {
  const before = (await project.json(["status", "kept-store"])) as { host: string; instance: string }[];
  await sql("insert into orders select generate_series(1001,1500)");
  await archived(sql);
  await project.cutPower("kept-store/db");
  // Kept for the test after this one, as what comes back when somebody switches it on again.
  old = await putAside(project, "kept-store/db");
  const wrong = await project.ingot(["rebuild", "kept-store/db", "--backup", "20200101-000000F"]);
  assert.is(wrong.code, 1);
  assert.match(wrong.stderr, /there is no backup 20200101-000000F[\s\S]*there are [^\n]*\d{8}-\d{6}F \(it ended [^\n]*Nothing was changed/);
  const foreseen = await project.ingot(["rebuild", "kept-store/db", "--dry-run"]);
  assert.match(foreseen.stdout, /^source: the backups on vault, where the old machine's right to write ends$/m);
  assert.match(foreseen.stdout, /^fence: it does not run; vault would run on$/m);
  const { code, stdout, stderr } = await project.ingot(["rebuild", "kept-store/db", "--json"]);
  assert.is(code, 0, stdout + stderr);
  const result = await shopIsBack(shop, stdout);
  assert.equal(result.source?.attached, []);
  assert.equal((await backups()).late, []);
  const after = (await project.json(["status", "kept-store"])) as { host: string; instance: string }[];
  const instance = (all: typeof after, host: string) => all.find((m) => m.host === host)?.instance;
  assert.is(instance(after, "vault"), instance(before, "vault"));
  assert.is.not(instance(after, "db"), instance(before, "db"));
});

long("the old machine comes back after another took its place: what it archives is refused, and the backups stay as they are", async () => {
  await project.cutPower("kept-store/db");
  // In the new one's place on this computer: the old root, the old disk, and who it was.
  await bringBack(project, "kept-store/db", old);
  const sums = () => on("vault", "cd /srv/backups/db && find . -type f ! -path './lock/*' -exec sha256sum {} + | sort | sha256sum");
  const before = await sums();
  await project.ingot(["start", "kept-store"]);
  await archivesNothing(project, "kept-store/db");
  const asked = await project.on("kept-store/db", "/usr/lib/ingot/backup-ssh backup-db@10.1.8.1 'run backup --type=full' 2>&1");
  assert.match(
    asked.stdout,
    /^refused: kept-store-db-\w+ has taken the place of kept-store-db-\w+, whose right to write here is withdrawn/,
  );
  const listed = await project.ingot(["backups", "kept-store"]);
  assert.is(listed.code, 1);
  assert.match(listed.stdout, /LATE kept-store\/db: kept-store-db-\w+ has taken the place of this machine, kept-store-db-\w+, whose right/);
  assert.is(await sums(), before);
  rmSync(join(old, "new.img"));
});

test.run();
