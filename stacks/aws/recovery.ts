// What a rebuild does on EC2 before it launches: the old machine is fenced, volumes are looked at and put aside.
import { sleep } from "../../lib/cancel.ts";
import { RefusedError } from "../../lib/diagnostics.ts";
import { during, type Progress } from "../../lib/progress.ts";
import type { Disks, Health, Picture } from "../target.ts";
import { tagList } from "./ami/ami.ts";
import type { Aws } from "./api.ts";
import { call, codeOf } from "./errors.ts";
import { type Instance, instancesOf, lookSeconds, notGone, statesOf } from "./instances.ts";
import { names, networkKind, zoneOfHost } from "./shape.ts";

/** Seconds within which a machine must be off: EC2 forces it after some minutes. */
const offSeconds = (): number => Number(process.env.INGOT_OFF_SECONDS ?? 600);
/** Seconds that a snapshot may be on its way without getting any further. */
const snapshotSeconds = (): number => Number(process.env.INGOT_SNAPSHOT_SECONDS ?? 1800);
/** What EC2 says when it is the volume, or its zone, that cannot give a snapshot: not the caller's rights, quotas or network. */
const noSnapshot =
  /^(IncorrectState|InvalidVolume\.NotFound|InternalError|InternalFailure|InternalServerError|ServiceUnavailable|Unavailable|50[0234])$/;
/** Name of the policy in a fenced machine's role. */
const policyName = "ingot-fenced";

/**
 * Withdraws what the host's machine may do in the account, its backups' bucket included, then its power, and waits until it has none. The role is its
 * successor's, too, so it is the keys that were given out until now which are refused, and from now on: what AWS's console does as "revoke active sessions".
 * One that is being terminated may write until it is.
 * Source: IAM User Guide, "Revoke IAM role temporary security credentials"; EC2 User Guide, "Instance state changes".
 * @throws RefusedError when it is not proven to be off
 */
export async function fence(aws: Aws, stack: string, host: string, progress: Progress): Promise<void> {
  const own = (await instancesOf(aws, stack, notGone)).filter((i) => i.host === host);
  if (!own.length) return;
  const ids = own.map((i) => i.id);
  await during(progress, `withdraw what ${stack}/${host} may do in the account`, () => withdraw(aws, own));
  const [ec2, { StopInstancesCommand }] = [await aws.ec2(), await import("@aws-sdk/client-ec2")];
  await during(progress, `power off ${ids.join(", ")}`, async (task) => {
    const told = new Set<string>();
    const began = performance.now();
    for (;;) {
      const states = await statesOf(aws, ids);
      const on = ids.filter((id) => !/^(stopped|terminated)$/.test(states.get(id) ?? ""));
      if (!on.length) return;
      // One that is only being launched cannot be stopped yet, and one that is shutting down not any more.
      const InstanceIds = on.filter((id) => !told.has(id) && /^(running|stopping)$/.test(states.get(id) ?? ""));
      if (InstanceIds.length) await call("power off the machine", () => ec2.send(new StopInstancesCommand({ InstanceIds, Force: true })));
      for (const id of InstanceIds) told.add(id);
      const said = [...new Set(on.map((id) => states.get(id) ?? "nothing"))].join(", ");
      task.note(said);
      if (performance.now() - began > offSeconds() * 1000)
        throw new RefusedError(
          `${stack}/${host} is not proven to be off: after ${offSeconds()} s EC2 says ${said}`,
          `its rights in the account are withdrawn; terminate ${on.join(", ")} and do the same again`,
        );
      await sleep(lookSeconds());
    }
  });
}

/** Refuses everything to the keys that these instances' roles have given out. It stays so: Terraform takes the policy with the role. */
async function withdraw(aws: Aws, own: Instance[]): Promise<void> {
  const [iam, { PutRolePolicyCommand }] = [await aws.iam(), await import("@aws-sdk/client-iam")];
  const policy = {
    Version: "2012-10-17",
    Statement: [
      {
        Sid: "Fenced",
        Effect: "Deny",
        Action: ["*"],
        Resource: ["*"],
        Condition: { DateLessThan: { "aws:TokenIssueTime": await clockOf(aws) } },
      },
    ],
  };
  for (const RoleName of await rolesOf(aws, own))
    await call("withdraw a role's rights", () =>
      iam.send(new PutRolePolicyCommand({ RoleName, PolicyName: policyName, PolicyDocument: JSON.stringify(policy) })),
    );
}

/** What AWS's clock says, by which it dates keys: this computer's may be minutes off, and would spare old keys or refuse the successor's. */
async function clockOf(aws: Aws): Promise<string> {
  const [sts, { GetCallerIdentityCommand }] = [await aws.sts(), await import("@aws-sdk/client-sts")];
  const command = new GetCallerIdentityCommand({});
  let date: string | undefined;
  command.middlewareStack.add(
    (next) => async (args) => {
      const answer = await next(args);
      date = (answer.response as { headers: Record<string, string | undefined> }).headers.date;
      return answer;
    },
    { step: "deserialize" },
  );
  await call("ask AWS what time it is", () => sts.send(command));
  return new Date(date ?? Date.now()).toISOString();
}

