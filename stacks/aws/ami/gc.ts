// What runs that made AMIs left in the account: snapshots that no AMI stands on, AMIs that failed, and builder instances with their keys,
// security groups and volumes. Everything of a run bears the image's digest and the run's id from the call that makes it; a run lives as
// long as it holds the digest's lock. Called by ../gc.ts.
import type { Aws } from "../api.ts";
import { call } from "../errors.ts";
import type { Leftover } from "../gc.ts";
import { keysBelow } from "../object.ts";
import { names } from "../shape.ts";
import { findAmis } from "./ami.ts";
import { snapshotOfBlocks } from "./parent.ts";

interface Tagged {
  Tags?: { Key?: string; Value?: string }[];
}
const tagOf = ({ Tags }: Tagged, key: string): string => Tags?.find((t) => t.Key === key)?.Value ?? "";
const ours = [{ Name: "tag-key", Values: [names.tags.run] }];

/**
 * @param busy digests that somebody is at
 * @param resumable snapshots that an upload from this computer can go on with, and how many blocks they have (journal.ts)
 */
export async function amiLeftovers(
  aws: Aws,
  bucket: string,
  busy: ReadonlySet<string>,
  resumable: ReadonlyMap<string, number>,
): Promise<Leftover[]> {
  const found = await Promise.all([
    images(aws, busy, resumable),
    instances(aws, busy),
    keyPairs(aws, busy),
    groups(aws, busy),
    volumes(aws, busy),
  ]);
  const snapshots = found[0].snapshots;
  return [...found.flatMap((part) => (Array.isArray(part) ? part : part.left)), ...(await digestsLeft(aws, bucket, snapshots))];
}

/** AMIs that failed, and snapshots of which there is no AMI. */
async function images(
  aws: Aws,
  busy: ReadonlySet<string>,
  resumable: ReadonlyMap<string, number>,
): Promise<{ left: Leftover[]; snapshots: Set<string> }> {
  const { paginateDescribeSnapshots } = await import("@aws-sdk/client-ec2");
  const all: { id: string; digest: string; state: string; message: string }[] = [];
  // Before the AMIs: one that is registered meanwhile is seen.
  await call("look for snapshots", async () => {
    for await (const { Snapshots = [] } of paginateDescribeSnapshots({ client: await aws.ec2() }, { OwnerIds: ["self"], Filters: ours }))
      for (const s of Snapshots)
        all.push({ id: s.SnapshotId ?? "", digest: tagOf(s, names.tags.image), state: s.State ?? "", message: s.StateMessage ?? "" });
  });
  const amis = await findAmis(aws);
  const failed = amis.filter((a) => /^(failed|error|invalid)$/.test(a.state) && !busy.has(a.digest));
  const used = new Set(amis.filter((a) => !failed.includes(a)).flatMap((a) => a.snapshots));
  // The snapshot of a copy that is on its way is not named yet by its AMI.
  const coming = new Set(amis.filter((a) => a.state === "pending").map((a) => a.digest));
  const left = all.filter((s) => !used.has(s.id) && !busy.has(s.digest) && !coming.has(s.digest));
  return {
    left: [
      ...failed.map((a): Leftover => ({ kind: "AMI", name: a.id, why: `of ${a.recipe}: it has ${a.state}`, data: false })),
      ...left.map(({ id, state, message }): Leftover => {
        const blocks = resumable.get(id);
        const why =
          state === "pending"
            ? "its upload has not ended"
            : state === "completed"
              ? "no AMI stands on it"
              : `it has failed${message && `: ${message}`}`;
        const more =
          blocks !== undefined && state !== "error" ? `; \`ingot bake --on aws --direct\` goes on with its ${blocks} blocks` : "";
        return { kind: "snapshot", name: id, why: why + more, data: false };
      }),
    ],
    snapshots: new Set(all.map((s) => s.id)),
  };
}

async function instances(aws: Aws, busy: ReadonlySet<string>): Promise<Leftover[]> {
  const { DescribeInstancesCommand } = await import("@aws-sdk/client-ec2");
  const ec2 = await aws.ec2();
  const alive = { Name: "instance-state-name", Values: ["pending", "running", "stopping", "stopped"] };
  const { Reservations = [] } = await call("look for builder instances", () =>
    ec2.send(new DescribeInstancesCommand({ Filters: [...ours, alive] })),
  );
  return Reservations.flatMap((r) => r.Instances ?? [])
    .filter((i) => abandoned(i, busy))
    .map((i) => ({ kind: "instance", name: i.InstanceId ?? "", why: ofRun(i), data: false }));
}

async function keyPairs(aws: Aws, busy: ReadonlySet<string>): Promise<Leftover[]> {
  const { DescribeKeyPairsCommand } = await import("@aws-sdk/client-ec2");
  const ec2 = await aws.ec2();
  const { KeyPairs = [] } = await call("look for key pairs", () => ec2.send(new DescribeKeyPairsCommand({ Filters: ours })));
  return KeyPairs.filter((k) => abandoned(k, busy)).map((k) => ({ kind: "key pair", name: k.KeyName ?? "", why: ofRun(k), data: false }));
}

async function groups(aws: Aws, busy: ReadonlySet<string>): Promise<Leftover[]> {
  const { DescribeSecurityGroupsCommand } = await import("@aws-sdk/client-ec2");
  const ec2 = await aws.ec2();
  const { SecurityGroups = [] } = await call("look for security groups", () =>
    ec2.send(new DescribeSecurityGroupsCommand({ Filters: ours })),
  );
  return SecurityGroups.filter((g) => abandoned(g, busy)).map((g) => ({
    kind: "security group",
    name: g.GroupId ?? "",
    why: ofRun(g),
    data: false,
  }));
}

async function volumes(aws: Aws, busy: ReadonlySet<string>): Promise<Leftover[]> {
  const { DescribeVolumesCommand } = await import("@aws-sdk/client-ec2");
  const ec2 = await aws.ec2();
  const free = { Name: "status", Values: ["available"] };
  const { Volumes = [] } = await call("look for volumes", () => ec2.send(new DescribeVolumesCommand({ Filters: [...ours, free] })));
  return Volumes.filter((v) => abandoned(v, busy)).map((v) => ({ kind: "volume", name: v.VolumeId ?? "", why: ofRun(v), data: false }));
}

const abandoned = (thing: Tagged, busy: ReadonlySet<string>): boolean => !busy.has(tagOf(thing, names.tags.image));
const ofRun = (thing: Tagged): string => `of a run that is over, which made an AMI of ${tagOf(thing, names.tags.recipe) || "a recipe"}`;

/** Digests of blocks (parent.ts) whose snapshot is gone. @param snapshots that are there */
async function digestsLeft(aws: Aws, bucket: string, snapshots: ReadonlySet<string>): Promise<Leftover[]> {
  const keys = await keysBelow(aws, bucket, names.amis);
  return keys.flatMap((key): Leftover[] => {
    const id = snapshotOfBlocks(key);
    return id === undefined || snapshots.has(id)
      ? []
      : [{ kind: "object", name: key, why: `what is in ${id}, which is gone`, data: false }];
  });
}
