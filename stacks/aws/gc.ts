// What interrupted runs left in the account: found by Ingot's tags and by what is in the bucket, shown, and removed when that is asked for.
import type { Progress } from "../../lib/progress.ts";
import type { Aws } from "./api.ts";
import { call, isMissing } from "./errors.ts";
import { stacksIn } from "./inventory.ts";
import { keysBelow, readObject, removeObject } from "./object.ts";
import { names } from "./shape.ts";

export interface Leftover {
  kind: "instance" | "volume" | "address" | "upload" | "lock";
  /** i-…, vol-…, eipalloc-…, an object's key. */
  name: string;
  stack?: string;
  why: string;
  /** It goes only when it is named. */
  data: boolean;
}

/** Everything of Ingot's that belongs to no stack which is up, or was begun by a run that is over. */
export async function leftovers(aws: Aws, bucket: string): Promise<Leftover[]> {
  const known = await stacksIn(aws, bucket);
  const states = (await keysBelow(aws, bucket, "stacks/")).flatMap((key) => /^stacks\/([^/]+)\/terraform\.tfstate$/.exec(key)?.[1] ?? []);
  const owned = new Set([...known, ...states]);
  const found = await Promise.all([
    instances(aws, owned),
    volumes(aws, owned),
    addressesLeft(aws, owned),
    uploads(aws, bucket),
    locks(aws, bucket),
  ]);
  return found.flat();
}

interface Tagged {
  Tags?: { Key?: string; Value?: string }[];
}
const stackOf = ({ Tags }: Tagged): string | undefined => Tags?.find((t) => t.Key === names.tags.stack)?.Value;
const ours = [{ Name: "tag-key", Values: [names.tags.stack] }];
const nobody = (stack: string | undefined): string => `its stack ${stack} has neither state nor inventory`;

async function instances(aws: Aws, owned: Set<string>): Promise<Leftover[]> {
  const { DescribeInstancesCommand } = await import("@aws-sdk/client-ec2");
  const ec2 = await aws.ec2();
  const alive = { Name: "instance-state-name", Values: ["pending", "running", "stopping", "stopped"] };
  const { Reservations = [] } = await call("look for instances", () =>
    ec2.send(new DescribeInstancesCommand({ Filters: [...ours, alive] })),
  );
  return Reservations.flatMap((r) => r.Instances ?? [])
    .filter((i) => !owned.has(stackOf(i) ?? ""))
    .map((i) => ({ kind: "instance", name: i.InstanceId ?? "", stack: stackOf(i), why: nobody(stackOf(i)), data: false }));
}

async function volumes(aws: Aws, owned: Set<string>): Promise<Leftover[]> {
  const { DescribeVolumesCommand } = await import("@aws-sdk/client-ec2");
  const ec2 = await aws.ec2();
  const free = { Name: "status", Values: ["available"] };
  const { Volumes = [] } = await call("look for volumes", () => ec2.send(new DescribeVolumesCommand({ Filters: [...ours, free] })));
  return Volumes.filter((v) => !owned.has(stackOf(v) ?? "")).map((v) => ({
    kind: "volume",
    name: v.VolumeId ?? "",
    stack: stackOf(v),
    why: nobody(stackOf(v)),
    data: v.Tags?.some((t) => t.Key === names.tags.volume) ?? false,
  }));
}

async function addressesLeft(aws: Aws, owned: Set<string>): Promise<Leftover[]> {
  const { DescribeAddressesCommand } = await import("@aws-sdk/client-ec2");
  const ec2 = await aws.ec2();
  const { Addresses = [] } = await call("look for addresses", () => ec2.send(new DescribeAddressesCommand({ Filters: ours })));
  return Addresses.filter((a) => !a.AssociationId && !owned.has(stackOf(a) ?? "")).map((a) => ({
    kind: "address",
    name: a.AllocationId ?? "",
    stack: stackOf(a),
    why: nobody(stackOf(a)),
    data: false,
  }));
}

async function uploads(aws: Aws, bucket: string): Promise<Leftover[]> {
  const { ListMultipartUploadsCommand } = await import("@aws-sdk/client-s3");
  const s3 = await aws.s3();
  try {
    const { Uploads = [] } = await s3.send(new ListMultipartUploadsCommand({ Bucket: bucket }));
    return Uploads.map((u) => ({
      kind: "upload",
      name: `${u.Key}?${u.UploadId}`,
      why: `begun ${u.Initiated?.toISOString()} and never ended`,
      data: false,
    }));
  } catch (error) {
    if (isMissing(error)) return [];
    return call("look for unfinished uploads", () => Promise.reject(error));
  }
}

async function locks(aws: Aws, bucket: string): Promise<Leftover[]> {
  const keys = (await keysBelow(aws, bucket, "stacks/")).filter((key) => key.endsWith("/lock.json"));
  const found: Leftover[] = [];
  for (const key of keys) {
    const stored = await readObject(aws, bucket, key);
    const holder = stored && (JSON.parse(stored.text) as { until: string; who: string; what: string });
    if (holder && Date.parse(holder.until) < Date.now())
      found.push({
        kind: "lock",
        name: key,
        stack: key.split("/")[1],
        why: `of a run that ended without a word: ${holder.what} by ${holder.who}`,
        data: false,
      });
  }
  return found;
}

/** @param named ids of data volumes that may go as well */
export async function removeLeftovers(
  aws: Aws,
  bucket: string,
  found: Leftover[],
  named: string[],
  progress: Progress,
): Promise<Leftover[]> {
  const gone: Leftover[] = [];
  for (const one of found.filter((l) => !l.data || named.includes(l.name))) {
    await remove(aws, bucket, one);
    progress.say(`  removed ${one.kind} ${one.name}`);
    gone.push(one);
  }
  return gone;
}

async function remove(aws: Aws, bucket: string, { kind, name }: Leftover): Promise<void> {
  const sdk = await import("@aws-sdk/client-ec2");
  const ec2 = await aws.ec2();
  const what = `remove ${kind} ${name}`;
  switch (kind) {
    case "instance":
      await call(what, () =>
        ec2.send(new sdk.ModifyInstanceAttributeCommand({ InstanceId: name, DisableApiTermination: { Value: false } })),
      );
      await call(what, () => ec2.send(new sdk.TerminateInstancesCommand({ InstanceIds: [name] })));
      return;
    case "volume":
      await call(what, () => ec2.send(new sdk.DeleteVolumeCommand({ VolumeId: name })));
      return;
    case "address":
      await call(what, () => ec2.send(new sdk.ReleaseAddressCommand({ AllocationId: name })));
      return;
    case "upload": {
      const { AbortMultipartUploadCommand } = await import("@aws-sdk/client-s3");
      const s3 = await aws.s3();
      const [Key = "", UploadId] = name.split("?");
      await call(what, () => s3.send(new AbortMultipartUploadCommand({ Bucket: bucket, Key, UploadId })));
      return;
    }
    case "lock":
      await removeObject(aws, bucket, name);
  }
}
