// A disk as EBS has it: blocks of 512 KiB, each known by its sha256. Read by upload.ts.
// Source: Amazon EBS User Guide, "Concepts for EBS direct APIs".
import { createHash } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { toolFolder } from "../../../lib/paths.ts";
import { run } from "../../../lib/run.ts";

/** Bytes of a block; no other size is accepted. */
export const blockBytes = 524_288;
/** Blocks of a GiB, in which volumes are measured. */
const blocksInGib = 2 ** 30 / blockBytes;
const digestBytes = 32;

/** The block that is nothing but zeros. */
export const zeros = Buffer.alloc(blockBytes);
/** sha256, raw. */
export const digestOfBlock = (block: Uint8Array): Buffer => createHash("sha256").update(block).digest();
const zeroDigest = digestOfBlock(zeros);

export interface BlockDisk {
  /** GiB of the volume that it becomes: what is beyond the file's end is zeros. */
  gib: number;
  /** Blocks of the volume. */
  count: number;
  /** How many of them are not holes in the file. */
  expected: number;
  /** Gives a block: `zeros` itself where all of it is zeros, else the buffer, of one block, filled with it. */
  read(index: number, into: Buffer): Promise<Buffer>;
  close(): Promise<void>;
}

/** Whether a block may hold something, by index: what no extent of the file touches is a hole. */
async function blocksWithData(path: string, count: number): Promise<Uint8Array> {
  const { stdout } = await run(["python3", "-B", join(toolFolder, "stacks/aws/ami/extents.py"), path]);
  const has = new Uint8Array(count);
  for (const line of stdout.split("\n").filter(Boolean)) {
    const [start = 0, end = 0] = line.split(" ").map(Number);
    has.fill(1, Math.floor(start / blockBytes), Math.ceil(end / blockBytes));
  }
  return has;
}

/** @throws what open(2) and read(2) do */
export async function openDisk(path: string): Promise<BlockDisk> {
  const file: FileHandle = await open(path, "r");
  const { size } = await file.stat();
  const gib = Math.max(1, Math.ceil(size / 2 ** 30));
  const count = gib * blocksInGib;
  const has = await blocksWithData(path, count);
  return {
    gib,
    count,
    expected: has.reduce((n, one) => n + one, 0),
    async read(index, into) {
      if (!has[index]) return zeros;
      const start = index * blockBytes;
      let filled = 0;
      const wanted = Math.max(0, Math.min(blockBytes, size - start));
      while (filled < wanted) {
        const { bytesRead } = await file.read(into, filled, wanted - filled, start + filled);
        if (bytesRead === 0) throw new Error(`${path} became shorter while it was read`);
        filled += bytesRead;
      }
      into.fill(0, filled);
      return into.equals(zeros) ? zeros : into;
    },
    close: () => file.close(),
  };
}

/** The sha256 of every block of a volume, in 32 bytes each. */
export class BlockDigests {
  private constructor(private readonly bytes: Buffer) {}

  /** Of a volume of zeros. */
  static zeros(count: number): BlockDigests {
    return new BlockDigests(Buffer.alloc(count * digestBytes, zeroDigest));
  }

  /** @throws Error when it is not of so many blocks */
  static unpack(text: string, count: number): BlockDigests {
    const bytes = gunzipSync(Buffer.from(text, "base64"));
    if (bytes.length !== count * digestBytes) throw new Error(`digests of ${bytes.length / digestBytes} blocks, not of ${count}`);
    return new BlockDigests(bytes);
  }

  set(index: number, digest: Buffer): void {
    digest.copy(this.bytes, index * digestBytes);
  }

  at(index: number): Buffer {
    return this.bytes.subarray(index * digestBytes, (index + 1) * digestBytes);
  }

  /** As text that unpack() reads. */
  pack(): string {
    return gzipSync(this.bytes).toString("base64");
  }
}

/** The digest of a block that holds nothing. */
export const digestOfZeros = zeroDigest;

/**
 * The checksum of a whole snapshot: sha256 over the digests of the blocks that were written to it, in the order of their indexes; base64.
 * Source: EBS direct APIs, API Reference, CompleteSnapshot, "linear aggregation method".
 */
export function linearChecksum(written: ReadonlyMap<number, Buffer>): string {
  const hash = createHash("sha256");
  for (const index of [...written.keys()].sort((a, b) => a - b)) hash.update(written.get(index) ?? "");
  return hash.digest("base64");
}
