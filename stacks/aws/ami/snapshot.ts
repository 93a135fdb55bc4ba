// A snapshot as EC2 has it: its state, and its end. Called by upload.ts and ../gc.ts.
import type { Aws } from "../api.ts";
import { call, codeOf } from "../errors.ts";

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
