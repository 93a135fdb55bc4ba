// Reads an ext4 file system in a file: what is in it, in the words of images/provision/listing.py, with no mount, no root, and none of the programs
// that wrote it. Called by images/disk-truths.ts. Source: https://docs.kernel.org/filesystems/ext4/ (the names of fields are those there).
import { createHash } from "node:crypto";
import { closeSync, openSync, readSync } from "node:fs";
import type { TreeEntry } from "./manifest.ts";

/** Of the features that a reader must know (s_feature_incompat) those that are known here: filetype, extents, 64bit, flex_bg, csum_seed. */
const known = 0x2 | 0x40 | 0x80 | 0x200 | 0x2000;

const types: Record<number, string> = { 4: "d", 8: "f", 10: "l", 2: "c", 6: "b", 1: "p", 12: "s" };

interface Inode {
  number: number;
  /** As find(1) has it. */
  type: string;
  bytes: Buffer;
  size: number;
}

/** Blocks that follow each other; `from` is undefined where there is a hole of zeros. */
interface Extent {
  logical: number;
  from: number | undefined;
  count: number;
}

/**
 * Everything in it, each folder before what is in it, by name.
 * @param offset where it begins in the file, in bytes
 * @param proven by path the sha256 of files whose content need not be read again
 */
export function readExt4(path: string, offset: number, proven: Map<string, string> = new Map()): TreeEntry[] {
  const file = openSync(path, "r");
  try {
    return new Ext4(file, offset).entries(proven);
  } finally {
    closeSync(file);
  }
}

class Ext4 {
  private readonly blockSize: number;
  private readonly inodeSize: number;
  private readonly inodesPerGroup: number;
  /** Of each group where its inodes begin, in blocks. */
  private readonly tables: number[];
  private readonly groups = new Map<number, Buffer>();

  constructor(
    private readonly file: number,
    private readonly offset: number,
  ) {
    const superblock = this.read(1024, 1024);
    const incompat = superblock.readUInt32LE(0x60);
    if (superblock.readUInt16LE(0x38) !== 0xef53 || incompat & ~known)
      throw new Error(`no ext4 that can be read here (features ${incompat.toString(16)})`);
    this.blockSize = 1024 << superblock.readUInt32LE(0x18);
    this.inodesPerGroup = superblock.readUInt32LE(0x28);
    this.inodeSize = superblock.readUInt16LE(0x58);
    const size = incompat & 0x80 ? superblock.readUInt16LE(0xfe) : 32;
    const groups = Math.ceil(superblock.readUInt32LE(0) / this.inodesPerGroup);
    const descriptors = this.read((superblock.readUInt32LE(0x14) + 1) * this.blockSize, groups * size);
    this.tables = Array.from({ length: groups }, (_, i) =>
      wide(descriptors.readUInt32LE(i * size + 8), size > 32 ? descriptors.readUInt32LE(i * size + 0x28) : 0),
    );
  }

  entries(proven: Map<string, string>): TreeEntry[] {
    // Of a file with several names: the first of them, and its content.
    const first = new Map<number, TreeEntry>();
    return [...this.below("", this.inode(2))].map(({ inode, entry }) => {
      const content = entry.type === "f" ? (first.get(inode.number)?.content ?? proven.get(entry.path) ?? this.sum(inode)) : entry.content;
      const several = entry.type !== "d" && inode.bytes.readUInt16LE(0x1a) > 1;
      const links = several ? (first.get(inode.number)?.path ?? entry.path) : "";
      const whole = { ...entry, content, links };
      if (several && !first.has(inode.number)) first.set(inode.number, whole);
      return whole;
    });
  }

  private sum(inode: Inode): string {
    const hash = createHash("sha256");
    for (const part of this.content(inode)) hash.update(part);
    return hash.digest("hex");
  }

  private read(at: number, length: number): Buffer {
    const bytes = Buffer.allocUnsafe(length);
    if (readSync(this.file, bytes, 0, length, this.offset + at) !== length) throw new Error("the file system ends before its end");
    return bytes;
  }

