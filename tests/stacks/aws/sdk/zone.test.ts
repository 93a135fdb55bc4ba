// A rebuild whose host is to be in another zone than its volumes: what it chooses, what it says, and what is in the account afterwards, against
// moto. Its snapshots are whole at once; those that are not, that fail, and a zone that gives none are put into its answers here.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  CreateSnapshotCommand,
  CreateTagsCommand,
  CreateVolumeCommand,
  DeleteSnapshotCommand,
  DescribeSnapshotsCommand,
  DescribeVolumesCommand,
  type Snapshot,
} from "@aws-sdk/client-ec2";
import * as assert from "uvu/assert";
import type { HostPlan, StackPlan } from "../../../../cloud-init/plan.ts";
import { RefusedError } from "../../../../lib/diagnostics.ts";
import { projectAt, toolFolder } from "../../../../lib/paths.ts";
import { silent } from "../../../../lib/progress.ts";
import { type Aws, awsOf } from "../../../../stacks/aws/api.ts";
import { awsDisks } from "../../../../stacks/aws/recovery.ts";
import { chooseSource, foreseen, mustBeMovable, putAside, type Rebuild } from "../../../../stacks/recovery/rebuild.ts";
import type { Target } from "../../../../stacks/target.ts";
import { type Moto, motoAmis, startMoto } from "../../../moto.ts";
import { suite } from "../../../suite.ts";
import { planOfText } from "../synth/fixtures.ts";

const test = suite("into another zone");
const one = motoAmis() ? test : test.skip;
const kept = readFileSync(join(toolFolder, "tests/e2e/kept.yaml"), "utf8").replaceAll("MiB", "GiB");
/** The same, in zone b. */
const plan = planOfText(kept.replace("    image: inloop\n", "    image: inloop\n    aws: { zone: b }\n"));
const began = "2026-11-30T02:00:00.000Z";
const project = projectAt(mkdtempSync(join(tmpdir(), "ingot-zone-")));
let moto: Moto;

test.before(async () => {
  if (motoAmis()) moto = await startMoto(motoAmis());
});
test.after(async () => {
  rmSync(project.folder, { recursive: true });
  await moto?.stop();
});

/** What EC2 is made to answer: beside moto's. */
interface Answers {
  create?: Error;
  /** Of every snapshot that a rebuild has taken. */
  snapshot?: Partial<Snapshot>;
}

interface Account {
  aws: Aws;
  target: Target;
  answers: Answers;
  /** Of volumes that were taken out of Terraform's state. */
  forgotten: string[];
  host: HostPlan;
  rebuild: Rebuild;
}

/** The host's volumes, all in zone a, and nothing else. */
async function account(stack: StackPlan = plan): Promise<Account> {
  await moto.reset();
  const aws = await awsOf(undefined);
  const ec2 = await aws.ec2();
  const answers: Answers = {};
  ec2.middlewareStack.add(
    (next, { commandName }) =>
      async (args) => {
        if (commandName === "CreateSnapshotCommand" && answers.create) throw answers.create;
        const result = await next(args);
        if (commandName === "DescribeSnapshotsCommand" && answers.snapshot)
          for (const s of (result.output as { Snapshots?: Snapshot[] }).Snapshots ?? [])
            if (s.Tags?.some((t) => t.Key === "ingot:copy")) Object.assign(s, answers.snapshot);
        return result;
      },
    { step: "initialize" },
  );
  const [host] = stack.hosts;
  if (!host) throw new Error("no host");
  for (const each of stack.hosts)
    for (const { name, size } of each.volumes)
      await ec2.send(
        new CreateVolumeCommand({
          AvailabilityZone: "eu-central-1a",
          Size: size / 2 ** 30,
          TagSpecifications: [{ ResourceType: "volume", Tags: tagsOf(each, name) }],
        }),
      );
  const forgotten: string[] = [];
  const disks = awsDisks(aws, silent, async (_, __, volume) => void forgotten.push(volume));
  const target = { find: async () => [], disks } as unknown as Target;
  return { aws, target, answers, forgotten, host, rebuild: { stack: "kept", host: "db", began, images: {}, phases: [] } };
}

const tagsOf = ({ stack, host }: HostPlan, volume: string) =>
  Object.entries({ "ingot:stack": stack, "ingot:host": host, "ingot:volume": volume }).map(([Key, Value]) => ({ Key, Value }));
const volumes = async (aws: Aws) => (await (await aws.ec2()).send(new DescribeVolumesCommand({}))).Volumes ?? [];
/** All but those of moto's own AMIs. */
const snapshots = async (aws: Aws) =>
  ((await (await aws.ec2()).send(new DescribeSnapshotsCommand({ OwnerIds: ["self"] }))).Snapshots ?? []).filter((s) =>
    s.Tags?.some((t) => t.Key === "ingot:volume"),
  );
