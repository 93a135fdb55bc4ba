// The snapshot that an upload can differ from: where nothing is encrypted, only blocks that changed are sent. EBS gives no digests of what
// it has, so every upload leaves those of its blocks in the bucket.
import type { Aws } from "../api.ts";
import { call } from "../errors.ts";
import { keysBelow, readObject, removeObject, writeObject } from "../object.ts";
import { names } from "../shape.ts";
import { BlockDigests } from "./blocks.ts";

export interface Parent {
  snapshot: string;
  /** Of the image in it. */
  digest: string;
  digests: BlockDigests;
}

/** Object of the bucket. */
interface Stored {
  version: 1;
  snapshot: string;
  /** GiB. */
  gib: number;
  /** As BlockDigests packs them. */
  blocks: string;
}

/** The newest snapshot of the recipe, of the same size, that was uploaded whole and whose blocks are known; undefined when there is none. */
export async function findParent(aws: Aws, bucket: string, recipe: string, gib: number, count: number): Promise<Parent | undefined> {
  const { paginateDescribeSnapshots } = await import("@aws-sdk/client-ec2");
  const found: { id: string; digest: string; began: number }[] = [];
  await call("look for snapshots", async () => {
    const Filters = [
      { Name: `tag:${names.tags.recipe}`, Values: [recipe] },
      { Name: `tag:${names.tags.way}`, Values: ["direct"] },
      { Name: "status", Values: ["completed"] },
      { Name: "encrypted", Values: ["false"] },
      { Name: "volume-size", Values: [String(gib)] },
    ];
    // What is archived can be neither read nor built upon.
    for await (const { Snapshots = [] } of paginateDescribeSnapshots({ client: await aws.ec2() }, { OwnerIds: ["self"], Filters }))
      for (const { SnapshotId = "", Tags = [], StartTime, StorageTier } of Snapshots)
        if (StorageTier !== "archive")
          found.push({
            id: SnapshotId,
            digest: Tags.find((t) => t.Key === names.tags.image)?.Value ?? "",
            began: StartTime?.getTime() ?? 0,
          });
  });
  found.sort((a, b) => b.began - a.began);
  for (const { id, digest } of found) {
    const parent = await parentAt(aws, bucket, digest, id, count);
    if (parent) return parent;
  }
  return undefined;
}

/** @param snapshot of an image of this digest */
export async function parentAt(aws: Aws, bucket: string, digest: string, snapshot: string, count: number): Promise<Parent | undefined> {
  const there = await readObject(aws, bucket, names.amiBlocks(digest, snapshot));
  if (!there) return undefined;
  const { version, blocks } = JSON.parse(there.text) as Stored;
  return version === 1 ? { snapshot, digest, digests: BlockDigests.unpack(blocks, count) } : undefined;
}

/** Removes the digests of snapshots that are gone. An upload that was begun on one of them begins anew. */
export async function forgetBlocks(aws: Aws, bucket: string, snapshots: string[]): Promise<void> {
  if (!snapshots.length) return;
  for (const key of await keysBelow(aws, bucket, names.amis))
    if (snapshots.includes(snapshotOfBlocks(key) ?? "")) await removeObject(aws, bucket, key);
}

/** The snapshot whose blocks an object of the bucket has digests of; undefined: it has none. */
export const snapshotOfBlocks = (key: string): string | undefined => /^images\/[^/]+\/blocks\/(snap-[0-9a-f]+)\.json$/.exec(key)?.[1];

/** Called once a snapshot is whole. */
export async function rememberBlocks(
  aws: Aws,
  bucket: string,
  digest: string,
  snapshot: string,
  gib: number,
  digests: BlockDigests,
): Promise<void> {
  const stored: Stored = { version: 1, snapshot, gib, blocks: digests.pack() };
  await writeObject(aws, bucket, names.amiBlocks(digest, snapshot), JSON.stringify(stored), "anything");
}