  private inode(number: number): Inode {
    const group = Math.floor((number - 1) / this.inodesPerGroup);
    const table = this.groups.get(group) ?? this.read((this.tables[group] ?? 0) * this.blockSize, this.inodesPerGroup * this.inodeSize);
    this.groups.set(group, table);
    const at = ((number - 1) % this.inodesPerGroup) * this.inodeSize;
    const bytes = table.subarray(at, at + this.inodeSize);
    const type = types[bytes.readUInt16LE(0) >> 12];
    if (type === undefined) throw new Error(`inode ${number} is of no type`);
    return { number, type, bytes, size: wide(bytes.readUInt32LE(4), bytes.readUInt32LE(0x6c)) };
  }

  private *below(path: string, inode: Inode): Generator<{ inode: Inode; entry: TreeEntry }> {
    yield { inode, entry: this.entry(path || "/", inode) };
    if (inode.type !== "d") return;
    for (const [name, number] of this.folder(inode)) yield* this.below(`${path}/${name}`, this.inode(number));
  }

  /** A folder's names. Those in its hash tree are in its leaves as in any other folder; the tree's own blocks look like empty ones. */
  private folder(inode: Inode): [string, number][] {
    const found: [string, number][] = [];
    const bytes = Buffer.concat([...this.content(inode)]);
    for (let at = 0; at < bytes.length; at += bytes.readUInt16LE(at + 4)) {
      if (bytes.readUInt16LE(at + 4) < 8) throw new Error(`a folder (inode ${inode.number}) is damaged`);
      const number = bytes.readUInt32LE(at);
      const name = bytes.toString("utf8", at + 8, at + 8 + bytes.readUInt8(at + 6));
      if (number && name !== "." && name !== "..") found.push([name, number]);
    }
    return found.sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  }

  private entry(path: string, inode: Inode): TreeEntry {
    const { type, bytes, size } = inode;
    return {
      type,
      mode: (bytes.readUInt16LE(0) & 0o7777).toString(8),
      uid: bytes.readUInt16LE(2) + bytes.readUInt16LE(0x78) * 2 ** 16,
      gid: bytes.readUInt16LE(0x18) + bytes.readUInt16LE(0x7a) * 2 ** 16,
      size: type === "f" || type === "l" ? size : 0,
      mtime: time(bytes),
      content: type === "l" ? escaped(this.target(inode)) : type === "c" || type === "b" ? device(bytes) : "",
      links: "",
      attributes: this.attributes(inode),
      path: escaped(path),
    };
  }

  /** A link's: in the inode where it has room there. */
  private target(inode: Inode): string {
    const inside = !(inode.bytes.readUInt32LE(0x20) & extentsFlag);
    return (inside ? inode.bytes.subarray(0x28, 0x28 + inode.size) : Buffer.concat([...this.content(inode)])).toString();
  }

  private *content(inode: Inode): Generator<Buffer> {
    let left = inode.size;
    let next = 0;
    const piece = Math.floor(2 ** 20 / this.blockSize);
    const extents = left ? this.extents(inode.bytes.subarray(0x28, 0x64)) : [];
    for (const { logical, from, count } of [...extents, { logical: Math.ceil(left / this.blockSize), from: undefined, count: 0 }]) {
      const parts = [
        { from: undefined, count: logical - next },
        { from, count },
      ];
      for (const part of parts)
        for (let done = 0; done < part.count && left > 0; done += piece) {
          const length = Math.min(left, Math.min(piece, part.count - done) * this.blockSize);
          yield part.from === undefined ? Buffer.alloc(length) : this.read((part.from + done) * this.blockSize, length);
          left -= length;
        }
      next = logical + count;
    }
  }

