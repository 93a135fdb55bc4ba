// What interrupted runs left in the account: found by Ingot's tags and by what is in the bucket, shown, and removed when that is asked for.
import type { Progress } from "../../lib/progress.ts";
import type { Aws } from "./api.ts";
import { call, isMissing } from "./errors.ts";
import { stacksIn } from "./inventory.ts";
import type { Holder } from "./lock.ts";
import { keysBelow, readObject, removeObject } from "./object.ts";
import { generated } from "./secrets.ts";
import { names } from "./shape.ts";

export interface Leftover {
  kind: "instance" | "volume" | "address" | "parameter" | "secret" | "upload" | "lock";
  /** i-…, vol-…, eipalloc-…, the name of a parameter or secret, an object's key. */
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
  const held = await holders(aws, bucket);
  const busy = held.filter((h) => h.alive).map((h) => h.stack);
  const owned = new Set([...known, ...states, ...busy]);
  const found = await Promise.all([
    instances(aws, owned),
    volumes(aws, owned),
    addressesLeft(aws, owned),
    parameters(aws, owned),
    secrets(aws, owned),
    uploads(aws, bucket, busy.length > 0),
    held.flatMap((h): Leftover[] => (h.alive ? [] : [{ kind: "lock", name: h.key, stack: h.stack, why: h.why, data: false }])),
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

/** Who is, or was, at which stack. */
async function holders(aws: Aws, bucket: string): Promise<{ key: string; stack: string; alive: boolean; why: string }[]> {
  const keys = (await keysBelow(aws, bucket, "stacks/")).filter((key) => key.endsWith("/lock.json"));
  const stored = await Promise.all(keys.map(async (key) => ({ key, text: (await readObject(aws, bucket, key))?.text })));
  return stored.flatMap(({ key, text }) => {
    if (text === undefined) return []; // let go between the two calls
    const { until, who, what } = JSON.parse(text) as Holder;
    const alive = Date.parse(until) >= Date.now();
    return [{ key, stack: key.split("/")[1] ?? "", alive, why: `of a run that ended without a word: ${what} by ${who}` }];
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
    case "lock":
      await removeObject(aws, bucket, name);
  }
}