/** The roles that instances have, by their profiles. */
async function rolesOf(aws: Aws, instances: Instance[]): Promise<string[]> {
  const [iam, { GetInstanceProfileCommand }] = [await aws.iam(), await import("@aws-sdk/client-iam")];
  const profiles = new Set(instances.flatMap((i) => i.profile?.split("/").at(-1) ?? []));
  const found = await Promise.all(
    [...profiles].map((InstanceProfileName) =>
      call("look at the machine's profile", () => iam.send(new GetInstanceProfileCommand({ InstanceProfileName }))),
    ),
  );
  return found.flatMap(({ InstanceProfile }) => (InstanceProfile?.Roles ?? []).flatMap((r) => r.RoleName ?? []));
}

/** @param forget takes a volume, with its attachment, out of Terraform's state */
export const awsDisks = (aws: Aws, progress: Progress, forget: (stack: string, host: string, volume: string) => Promise<void>): Disks => ({
  zones: {
    mayMove(stack, { host, address }) {
      if (networkKind(stack) !== "own" || address === undefined) return;
      throw new RefusedError(
        `${stack.stack}/${host} has the address ${address}, which is of the subnet in the zone that it was launched in: another zone has another subnet`,
        `write \`zone:\` as it was; or launch a stack of another name there: \`aws: { restore: { … } }\` names the snapshots. Nothing was changed`,
      );
    },
  },

  async health(plan, volume): Promise<Health> {
    const found = await volumeOf(aws, plan.stack, plan.host, volume);
    if (!found) return "missing";
    const broken = await brokenBy(aws, found);
    if (found.zone !== zoneOfHost(aws.region, plan)) return { elsewhere: found.zone, ...(broken !== undefined && { broken }) };
    return broken === undefined ? "healthy" : { broken };
  },

  where: ({ stack, host }, volume) => `the EBS volume that is tagged ${names.tags.volume}=${volume} for ${stack}/${host}`,

  async setAside({ stack, host }, volume, when) {
    const found = await volumeOf(aws, stack, host, volume);
    if (!found) return undefined;
    const [ec2, { CreateTagsCommand, DeleteTagsCommand, DetachVolumeCommand }] = [await aws.ec2(), await import("@aws-sdk/client-ec2")];
    await during(progress, `put ${found.id} aside`, async () => {
      await forget(stack, host, volume);
      for (const InstanceId of found.instances)
        await call("detach a volume", () => ec2.send(new DetachVolumeCommand({ VolumeId: found.id, InstanceId })));
      // A zone that does not answer lets go of nothing: the machine's end does it, and nobody wants this one before.
      const began = performance.now();
      while ((await volumeOf(aws, stack, host, volume))?.instances.length && performance.now() - began < offSeconds() * 1000)
        await sleep(lookSeconds());
      const tags = [
        { Key: "Name", Value: `${stack}/${host} ${volume}, put aside ${when}` },
        { Key: names.tags.aside, Value: when },
      ];
      await call("tag a volume", () => ec2.send(new CreateTagsCommand({ Resources: [found.id], Tags: tags })));
      const taken = [names.tags.volume, names.tags.mount, names.tags.snapshots].map((Key) => ({ Key }));
      await call("take a volume's tags", () => ec2.send(new DeleteTagsCommand({ Resources: [found.id], Tags: taken })));
    });
    return found.id;
  },

  async snapshot({ stack, host }, volume) {
    const taken = await snapshotsOf(aws, filters(stack, host, volume));
    return taken.findLast((s) => s.state === "completed");
  },

  async copy(plan, volume, rebuild) {
    const { stack, host } = plan;
    const found = await volumeOf(aws, stack, host, volume);
    const size = (plan.volumes.find((v) => v.name === volume)?.size ?? 0) / 2 ** 30;
    if (found && found.size > Math.ceil(size))
      throw new RefusedError(
        `the volume ${volume} of ${stack}/${host} has ${found.size} GiB, and its copy would have ${Math.ceil(size)}: a volume cannot shrink`,
        `write \`size: ${found.size}GiB\`, then the same again; nothing was put aside`,
      );
    const begun = await snapshotsOf(aws, [...filters(stack, host, volume), { Name: `tag:${names.tags.copy}`, Values: [rebuild] }]);
    const known = begun.findLast((s) => s.state !== "error")?.id;
    if (known === undefined && !found) return { cannot: "it is not there" };
    return during(progress, `snapshot of volume ${volume}${found ? ` (${found.id}) in ${found.zone}` : ""}`, async (task) => {
      try {
        return await untilWhole(aws, known ?? (await begin(found?.id ?? "")), (text) => task.note(text));
      } catch (error) {
        if (!noSnapshot.test(codeOf(error))) throw error;
        task.note("cannot be taken");
        return { cannot: (error as Error).message };
      }
    });

    async function begin(VolumeId: string): Promise<string> {
      const [ec2, { CreateSnapshotCommand }] = [await aws.ec2(), await import("@aws-sdk/client-ec2")];
      const Tags = tagList({
        Name: `${stack}/${host} ${volume}, for another zone`,
        [names.tags.stack]: stack,
        [names.tags.host]: host,
        [names.tags.volume]: volume,
        [names.tags.copy]: rebuild,
      });
      const { SnapshotId = "" } = await call(`take a snapshot of ${VolumeId}`, () =>
        ec2.send(new CreateSnapshotCommand({ VolumeId, TagSpecifications: [{ ResourceType: "snapshot", Tags }] })),
      );
      return SnapshotId;
    }
  },
});