  /** A node of the tree of extents: its leaves in order. */
  private extents(node: Buffer): Extent[] {
    if (node.readUInt16LE(0) !== 0xf30a) throw new Error("a file without extents");
    const [entries, depth] = [node.readUInt16LE(2), node.readUInt16LE(6)];
    return Array.from({ length: entries }, (_, i) => node.subarray(12 + i * 12, 24 + i * 12)).flatMap((e): Extent[] => {
      if (depth) return this.extents(this.read(wide(e.readUInt32LE(4), e.readUInt16LE(8)) * this.blockSize, this.blockSize));
      const count = e.readUInt16LE(4);
      // Longer than it can be: it is there, and nothing was written to it.
      const written = count <= 32768;
      return [
        {
          logical: e.readUInt32LE(0),
          from: written ? wide(e.readUInt32LE(8), e.readUInt16LE(6)) : undefined,
          count: written ? count : count - 32768,
        },
      ];
    });
  }

  /** Those in the inode and those in a block of its own, as listing.py writes them. */
  private attributes({ bytes }: Inode): string {
    const found: [string, Buffer][] = [];
    const add = (from: Buffer, first: number, values: number) => {
      for (let at = first; at + 16 <= from.length && from.readUInt32LE(at); at += 16 + Math.ceil(from.readUInt8(at) / 4) * 4) {
        const [length, index, value, size] = [
          from.readUInt8(at),
          from.readUInt8(at + 1),
          from.readUInt16LE(at + 2),
          from.readUInt32LE(at + 8),
        ];
        const name = `${prefixes[index] ?? `${index}.`}${from.toString("utf8", at + 16, at + 16 + length)}`;
        const raw = from.subarray(values + value, values + value + size);
        found.push([name, name.startsWith("system.posix_acl_") ? acl(raw) : raw]);
      }
    };
    const inside = this.inodeSize > 128 ? 128 + bytes.readUInt16LE(0x80) : this.inodeSize;
    if (inside + 4 <= this.inodeSize && bytes.readUInt32LE(inside) === 0xea020000) add(bytes, inside + 4, inside + 4);
    const block = wide(bytes.readUInt32LE(0x68), bytes.readUInt16LE(0x76));
    if (block) add(this.read(block * this.blockSize, this.blockSize), 32, 0);
    return found
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, value]) => `${escaped(name)}=${value.toString("hex")}`)
      .join(",");
  }
}

const extentsFlag = 0x80000;

const wide = (low: number, high: number): number => low + high * 2 ** 32;

/** Seconds since 1970; of an inode that has room for them, with the two bits that reach beyond 2038, and nanoseconds. */
function time(bytes: Buffer): number {
  const seconds = bytes.readInt32LE(0x10);
  const extra = bytes.length > 128 && bytes.readUInt16LE(0x80) >= 12 ? bytes.readUInt32LE(0x88) : 0;
  const nanoseconds = extra >>> 2;
  return Number(`${seconds + (extra & 3) * 2 ** 32}.${String(nanoseconds).padStart(9, "0")}`);
}

/** Its numbers, in the form of old where they fit. */
function device(bytes: Buffer): string {
  const [old, now] = [bytes.readUInt32LE(0x28), bytes.readUInt32LE(0x2c)];
  if (old) return `${(old >> 8) & 0xff}:${old & 0xff}`;
  return `${(now >> 8) & 0xfff}:${(now & 0xff) | ((now >> 12) & 0xfff00)}`;
}

const prefixes: Record<number, string> = {
  1: "user.",
  2: "system.posix_acl_access",
  3: "system.posix_acl_default",
  4: "trusted.",
  6: "security.",
  7: "system.",
};

/** An ACL as getxattr(2) gives it: on the disk only the entries of named users and groups have a number. */
function acl(raw: Buffer): Buffer {
  const parts: Uint8Array[] = [Buffer.from([2, 0, 0, 0])];
  for (let at = 4; at < raw.length; ) {
    const named = [2, 8].includes(raw.readUInt16LE(at));
    parts.push(raw.subarray(at, at + 4), named ? raw.subarray(at + 4, at + 8) : Buffer.from([255, 255, 255, 255]));
    at += named ? 8 : 4;
  }
  return Buffer.concat(parts);
}

/** As listing.py: a name with a tab or a line break in it stays one field. */
const escaped = (name: string): string => name.replaceAll("\\", "\\\\").replaceAll("\t", "\\t").replaceAll("\n", "\\n");
