// A host on EC2 back from nothing, as far as this computer can show it: the machine terminated and its volume deleted; a volume that EC2 says is
// impaired; a volume that is in no backup; all of it in another zone. The old machine's rights are withdrawn before its power. Skipped without the provider.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { toolFolder } from "../../lib/paths.ts";
import type { Rebuild } from "../../stacks/recovery/rebuild.ts";
import { suite } from "../suite.ts";
import { Ec2, editor } from "./ec2.ts";

const test = suite("rebuild on ec2");
const ec2 = new Ec2("with AMIs");
const one = ec2.hasProvider ? test : test.skip;

const on = async (script: string): Promise<string> => {
  const outcome = await ec2.ingot(["exec", "kept/db", "--", "sh", "-c", script]);
  assert.is(outcome.code, 0, `${script}\n${ec2.said(outcome)}`);
  return outcome.stdout.trim();
};
const sql = (text: string) => on(`cd / && echo "${text}" | runuser -u postgres -- psql -XqAt -v ON_ERROR_STOP=1 shop`);
/** What the SDK says in the namespace. @param body statements that end with `say(...)` */
const asked = (body: string): Promise<unknown> =>
  ec2.ask(`
    import * as e from "@aws-sdk/client-ec2";
    import * as i from "@aws-sdk/client-iam";
    const ec2 = new e.EC2Client({});
    const iam = new i.IAMClient({});
    const say = (x) => console.log(JSON.stringify(x));
    const volume = async (name) => (await ec2.send(new e.DescribeVolumesCommand({ Filters: [{ Name: "tag:ingot:volume", Values: [name] }] }))).Volumes[0];
    const instances = async () => (await ec2.send(new e.DescribeInstancesCommand({}))).Reservations.flatMap((r) => r.Instances);
    ${body}`);
interface Result extends Rebuild {
  restored: { rows?: { same: Record<string, { rows: number }> } };
}
async function rebuilt(): Promise<Result> {
  const outcome = await ec2.ingot(["rebuild", "kept/db", "--json"]);
  assert.is(outcome.code, 0, ec2.said(outcome));
  return JSON.parse(outcome.stdout) as Result;
}

test.before(async () => {
  if (!ec2.hasProvider) return;
  const text = readFileSync(join(toolFolder, "tests/e2e/kept.yaml"), "utf8").replace(
    "    image: inloop\n",
    "    image: inloop\n    aws: { alarms: false, snapshots: { every: never } }\n",
  );
  writeFileSync(join(ec2.folder, "stacks/kept.yaml"), text.replaceAll("MiB", "GiB"));
  await ec2.start();
  await ec2.register("kept");
  const up = await ec2.ingot(["up", "kept"]);
  assert.is(up.code, 0, ec2.said(up));
  await sql(
    "create table orders (id int primary key); alter table orders owner to shop; insert into orders select generate_series(1,1000)",
  );
  await on("echo picture >/srv/data/media/one; echo mine >/srv/scratch/x; sync");
  const backup = await ec2.ingot(["backup", "kept", "--full"]);
  assert.is(backup.code, 0, ec2.said(backup));
});
test.after(() => ec2.end());

one("what would be done is said, and done by nobody", async () => {
  const { stdout } = await ec2.ingot(["rebuild", "kept/db", "--dry-run"]);
  assert.match(stdout, /fence: db is running, and would be powered off/);
  assert.is(await sql("select count(*) from orders"), "1000");
});

one("machine and data volume are gone: the volume is made anew and filled from the backups, at the same address", async () => {
  await sql("insert into orders values (1001); select pg_switch_wal()");
  await on("sleep 2; sync");
  const before = (await asked(`
    const [own] = (await instances()).filter((x) => x.State.Name === "running");
    await ec2.send(new e.ModifyInstanceAttributeCommand({ InstanceId: own.InstanceId, DisableApiTermination: { Value: false } }));
    await ec2.send(new e.TerminateInstancesCommand({ InstanceIds: [own.InstanceId] }));
    const { VolumeId } = await volume("data");
    await ec2.send(new e.DetachVolumeCommand({ VolumeId })).catch(() => {});
    await ec2.send(new e.DeleteVolumeCommand({ VolumeId }));
    say({ address: own.PublicIpAddress, profile: own.IamInstanceProfile.Arn });`)) as { address: string };
  const result = await rebuilt();
  assert.equal(
    result.source?.restored.map((v) => [v.volume, v.because]),
    [["data", "there is nothing on it"]],
  );
  assert.equal(result.source?.attached.toSorted(), ["backup", "scratch"]);
  assert.is(result.restored.rows?.same["shop:orders"]?.rows, 1000);
  assert.is(await sql("select count(*) from orders"), "1001");
  assert.is(await on("cat /srv/data/media/one /srv/scratch/x"), "picture\nmine");
  assert.is(await sql("select pg_is_in_recovery(), timeline_id from pg_control_checkpoint()"), "f|2");
  const after = (await asked(
    `say((await instances()).filter((x) => x.State.Name === "running").map((x) => x.PublicIpAddress));`,
  )) as string[];
  assert.equal(after, [before.address]);
});

