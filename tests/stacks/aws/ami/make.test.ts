// An AMI made directly by the command, against moto behind a front that holds to the documented API (tests/aws-front.ts): registered, tagged,
// found again, taken by a stack; and what becomes of it when a run is killed or stopped, when two run at once, and when it is there already.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { noteBoot } from "../../../../images/disk-boots.ts";
import { RefusedError } from "../../../../lib/diagnostics.ts";
import { silent } from "../../../../lib/progress.ts";
import { type Ami, amiTags, findAmis, tagList } from "../../../../stacks/aws/ami/ami.ts";
import { makeAmi } from "../../../../stacks/aws/ami/make.ts";
import { bootModeOf, deregister } from "../../../../stacks/aws/ami/register.ts";
import type { Uploaded } from "../../../../stacks/aws/ami/upload.ts";
import { type Aws, awsOf } from "../../../../stacks/aws/api.ts";
import { bucketOf, ensureBucket } from "../../../../stacks/aws/bucket.ts";
import { type Leftover, leftovers, removeLeftovers } from "../../../../stacks/aws/gc.ts";
import { amiOf } from "../../../../stacks/aws/images.ts";
import { lockAmi } from "../../../../stacks/aws/lock.ts";
import { keysBelow, readObject } from "../../../../stacks/aws/object.ts";
import { names } from "../../../../stacks/aws/shape.ts";
import { type AwsFront, awsFront } from "../../../aws-front.ts";
import { type Moto, motoProgram, region, startMoto } from "../../../moto.ts";
import { suite } from "../../../suite.ts";
import { type Tiny, tinyProject } from "./tiny.ts";

const test = suite("AMI made directly");
const one = motoProgram() ? test : test.skip;
let moto: Moto;
let front: AwsFront;
let aws: Aws;
let tiny: Tiny;
let bucket: string;

test.before(async () => {
  if (!motoProgram()) return;
  moto = await startMoto();
});
test.after(async () => {
  await moto?.stop();
});
test.before.each(async () => {
  if (!moto) return;
  await moto.reset();
  front = await awsFront(moto.endpoint);
  process.env.AWS_ENDPOINT_URL = front.endpoint;
  aws = await awsOf(region);
  bucket = await bucketOf(aws, undefined);
  tiny = tinyProject(300);
});
test.after.each(() => {
  front?.stop();
  tiny?.remove();
});

interface Result {
  made: boolean;
  ami: Ami;
  upload?: Uploaded;
}

const begin = (args: string[], endpoint = front.endpoint) => tiny.begin(args, endpoint);
const bake = ["bake", "small", "--on", "aws", "--direct", "--json"];

async function result(args = bake, endpoint?: string): Promise<Result> {
  const { code, stdout, stderr } = await begin(args, endpoint).ended;
  assert.is(code, 0, stdout + stderr);
  return JSON.parse(stdout) as Result;
}

