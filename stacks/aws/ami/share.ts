// Who may boot an AMI: accounts, organisations, units of one. Looked at beforehand: what is encrypted is of no use to whom its key is closed.
// For `ingot image share` and release.ts.
import { RefusedError } from "../../../lib/diagnostics.ts";
import type { Aws } from "../api.ts";
import { call } from "../errors.ts";
import type { Ami } from "./ami.ts";
import { amiWords } from "./channel.ts";
import { type Audience, keysOf, mayBeShared } from "./key.ts";

export interface Permissions extends Audience {
  /** Everybody may boot it. */
  everybody: boolean;
}

/** Whom an AMI is shared with, by its launch permissions. */
export async function sharedWith(aws: Aws, ami: Pick<Ami, "id">): Promise<Permissions> {
  const { DescribeImageAttributeCommand } = await import("@aws-sdk/client-ec2");
  const ec2 = await aws.ec2();
  const { LaunchPermissions = [] } = await call(`ask who may boot ${ami.id}`, () =>
    ec2.send(new DescribeImageAttributeCommand({ ImageId: ami.id, Attribute: "launchPermission" })),
  );
  return {
    accounts: LaunchPermissions.flatMap((p) => p.UserId ?? []).sort(),
    organizations: LaunchPermissions.flatMap((p) => p.OrganizationArn ?? []).sort(),
    units: LaunchPermissions.flatMap((p) => p.OrganizationalUnitArn ?? []).sort(),
    everybody: LaunchPermissions.some((p) => p.Group === "all"),
  };
}

/** Sorts what a person gave: an account's number, or an ARN of AWS Organizations. @throws RefusedError for anything else */
export function audienceOf(given: string[]): Audience {
  const audience: Audience = { accounts: [], organizations: [], units: [] };
  for (const who of given) {
    if (/^\d{12}$/.test(who)) audience.accounts.push(who);
    else if (/^arn:aws[a-z-]*:organizations::\d{12}:organization\/o-[a-z0-9]+$/.test(who)) audience.organizations.push(who);
    else if (/^arn:aws[a-z-]*:organizations::\d{12}:ou\/o-[a-z0-9]+\/ou-[a-z0-9-]+$/.test(who)) audience.units.push(who);
    else
      throw new RefusedError(
        `\`${who}\` is nobody that an AMI can be shared with`,
        "an account's number (12 digits), or the ARN of an organisation or of a unit: `aws organizations describe-organization`",
      );
  }
  return audience;
}

export interface Shared {
  ami: string;
  /** Those for whom something changes; the others have it as it is asked for already. */
  changed: string[];
  outcome: "done" | "would be done";
  warnings: string[];
}

/**
 * Lets an audience boot the AMI, or no longer.
 * @param mode `plan` changes nothing
 * @throws RefusedError when it would be of no use to them
 */
export async function shareAmi(aws: Aws, ami: Ami, audience: Audience, way: "share" | "unshare", mode: "do" | "plan"): Promise<Shared> {
  const warnings: string[] = [];
  const own = await aws.account();
  if (audience.accounts.includes(own))
    throw new RefusedError(`${own} is the account that ${ami.id} belongs to`, "it may boot its own AMIs");
  if (way === "share") await canBeShared(aws, ami, audience, (text) => warnings.push(text));
  if (way === "share" && audience.organizations.length + audience.units.length)
    warnings.push("an organisation can boot it and not copy it: snapshots are shared with accounts alone");
  const [now, snapshots] = [await sharedWith(aws, ami), await snapshotsSharedWith(aws, ami)];
  const differs = (have: string[]) => (who: string) => have.includes(who) !== (way === "share");
  const launch: Audience = {
    accounts: audience.accounts.filter(differs(now.accounts)),
    organizations: audience.organizations.filter(differs(now.organizations)),
    units: audience.units.filter(differs(now.units)),
  };
  const copy = new Map(ami.snapshots.map((id) => [id, audience.accounts.filter(differs(snapshots.get(id) ?? []))]));
  const changed = [...new Set([...Object.values(launch).flat(), ...[...copy.values()].flat()])].sort();
  if (mode === "plan" || !changed.length) return { ami: ami.id, changed, outcome: mode === "plan" ? "would be done" : "done", warnings };
  // A kill in between leaves nobody with an AMI whose snapshots are closed to him.
  if (way === "share") {
    await snapshotPermissions(aws, copy, "add");
    await launchPermissions(aws, ami, launch, "Add");
  } else {
    await launchPermissions(aws, ami, launch, "Remove");
    await snapshotPermissions(aws, copy, "remove");
  }
  return { ami: ami.id, changed, outcome: "done", warnings };
}

/** @throws RefusedError in words that begin with the AMI */
export async function canBeShared(aws: Aws, ami: Ami, audience: Audience, warn: (text: string) => void): Promise<void> {
  const keys = new Set((await keysOf(aws, ami)).flatMap((key) => key ?? []));
  for (const key of keys) {
    try {
      await mayBeShared(aws, key, audience, warn);
    } catch (error) {
      if (!(error instanceof RefusedError) || error.cause !== undefined) throw error;
      throw new RefusedError(`${amiWords(ami)} cannot be shared: ${error.message}`, error.hint);
    }
  }
}

async function snapshotsSharedWith(aws: Aws, ami: Ami): Promise<Map<string, string[]>> {
  const { DescribeSnapshotAttributeCommand } = await import("@aws-sdk/client-ec2");
  const ec2 = await aws.ec2();
  const found = new Map<string, string[]>();
  for (const id of ami.snapshots) {
    const { CreateVolumePermissions = [] } = await call(`ask who may copy ${id}`, () =>
      ec2.send(new DescribeSnapshotAttributeCommand({ SnapshotId: id, Attribute: "createVolumePermission" })),
    );
    found.set(
      id,
      CreateVolumePermissions.flatMap((p) => p.UserId ?? []),
    );
  }
  return found;
}

async function snapshotPermissions(aws: Aws, of: Map<string, string[]>, way: "add" | "remove"): Promise<void> {
  const { ModifySnapshotAttributeCommand } = await import("@aws-sdk/client-ec2");
  const ec2 = await aws.ec2();
  for (const [SnapshotId, UserIds] of of) {
    if (!UserIds.length) continue;
    const change = new ModifySnapshotAttributeCommand({ SnapshotId, Attribute: "createVolumePermission", OperationType: way, UserIds });
    await call(`change who may copy ${SnapshotId}`, () => ec2.send(change));
  }
}

async function launchPermissions(aws: Aws, ami: Ami, { accounts, organizations, units }: Audience, way: "Add" | "Remove"): Promise<void> {
  const who = [
    ...accounts.map((UserId) => ({ UserId })),
    ...organizations.map((OrganizationArn) => ({ OrganizationArn })),
    ...units.map((OrganizationalUnitArn) => ({ OrganizationalUnitArn })),
  ];
  if (!who.length) return;
  const { ModifyImageAttributeCommand } = await import("@aws-sdk/client-ec2");
  const ec2 = await aws.ec2();
  const change = new ModifyImageAttributeCommand({ ImageId: ami.id, Attribute: "launchPermission", LaunchPermission: { [way]: who } });
  await call(`change who may boot ${ami.id}`, () => ec2.send(change));
}
