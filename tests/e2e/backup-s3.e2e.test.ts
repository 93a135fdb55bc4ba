// A host whose backups are in a bucket: lost with its machine and all its disks, it is rebuilt from there; its old machine, should it come back, writes there
// no more; a server that is gone in the middle of a backup, and keys that are not right, are said. The server is moto (tests/s3.ts).
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { projectAt, toolFolder } from "../../lib/paths.ts";
import { networkName } from "../../stacks/local/names.ts";
import type { Backups } from "../../stacks/recovery/backups.ts";
import type { Rebuild } from "../../stacks/recovery/rebuild.ts";
import { type S3Server, startS3 } from "../s3.ts";
import { archivesNothing, bringBack, putAside } from "./old-machine.ts";
import { type TestProject, testProject } from "./project.ts";

const test = suite("backups in a bucket");
const long = process.env.INGOT_TEST_LONG ? test : test.skip;
let project: TestProject;
let server: S3Server;
let keys: { access: string; secret: string };
const on = (script: string) => project.must("kept-s3/db", script);
const sql = (text: string) => project.sql("kept-s3/db", "shop", text);
const backups = async () => ((await project.json(["backups", "kept-s3"])) as Backups[])[0] as Backups;
const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const appear = () => server.appear(networkName(projectAt(project.folder), "kept-s3"), "10.1.9.254", 9000);
const keep = (name: string, value: string) => writeFileSync(join(project.folder, ".ingot/secrets/kept-s3", name), value, { mode: 0o600 });

/** A user who may do everything in S3. */
async function userWithKeys(): Promise<typeof keys> {
  const { IAMClient, CreateUserCommand, CreateAccessKeyCommand, PutUserPolicyCommand } = await import("@aws-sdk/client-iam");
  const iam = new IAMClient({});
  const UserName = "backup";
  await iam.send(new CreateUserCommand({ UserName }));
  const policy = { Version: "2012-10-17", Statement: [{ Effect: "Allow", Action: ["s3:*"], Resource: ["*"] }] };
  await iam.send(new PutUserPolicyCommand({ UserName, PolicyName: "all", PolicyDocument: JSON.stringify(policy) }));
  const { AccessKey } = await iam.send(new CreateAccessKeyCommand({ UserName }));
  return { access: AccessKey?.AccessKeyId ?? "", secret: AccessKey?.SecretAccessKey ?? "" };
}

/** Every object below the prefix, with its ETag. */
async function objects(): Promise<Map<string, string>> {
  const { S3Client, ListObjectsV2Command } = await import("@aws-sdk/client-s3");
  const s3 = new S3Client({ forcePathStyle: true, credentials: { accessKeyId: keys.access, secretAccessKey: keys.secret } });
  const { Contents = [], IsTruncated } = await s3.send(new ListObjectsV2Command({ Bucket: "kept-backups" }));
  assert.not.ok(IsTruncated);
  return new Map(Contents.map((c) => [c.Key ?? "", c.ETag ?? ""] as const));
}

test.before(async () => {
  project = await testProject(["inloop"]);
  server = await startS3("objects.example.org");
  const { S3Client, CreateBucketCommand } = await import("@aws-sdk/client-s3");
  await new S3Client({ forcePathStyle: true, region: "us-east-1" }).send(new CreateBucketCommand({ Bucket: "kept-backups" }));
  keys = await userWithKeys();
  await server.guard();
  copyFileSync(join(toolFolder, "tests/e2e/kept-s3.yaml"), join(project.folder, "stacks/kept-s3.yaml"));
  writeFileSync(join(project.folder, "stacks/objects.crt"), server.authority);
  mkdirSync(join(project.folder, ".ingot/secrets/kept-s3"), { recursive: true, mode: 0o700 });
  keep("objects-access-key", keys.access);
  keep("objects-secret-key", keys.secret);
  appear();
  const { code, stdout, stderr } = await project.ingot(["up", "kept-s3"]);
  assert.is(code, 0, stdout + stderr);
  await sql(
    "create table orders (id int primary key); alter table orders owner to shop; insert into orders select generate_series(1,1000);",
  );
  await on("echo picture >/srv/data/media/one && chown www-data: /srv/data/media/one && chmod 0640 /srv/data/media/one");
});
test.after(async () => {
  await project?.remove();
  await server?.stop();
});

test("backups are made and listed, none is late; what lies in the bucket is below the prefix, and cannot be read", async () => {
  const { code, stdout, stderr } = await project.ingot(["backup", "kept-s3/db"]);
  assert.is(code, 0, stdout + stderr);
  const found = await backups();
  assert.equal(found.late, []);
  assert.is(found.postgresql.at(-1)?.error, false);
  assert.is(found.directories.length > 0, true);
  const names = [...(await objects()).keys()];
  assert.is(names.includes("kept-s3/db/holder"), true);
  assert.equal(
    names.filter((n) => !/^kept-s3\/db\/(holder$|postgresql\/(archive|backup)\/main\/|files\/)/.test(n)),
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
    await on(`grep -rlsF '${keys.secret}' /etc /var/lib/ingot/generations /var/log | sort | xargs stat -c '%n %U %a'`),
    ["/etc/ingot/backup/pgbackrest.conf postgres 400", "/etc/ingot/backup/s3-keys root 400"].join("\n"),
  );
});

