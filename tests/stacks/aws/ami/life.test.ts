// The life of an AMI by the commands of `ingot image … --on aws`, against moto and what tests/moto-amis.py adds to it.
import { rmSync } from "node:fs";
import { join } from "node:path";
import { type AutoScalingClient, CreateAutoScalingGroupCommand, CreateLaunchConfigurationCommand } from "@aws-sdk/client-auto-scaling";
import {
  CreateLaunchTemplateCommand,
  CreateLaunchTemplateVersionCommand,
  DescribeImagesCommand,
  DescribeSnapshotsCommand,
  RunInstancesCommand,
} from "@aws-sdk/client-ec2";
import { CreateAliasCommand, CreateGrantCommand, CreateKeyCommand, DisableKeyCommand, PutKeyPolicyCommand } from "@aws-sdk/client-kms";
import { PutParameterCommand } from "@aws-sdk/client-ssm";
import * as assert from "uvu/assert";
import { InputError, UsageError } from "../../../../lib/diagnostics.ts";
import { short } from "../../../../lib/digest.ts";
import { type Ami, findAmis } from "../../../../stacks/aws/ami/ami.ts";
import type { ChannelEntry } from "../../../../stacks/aws/ami/channel.ts";
import { sharedWith } from "../../../../stacks/aws/ami/share.ts";
import { type Aws, awsOf } from "../../../../stacks/aws/api.ts";
import { bucketOf, ensureBucket } from "../../../../stacks/aws/bucket.ts";
import { amiOf } from "../../../../stacks/aws/images.ts";
import { writeInventory } from "../../../../stacks/aws/inventory.ts";
import { looks } from "../../../faults.ts";
import { type Moto, motoAmis, region, startMoto } from "../../../moto.ts";
import { suite } from "../../../suite.ts";
import { callsOf, digestOf, letBoot, changesNothing as nothing, refused, registerAmi, TestProject } from "./account.ts";

const test = suite("life of an AMI");
const one = motoAmis() ? test : test.skip;
const own = "123456789012";
const other = "210987654321";
const project = new TestProject();
let moto: Moto;
let aws: Aws;

test.before(async () => {
  if (!motoAmis()) return;
  moto = await startMoto(motoAmis());
  aws = await awsOf(undefined);
});
test.before.each(() => moto?.reset());
test.after(async () => {
  project.remove();
  await moto?.stop();
});

const current = () => ({ name: "debian-12", digest: project.digest("debian-12") });
const old = (n: number) => ({ name: "debian-12", digest: digestOf(`aaaa${n}`) });
/** Runs a command and holds that nothing in the account is otherwise. */
async function changesNothing(...args: string[]): Promise<string> {
  const { code, out } = await nothing(moto.endpoint, () => project.image(...args));
  assert.is(code, 0, out);
  return out;
}

one("list and show: what tags, channels and permissions say", async () => {
  assert.is((await project.image("list")).out, `no AMI of Ingot's in ${region}`);
  const { ami, snapshot } = await registerAmi(aws, current());
  await registerAmi(aws, old(1), { tags: { "ingot:smoke": "2026-11-29T10:00:00Z" } });
  await registerAmi(aws, { name: "inloop", digest: digestOf("bbbb") });
  await letBoot(aws, ami, other);
  await project.image("promote", "debian-12", "candidate");
  const { amis } = await project.json<{ amis: (Ami & { current: boolean; channels: string[]; smoke?: string })[] }>("list");
  assert.equal(
    amis
      .filter((a) => a.recipe === "debian-12")
      .map((a) => [short(a.digest), a.current, a.channels, a.smoke, a.state, a.way])
      .sort(),
    [
      [short(current().digest), true, ["candidate"], undefined, "available", "direct"],
      ["aaaa10000000", false, [], "2026-11-29T10:00:00Z", "available", "direct"],
    ].sort(),
  );
  const { out } = await project.image("list", "debian-12");
  assert.match(out, new RegExp(`^ {2}${short(current().digest)} +${ami} .* available +direct, current, candidate$`, "m"));
  assert.not.match(out, /inloop/);
  const shown = await project.json<{ id: string; snapshots: string[]; shared: { accounts: string[] }; uses: string[] }>(
    "show",
    "debian-12/candidate",
  );
  assert.equal([shown.id, shown.snapshots, shown.shared.accounts], [ami, [snapshot], [other]]);
  assert.equal(shown.uses, ["channel debian-12/candidate", "it is debian-12 as its recipe stands now"]);
  assert.match((await project.image("show", ami)).out, /shared with 210987654321\n {2}used: channel debian-12\/candidate/);
});

