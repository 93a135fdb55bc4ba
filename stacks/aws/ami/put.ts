// One block of a snapshot, sent once: called many at a time by upload.ts, which tries again.
import type { Aws } from "../api.ts";
import { blockBytes } from "./blocks.ts";

/** @throws what the SDK does; AbortError */
export type PutBlock = (index: number, block: Buffer, digest: Buffer) => Promise<void>;

export async function putter(aws: Aws, snapshot: string, signal: AbortSignal): Promise<PutBlock> {
  const { PutSnapshotBlockCommand } = await import("@aws-sdk/client-ebs");
  const ebs = await aws.ebs();
  return async (index, block, digest) => {
    await ebs.send(
      new PutSnapshotBlockCommand({
        SnapshotId: snapshot,
        BlockIndex: index,
        BlockData: block,
        DataLength: blockBytes,
        Checksum: digest.toString("base64"),
        ChecksumAlgorithm: "SHA256",
      }),
      { abortSignal: signal },
    );
  };
}