/** One that was taken by the clock. */
const picture = async (aws: Aws, host: HostPlan, volume: string) => {
  const VolumeId = (await volumes(aws)).find((v) => v.Tags?.some((t) => t.Key === "ingot:volume" && t.Value === volume))?.VolumeId;
  const Tags = tagsOf(host, volume);
  return (await aws.ec2()).send(new CreateSnapshotCommand({ VolumeId, TagSpecifications: [{ ResourceType: "snapshot", Tags }] }));
};
const choose = ({ target, host, rebuild }: Account, stack = plan) => chooseSource(target, stack, host, rebuild, silent);
const refused = async (work: Promise<unknown>): Promise<string> => {
  const error = await work.then(
    () => undefined,
    (e: unknown) => e,
  );
  assert.instance(error, RefusedError, String(error));
  return `${(error as RefusedError).message}\n${(error as RefusedError).hint}`;
};
const failure = (name: string, message: string) => Object.assign(new Error(message), { name });

one("health: whole in its zone, elsewhere, broken elsewhere, gone", async () => {
  const { aws, target, host } = await account();
  assert.equal(await target.disks.health(host, "data"), { elsewhere: "eu-central-1a" });
  assert.is(await target.disks.health({ ...host, aws: { ...host.aws, zone: "a" } }, "data"), "healthy");
  assert.is(await target.disks.health({ ...host, host: "other" }, "data"), "missing");
  const data = (await volumes(aws)).find((v) => v.Tags?.some((t) => t.Value === "data"))?.VolumeId ?? "";
  await (await aws.ec2()).send(new CreateTagsCommand({ Resources: [data], Tags: [{ Key: "test:impaired", Value: "" }] }));
  assert.match(
    JSON.stringify(await target.disks.health(host, "data")),
    /^\{"elsewhere":"eu-central-1a","broken":"EC2 says that vol-\w+ is impaired/,
  );
});

one("every volume is copied, the backups' own as well; nothing is restored, nothing deleted, and the old ones are put aside", async () => {
  const it = await account();
  it.rebuild.source = await choose(it);
  const { attached, restored, pictured, empty } = it.rebuild.source;
  assert.equal([attached, restored, empty], [[], [], []]);
  assert.equal(
    pictured.map((p) => [p.volume, p.because]),
    ["data", "scratch", "backup"].map((name) => [name, "it is in eu-central-1a"]),
  );
  const taken = await snapshots(it.aws);
  assert.equal(pictured.map((p) => p.snapshot).sort(), taken.map((s) => s.SnapshotId).sort());
  assert.equal(it.forgotten, []);
  await putAside(project, it.target, it.host, it.rebuild);
  const there = await volumes(it.aws);
  assert.equal(pictured.map((p) => p.aside).sort(), there.map((v) => v.VolumeId).sort());
  assert.ok(there.every((v) => v.Tags?.some((t) => t.Key === "ingot:aside" && t.Value === began)));
  assert.equal(it.forgotten, ["data", "scratch", "backup"]);
  // Another past is asked for before the new ones are made: what is not of that past is in the snapshots still.
  const again = await choose({ ...it, rebuild: { ...it.rebuild, backup: "20261130-010000F" } });
  assert.equal(
    [again.restored.map((r) => r.volume), again.pictured.map((p) => p.snapshot)],
    [["data"], pictured.filter((p) => p.volume !== "data").map((p) => p.snapshot)],
  );
});

one("a rebuild that was killed finds the snapshots that it has begun; another one takes its own", async () => {
  const it = await account();
  it.answers.snapshot = { State: "pending", Progress: "42%" };
  const begun = choose(it);
  while ((await snapshots(it.aws)).length < 3) await new Promise((resolve) => setTimeout(resolve, 50));
  const first = await choose({ ...it, target: { ...it.target, disks: awsDisks(await awsOf(undefined), silent, async () => {}) } });
  it.answers.snapshot = undefined;
  assert.equal((await begun).pictured, first.pictured);
  assert.is((await snapshots(it.aws)).length, 3);
  await choose({ ...it, rebuild: { ...it.rebuild, began: "2026-11-30T03:00:00.000Z" } });
  assert.is((await snapshots(it.aws)).length, 6);
});

one(
  "where no snapshot can be taken, it is as lost: backups, the last snapshot and its age, their own volume from its last one",
  async () => {
    const it = await account();
    for (const volume of ["scratch", "backup"]) await picture(it.aws, it.host, volume);
    it.answers.create = failure("Unavailable", "The server is overloaded");
    const { attached, restored, pictured, empty } = await choose(it);
    assert.equal([attached, empty], [[], []]);
    const because = "it is in eu-central-1a, and cannot be copied from there (could not take a snapshot of vol-";
    assert.equal(restored.length, 1);
    assert.ok(restored[0]?.because.startsWith(because), restored[0]?.because);
    assert.equal(
      pictured.map(({ volume, because: why }) => [volume, /\), (and .*) is lost$/.exec(why)?.[1]?.replace(/\d+ s/, "n s")]),
      [
        ["scratch", "and nothing of it is backed up; what was written to it in the n s after that"],
        ["backup", "and it holds the backups; what was written to it in the n s after that"],
      ],
    );
  },
);

