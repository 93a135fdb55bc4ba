// A host on EC2 whose backups are in a bucket, written to by its role, at AWS's own names: lost with its data volume, it comes back from there by one command.
// Its old machine is one that EC2 says is off, and that runs all the same: with the keys that it has, it archives nothing from the fence on, for good.
// moto holds the keys of roles to their signatures and policies (tests/moto-amis.py). Skipped without the provider.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { toolFolder } from "../../lib/paths.ts";
import type { Backups } from "../../stacks/recovery/backups.ts";
import { fillShop, shopIsBack } from "../e2e/shop.ts";
import { certificateFor } from "../s3.ts";
import { suite } from "../suite.ts";
import { Ec2, gateway } from "./ec2.ts";

const test = suite("rebuild on ec2 from a bucket");
const ec2 = new Ec2("with AMIs");
const one = ec2.hasProvider ? test : test.skip;
const certificates = mkdtempSync("/var/tmp/ingot-ec2-s3-");
/** By which pgBackRest, and restic, find it. */
const names = ["s3.eu-central-1.amazonaws.com", "s3.dualstack.eu-central-1.amazonaws.com"].flatMap((s3) => [s3, `kept-backups.${s3}`]);

const stack = (authority: { hash: string }) => `stack: kept-s3
aws: { network: own }
hosts:
  db:
    image: inloop
    aws: { alarms: false, snapshots: { every: never } }
    volumes:
      data: { mount: /srv/data, size: 4GiB }
    # The test's own: a resolver, and an authority that Debian does not know.
    etc_hosts:
      ${gateway}: [${names.join(", ")}]
    files:
      /etc/ssl/certs/${authority.hash}.0: { source: authority.crt }
    postgresql: { data: /srv/data/postgresql }
    roles:
      shop: {}
    databases:
      shop: { owner: shop }
    directories:
      /srv/data/media: { owner: www-data, mode: "0750" }
    backup:
      to: { s3: { bucket: kept-backups, region: eu-central-1 } }
      postgresql: { archive_seconds: 30, tables: [{ database: shop, table: orders }] }
      directories: [/srv/data/media]
`;

const on = async (script: string): Promise<string> => {
  const outcome = await ec2.ingot(["exec", "kept-s3/db", "--", "sh", "-c", script]);
  assert.is(outcome.code, 0, `${script}\n${ec2.said(outcome)}`);
  return outcome.stdout.trim();
};
const psql = (text: string) => `cd / && echo "${text}" | runuser -u postgres -- psql -XqAt -v ON_ERROR_STOP=1 shop`;
const sql = (text: string) => on(psql(text));
const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
/** What the SDK says in the namespace, as the operator. @param body statements that end with `say(...)` */
const asked = (body: string): Promise<unknown> =>
  ec2.ask(`
    import * as e from "@aws-sdk/client-ec2";
    import * as i from "@aws-sdk/client-iam";
    import * as b from "@aws-sdk/client-s3";
    const ec2 = new e.EC2Client({});
    const iam = new i.IAMClient({});
    const s3 = new b.S3Client({ forcePathStyle: true });
    const say = (x) => console.log(JSON.stringify(x));
    const instances = async () => (await ec2.send(new e.DescribeInstancesCommand({}))).Reservations.flatMap((r) => r.Instances);
    ${body}`);
/** Every object of the bucket, with its ETag. */
const objects = () =>
  asked(`
    const { Contents, IsTruncated } = await s3.send(new b.ListObjectsV2Command({ Bucket: "kept-backups" }));
    if (IsTruncated) throw new Error("there are more");
    say(Object.fromEntries(Contents.map((c) => [c.Key, c.ETag])));`) as Promise<Record<string, string>>;

/** Runs on an instance's body, whatever EC2 says of it. */
function onBody(instance: string, script: string): { status: number | null; said: string } {
  const [leader = ""] = readFileSync(join(ec2.folder, "ec2", instance, "run/leader"), "utf8").split(" ");
  const { status, stdout, stderr } = spawnSync("sh", [join(toolFolder, "stacks/local/exec.sh"), leader, "sh", "-c", script], {
    encoding: "utf8",
  });
  return { status, said: `${stdout}${stderr}`.trim() };
}

