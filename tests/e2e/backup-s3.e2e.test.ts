// A host whose backups are in a bucket: lost with its machine and all its disks, it is rebuilt from there; its old machine, should it come back, writes there
// no more; a server that is gone in the middle of a backup, and keys that are not right, are said. The server is moto (tests/s3.ts).
import * as assert from "uvu/assert";
import type { Backups } from "../../stacks/recovery/backups.ts";
import type { Finding } from "../../stacks/recovery/doctor.ts";
import { suite } from "../suite.ts";
import { keptInBucket, type TestBucket } from "./bucket.ts";
import { archivesNothing, bringBack, putAside } from "./old-machine.ts";
import { type TestProject, testProject } from "./project.ts";
import { archived, shopIsBack } from "./shop.ts";

const test = suite("backups in a bucket");
const long = process.env.INGOT_TEST_LONG ? test : test.skip;
let project: TestProject;
let bucket: TestBucket;
const on = (script: string) => project.must("kept-s3/db", script);
const sql = (text: string) => project.sql("kept-s3/db", "shop", text);
const backups = async () => ((await project.json(["backups", "kept-s3"])) as Backups[])[0] as Backups;
/** What `ingot doctor` says of the backups; that is all that it has to say. */
async function doctor(): Promise<Finding> {
  // How full this computer's own disk is is another matter.
  const found = ((await project.json(["doctor", "kept-s3"])) as Finding[]).filter((f) => f.severity !== "soon");
  assert.equal(
    found.map((f) => f.resource),
    ["backup"],
    JSON.stringify(found),
  );
  return found[0] as Finding;
}
const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

test.before(async () => {
  project = await testProject(["inloop"]);
  bucket = await keptInBucket(project);
});
test.after(async () => {
  await project?.remove();
  await bucket?.stop();
});

test("backups are made and listed, none is late; what lies in the bucket is below the prefix, and cannot be read", async () => {
  const { code, stdout, stderr } = await project.ingot(["backup", "kept-s3/db"]);
  assert.is(code, 0, stdout + stderr);
  const found = await backups();
  assert.equal(found.late, []);
  assert.is(found.postgresql.at(-1)?.error, false);
  assert.is(found.directories.length > 0, true);
  const names = [...(await bucket.objects()).keys()];
  assert.is(names.includes("kept-s3/db/holder"), true);
  assert.equal(
    names.filter(
      (n) => !/^kept-s3\/db\/(holder$|backups\.(postgresql|directories)\.json$|postgresql\/(archive|backup)\/main\/|files\/)/.test(n),
    ),
    [],
  );
  const applied = (await project.json(["apply", "kept-s3"])) as { hosts: { steps: { step: string; outcome: string }[] }[] };
  assert.equal(
    applied.hosts.flatMap((h) => h.steps.filter((s) => s.outcome !== "unchanged")),
    [],
  );
});

test("the keys are in no file that others read, and in no command line", async () => {
  assert.is(
    await on(`grep -rlsF '${bucket.keys.secret}' /etc /var/lib/ingot/generations /var/log | sort | xargs stat -c '%n %U %a'`),
    ["/etc/ingot/backup/pgbackrest.conf postgres 400", "/etc/ingot/backup/s3-keys root 400"].join("\n"),
  );
});

long("keys that are wrong are said in words", async () => {
  for (const [name, value, right, said] of [
    [
      "objects-access-key",
      "AKIAXXXXXXXXXXXXXXXX",
      bucket.keys.access,
      /objects\.example\.org:9000 does not know the access key of the secret objects-access-key/,
    ],
    [
      "objects-secret-key",
      "wrong",
      bucket.keys.secret,
      /the secret objects-secret-key is not the secret key of the access key of the secret objects-access-key/,
    ],
  ] as const) {
    bucket.keep(name, value);
    const applied = await project.ingot(["apply", "kept-s3"]);
    assert.is(applied.code, 1, applied.stdout);
    const { code, stderr } = await project.ingot(["backups", "kept-s3"]);
    assert.is(code, 1);
    assert.match(stderr, said);
    assert.match((await doctor()).what, said);
    bucket.keep(name, right);
    const mended = await project.ingot(["apply", "kept-s3"]);
    assert.is(mended.code, 0, mended.stdout + mended.stderr);
  }
});

