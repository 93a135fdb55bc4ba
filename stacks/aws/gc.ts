// What interrupted runs left in the account: found by Ingot's tags and by what is in the bucket, shown, and removed when that is asked for.
import { sleep } from "../../lib/cancel.ts";
import type { Progress } from "../../lib/progress.ts";
import { amiLeftovers } from "./ami/gc.ts";
import { forgetBlocks } from "./ami/parent.ts";
import { deregister } from "./ami/register.ts";
import { removeSnapshot } from "./ami/snapshot.ts";
import type { Aws } from "./api.ts";
import { call, codeOf, isMissing } from "./errors.ts";
import { stacksIn } from "./inventory.ts";
import type { Holder } from "./lock.ts";
import { keysBelow, readObject, removeObject } from "./object.ts";
import { generated } from "./secrets.ts";
import { names } from "./shape.ts";

export interface Leftover {
  kind:
    | "instance"
    | "volume"
    | "address"
    | "parameter"
    | "secret"
    | "upload"
    | "lock"
    | "snapshot"
    | "AMI"
    | "key pair"
    | "security group"
    | "object";
  /** i-…, vol-…, eipalloc-…, snap-…, ami-…, sg-…, the name of a parameter, secret or key pair, an object's key. */
  name: string;
  stack?: string;
  why: string;
  /** It goes only when it is named. */
  data: boolean;
}

/**
 * Everything of Ingot's that belongs to no stack which is up, or was begun by a run that is over.
 * @param resumable snapshots that this computer can go on with (ami/journal.ts): they are said to be
 */
