// A drill of a host whose backups are in a bucket: its machine reads there through a gate that cannot write, and has no keys; what production keeps, which
// goes on being written to, is not touched; also when the drill is killed.
import { readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import * as assert from "uvu/assert";
import { suite } from "../suite.ts";
import { keptInBucket, type TestBucket } from "./bucket.ts";
import { type Drills, drillsOf, mustBeWhole } from "./drill.ts";
import { type TestProject, testProject } from "./project.ts";
import { writer } from "./writer.ts";

const test = suite("drill of a bucket");
/** Each is a drill or more: in the long suite. */
const long = process.env.INGOT_TEST_LONG ? test : test.skip;
let project: TestProject;
let bucket: TestBucket;
let drills: Drills;
const on = (script: string) => project.must("kept-s3/db", script);
const sql = (text: string) => project.sql("kept-s3/db", "shop", text);
const ways = () => readdirSync(tmpdir()).filter((f) => f.startsWith("ingot-way-"));

/** Every object is what it was; there is more of production's own log, and nothing else is new. */
function untouched(before: Map<string, string>, after: Map<string, string>): void {
  for (const [key, etag] of before) assert.is(after.get(key), etag, key);
  const log = /^kept-s3\/db\/postgresql\/archive\/main\/15-1\/00000001[0-9A-F]{8}\/00000001[0-9A-F]{16}-[0-9a-f]{40}\.zst$/;
  assert.equal(
    [...after.keys()].filter((key) => !before.has(key) && !log.test(key)),
    [],
  );
}

/** Whether production may take away what is too old. */
const expires = () => on("flock --exclusive --nonblock /run/ingot/backup-reading.lock echo yes || echo no");

/** Of the drill's machines, disks and networks, nor a way into them. */
function nothingLeft(): void {
  drills.nothingLeft();
  assert.equal(ways(), []);
}

test.before(async () => {
  if (!process.env.INGOT_TEST_LONG) return;
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
  "a drill while a client commits: restored from the bucket, which it has no keys of and does not write to; nothing is left",
  async () => {
    const before = await bucket.objects();
    const holder = before.get("kept-s3/db/holder");
    const rows = Number(await sql("select count(*) from orders"));
    const { child } = writer(project.folder, "kept-s3/db");
    const running = drills.drilled("--max-rto", "10m", "--max-rpo", "60s");
    await drills.activated("db");
    const tried = await drills.inside(
      "db",
      `cat /etc/ingot/backup/s3-keys; ip -4 route; grep -rlsF '${bucket.keys.secret}' /etc /run/ingot /var/lib/ingot;
    ca=/run/ingot/repository/.bucket/authority.crt; at=https://objects.example.org:9000
    curl -sS --cacert $ca -X PUT -d x $at/kept-backups/kept-s3/db/tried; curl -sS --cacert $ca $at/kept-backups/kept-s3/db/tried; echo
    curl -sS --cacert $ca -X PUT -d x $at/kept-backups/elsewhere; curl -sS --cacert $ca $at/other/; curl -sS -m 3 http://10.1.9.254:22/; echo >>$ca`,
    );
    assert.is(await expires(), "no");
    const { code, drill, stderr } = await running;
    child.kill();
    assert.is(code, 0, `${stderr}${JSON.stringify(drill)}`);
    assert.match(
      tried,
      /^none-in-a-drill\nnone-in-a-drill\n10\.1\.9\.0\/24 dev host0 [^\n]*\nx\n<\?xml[^>]*>\n<Error[^\n]*AccessDenied[^\n]*<\?xml[^>]*>\n<Error[^\n]*AccessDenied/,
    );
    assert.match(tried, /curl: \(7\)[^\n]*10\.1\.9\.254/);
    assert.match(tried, /Read-only file system/);

    assert.equal(drill.repository, { db: "bucket" });
    assert.is(drill.hosts[0]?.production, "same");
    mustBeWhole(drill);

    const after = await bucket.objects();
    untouched(before, after);
    assert.is(after.get("kept-s3/db/holder"), holder);
    nothingLeft();
    assert.is(await expires(), "yes");
    assert.ok(Number(await sql("select count(*) from orders")) > rows + 10);
    assert.is(await sql("select timeline_id from pg_control_checkpoint()"), "1");
  },
);

long(
  "killed anywhere, the next command undoes it, and the bucket is untouched; the next drill is right, also with production dead",
  async () => {
    const before = await bucket.objects();
    for (const mark of ["look into production's repositories", "started at", "backup:restore", "prove what was restored", "done   write"]) {
      await drills.killedAt(mark);
      nothingLeft();
      assert.is(await expires(), "yes", mark);
    }
    untouched(before, await bucket.objects());
    await project.cutPower("kept-s3/db");
    const { code, drill } = await drills.drilled();
    assert.is(code, 0, JSON.stringify(drill));
    assert.is(drill.hosts[0]?.production, "same");
    untouched(before, await bucket.objects());
    nothingLeft();
  },
);

long("a bucket that is gone, or keys that it refuses, are said before anything is launched", async () => {
  bucket.keep("objects-secret-key", "wrong");
  const wrong = await drills.drilled();
  assert.is(wrong.code, 1);
  assert.match(
    wrong.drill.wrong.join(),
    /the secret objects-secret-key is not the secret key of the access key of the secret objects-access-key/,
  );
  bucket.keep("objects-secret-key", bucket.keys.secret);
  bucket.cut();
  const gone = await drills.drilled();
  assert.is(gone.code, 1);
  assert.match(gone.drill.wrong.join(), /https:\/\/objects\.example\.org:9000 does not answer/);
  assert.equal(
    [...wrong.drill.phases, ...gone.drill.phases].map((p) => p.phase),
    ["end", "end"],
  );
  nothingLeft();
});

test.run();