/** That a machine archives nothing, and why. */
async function mustBeRefused(instance: string): Promise<void> {
  const before = await objects();
  const failed = () => Number(onBody(instance, psql("select failed_count from pg_stat_archiver")).said);
  const had = failed();
  assert.is(onBody(instance, psql("insert into orders select max(id)+1 from orders; select pg_switch_wal()")).status, 0);
  for (let n = 0; n < 120 && failed() === had; n++) await wait(500);
  assert.ok(failed() > had, "its log is archived as before");
  const piece = "$(ls pg_wal | grep -m1 -E '^[0-9A-F]{24}$')";
  const pushed = onBody(
    instance,
    `cd /srv/data/postgresql/15/main && runuser -u postgres -- pgbackrest --config=/etc/ingot/backup/pgbackrest.conf --stanza=main archive-push pg_wal/${piece}`,
  );
  assert.is.not(pushed.status, 0);
  assert.match(pushed.said, /HTTP request failed with 403/);
  const backup = onBody(instance, "/usr/lib/ingot/backup.py run directories");
  assert.is.not(backup.status, 0);
  assert.match(backup.said, /this machine's role may not do this in s3:\/\/kept-backups\/kept-s3\/db: /);
  assert.equal(await objects(), before);
}

test.before(async () => {
  if (!ec2.hasProvider) return;
  const { authority } = certificateFor(certificates, ...names);
  const { stdout: hash } = spawnSync("openssl", ["x509", "-subject_hash", "-noout", "-in", join(certificates, "ca.crt")], {
    encoding: "utf8",
  });
  writeFileSync(join(ec2.folder, "stacks/authority.crt"), authority);
  writeFileSync(join(ec2.folder, "stacks/kept-s3.yaml"), stack({ hash: hash.trim() }));
  await ec2.start(undefined, { INGOT_ROLES: "held", MOTO_IAM_LOAD_MANAGED_POLICIES: "false" });
  await ec2.takeTls(join(certificates, "key"), join(certificates, "crt"));
  await asked(`
    await s3.send(new b.CreateBucketCommand({ Bucket: "kept-backups", CreateBucketConfiguration: { LocationConstraint: "eu-central-1" } }));
    say("made");`);
  await ec2.register("kept-s3");
  const up = await ec2.ingot(["up", "kept-s3"]);
  assert.is(up.code, 0, ec2.said(up));
  await fillShop({ sql, on });
});
test.after(async () => {
  await ec2.end();
  rmSync(certificates, { recursive: true, force: true });
});

one("the role of the instance, as Terraform made it, is enough: backups are made and listed, below the host's prefix alone", async () => {
  const backup = await ec2.ingot(["backup", "kept-s3"]);
  assert.is(backup.code, 0, ec2.said(backup));
  const listed = await ec2.ingot(["backups", "kept-s3", "--json"]);
  assert.is(listed.code, 0, ec2.said(listed));
  const [found] = JSON.parse(listed.stdout) as Backups[];
  assert.equal([found?.late, found?.postgresql.at(-1)?.error, (found?.directories.length ?? 0) > 0], [[], false, true]);
  assert.equal(
    Object.keys(await objects())
      .filter((n) => !/^kept-s3\/db\/(holder$|postgresql\/(archive|backup)\/main\/|files\/)/.test(n))
      .sort(),
    // What there is, noted for whoever asks the bucket (past.ts).
    ["kept-s3/db/backups.directories.json", "kept-s3/db/backups.postgresql.json"],
  );
  const elsewhere = await ec2.ingot([
    ...["exec", "kept-s3/db", "--", "python3", "-c"],
    "import sys; sys.path.insert(0, '/usr/lib/ingot'); import backup_s3\n" +
      "s3 = {'bucket': 'kept-backups', 'region': 'eu-central-1', 'prefix': 'kept-s3/web'}\n" +
      "for work in (lambda: backup_s3.take(s3, 'i-1'), lambda: backup_s3.ready(s3)):\n" +
      "    try: work(); print('done')\n" +
      "    except backup_s3.aws.AwsError as error: print(str(error).split(':')[0])",
  ]);
  assert.is(elsewhere.stdout, "this machine's role may not do this in s3\nthis machine's role may not do this in s3\n", elsewhere.stderr);
});

let old: string;
one(
  "EC2 says that the machine is off, and it runs: its keys are refused from the fence on, and the host comes back from the bucket",
  async () => {
    await sql("insert into orders select generate_series(1001,1500); select pg_switch_wal()");
    for (let n = 0; n < 60; n++) {
      if ((await sql("select last_archived_wal >= pg_walfile_name(pg_current_wal_lsn() - 1) from pg_stat_archiver")) === "t") break;
      await wait(1000);
    }
    const lost = (await asked(`
    const [own] = (await instances()).filter((x) => x.State.Name === "running");
    await ec2.send(new e.CreateTagsCommand({ Resources: [own.InstanceId], Tags: [{ Key: "test:hangs", Value: "yes" }] }));
    const [v] = (await ec2.send(new e.DescribeVolumesCommand({ Filters: [{ Name: "tag:ingot:volume", Values: ["data"] }] }))).Volumes;
    await ec2.send(new e.DetachVolumeCommand({ VolumeId: v.VolumeId, InstanceId: own.InstanceId }));
    await ec2.send(new e.DeleteVolumeCommand({ VolumeId: v.VolumeId }));
    say({ instance: own.InstanceId, address: own.PublicIpAddress });`)) as { instance: string; address: string };
    old = lost.instance;
    const dry = await ec2.ingot(["rebuild", "kept-s3/db", "--dry-run"]);
    assert.match(dry.stdout, /^source: the backups in s3:\/\/kept-backups\/kept-s3\/db, where the old machine's right to write ends$/m);
    const argv = [process.execPath, join(toolFolder, "dist/ingot.js"), "rebuild", "kept-s3/db", "--on", "aws", "--json"];
    const { child, ended } = ec2.begin(argv);
    const state = () => asked(`say((await instances()).find((x) => x.InstanceId === "${old}").State.Name);`);
    for (let n = 0; n < 200 && (await state()) === "running"; n++) await wait(200);
    // Held on its way, as long as is looked at what is then.
    child.kill("SIGSTOP");
    try {
      assert.is(await state(), "stopped");
      await mustBeRefused(old);
    } finally {
      child.kill("SIGCONT");
    }
    const outcome = await ended;
    assert.is(outcome.code, 0, ec2.said(outcome));
    // What the old machine has written after the fence is on its disk alone.
    const result = await shopIsBack({ sql, on }, outcome.stdout);
    assert.equal(
      [result.source?.attached, result.source?.restored.map((v) => [v.volume, v.because])],
      [[], [["data", "there is nothing on it"]]],
    );
    const after = await asked(`say((await instances()).filter((x) => x.State.Name === "running").map((x) => x.PublicIpAddress));`);
    assert.equal(after, [lost.address]);
  },
);

one("the host is back, and its old machine, which still runs, archives nothing by the role that is its successor's too", async () => {
  await mustBeRefused(old);
  const backup = await ec2.ingot(["backup", "kept-s3/db"]);
  assert.is(backup.code, 0, ec2.said(backup));
  const listed = await ec2.ingot(["backups", "kept-s3", "--json"]);
  assert.is(listed.code, 0, ec2.said(listed));
  await asked(`say(await ec2.send(new e.DeleteTagsCommand({ Resources: ["${old}"], Tags: [{ Key: "test:hangs" }] })));`);
});

one("down takes the role with the policy of the fence, and leaves the bucket", async () => {
  const down = await ec2.ingot(["down", "kept-s3"]);
  assert.is(down.code, 0, ec2.said(down));
  assert.equal(await asked(`say((await iam.send(new i.ListRolesCommand({}))).Roles.map((r) => r.RoleName));`), []);
  assert.ok(Object.keys(await objects()).includes("kept-s3/db/holder"));
});

test.run();
