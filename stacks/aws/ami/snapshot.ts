// A snapshot as EC2 has it: its state, its tags, and its end. Called by upload.ts, copy.ts, prune.ts and ../gc.ts.
import type { Aws } from "../api.ts";
import { call, codeOf } from "../errors.ts";
import { names } from "../shape.ts";
import { type Ami, tagList } from "./ami.ts";

/** EC2's word for it ("pending", "completed", "error"); undefined when there is no such snapshot. */
export async function snapshotState(aws: Aws, id: string): Promise<{ state?: string; message?: string }> {
  const { DescribeSnapshotsCommand } = await import("@aws-sdk/client-ec2");
  const ec2 = await aws.ec2();
  try {
    const { Snapshots = [] } = await ec2.send(new DescribeSnapshotsCommand({ SnapshotIds: [id] }));
    return { state: Snapshots[0]?.State, message: Snapshots[0]?.StateMessage };
  } catch (error) {
    if (/^InvalidSnapshot/.test(codeOf(error))) return {};
    return call(`look at ${id}`, () => Promise.reject(error));
  }
}

/**
 * Gives the snapshots of an AMI the AMI's tags, where they have none of Ingot's: by them `gc` knows whose they are. Gives the ids of those that
 * are there.
 */
export async function tagSnapshots(aws: Aws, ami: Ami): Promise<string[]> {
  if (!ami.snapshots.length) return [];
  const { CreateTagsCommand, DescribeSnapshotsCommand } = await import("@aws-sdk/client-ec2");
  const ec2 = await aws.ec2();
  // By a filter: one that is gone is then no error.
  const Filters = [{ Name: "snapshot-id", Values: ami.snapshots }];
  const { Snapshots = [] } = await call(`look at the snapshots of ${ami.id}`, () => ec2.send(new DescribeSnapshotsCommand({ Filters })));
  const bare = Snapshots.filter((s) => !s.Tags?.some((t) => t.Key === names.tags.image)).flatMap((s) => s.SnapshotId ?? []);
  // Those of AWS's own cannot be given to anything.
  const Tags = tagList(Object.fromEntries(Object.entries(ami.tags).filter(([key]) => !key.startsWith("aws:"))));
  if (bare.length) await call(`tag the snapshots of ${ami.id}`, () => ec2.send(new CreateTagsCommand({ Resources: bare, Tags })));
  return Snapshots.flatMap((s) => s.SnapshotId ?? []);
}

/** What is not there any more is fine. */
export async function removeSnapshot(aws: Aws, id: string): Promise<void> {
  const { DeleteSnapshotCommand } = await import("@aws-sdk/client-ec2");
  const ec2 = await aws.ec2();
  try {
    await ec2.send(new DeleteSnapshotCommand({ SnapshotId: id }));
  } catch (error) {
    if (!/^InvalidSnapshot\.NotFound$/.test(codeOf(error))) await call(`remove the snapshot ${id}`, () => Promise.reject(error));
  }
}