one("a plan afterwards has nothing of the restore", async () => {
  const plan = await ec2.ingot(["plan", "kept", "--json"]);
  const { changes } = JSON.parse(plan.stdout) as { changes: { address: string }[] };
  assert.ok(changes, ec2.said(plan));
  assert.equal(
    changes.filter((c) => /ssm_parameter|ebs_volume/.test(c.address)),
    [],
  );
});

one("a volume that EC2 says is impaired is put aside, never deleted; the old machine's rights are withdrawn before its power", async () => {
  const old = (await asked(`
    const { VolumeId } = await volume("data");
    await ec2.send(new e.CreateTagsCommand({ Resources: [VolumeId], Tags: [{ Key: "test:impaired", Value: "yes" }] }));
    const [own] = (await instances()).filter((x) => x.State.Name === "running");
    say({ volume: VolumeId, instance: own.InstanceId });`)) as { volume: string; instance: string };
  const { child, ended } = ec2.begin([process.execPath, join(toolFolder, "dist/ingot.js"), "rebuild", "kept/db", "--on", "aws"]);
  // Killed once the old machine is off: what is then is what an operator would find.
  const state = async () =>
    (await asked(`
      const own = (await instances()).find((x) => x.InstanceId === "${old.instance}");
      const profile = own?.IamInstanceProfile?.Arn.split("/").at(-1);
      const role = profile && (await iam.send(new i.GetInstanceProfileCommand({ InstanceProfileName: profile }))).InstanceProfile.Roles[0].RoleName;
      const names = role ? (await iam.send(new i.ListRolePoliciesCommand({ RoleName: role }))).PolicyNames : [];
      const policy = names.includes("ingot-fenced") && decodeURIComponent((await iam.send(new i.GetRolePolicyCommand({ RoleName: role, PolicyName: "ingot-fenced" }))).PolicyDocument);
      say({ state: own?.State.Name, policy });`)) as { state: string; policy: string | false };
  let seen = await state();
  for (let n = 0; n < 200 && seen.state !== "stopped"; n++) {
    await new Promise((resolve) => setTimeout(resolve, 200));
    seen = await state();
  }
  child.kill("SIGKILL");
  await ended;
  assert.is(seen.state, "stopped");
  assert.match(String(seen.policy), /"Effect":"Deny".*"DateLessThan":\{"aws:TokenIssueTime":"20/);
  const result = await rebuilt();
  const [data] = result.source?.restored ?? [];
  assert.match(data?.because ?? "", /impaired/);
  assert.is(data?.aside, old.volume);
  const aside = (await asked(`
    const [v] = (await ec2.send(new e.DescribeVolumesCommand({ VolumeIds: ["${old.volume}"] }))).Volumes;
    const all = (await Promise.all((await iam.send(new i.ListRolesCommand({}))).Roles.map(async (r) => (await iam.send(new i.ListRolePoliciesCommand({ RoleName: r.RoleName }))).PolicyNames))).flat();
    say({ tags: v.Tags.map((t) => t.Key).sort(), state: v.State, fenced: all.includes("ingot-fenced") });`)) as {
    tags: string[];
    state: string;
    fenced: boolean;
  };
  assert.ok(aside.tags.includes("ingot:aside") && !aside.tags.includes("ingot:volume"), aside.tags.join());
  assert.is(aside.state, "available");
  // Its successor has the same role, and newer keys.
  assert.is(aside.fenced, true);
  assert.is(await sql("select count(*) from orders"), "1001");
});

one("a volume that is in no backup is made from the last snapshot that was taken of it", async () => {
  await asked(`
    const v = await volume("scratch");
    const tags = v.Tags.filter((t) => t.Key.startsWith("ingot:"));
    const { SnapshotId } = await ec2.send(new e.CreateSnapshotCommand({ VolumeId: v.VolumeId, TagSpecifications: [{ ResourceType: "snapshot", Tags: tags }] }));
    const [own] = (await instances()).filter((x) => x.State.Name === "running");
    await ec2.send(new e.StopInstancesCommand({ InstanceIds: [own.InstanceId] }));
    await ec2.send(new e.DetachVolumeCommand({ VolumeId: v.VolumeId, InstanceId: own.InstanceId }));
    await ec2.send(new e.DeleteVolumeCommand({ VolumeId: v.VolumeId }));
    say(SnapshotId);`);
  const result = await rebuilt();
  assert.equal(
    result.source?.pictured.map((v) => v.volume),
    ["scratch"],
  );
  const made = (await asked(`say((await volume("scratch")).SnapshotId);`)) as string;
  assert.is(made, result.source?.pictured[0]?.snapshot);
  assert.is(await on("cat /srv/scratch/x"), "mine");
});

one(
  "in another zone: a launch is refused and names the way; a dry run says it; the rebuild brings the host up there with its data",
  async () => {
    const there = () =>
      asked(`
      const [own] = (await instances()).filter((x) => x.State.Name === "running");
      const all = (await ec2.send(new e.DescribeVolumesCommand({}))).Volumes.filter((v) => v.Tags?.some((t) => t.Key.startsWith("ingot:")));
      const named = all.flatMap((v) => v.Tags.filter((t) => t.Key === "ingot:volume").map((t) => [t.Value, { id: v.VolumeId, zone: v.AvailabilityZone, from: v.SnapshotId }]));
      say({ zone: own.Placement.AvailabilityZone, address: own.PublicIpAddress, volumes: Object.fromEntries(named), all: all.map((v) => v.VolumeId) });`) as Promise<{
        zone: string;
        address: string;
        volumes: Record<string, { id: string; zone: string; from: string }>;
        all: string[];
      }>;
    await sql("insert into orders values (1002)");
    await on("echo now >/srv/scratch/y; sync");
    const before = await there();
    assert.is(before.zone, "eu-central-1a");
    editor(join(ec2.folder, "stacks/kept.yaml"))("aws: { ", "aws: { zone: b, ");
    const up = await ec2.ingot(["up", "kept"]);
    assert.is(up.code, 1, ec2.said(up));
    assert.match(up.stderr, /what is on a volume stays in its zone/);
    assert.match(up.stderr, /to move it with its data: `ingot rebuild kept\/db --on aws`/);
    const dry = await ec2.ingot(["rebuild", "kept/db", "--dry-run"]);
    assert.match(
      dry.stdout,
      /^volume data: in eu-central-1a, and the host is to be in another zone: a snapshot is taken once the machine is off/m,
    );
    assert.equal(await there(), before);
    const result = await rebuilt();
    assert.equal([result.source?.attached, result.source?.restored, result.source?.empty], [[], [], []]);
    const after = await there();
    assert.equal([after.zone, after.address], ["eu-central-1b", before.address]);
    for (const { volume, snapshot, aside } of result.source?.pictured ?? []) {
      assert.is(aside, before.volumes[volume]?.id);
      assert.equal([after.volumes[volume]?.zone, after.volumes[volume]?.from], ["eu-central-1b", snapshot]);
    }
    assert.equal(Object.keys(after.volumes).sort(), ["backup", "data", "scratch"]);
    assert.equal(
      Object.values(before.volumes).flatMap(({ id }) => (after.all.includes(id) ? [] : id)),
      [],
    );
    assert.is(await sql("select count(*) from orders"), "1002");
    assert.is(await on("cat /srv/data/media/one /srv/scratch/x /srv/scratch/y"), "picture\nmine\nnow");
    const plan = await ec2.ingot(["plan", "kept", "--json"]);
    const { changes, refused } = JSON.parse(plan.stdout) as { changes: { address: string; words: string }[]; refused: unknown[] };
    assert.equal(refused, []);
    // moto forgets the termination protection (tests/ec2/inloop).
    assert.equal(
      changes.filter((c) => !/disable_api_termination/.test(c.words)),
      [],
    );
  },
);

one("down takes all but the volumes, the one that was put aside among them; the role goes with the policy of the fence", async () => {
  const down = await ec2.ingot(["down", "kept"]);
  assert.is(down.code, 0, ec2.said(down));
  assert.equal((await ec2.there()).instances, []);
  assert.equal(await asked(`say((await iam.send(new i.ListRolesCommand({}))).Roles.map((r) => r.RoleName));`), []);
});

test.run();