/** Why EC2 would not have a volume attached; undefined: it would. */
async function brokenBy(aws: Aws, { id, state }: { id: string; state: string }): Promise<string | undefined> {
  if (state === "error") return `EC2 says that ${id} has failed`;
  const [ec2, { DescribeVolumeStatusCommand }] = [await aws.ec2(), await import("@aws-sdk/client-ec2")];
  const { VolumeStatuses = [] } = await call("ask how a volume is", () => ec2.send(new DescribeVolumeStatusCommand({ VolumeIds: [id] })));
  const status = VolumeStatuses[0]?.VolumeStatus;
  if (status?.Status !== "impaired") return undefined;
  return `EC2 says that ${id} is impaired (${(status.Details ?? []).map((d) => `${d.Name}: ${d.Status}`).join(", ")})`;
}

const filters = (stack: string, host: string, volume: string) => [
  { Name: `tag:${names.tags.stack}`, Values: [stack] },
  { Name: `tag:${names.tags.host}`, Values: [host] },
  { Name: `tag:${names.tags.volume}`, Values: [volume] },
];

interface Volume {
  id: string;
  state: string;
  zone: string;
  /** GiB. */
  size: number;
  instances: string[];
}

async function volumeOf(aws: Aws, stack: string, host: string, volume: string): Promise<Volume | undefined> {
  const [ec2, { DescribeVolumesCommand }] = [await aws.ec2(), await import("@aws-sdk/client-ec2")];
  const { Volumes = [] } = await call("look for a host's volume", () =>
    ec2.send(new DescribeVolumesCommand({ Filters: filters(stack, host, volume) })),
  );
  const [found] = Volumes.filter((v) => v.State !== "deleted" && v.State !== "deleting");
  return (
    found && {
      id: found.VolumeId ?? "",
      state: found.State ?? "",
      zone: found.AvailabilityZone ?? "",
      size: found.Size ?? 0,
      instances: (found.Attachments ?? []).flatMap((a) => a.InstanceId ?? []),
    }
  );
}

interface Snapshot extends Picture {
  /** EC2's word: "pending", "completed", "error". */
  state: string;
  /** "42%" */
  progress: string;
  message?: string;
}

/** The oldest first. @param wanted what their tags or ids must be */
async function snapshotsOf(aws: Aws, wanted: { Name: string; Values: string[] }[]): Promise<Snapshot[]> {
  const [ec2, { paginateDescribeSnapshots }] = [await aws.ec2(), await import("@aws-sdk/client-ec2")];
  const found: Snapshot[] = [];
  await call("look for a volume's snapshots", async () => {
    for await (const { Snapshots = [] } of paginateDescribeSnapshots({ client: ec2 }, { OwnerIds: ["self"], Filters: wanted }))
      for (const { SnapshotId: id, StartTime, State: state = "", Progress: progress = "", StateMessage: message } of Snapshots)
        if (id !== undefined && StartTime)
          found.push({ id, taken: StartTime.toISOString(), state, progress, ...(message !== undefined && { message }) });
  });
  return found.sort((a, b) => (a.taken < b.taken ? -1 : 1));
}

/** Waits for a snapshot as long as it gets on. */
async function untilWhole(aws: Aws, id: string, note: (text: string) => void): Promise<Picture | { cannot: string }> {
  let moved = { at: performance.now(), progress: "" };
  for (;;) {
    const [one] = await snapshotsOf(aws, [{ Name: "snapshot-id", Values: [id] }]);
    if (one?.state === "completed") {
      note(id);
      return { id, taken: one.taken };
    }
    if (one?.state === "error") return { cannot: `its snapshot ${id} failed (${one.message ?? "EC2 does not say why"})` };
    if (one && one.progress !== moved.progress) moved = { at: performance.now(), progress: one.progress };
    note(`${id}, ${moved.progress || "not begun"}`);
    if (performance.now() - moved.at > snapshotSeconds() * 1000)
      return { cannot: `its snapshot ${id} has been at ${moved.progress || "its beginning"} for ${snapshotSeconds()} s` };
    await sleep(lookSeconds());
  }
}
