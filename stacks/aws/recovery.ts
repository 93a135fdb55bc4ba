// What a rebuild does on EC2 before it launches: the old machine is fenced, volumes are looked at and put aside.
import { sleep } from "../../lib/cancel.ts";
import { RefusedError } from "../../lib/diagnostics.ts";
import { during, type Progress } from "../../lib/progress.ts";
import type { Disks, Health } from "../target.ts";
import type { Aws } from "./api.ts";
import { call, codeOf } from "./errors.ts";
import { type Instance, instancesOf, lookSeconds, statesOf } from "./instances.ts";
import { names } from "./shape.ts";

/** Seconds within which a machine must be off: EC2 forces it after some minutes. */
const offSeconds = Number(process.env.INGOT_OFF_SECONDS ?? 600);
/** Name of the policy in a fenced machine's role. */
const policyName = "ingot-fenced";

/**
 * Withdraws what the host's machine may do in the account, then its power, and waits until it has none. The role is its successor's, too, so it is
 * the keys that were given out until now which are refused: what AWS's console does as "revoke active sessions".
 * Source: IAM User Guide, "Revoke IAM role temporary security credentials".
 * @throws RefusedError when it is not proven to be off
 */
export async function fence(aws: Aws, stack: string, host: string, progress: Progress): Promise<void> {
  const own = (await instancesOf(aws, stack)).filter((i) => i.host === host);
  if (!own.length) return;
  const ids = own.map((i) => i.id);
  const [iam, { PutRolePolicyCommand }] = [await aws.iam(), await import("@aws-sdk/client-iam")];
  const policy = {
    Version: "2012-10-17",
    Statement: [
      {
        Sid: "Fenced",
        Effect: "Deny",
        Action: ["*"],
        Resource: ["*"],
        Condition: { DateLessThan: { "aws:TokenIssueTime": new Date().toISOString() } },
      },
    ],
  };
  await during(progress, `withdraw what ${stack}/${host} may do in the account`, async () => {
    for (const RoleName of await rolesOf(aws, own))
      await call("withdraw a role's rights", () =>
        iam.send(new PutRolePolicyCommand({ RoleName, PolicyName: policyName, PolicyDocument: JSON.stringify(policy) })),
      );
  });
  const [ec2, { StopInstancesCommand }] = [await aws.ec2(), await import("@aws-sdk/client-ec2")];
  const on = own.filter((i) => i.state !== "stopped").map((i) => i.id);
  await during(progress, `power off ${ids.join(", ")}`, async (task) => {
    if (on.length) await call("power off the machine", () => ec2.send(new StopInstancesCommand({ InstanceIds: on, Force: true })));
    const began = performance.now();
    for (;;) {
      const states = await statesOf(aws, ids);
      if (states.every((s) => s === "stopped" || s === "terminated")) return;
      task.note([...new Set(states)].join(", "));
      if (performance.now() - began > offSeconds * 1000)
        throw new RefusedError(
          `${stack}/${host} is not proven to be off: after ${offSeconds} s EC2 says ${states.join(", ")}`,
          `its rights in the account are withdrawn; terminate ${ids.join(", ")} and do the same again`,
        );
      await sleep(lookSeconds);
    }
  });
}

/** What fencing has left in the role of a host that has a new machine; a role that has such a policy cannot be deleted. */
export async function unfence(aws: Aws, stack: string, host: string): Promise<void> {
  const [iam, { DeleteRolePolicyCommand }] = [await aws.iam(), await import("@aws-sdk/client-iam")];
  const own = (await instancesOf(aws, stack)).filter((i) => i.host === host);
  for (const RoleName of await rolesOf(aws, own))
    try {
      await call("give a role its rights", () => iam.send(new DeleteRolePolicyCommand({ RoleName, PolicyName: policyName })));
    } catch (error) {
      if (!/^NoSuchEntity/.test(codeOf(error))) throw error;
    }
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
  async health({ stack, host }, volume): Promise<Health> {
    const { DescribeVolumeStatusCommand } = await import("@aws-sdk/client-ec2");
    const found = await volumeOf(aws, stack, host, volume);
    if (!found) return "missing";
    if (found.state === "error") return { broken: `EC2 says that ${found.id} has failed` };
    const ec2 = await aws.ec2();
    const { VolumeStatuses = [] } = await call("ask how a volume is", () =>
      ec2.send(new DescribeVolumeStatusCommand({ VolumeIds: [found.id] })),
    );
    const status = VolumeStatuses[0]?.VolumeStatus;
    if (status?.Status !== "impaired") return "healthy";
    return { broken: `EC2 says that ${found.id} is impaired (${(status.Details ?? []).map((d) => `${d.Name}: ${d.Status}`).join(", ")})` };
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
      while ((await volumeOf(aws, stack, host, volume))?.instances.length) await sleep(lookSeconds);
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
    const [ec2, { DescribeSnapshotsCommand }] = [await aws.ec2(), await import("@aws-sdk/client-ec2")];
    const { Snapshots = [] } = await call("look for a volume's snapshots", () =>
      ec2.send(
        new DescribeSnapshotsCommand({
          OwnerIds: ["self"],
          Filters: [...filters(stack, host, volume), { Name: "status", Values: ["completed"] }],
        }),
      ),
    );
    const taken = Snapshots.flatMap(({ SnapshotId, StartTime }) =>
      SnapshotId === undefined || !StartTime ? [] : [{ id: SnapshotId, taken: StartTime.toISOString() }],
    );
    return taken.sort((a, b) => (a.taken < b.taken ? -1 : 1)).at(-1);
  },
});

const filters = (stack: string, host: string, volume: string) => [
  { Name: `tag:${names.tags.stack}`, Values: [stack] },
  { Name: `tag:${names.tags.host}`, Values: [host] },
  { Name: `tag:${names.tags.volume}`, Values: [volume] },
];

async function volumeOf(
  aws: Aws,
  stack: string,
  host: string,
  volume: string,
): Promise<{ id: string; state: string; instances: string[] } | undefined> {
  const [ec2, { DescribeVolumesCommand }] = [await aws.ec2(), await import("@aws-sdk/client-ec2")];
  const { Volumes = [] } = await call("look for a host's volume", () =>
    ec2.send(new DescribeVolumesCommand({ Filters: filters(stack, host, volume) })),
  );
  const [found] = Volumes.filter((v) => v.State !== "deleted" && v.State !== "deleting");
  return (
    found && { id: found.VolumeId ?? "", state: found.State ?? "", instances: (found.Attachments ?? []).flatMap((a) => a.InstanceId ?? []) }
  );
}