const until = async (holds: () => boolean | Promise<boolean>): Promise<void> => {
  for (let i = 0; !(await holds()); i++) {
    if (i > 6000) throw new Error("it did not come about within five minutes");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
};

one("bake --on aws --direct ends in an AMI that is registered, tagged, found again, and taken by a stack", async () => {
  const { made, ami, upload } = await result();
  assert.ok(made);
  assert.equal(upload?.blocks, { sent: 300, resumed: 0, written: 300 });
  assert.is(ami.state, "available");
  assert.is(ami.architecture, "x86_64");
  assert.equal(ami.snapshots, [upload?.snapshot]);
  const { [names.tags.image]: digest, [names.tags.recipe]: recipe, [names.tags.way]: way, [names.tags.run]: run, Name } = ami.tags;
  assert.equal([digest, recipe, way, Name], [tiny.digest, "small", "direct", `small ${tiny.digest.slice(0, 12)}`]);
  assert.is(run, front.ebs.snapshots.get(upload?.snapshot ?? "")?.tags[names.tags.run]);
  const [{ asked } = { asked: {} as Record<string, string> }] = front.images;
  const wanted: Record<string, string> = {
    Name: `ingot/small/${tiny.digest}`,
    Architecture: "x86_64",
    VirtualizationType: "hvm",
    EnaSupport: "true",
    ImdsSupport: "v2.0",
    RootDeviceName: "/dev/xvda",
    "BlockDeviceMapping.1.DeviceName": "/dev/xvda",
    "BlockDeviceMapping.1.Ebs.SnapshotId": upload?.snapshot ?? "",
    "BlockDeviceMapping.1.Ebs.VolumeType": "gp3",
    "BlockDeviceMapping.1.Ebs.DeleteOnTermination": "true",
    "TagSpecification.1.ResourceType": "image",
  };
  for (const [key, value] of Object.entries(wanted)) assert.is(asked[key], value, key);
  // Nobody has booted this disk.
  assert.is(asked.BootMode, undefined);

  const again = await result();
  assert.is(again.made, false);
  assert.is(again.ami.id, ami.id);
  assert.is(front.ebs.puts.length, 300);
  assert.is(front.images.length, 1);
  assert.equal(await amiOf(aws, "recipe", { name: "small", digest: tiny.digest }), {
    id: ami.id,
    digest: tiny.digest,
    architecture: "x86_64",
    rootDevice: "/dev/xvda",
    recipe: "small",
  });
});

one("the next version of the recipe is sent as what changed", async () => {
  const first = await result();
  tiny.change("good day");
  const second = await result();
  assert.is(second.upload?.parent, first.upload?.snapshot);
  assert.equal(second.upload?.blocks, { sent: 1, resumed: 0, written: 1 });
  assert.is((await findAmis(aws, { recipe: "small" })).length, 2);
});

one("moto alone, which overlooks tags, names and blocks: the same command ends in an AMI that is found again", async () => {
  const { ami, made } = await result(bake, moto.endpoint);
  assert.ok(made);
  assert.is(ami.tags[names.tags.image], tiny.digest);
  const again = await result(bake, moto.endpoint);
  assert.equal([again.made, again.ami.id], [false, ami.id]);
  process.env.AWS_ENDPOINT_URL = moto.endpoint;
  assert.is((await amiOf(await awsOf(region), "recipe", { name: "small", digest: tiny.digest })).id, ami.id);
});

one("killed in the middle: the next run goes on where it stopped, and sends no block again that was taken", async () => {
  front.ebs.trouble = ({ index }) => (index >= 200 ? "silent" : undefined);
  const { child, ended } = begin(bake);
  await until(() => front.ebs.puts.length > 100);
  child.kill("SIGKILL");
  await ended;
  front.ebs.trouble = () => undefined;
  await new Promise((resolve) => setTimeout(resolve, 300));
  const taken = front.ebs.puts.length;
  assert.ok(taken < 300, String(taken));
  await tiny.expire(aws);
  const { upload } = await result();
  assert.ok(upload);
  assert.is(upload.blocks.sent + upload.blocks.resumed, 300);
  // At most those that were on their way when it died go a second time.
  assert.ok(upload.blocks.resumed >= taken - 64, JSON.stringify([taken, upload.blocks]));
  assert.ok(front.ebs.puts.length <= 300 + 64, String(front.ebs.puts.length));
  assert.is(front.ebs.counts.get("StartSnapshot"), 1);
  assert.is(front.ebs.snapshots.size, 1);
});

one("gc shows what a killed run left, and who can go on with it; nothing of a run that lives; --yes removes it", async () => {
  // Later blocks get no answer: the run lives on.
  front.ebs.trouble = ({ index }) => (index >= 200 ? "silent" : undefined);
  const { child, ended } = begin(bake);
  await until(() => front.ebs.puts.length > 100);
  const gc = async (args: string[] = []) => {
    const { code, stdout, stderr } = await begin(["gc", "--on", "aws", "--json", ...args]).ended;
    assert.is(code, 0, stderr);
    return JSON.parse(stdout) as { found: Leftover[]; removed: Leftover[] };
  };
  assert.equal((await gc()).found, []);
  child.kill("SIGKILL");
  await ended;
  front.ebs.trouble = () => undefined;
  // Its lease has not ended: it may be alive.
  assert.equal((await gc()).found, []);
  await tiny.expire(aws);
  const [id = ""] = front.ebs.snapshots.keys();
  const { found } = await gc();
  assert.equal(found.map((l) => l.kind).sort(), ["lock", "snapshot"]);
  const snapshot = found.find((l) => l.kind === "snapshot");
  assert.is(snapshot?.name, id);
  assert.match(snapshot?.why ?? "", /its upload has not ended; `ingot bake --on aws --direct` goes on with its \d+ blocks/);
  // Another computer knows nothing of the journal.
  assert.is((await leftovers(aws, bucket)).find((l) => l.kind === "snapshot")?.why, "its upload has not ended");
  assert.is((await gc(["--yes"])).removed.length, 2);
  assert.is(front.ebs.snapshots.size, 0);
  assert.equal((await gc()).found, []);
  const { upload } = await result();
  assert.equal(upload?.blocks, { sent: 300, resumed: 0, written: 300 });
  assert.equal((await gc()).found, []);
});

one("gc finds what a killed builder left, by its run, and AMIs that failed", async () => {
  const sdk = await import("@aws-sdk/client-ec2");
  const ec2 = await aws.ec2();
  const Tags = tagList(amiTags({ name: "small", digest: tiny.digest }, "packer", "r-1"));
  const { GroupId = "" } = await ec2.send(
    new sdk.CreateSecurityGroupCommand({
      GroupName: "packer_1",
      Description: "temporary",
      TagSpecifications: [{ ResourceType: "security-group", Tags }],
    }),
  );
  await ec2.send(new sdk.CreateKeyPairCommand({ KeyName: "packer_1", TagSpecifications: [{ ResourceType: "key-pair", Tags }] }));
  const { Instances = [] } = await ec2.send(
    new sdk.RunInstancesCommand({
      ImageId: "ami-12345678",
      MinCount: 1,
      MaxCount: 1,
      SecurityGroupIds: [GroupId],
      TagSpecifications: [{ ResourceType: "instance", Tags }],
    }),
  );
  const { VolumeId = "" } = await ec2.send(
    new sdk.CreateVolumeCommand({ AvailabilityZone: `${region}a`, Size: 1, TagSpecifications: [{ ResourceType: "volume", Tags }] }),
  );
  front.nextState = "failed";
  const { ImageId = "" } = await ec2.send(
    new sdk.RegisterImageCommand({ Name: "ingot/x", TagSpecifications: [{ ResourceType: "image", Tags }] }),
  );
  const found = await leftovers(aws, bucket);
  assert.equal(
    found.map((l) => [l.kind, l.name]).sort(),
    [
      ["AMI", ImageId],
      ["instance", Instances[0]?.InstanceId],
      ["key pair", "packer_1"],
      ["security group", GroupId],
      ["volume", VolumeId],
    ].sort(),
  );
  await removeLeftovers(aws, bucket, found, [], silent);
  assert.equal(await leftovers(aws, bucket), []);
  // Nothing of it is touched while somebody is at the image.
  await ec2.send(new sdk.CreateKeyPairCommand({ KeyName: "packer_2", TagSpecifications: [{ ResourceType: "key-pair", Tags }] }));
  await ensureBucket(aws, bucket);
  const lock = await lockAmi(aws, bucket, { name: "small", digest: tiny.digest }, "bake by Packer", () => {});
  assert.equal(await leftovers(aws, bucket), []);
  await lock.release();
  assert.is((await leftovers(aws, bucket)).length, 1);
});

one("stopped by Ctrl-C: it says what is kept, and the next run goes on", async () => {
  front.ebs.trouble = ({ index }) => (index >= 200 ? "silent" : undefined);
  const { child, ended } = begin(bake.filter((a) => a !== "--json"));
  await until(() => front.ebs.puts.length > 100);
  child.kill("SIGINT");
  const { code, stderr } = await ended;
  front.ebs.trouble = () => undefined;
  assert.is(code, 130, stderr);
  assert.match(stderr, /stopped; what EC2 has taken is kept for a day: the same command goes on/);
  assert.is(await readObject(aws, bucket, names.amiLock(tiny.digest)), undefined);
  const { upload } = await result();
  assert.ok((upload?.blocks.resumed ?? 0) > 0, JSON.stringify(upload));
  assert.is(front.ebs.snapshots.size, 1);
});

one("two at once: one makes it, the other waits and finds it", async () => {
  // The first stands still until the second has found it.
  front.ebs.held = true;
  const first = begin(bake);
  await until(() => (front.ebs.counts.get("PutSnapshotBlock") ?? 0) > 0);
  const second = begin(bake);
  let said = "";
  second.child.stderr?.on("data", (chunk: Buffer) => (said += chunk.toString()));
  await until(() => said.includes("waiting: ") || second.child.exitCode !== null);
  front.ebs.held = false;
  const both = [first, second];
  const outcomes = await Promise.all(both.map((b) => b.ended));
  for (const { code, stdout, stderr } of outcomes) assert.is(code, 0, stdout + stderr);
  const results = outcomes.map((o) => JSON.parse(o.stdout) as Result);
  assert.equal(
    results.map((r) => r.made),
    [true, false],
  );
  assert.is(results[0]?.ami.id, results[1]?.ami.id);
  assert.is(front.ebs.puts.length, 300);
  assert.is(front.images.length, 1);
  assert.match(outcomes[1]?.stderr ?? "", /waiting: .+@.+ is at the AMI of small \(bake --direct, since /);
});

one("a name that is taken is the AMI that has it", async () => {
  const { ami, upload } = await result();
  // As if its tags had not been seen: the account is asked by digest, and knows nothing.
  const { DeleteTagsCommand } = await import("@aws-sdk/client-ec2");
  await (await aws.ec2()).send(new DeleteTagsCommand({ Resources: [ami.id], Tags: Object.keys(ami.tags).map((Key) => ({ Key })) }));
  const again = await result();
  assert.is(again.ami.id, ami.id);
  assert.is(again.ami.tags[names.tags.image], tiny.digest);
  assert.ok(upload);
});

one("an AMI that failed is made anew, of the snapshot that is there", async () => {
  front.nextState = "failed";
  const failed = await begin(bake.filter((a) => a !== "--json")).ended;
  assert.is(failed.code, 1, failed.stderr);
  assert.match(failed.stderr, /ami-[0-9a-f]+ is failed/);
  front.nextState = "available";
  const { ami, upload } = await result();
  assert.is(ami.state, "available");
  assert.equal(upload?.blocks, { sent: 0, resumed: 300, written: 300 });
  assert.is(front.images.length, 1);
  assert.is(front.ebs.puts.length, 300);
});

one("one that is on its way is waited for", async () => {
  front.nextState = "pending";
  const first = begin(bake);
  await until(() => front.images.length === 1);
  first.child.kill("SIGKILL");
  await first.ended;
  await tiny.expire(aws);
  setTimeout(() => {
    for (const image of front.images) image.state = "available";
  }, 3000);
  const { made, ami } = await result();
  assert.equal([made, ami.state], [false, "available"]);
});

one("encrypted was asked for, and the one that is there is not: that is refused, and says how", async () => {
  await result();
  const { code, stderr } = await begin(["bake", "small", "--on", "aws", "--direct", "--encrypt"]).ended;
  assert.is(code, 1);
  assert.match(stderr, /is there, ami-[0-9a-f]+, and not encrypted/);
  assert.match(stderr, /ingot image prune ami-[0-9a-f]+ --yes --on aws/);
});

one("a key: its alias will do; one that is there with another key is refused, and so is a key that is not there", async () => {
  const sdk = await import("@aws-sdk/client-kms");
  const kms = await aws.kms();
  const key = async () => (await kms.send(new sdk.CreateKeyCommand({}))).KeyMetadata?.Arn ?? "";
  const [mine, others] = [await key(), await key()];
  await kms.send(new sdk.CreateAliasCommand({ AliasName: "alias/images", TargetKeyId: mine }));
  const alias = `arn:aws:kms:${region}:123456789012:alias/images`;
  const { ami, upload } = await result([...bake, "--kms-key", alias]);
  assert.ok(ami.encrypted);
  assert.is(front.ebs.snapshots.get(upload?.snapshot ?? "")?.key, mine);
  for (const same of [mine, alias]) assert.is((await result([...bake, "--kms-key", same])).made, false);
  assert.is((await result([...bake, "--encrypt"])).made, false);
  const refused = await begin(["bake", "small", "--on", "aws", "--direct", "--kms-key", others]).ended;
  assert.is(refused.code, 1);
  assert.ok(refused.stderr.includes(`is there, ${ami.id}, encrypted with another key: ${mine}`), refused.stderr);
  const nobodys = `arn:aws:kms:${region}:123456789012:key/${"0".repeat(8)}-0000-0000-0000-${"0".repeat(12)}`;
  const missing = await begin(["bake", "small", "--on", "aws", "--direct", "--kms-key", nobodys]).ended;
  assert.is(missing.code, 1);
  assert.match(missing.stderr, /there is no key arn:/);
});

one("prune and gc take what the bucket knows of a snapshot's blocks with it", async () => {
  const { ami, upload } = await result();
  const blocks = () => keysBelow(aws, bucket, names.amis);
  assert.equal(await blocks(), [names.amiBlocks(tiny.digest, upload?.snapshot ?? "")]);
  tiny.change("good day");
  const second = await result();
  assert.is((await blocks()).length, 2);
  const pruned = await begin(["image", "prune", ami.id, "--yes", "--on", "aws"]).ended;
  assert.is(pruned.code, 0, pruned.stderr);
  assert.equal(await blocks(), [names.amiBlocks(second.ami.digest, second.upload?.snapshot ?? "")]);
  assert.equal([...front.ebs.snapshots.keys()], second.ami.snapshots);
  // One whose AMI went by other means.
  await deregister(aws, second.ami.id);
  const gone = await begin(["gc", "--on", "aws", "--yes", "--json"]).ended;
  assert.equal(
    (JSON.parse(gone.stdout) as { removed: Leftover[] }).removed.map((l) => [l.kind, l.name]),
    [["snapshot", second.upload?.snapshot]],
  );
  assert.equal(await blocks(), []);
  assert.equal(await leftovers(aws, bucket), []);
});

one("encrypted: every block of the volume goes, and the AMI says so", async () => {
  const { ami, upload } = await result([...bake, "--encrypt"]);
  assert.is(upload?.blocks.sent, 2048);
  assert.ok(ami.encrypted);
  assert.is((await result([...bake, "--encrypt"])).made, false);
});

one("boot mode: what this disk was seen to do, and nothing else", async () => {
  assert.is(bootModeOf("amd64", []), undefined);
  assert.is(bootModeOf("amd64", ["uefi"]), undefined);
  assert.is(bootModeOf("amd64", ["bios"]), undefined);
  assert.is(bootModeOf("amd64", ["uefi", "bios"]), "uefi-preferred");
  assert.is(bootModeOf("arm64", []), "uefi");
  noteBoot(tiny.disk, "uefi");
  noteBoot(tiny.disk, "bios");
  await result();
  assert.is(front.images[0]?.asked.BootMode, "uefi-preferred");
});

one("an expired token, a denied call: said in words", async () => {
  front.ebs.trouble = ({ name }) => (name === "StartSnapshot" ? "denied" : undefined);
  const error = await makeAmi(tiny.project, aws, "small", { way: "direct", bucket, encryption: "account", progress: silent }).then(
    () => undefined,
    (e: unknown) => e,
  );
  assert.instance(error, RefusedError);
  assert.match((error as RefusedError).message, /could not begin a snapshot: .*may not do ebs:StartSnapshot/);
});

one("in the region that is said; stacks in several regions make that necessary", async () => {
  for (const name of ["eu-central-1", "eu-west-1"])
    writeFileSync(join(tiny.project.stacks, `${name}.yaml`), `stack: ${name}\naws: { region: ${name} }\nhosts: {}\n`);
  const refused = await begin(bake.filter((a) => a !== "--json")).ended;
  assert.is(refused.code, 1);
  assert.match(refused.stderr, /are in eu-central-1, eu-west-1\n {2}hint: say which region: --region <region>/);
  const { ami } = await result([...bake, "--region", "eu-west-1"]);
  assert.is(ami.region, "eu-west-1");
  assert.equal(await findAmis(aws), []);
  assert.is((await findAmis(await awsOf("eu-west-1")))[0]?.id, ami.id);
});

one("options of another target, and what is no key, are refused", async () => {
  const here = await begin(["bake", "small", "--direct"]).ended;
  assert.is(here.code, 2);
  assert.match(here.stderr, /--direct is about AMIs/);
  const key = await begin(["bake", "small", "--on", "aws", "--direct", "--kms-key", "mine"]).ended;
  assert.is(key.code, 1);
  assert.match(key.stderr, /`mine` is no ARN of a key/);
});

test.run();