test("a drill says what it does not do", async () => {
  const { code, stdout, stderr } = await project.ingot(["drill", "kept-s3"]);
  assert.is(code, 1);
  assert.match(stdout + stderr, /the backups of kept-s3\/db are in s3:\/\/kept-backups\/kept-s3\/db, and a drill reads no bucket/);
});

long("keys that are wrong are said in words", async () => {
  for (const [name, value, right, said] of [
    [
      "objects-access-key",
      "AKIAXXXXXXXXXXXXXXXX",
      keys.access,
      /objects\.example\.org:9000 does not know the access key of the secret objects-access-key/,
    ],
    [
      "objects-secret-key",
      "wrong",
      keys.secret,
      /the secret objects-secret-key is not the secret key of the access key of the secret objects-access-key/,
    ],
  ] as const) {
    keep(name, value);
    const applied = await project.ingot(["apply", "kept-s3"]);
    assert.is(applied.code, 1, applied.stdout);
    const { code, stderr } = await project.ingot(["backups", "kept-s3"]);
    assert.is(code, 1);
    assert.match(stderr, said);
    keep(name, right);
    const mended = await project.ingot(["apply", "kept-s3"]);
    assert.is(mended.code, 0, mended.stdout + mended.stderr);
  }
});

long("the server goes away in the middle of a backup: it is said, nothing is broken, and with it back all goes on by itself", async () => {
  await sql("create table blob as select g, repeat(md5(random()::text), 40) from generate_series(1, 100000) g");
  const { ended } = project.begin(["backup", "kept-s3/db", "--full"]);
  await on("until pgrep -f '[s]tanza=main backup' >/dev/null; do sleep 0.1; done; sleep 0.5");
  server.cut();
  const backup = await ended;
  assert.is(backup.code, 1, backup.stdout);
  assert.match(backup.stderr, /the full backup failed: /);
  const gone = await project.ingot(["backups", "kept-s3"]);
  assert.is(gone.code, 1);
  assert.match(gone.stderr, /https:\/\/objects\.example\.org:9000 does not answer/);
  appear();
  await wait(500);
  const again = await project.ingot(["backup", "kept-s3/db", "--full"]);
  assert.is(again.code, 0, again.stderr);
  assert.equal((await backups()).late, []);
  assert.is((await backups()).postgresql.at(-1)?.error, false);
});

let old: string;
test("the machine and all its disks are lost: it comes back from the bucket, by one command", async () => {
  await sql("insert into orders select generate_series(1001,1500)");
  await wait(8000);
  await project.cutPower("kept-s3/db");
  // Kept for the test after this one, as what comes back when somebody switches it on again.
  old = await putAside(project, "kept-s3/db");
  const foreseen = await project.ingot(["rebuild", "kept-s3/db", "--dry-run"]);
  assert.match(foreseen.stdout, /^source: the backups in s3:\/\/kept-backups\/kept-s3\/db, where the old machine's right to write ends$/m);
  appear();
  const { code, stdout, stderr } = await project.ingot(["rebuild", "kept-s3/db", "--json"]);
  assert.is(code, 0, stdout + stderr);
  const result = JSON.parse(stdout) as Rebuild & { restored: { rows?: { same: Record<string, { rows: number }> } } };
  assert.equal(result.source?.attached, []);
  assert.is(result.restored.rows?.same["shop:orders"]?.rows, 1000);
  assert.is(await sql("select count(*) from orders"), "1500");
  assert.is(
    await on("cat /srv/data/media/one; stat -c %U:%G:%a /srv/data/media/one /srv/data/media"),
    "picture\nwww-data:www-data:640\nwww-data:www-data:750",
  );
  assert.is(await sql("select pg_is_in_recovery(), timeline_id from pg_control_checkpoint()"), "f|2");
  assert.equal((await backups()).late, []);
});

long("the old machine comes back after another took its place: it is refused, and the bucket stays as it is", async () => {
  await project.cutPower("kept-s3/db");
  await bringBack(project, "kept-s3/db", old);
  const before = await objects();
  appear();
  await project.ingot(["start", "kept-s3"]);
  assert.match(
    await archivesNothing(project, "kept-s3/db"),
    /^kept-s3-db-\w+ has taken the place of kept-s3-db-\w+: nothing is archived any more/,
  );
  const listed = await project.ingot(["backups", "kept-s3"]);
  assert.is(listed.code, 1);
  assert.match(listed.stdout, /LATE .* whose right to write to s3:\/\/kept-backups\/kept-s3\/db is withdrawn/);
  assert.equal(await objects(), before);
});

test.run();