one("an AMI is said by recipe, digest, id and channel; what is not there is said with the nearest", async () => {
  const first = await registerAmi(aws, old(1));
  const second = await registerAmi(aws, old(2));
  const id = async (said: string) => (await project.json<Ami>("show", said)).id;
  assert.equal([await id("aaaa1"), await id(second.ami)], [first.ami, second.ami]);
  const said = async (name: string) => {
    const { message, hint } = await refused(project.image("show", name));
    return `${message}: ${hint}`;
  };
  assert.match(
    await said("debian-12"),
    new RegExp(`debian-12 as it is now, ${short(current().digest)}, has no AMI in ${region}: .*there are of it: aaaa`),
  );
  assert.match(await said("aaaa"), /2 images begin with aaaa/);
  assert.match(await said("debain-12"), /there is no AMI `debain-12` in eu-central-1: did you mean `debian-12`\?/);
  assert.match(await said("debian-12/stable"), /there is no channel debian-12\/stable in eu-central-1: ingot image promote <image> stable/);
  assert.match(await said("debian-12/beta"), /there is no channel `beta`: channels are candidate and stable/);
  assert.match(await said("stable"), /stable: of which recipe\?: say `<recipe>\/stable`; there are: debian-12/);
  assert.match(await said("ami-00000000000000000"), /no AMI of Ingot's with this id/);
});

one("copy: to regions, with its tags, its snapshots' too, once; a second asks for nothing", async () => {
  const { ami } = await registerAmi(aws, current(), { tags: { "ingot:smoke": "2026-11-29T10:00:00Z" } });
  assert.match(await changesNothing("copy", "debian-12", "--to", "eu-west-1", "--dry-run"), /eu-west-1 +would be copied/);
  type Copies = { copies: { region: string; outcome: string; ami: string }[] };
  const { copies } = await project.json<Copies>("copy", "debian-12", "--to", "eu-west-1", "--to", "us-east-1");
  assert.equal(
    copies.map((c) => [c.region, c.outcome]),
    [
      ["eu-west-1", "copied"],
      ["us-east-1", "copied"],
    ],
  );
  const there = await awsOf("eu-west-1");
  const [copy, ...more] = await findAmis(there, current());
  assert.is(more.length, 0);
  const [source] = (await findAmis(aws)).filter((a) => a.id === ami);
  assert.equal([copy?.tags, copy?.name, copy?.architecture, copy?.rootDevice], [source?.tags, source?.name, "x86_64", "/dev/xvda"]);
  const { Snapshots = [] } = await (await there.ec2()).send(new DescribeSnapshotsCommand({ SnapshotIds: copy?.snapshots }));
  assert.equal(Object.fromEntries((Snapshots[0]?.Tags ?? []).map((t) => [t.Key, t.Value])), copy?.tags);
  const again = await changesNothing("copy", "debian-12", "--to", "eu-west-1");
  assert.match(again, new RegExp(`eu-west-1 +is there already +${copy?.id}`));
  // From the other side: the copy is found by its recipe, and is a source as good as the first.
  assert.equal((await project.json<Ami>("show", "debian-12", "--region", "eu-west-1")).id, copy?.id);
});

one("copy: encrypted on the way; what is there with another key, or none, is no such copy", async () => {
  await registerAmi(aws, current());
  const there = await awsOf("eu-west-1");
  const kms = await there.kms();
  const key = async () => (await kms.send(new CreateKeyCommand({}))).KeyMetadata?.Arn ?? "";
  const [mine, another] = [await key(), await key()];
  await kms.send(new CreateAliasCommand({ AliasName: "alias/images", TargetKeyId: mine }));
  assert.is((await project.image("copy", "debian-12", "--to", "eu-west-1", "--kms", "alias/images")).code, 0);
  const [copy] = await findAmis(there);
  assert.ok(copy?.encrypted);
  const { Snapshots = [] } = await (await there.ec2()).send(new DescribeSnapshotsCommand({ SnapshotIds: copy?.snapshots }));
  assert.is(Snapshots[0]?.KmsKeyId, mine);
  assert.match(await changesNothing("copy", "debian-12", "--to", "eu-west-1", "--kms", mine), /is there already/);
  const wrong = await refused(project.image("copy", "debian-12", "--to", "eu-west-1", "--kms", another));
  assert.match(wrong.message, /is in eu-west-1 already, encrypted with another key/);
  assert.match(wrong.hint ?? "", /ingot image prune ami-\w+ --region eu-west-1 --yes --on aws/);
  assert.match(
    (await refused(project.image("copy", "debian-12", "--to", "us-east-1", "--kms", mine))).message,
    /there is no key .* in us-east-1/,
  );
  await kms.send(new DisableKeyCommand({ KeyId: another.split("/").at(-1) }));
  assert.match(
    (await refused(project.image("copy", "debian-12", "--to", "eu-west-1", "--kms", another))).message,
    /the key .* is Disabled/,
  );
  await project.image("copy", "debian-12", "--to", "us-east-1");
  assert.match(
    (await refused(project.image("copy", "debian-12", "--to", "us-east-1", "--encrypt"))).message,
    /is in us-east-1 already, and not encrypted/,
  );
});

one("copy: to where it cannot go is refused before anything is begun", async () => {
  await registerAmi(aws, current());
  const said = async (...to: string[]) => (await refused(project.image("copy", "debian-12", ...to.flatMap((r) => ["--to", r])))).message;
  assert.match(await said("eu-west-1", "ap-east-1"), /the region ap-east-1 is not enabled for the account 123456789012/);
  assert.match(await said("eu-wset-1"), /there is no region eu-wset-1/);
  assert.match(await said(region), /is in eu-central-1/);
  assert.equal(await findAmis(await awsOf("eu-west-1")), []);
});

one("share: accounts get the AMI and its snapshots, organisations the AMI; and lose them again", async () => {
  const { ami } = await registerAmi(aws, current());
  const organisation = `arn:aws:organizations::${own}:organization/o-abcdefghij`;
  assert.match(await changesNothing("share", "debian-12", "--with", other, "--dry-run"), /would be shared with 210987654321/);
  const { out, notes } = await project.image("share", "debian-12", "--with", other, "--with", organisation);
  assert.match(out, /is shared with 210987654321, arn:/);
  assert.match(notes.join(), /an organisation can boot it and not copy it/);
  assert.equal(await sharedWith(aws, { id: ami }), { accounts: [other], organizations: [organisation], units: [], everybody: false });
  const again = await changesNothing("share", "debian-12", "--with", other);
  assert.match(again, /is shared with them already/);
  assert.match(await changesNothing("share", "debian-12", "--with", other, "--undo", "--dry-run"), /would be no longer shared/);
  await project.image("share", "debian-12", "--with", other, "--with", organisation, "--undo");
  assert.equal(await sharedWith(aws, { id: ami }), { accounts: [], organizations: [], units: [], everybody: false });
  assert.match((await refused(project.image("share", "debian-12", "--with", own))).message, /is the account that ami-\w+ belongs to/);
  assert.match(
    (await refused(project.image("share", "debian-12", "--with", "12"))).message,
    /`12` is nobody that an AMI can be shared with/,
  );
});

one(
  "share: what is encrypted with AWS's key, or with a key that is closed to them, is refused, and goes once the key is open",
  async () => {
    const kms = await aws.kms();
    await registerAmi(aws, old(1));
    // A copy with the account's default key is one with AWS's own.
    await project.image("copy", "aaaa1", "--to", "eu-west-1", "--encrypt");
    const managedError = await refused(project.image("share", "aaaa1", "--with", other, "--region", "eu-west-1"));
    assert.match(managedError.message, /cannot be shared: it is encrypted with AWS's own key for EBS/);
    assert.match(managedError.hint ?? "", /ingot image copy <image> --to <region> --kms <key>/);

    const { KeyMetadata } = await kms.send(new CreateKeyCommand({}));
    const KeyId = KeyMetadata?.Arn ?? "";
    const { ami } = await registerAmi(aws, current(), { kmsKey: KeyId });
    const closed = await refused(project.image("share", "debian-12", "--with", other));
    assert.match(
      closed.message,
      /210987654321 may not use the key .* it lacks kms:DescribeKey, kms:CreateGrant, kms:Decrypt, kms:ReEncryptFrom/,
    );
    assert.match(closed.hint ?? "", /arn:aws:iam::210987654321:root/);
    assert.equal((await sharedWith(aws, { id: ami })).accounts, []);
    await kms.send(
      new CreateGrantCommand({
        KeyId,
        GranteePrincipal: `arn:aws:iam::${other}:role/images`,
        Operations: ["DescribeKey", "CreateGrant", "Decrypt"],
      }),
    );
    assert.match((await refused(project.image("share", "debian-12", "--with", other))).message, /it lacks kms:ReEncryptFrom$/);
    const statement = { Effect: "Allow", Principal: { AWS: `arn:aws:iam::${other}:root` }, Action: ["kms:ReEncrypt*"], Resource: "*" };
    const Policy = JSON.stringify({ Version: "2012-10-17", Statement: [statement] });
    await kms.send(new PutKeyPolicyCommand({ KeyId, PolicyName: "default", Policy }));
    assert.match((await project.image("share", "debian-12", "--with", other)).out, /is shared with 210987654321/);
  },
);

one("deprecate: at a minute to come, and back", async () => {
  await registerAmi(aws, current());
  await project.image("promote", "debian-12", "candidate");
  assert.match(await changesNothing("deprecate", "debian-12", "--dry-run"), /would be deprecated from 2/);
  const { out, notes } = await project.image("deprecate", "debian-12");
  assert.match(out, /is deprecated from 2\d{3}-/);
  assert.match(notes.join(), /the channel debian-12\/candidate names it/);
  const [ami] = await findAmis(aws);
  assert.ok(Date.parse(ami?.deprecated ?? "") > Date.now());
  assert.match(await changesNothing("deprecate", "debian-12", "--at", ami?.deprecated ?? ""), /already/);
  await project.image("deprecate", "debian-12", "--at", "2030-01-31");
  assert.is((await findAmis(aws))[0]?.deprecated, "2030-01-31T00:00:00.000Z");
  assert.match((await project.image("deprecate", "debian-12", "--undo")).out, /is not deprecated$/);
  assert.is((await findAmis(aws))[0]?.deprecated, undefined);
  assert.match(await changesNothing("deprecate", "debian-12", "--undo"), /is not deprecated already/);
  assert.match((await refused(project.image("deprecate", "debian-12", "--at", "2020-01-01"))).message, /2020-01-01 is over/);
  assert.match((await refused(project.image("deprecate", "debian-12", "--at", "2090-01-01"))).message, /more than ten years/);
});

one("channels: promoted, resolved by a stack, rolled back and further back, with who and when", async () => {
  const amis = [];
  for (const n of [1, 2, 3]) amis.push((await registerAmi(aws, old(n))).ami);
  assert.match(await changesNothing("promote", "aaaa1", "candidate", "--dry-run"), /would become debian-12 aaaa10000000/);
  const lacking = await refused(amiOf(aws, { channel: "candidate" }, { name: "debian-12" }));
  assert.match(
    `${lacking.message}: ${lacking.hint}`,
    /there is no channel candidate of debian-12 in eu-central-1: .*ingot image promote debian-12 candidate/,
  );
  for (const n of [1, 2, 3]) await project.image("promote", `aaaa${n}`, "candidate");
  assert.match(await changesNothing("promote", "aaaa3", "candidate"), /debian-12\/candidate is debian-12 aaaa30000000 .* already/);
  const now = async () => (await amiOf(aws, { channel: "candidate" }, { name: "debian-12" })).id;
  assert.is(await now(), amis[2]);
  assert.match(await changesNothing("rollback", "debian-12", "candidate", "--dry-run"), /would become debian-12 aaaa20000000/);
  await project.image("rollback", "debian-12", "candidate");
  assert.is(await now(), amis[1]);
  await project.image("rollback", "debian-12", "candidate");
  assert.is(await now(), amis[0]);
  assert.match((await refused(project.image("rollback", "debian-12", "candidate"))).message, /has held nothing before/);
  await project.image("promote", "aaaa3", "candidate");
  const { candidate } = await project.json<{ candidate: ChannelEntry[] }>("history", "debian-12", "candidate");
  assert.equal(
    candidate.map((e) => [e.version, e.ami, e.how, e.current]),
    [
      [6, amis[2], "promoted", true],
      [5, amis[0], "rolled back to version 1", false],
      [4, amis[1], "rolled back to version 2", false],
      [3, amis[2], "promoted", false],
      [2, amis[1], "promoted", false],
      [1, amis[0], "promoted", false],
    ],
  );
  assert.ok(candidate.every((e) => /^arn:aws:/.test(e.who) && Math.abs(Date.parse(e.when) - Date.now()) < 600_000));
  assert.match(
    (await project.image("history", "debian-12")).out,
    /^debian-12\/candidate\n {2}6 .* aaaa30000000 +ami-\w+ +promoted +by arn:aws:\S+ +now$/m,
  );
  assert.match((await refused(project.image("history", "inloop"))).message, /there is no channel inloop\/candidate and no inloop\/stable/);
});

one("stable: what has booted is promoted as it is; of what nobody here knows what it should be, nothing is booted", async () => {
  await registerAmi(aws, old(1), { tags: { "ingot:smoke": "2026-11-29T10:00:00Z" } });
  await registerAmi(aws, old(2));
  await registerAmi(aws, current());
  const { calls, result } = await callsOf(moto.endpoint, () => project.json<{ smoke: { passed: string } }>("promote", "aaaa1", "stable"));
  assert.is(result.smoke.passed, "2026-11-29T10:00:00Z");
  assert.equal(
    calls.filter((c) => !looks(c)),
    ["PutParameter"],
  );
  const unknown = await refused(nothing(moto.endpoint, () => project.image("promote", "aaaa2", "stable")));
  assert.match(`${unknown.message}: ${unknown.hint}`, /what debian-12 aaaa20000000 should be is not known here: .*: check out the commit/);
  assert.match(
    await changesNothing("promote", "debian-12", "stable", "--dry-run"),
    /an instance of debian-12 .* would be booted and looked at first/,
  );
});

one("rollback: AMIs that are gone are passed by, and said; what was set by hand is told from what Ingot wrote", async () => {
  const amis = [];
  for (const n of [1, 2, 3]) amis.push((await registerAmi(aws, old(n))).ami);
  for (const n of [1, 2, 3]) await project.image("promote", `aaaa${n}`, "candidate");
  await project.image("prune", "aaaa2", "--yes").catch(() => {});
  const ec2 = await aws.ec2();
  const { DeregisterImageCommand } = await import("@aws-sdk/client-ec2");
  await ec2.send(new DeregisterImageCommand({ ImageId: amis[1] }));
  const { out, notes } = await project.image("rollback", "debian-12", "candidate");
  assert.match(out, /is now debian-12 aaaa10000000/);
  assert.match(notes.join(), new RegExp(`${amis[1]}, version 2, is gone`));
  await (await aws.ssm()).send(
    new PutParameterCommand({ Name: "/ingot/images/debian-12/candidate", Value: amis[2], Type: "String", Overwrite: true }),
  );
  const { candidate } = await project.json<{ candidate: ChannelEntry[] }>("history", "debian-12", "candidate");
  assert.equal([candidate[0]?.how, candidate[0]?.ami, candidate[0]?.digest], ["set by other means", amis[2], undefined]);
});

/** What prune says of each AMI: the words for which it stays, or "goes". */
async function fates(...args: string[]): Promise<Map<string, string>> {
  const { kept, prunable } = await project.json<{ kept: { id: string; why: string[] }[]; prunable: { id: string }[] }>("prune", ...args);
  return new Map([...kept.map((k) => [k.id, k.why.join("; ")] as const), ...prunable.map((p) => [p.id, "goes"] as const)]);
}

one("prune: knows each kind of user, says it, and removes the rest with its snapshots", async () => {
  const ec2 = await aws.ec2();
  const made: Record<string, string> = {};
  const make = async (of: string) =>
    (made[of] = (await registerAmi(aws, { name: "debian-12", digest: digestOf(`bb${Object.keys(made).length + 10}`) })).ami);
  const scaling: AutoScalingClient = await aws.autoScaling();

  const ImageId = await make("instance");
  await ec2.send(new RunInstancesCommand({ ImageId, MinCount: 1, MaxCount: 1 }));
  const gone = await make("terminated");
  const { Instances } = await ec2.send(new RunInstancesCommand({ ImageId: gone, MinCount: 1, MaxCount: 1 }));
  const { TerminateInstancesCommand } = await import("@aws-sdk/client-ec2");
  await ec2.send(new TerminateInstancesCommand({ InstanceIds: [Instances?.[0]?.InstanceId ?? ""] }));

  await ec2.send(
    new CreateLaunchTemplateCommand({ LaunchTemplateName: "web", LaunchTemplateData: { ImageId: await make("default version") } }),
  );
  for (const of of ["old version", "latest version"])
    await ec2.send(new CreateLaunchTemplateVersionCommand({ LaunchTemplateName: "web", LaunchTemplateData: { ImageId: await make(of) } }));
  await scaling.send(
    new CreateLaunchConfigurationCommand({
      LaunchConfigurationName: "older",
      ImageId: await make("launch configuration"),
      InstanceType: "t3.micro",
    }),
  );
  const group = { MinSize: 0, MaxSize: 1, AvailabilityZones: [`${region}a`] };
  await scaling.send(new CreateAutoScalingGroupCommand({ AutoScalingGroupName: "olds", LaunchConfigurationName: "older", ...group }));
  await scaling.send(
    new CreateAutoScalingGroupCommand({
      AutoScalingGroupName: "webs",
      LaunchTemplate: { LaunchTemplateName: "web", Version: "1" },
      ...group,
    }),
  );

  for (const of of ["before the previous", "previous", "channel"]) await project.image("promote", await make(of), "candidate");
  const bucket = await bucketOf(aws, undefined);
  await ensureBucket(aws, bucket);
  const host = { host: "web", ami: await make("launched") };
  await writeInventory(aws, bucket, { stack: "shop", region, shape: { hosts: [] }, hosts: [host] } as unknown as Parameters<
    typeof writeInventory
  >[2]);
  const [declared, byChannel] = [await make("declared"), await make("declared channel")];
  await (await aws.ssm()).send(new PutParameterCommand({ Name: "/mine", Value: byChannel, Type: "String" }));
  project.stack(
    "shop",
    `stack: shop\nhosts:\n  a: { image: debian-12, aws: { image: { ami: ${declared} } } }\n  b: { image: debian-12, aws: { image: { channel: /mine } } }\n`,
  );
  await letBoot(aws, await make("shared"), other);
  const { ami: now } = await registerAmi(aws, current());
  const unused = await make("unused");

  const said = await fates("--keep", "0");
  const why = (of: string) => said.get(made[of] ?? "") ?? "";
  assert.match(why("instance"), /^instance i-/);
  assert.match(why("default version"), /^launch template web, version 1; Auto Scaling group webs, by launch template web, version 1$/);
  assert.is(why("old version"), "launch template web, version 2");
  assert.is(why("latest version"), "launch template web, version 3");
  assert.is(why("launch configuration"), "launch configuration older; Auto Scaling group olds, by older");
  assert.is(why("channel"), "channel debian-12/candidate");
  assert.is(why("previous"), "a rollback of debian-12/candidate goes to it");
  assert.is(why("launched"), "shop/web was launched with it");
  assert.is(why("declared"), "shop/a declares it");
  assert.is(why("declared channel"), "shop/b declares the channel /mine");
  assert.match(why("shared"), /^it is shared with 210987654321, .*name it to remove it$/);
  assert.is(said.get(now), "it is debian-12 as its recipe stands now");
  for (const of of ["terminated", "before the previous", "unused"]) assert.is(why(of), "goes", of);

  assert.match(await changesNothing("prune", "--keep", "0"), /nobody uses debian-12[\s\S]*remove them: ingot image prune --on aws --yes/);
  await changesNothing("prune", "--keep", "0", "--yes", "--dry-run");
  const held = await refused(project.image("prune", made.instance ?? "", "--yes"));
  assert.match(held.message, /is in use: instance i-/);
  const snapshots = async () => (await ec2.send(new DescribeSnapshotsCommand({ OwnerIds: ["self"] }))).Snapshots?.length ?? 0;
  const [amisBefore, snapshotsBefore] = [(await findAmis(aws)).length, await snapshots()];
  const { removed } = await project.json<{ removed: { id: string }[] }>("prune", "--keep", "0", "--yes");
  assert.equal(removed.map((r) => r.id).sort(), [made.terminated, made["before the previous"], unused].sort());
  assert.equal([(await findAmis(aws)).length, await snapshots()], [amisBefore - 3, snapshotsBefore - 3]);
  // What is named goes although it is shared, or only an old version of a launch template has it.
  for (const of of ["shared", "old version"]) assert.is((await project.image("prune", made[of] ?? "", "--yes")).code, 0, of);
  const left = (await findAmis(aws)).map((a) => a.id);
  for (const of of ["shared", "old version"]) assert.not.ok(left.includes(made[of] ?? ""), of);
  project.stack("shop", "stack: shop\nhosts: {}\n");
});

one("prune: a stack that cannot be read, or whose AMI nobody knows, could need any of them", async () => {
  const { ami } = await registerAmi(aws, old(1));
  const shop = (image: string) =>
    `stack: shop\nvars: { ami: { type: text } }\nhosts:\n  a: { image: debian-12, aws: { image: ${image} } }\n`;
  const prune = () => nothing(moto.endpoint, () => project.image("prune", "--keep", "0", "--dry-run"));
  project.stack("shop", "stack: [");
  const broken = await prune().then(
    () => undefined,
    (e: unknown) => e,
  );
  assert.instance(broken, InputError, String(broken));
  project.stack("shop", shop("{ ami: { var: ami } }"));
  assert.match((await refused(prune())).message, /which AMI shop\/a boots depends on a variable that has no value/);
  project.stack("shop.live", `vars: { ami: ${ami} }\n`);
  assert.is((await fates("--keep", "0")).get(ami), "shop/a declares it");
  for (const name of ["shop", "shop.live"]) rmSync(join(project.folder, "stacks", `${name}.yaml`));
});

one("two copies at once are one", async () => {
  await registerAmi(aws, current());
  const both = await Promise.all([1, 2].map(() => project.json<{ copies: { ami: string }[] }>("copy", "debian-12", "--to", "eu-west-1")));
  assert.is(new Set(both.flatMap((b) => b.copies.map((c) => c.ami))).size, 1);
  assert.is((await findAmis(await awsOf("eu-west-1"))).length, 1);
});

one(
  "prune: the newest of each recipe stay; a snapshot that another AMI has stays; one without tags gets them before its AMI goes",
  async () => {
    const amis = [];
    for (const n of [1, 2, 3, 4, 5]) amis.push(await registerAmi(aws, old(n), n === 1 ? { bareSnapshot: true } : {}));
    await registerAmi(aws, { name: "inloop", digest: digestOf("cccc") });
    // moto counts in seconds: those of one second are told apart by their ids.
    const goes = [...(await fates())].filter(([, why]) => why === "goes").map(([id]) => id);
    assert.is(goes.length, 2);
    const ec2 = await aws.ec2();
    const shared = amis.find((a) => a.ami === goes[0])?.snapshot ?? "";
    const { RegisterImageCommand } = await import("@aws-sdk/client-ec2");
    const mapping = [{ DeviceName: "/dev/xvda", Ebs: { SnapshotId: shared } }];
    await ec2.send(new RegisterImageCommand({ Name: "somebody else's", RootDeviceName: "/dev/xvda", BlockDeviceMappings: mapping }));
    const { notes } = await project.image("prune", "--yes");
    assert.match(notes.join("\n"), new RegExp(`${shared} stays: another AMI is made of it`));
    const { Snapshots = [] } = await ec2.send(new DescribeSnapshotsCommand({ OwnerIds: ["self"] }));
    const there = Snapshots.map((s) => s.SnapshotId);
    assert.ok(there.includes(shared));
    assert.not.ok(there.includes(amis.find((a) => a.ami === goes[1])?.snapshot));
    const { Images = [] } = await ec2.send(new DescribeImagesCommand({ Owners: ["self"] }));
    assert.is(Images.length, 5);
  },
);

one("what makes no sense is said with what would", async () => {
  for (const [args, words] of [
    [["copy", "debian-12"], /to which region/],
    [["share", "debian-12"], /with whom/],
    [["promote", "debian-12"], /takes <image> <channel>/],
    [["promote", "debian-12", "beta"], /there is no channel `beta`/],
    [["prune", "--keep", "some"], /--keep takes a number/],
    [["list", "--kms", "x"], /list --on aws knows no --kms/],
  ] as const) {
    const error = await project.image(...args).then(
      () => undefined,
      (e: unknown) => e,
    );
    assert.instance(error, UsageError, args.join(" "));
    assert.match((error as UsageError).message, words);
  }
});

test.run();