one("without a snapshot of the backups' volume nothing is begun", async () => {
  const it = await account();
  it.answers.create = failure("InternalError", "An internal error has occurred");
  assert.match(
    await refused(choose(it)),
    /the volume backup, with the backups of kept\/db, is lost: it is in eu-central-1a, and cannot be/,
  );
  assert.equal(it.forgotten, []);
});

one("a snapshot that fails, and one that gets no further, are none", async () => {
  const it = await account();
  await picture(it.aws, it.host, "backup");
  it.answers.snapshot = { State: "error", StateMessage: "the volume does not answer" };
  const failed = await choose(it);
  assert.match(failed.restored[0]?.because ?? "", /its snapshot snap-\w+ failed \(the volume does not answer\)/);
  process.env.INGOT_SNAPSHOT_SECONDS = "1";
  it.answers.snapshot = { State: "pending", Progress: "7%" };
  const slow = await choose(it).finally(() => delete process.env.INGOT_SNAPSHOT_SECONDS);
  assert.match(slow.restored[0]?.because ?? "", /its snapshot snap-\w+ has been at 7% for 1 s/);
});

one("what only the caller can mend ends the rebuild: rights, quotas, and a size that is too small", async () => {
  const it = await account();
  it.answers.create = failure("UnauthorizedOperation", "You are not authorized to perform this operation");
  assert.match(await refused(choose(it)), /could not take a snapshot of vol-.*may not do it/s);
  it.answers.create = failure("SnapshotLimitExceeded", "You have exceeded your maximum snapshot limit");
  assert.match(await refused(choose(it)), /a quota of the account is used up/);
  it.answers.create = undefined;
  const host = { ...it.host, volumes: it.host.volumes.map((v) => ({ ...v, size: 2 ** 30 })) };
  assert.match(
    await refused(choose({ ...it, host })),
    /the volume (scratch|backup) of kept\/db has \d+ GiB, and its copy would have 1: a volume cannot/,
  );
  assert.equal(it.forgotten, []);
});

one("a past that is asked for: what the backups hold comes from them, the rest is copied", async () => {
  const it = await account();
  const { restored, pictured } = await choose({ ...it, rebuild: { ...it.rebuild, at: "2026-11-30T01:00:00Z" } });
  assert.equal(
    [restored.map((r) => [r.volume, r.because]), pictured.map((p) => p.volume)],
    [[["data", "as it was at 2026-11-30T01:00:00Z"]], ["scratch", "backup"]],
  );
});

one("a dry run says it and takes nothing", async () => {
  const it = await account();
  await picture(it.aws, it.host, "scratch");
  const there = "in eu-central-1a, and the host is to be in another zone: a snapshot is taken once the machine is off";
  const lines = (await foreseen(it.target, plan, it.host, {}, [])).filter((l) => l.startsWith("volume"));
  assert.ok(
    lines.every((l) => l.includes(there)),
    lines.join("\n"),
  );
  assert.match(
    lines[0] ?? "",
    /^volume data: .* where none can be taken, it would be restored from the backups \(\/srv\/data\/media, \/srv\/data\/p/,
  );
  assert.match(
    lines[1] ?? "",
    /^volume scratch: .* it would be made from snap-\w+, taken 20.*: what was written to it in the \d+ s since would be lost$/,
  );
  assert.match(lines[2] ?? "", /^volume backup: .* where none can be taken, the rebuild would be refused, since it holds the backups$/);
  assert.is((await snapshots(it.aws)).length, 1);
  const [last] = await snapshots(it.aws);
  await (await it.aws.ec2()).send(new DeleteSnapshotCommand({ SnapshotId: last?.SnapshotId }));
  const [, scratch] = (await foreseen(it.target, plan, it.host, {}, [])).filter((l) => l.startsWith("volume"));
  assert.match(scratch ?? "", /it would be new and empty: nothing of it is backed up$/);
});

one("another host whose zone was changed as well, and an address in a VPC of the stack's own, are refused before anything", async () => {
  const other = "  web:\n    image: inloop\n    aws: { zone: b }\n    volumes: { files: { mount: /srv/files, size: 1GiB } }\n";
  const two = planOfText(kept.replace("    image: inloop\n", "    image: inloop\n    aws: { zone: b }\n") + other);
  const it = await account(two);
  assert.match(
    await refused(mustBeMovable(it.target, two, it.host)),
    /has web in another zone as well: its volume files is in eu-central-1a.*\none host after the other: write the `zone:` of web as it was until db/,
  );
  await mustBeMovable(it.target, plan, it.host);
  const own = { ...plan, network: "10.1.1.0/24" };
  await mustBeMovable(it.target, own, it.host);
  assert.match(
    await refused(mustBeMovable(it.target, own, { ...it.host, address: "10.1.1.10" })),
    /kept\/db has the address 10\.1\.1\.10, which is of the subnet in the zone that it was launched in.*\nwrite `zone:` as it was/,
  );
});

test.run();