long("the server goes away in the middle of a backup: it is said, nothing is broken, and with it back all goes on by itself", async () => {
  await sql("create table blob as select g, repeat(md5(random()::text), 40) from generate_series(1, 100000) g");
  const { ended } = project.begin(["backup", "kept-s3/db", "--full"]);
  await on("until pgrep -f '[s]tanza=main backup' >/dev/null; do sleep 0.1; done; sleep 0.5");
  bucket.cut();
  const backup = await ended;
  assert.is(backup.code, 1, backup.stdout);
  assert.match(backup.stderr, /the full backup failed: /);
  const gone = await project.ingot(["backups", "kept-s3"]);
  assert.is(gone.code, 1);
  assert.match(gone.stderr, /https:\/\/objects\.example\.org:9000 does not answer/);
  // What is known without it is said.
  assert.match(gone.stderr, /PostgreSQL's log was last archived \d+ s ago: a lost disk would cost what was committed since/);
  const { severity, what, next } = await doctor();
  assert.is(severity, "wrong");
  assert.match(what, /https:\/\/objects\.example\.org:9000 does not answer/);
  assert.equal(next, ["ingot logs kept-s3/db backup", "ingot backup kept-s3/db"]);
  assert.match(
    (await project.ingot(["status", "kept-s3"])).stdout,
    /^kept-s3\/db: nothing is known of its backups \(.*\); never drilled$/m,
  );
  bucket.appear();
  await wait(500);
  const again = await project.ingot(["backup", "kept-s3/db", "--full"]);
  assert.is(again.code, 0, again.stderr);
  assert.equal((await backups()).late, []);
  assert.is((await backups()).postgresql.at(-1)?.error, false);
});

long("a backup is late: all of them say so", async () => {
  const program = "/usr/lib/ingot/pgbackrest-archive";
  await on(`mv ${program} /root/archive && printf '#!/bin/sh\\nexit 1\\n' >${program} && chmod 755 ${program}`);
  await sql("select pg_switch_wal()");
  const is = (when: string) =>
    `until [ "$(cd / && runuser -u postgres -- psql -XqAtc 'select ${when} from pg_stat_archiver')" = t ]; do sleep 0.5; done`;
  await on(is("last_failed_time > last_archived_time"));
  const late = "PostgreSQL's log is not archived: pgBackRest fails at it";
  assert.equal((await backups()).late, [late]);
  assert.is((await doctor()).what, late);
  await on(`mv /root/archive ${program}; ${is("last_archived_time > last_failed_time")}`);
  assert.equal((await backups()).late, []);
});

let old: string;
test("the machine and all its disks are lost: it comes back from the bucket, by one command", async () => {
  await sql("insert into orders select generate_series(1001,1500)");
  await archived(sql);
  await project.cutPower("kept-s3/db");
  // Kept for the test after this one, as what comes back when somebody switches it on again.
  old = await putAside(project, "kept-s3/db");
  const foreseen = await project.ingot(["rebuild", "kept-s3/db", "--dry-run"]);
  assert.match(foreseen.stdout, /^source: the backups in s3:\/\/kept-backups\/kept-s3\/db, where the old machine's right to write ends$/m);
  // Which past there is, the bucket says, before anything is changed.
  for (const [past, said] of [
    [["--backup", "20200101-000000F"], /there is no backup 20200101-000000F\n.*there are \d{8}-\d{6}F \(it ended/],
    [["--at", "2020-01-01T00:00:00Z"], /there is no backup of PostgreSQL from before 2020-01-01T00:00:00Z\n.*there are \d{8}-\d{6}F/],
  ] as const) {
    const refused = await project.ingot(["rebuild", "kept-s3/db", ...past]);
    assert.is(refused.code, 1, refused.stdout);
    assert.match(refused.stderr, said);
    assert.match(refused.stderr, /Nothing was changed/);
  }
  bucket.appear();
  const { code, stdout, stderr } = await project.ingot(["rebuild", "kept-s3/db", "--json"]);
  assert.is(code, 0, stdout + stderr);
  const result = await shopIsBack({ sql, on }, stdout);
  assert.equal(result.source?.attached, []);
  assert.equal((await backups()).late, []);
});

long("the old machine comes back after another took its place: it is refused, and the bucket stays as it is", async () => {
  await project.cutPower("kept-s3/db");
  await bringBack(project, "kept-s3/db", old);
  const before = await bucket.objects();
  bucket.appear();
  await project.ingot(["start", "kept-s3"]);
  assert.match(
    await archivesNothing(project, "kept-s3/db"),
    /^kept-s3-db-\w+ has taken the place of kept-s3-db-\w+: nothing is archived any more/,
  );
  const listed = await project.ingot(["backups", "kept-s3"]);
  assert.is(listed.code, 1);
  assert.match(listed.stdout, /LATE .* whose right to write to s3:\/\/kept-backups\/kept-s3\/db is withdrawn/);
  assert.equal(await bucket.objects(), before);
});

test.run();