export async function leftovers(aws: Aws, bucket: string, resumable: ReadonlyMap<string, number> = new Map()): Promise<Leftover[]> {
  const known = await stacksIn(aws, bucket);
  const states = (await keysBelow(aws, bucket, "stacks/")).flatMap((key) => /^stacks\/([^/]+)\/terraform\.tfstate$/.exec(key)?.[1] ?? []);
  const held = await holders(aws, bucket);
  const busy = held.flatMap((h) => (h.alive && h.stack !== undefined ? [h.stack] : []));
  const digests = new Set(held.flatMap((h) => (h.alive && h.image !== undefined ? [h.image] : [])));
  const owned = new Set([...known, ...states, ...busy]);
  const found = await Promise.all([
    instances(aws, owned),
    volumes(aws, owned),
    addressesLeft(aws, owned),
    parameters(aws, owned),
    secrets(aws, owned),
    uploads(aws, bucket, busy.length > 0),
    held.flatMap((h): Leftover[] => (h.alive ? [] : [{ kind: "lock", name: h.key, stack: h.stack, why: h.why, data: false }])),
    amiLeftovers(aws, bucket, digests, resumable),
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

/** What was generated for a stack that never came to be: with it, nothing was ever made. What somebody put there by hand has no such tag. */
async function parameters(aws: Aws, owned: Set<string>): Promise<Leftover[]> {
  const { paginateDescribeParameters } = await import("@aws-sdk/client-ssm");
  const found: Leftover[] = [];
  await call("look for generated parameters", async () => {
    const ParameterFilters = [{ Key: `tag:${generated.Key}`, Values: [generated.Value] }];
    for await (const page of paginateDescribeParameters({ client: await aws.ssm() }, { ParameterFilters })) {
      for (const { Name = "" } of page.Parameters ?? []) {
        const [, , stack = ""] = Name.split("/");
        if (!owned.has(stack)) found.push({ kind: "parameter", name: Name, stack, why: nobody(stack), data: false });
      }
    }
  });
  return found;
}

async function secrets(aws: Aws, owned: Set<string>): Promise<Leftover[]> {
  const { paginateListSecrets } = await import("@aws-sdk/client-secrets-manager");
  const found: Leftover[] = [];
  await call("look for generated secrets", async () => {
    const Filters = [{ Key: "tag-key" as const, Values: [generated.Key] }];
    for await (const page of paginateListSecrets({ client: await aws.secretsManager() }, { Filters })) {
      for (const { Name = "" } of page.SecretList ?? []) {
        const [, stack = ""] = Name.split("/");
        if (!owned.has(stack)) found.push({ kind: "secret", name: Name, stack, why: nobody(stack), data: false });
      }
    }
  });
  return found;
}

/** @param busy somebody is at a stack now: what is on its way may be theirs */
async function uploads(aws: Aws, bucket: string, busy: boolean): Promise<Leftover[]> {
  if (busy) return [];
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

interface Held {
  key: string;
  /** What it is the lock of: a stack, or an image by its digest. */
  stack?: string;
  image?: string;
  alive: boolean;
  why: string;
}

/** Who is, or was, at which stack, and at which image's AMI. */
async function holders(aws: Aws, bucket: string): Promise<Held[]> {
  const all = await Promise.all([keysBelow(aws, bucket, "stacks/"), keysBelow(aws, bucket, "images/")]);
  const keys = all.flat().filter((key) => key.endsWith("/lock.json"));
  const stored = await Promise.all(keys.map(async (key) => ({ key, text: (await readObject(aws, bucket, key))?.text })));
  return stored.flatMap(({ key, text }): Held[] => {
    if (text === undefined) return []; // let go between the two calls
    const { until, who, what } = JSON.parse(text) as Holder;
    const alive = Date.parse(until) >= Date.now();
    const [kind, of = ""] = key.split("/");
    return [
      { key, ...(kind === "stacks" ? { stack: of } : { image: of }), alive, why: `of a run that ended without a word: ${what} by ${who}` },
    ];
  });
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
  // An AMI before its snapshot, an instance before its group.
  const last = (l: Leftover) => Number(l.kind === "snapshot" || l.kind === "security group");
  for (const one of found.filter((l) => !l.data || named.includes(l.name)).sort((a, b) => last(a) - last(b))) {
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
    case "parameter": {
      const { DeleteParameterCommand } = await import("@aws-sdk/client-ssm");
      const ssm = await aws.ssm();
      await call(what, () => ssm.send(new DeleteParameterCommand({ Name: name })));
      return;
    }
    case "secret": {
      const { DeleteSecretCommand } = await import("@aws-sdk/client-secrets-manager");
      const client = await aws.secretsManager();
      // It can be asked back for 30 days.
      await call(what, () => client.send(new DeleteSecretCommand({ SecretId: name })));
      return;
    }
    case "upload": {
      const { AbortMultipartUploadCommand } = await import("@aws-sdk/client-s3");
      const s3 = await aws.s3();
      const [Key = "", UploadId] = name.split("?");
      await call(what, () => s3.send(new AbortMultipartUploadCommand({ Bucket: bucket, Key, UploadId })));
      return;
    }
    case "snapshot":
      await removeSnapshot(aws, name);
      await forgetBlocks(aws, bucket, [name]);
      return;
    case "AMI":
      await deregister(aws, name);
      return;
    case "key pair":
      await call(what, () => ec2.send(new sdk.DeleteKeyPairCommand({ KeyName: name })));
      return;
    case "security group":
      await removeGroup(aws, name);
      return;
    case "lock":
    case "object":
      await removeObject(aws, bucket, name);
  }
}

/** It cannot go before the instance that it is of has ended. */
async function removeGroup(aws: Aws, name: string): Promise<void> {
  const { DeleteSecurityGroupCommand } = await import("@aws-sdk/client-ec2");
  const ec2 = await aws.ec2();
  for (const end = performance.now() + 180_000; ; await sleep(5)) {
    try {
      await ec2.send(new DeleteSecurityGroupCommand({ GroupId: name }));
      return;
    } catch (error) {
      if (codeOf(error) !== "DependencyViolation" || performance.now() > end)
        await call(`remove security group ${name}`, () => Promise.reject(error));
    }
  }
}
