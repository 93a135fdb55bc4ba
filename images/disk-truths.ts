// What must be true of every bootable disk, held against what is on the finished disk itself: images/disk/patch.sh has looked, and its root is read
// here path by path, content included, without the programs that wrote it. A disk that breaks one is thrown away.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { RefusedError } from "../lib/diagnostics.ts";
import { type Layout, partitionTypes } from "./disk-layout.ts";
import { readExt4 } from "./ext4.ts";
import type { TreeEntry } from "./manifest.ts";

export interface DiskFacts {
  /** As sfdisk(8) says it in JSON. */
  table: {
    label: string;
    id: string;
    partitions: { node: string; start: number; size: number; type: string; uuid: string }[];
  };
  /** Of the root's superblock: "Filesystem UUID" → …, by debugfs(8). */
  super: Record<string, string>;
  /** Absolute paths of the files on the ESP. */
  esp: string[];
  /** Everything in the root, with its content. */
  root: TreeEntry[];
}

/**
 * @param folder where the disk was made
 * @param proven by path the sha256 of what was found on the disk that it was made of, and has not been written since
 */
export function readDiskFacts(folder: string, proven: Map<string, string>): DiskFacts {
  const text = (name: string) => readFileSync(join(folder, "facts", name), "utf8");
  const lines = (name: string) => text(name).split("\n").filter(Boolean);
  const table = (JSON.parse(text("table")) as { partitiontable: DiskFacts["table"] }).partitiontable;
  return {
    table,
    super: Object.fromEntries(lines("super").flatMap((l) => [/^([^:]+):\s+(.*)$/.exec(l)?.slice(1, 3) ?? []].filter((f) => f.length))),
    esp: lines("esp").flatMap((l) => (l.endsWith("/") ? [] : [l.replace(/^::/, "")])),
    root: readExt4(join(folder, "disk.raw"), (table.partitions.find((p) => p.node.endsWith(".raw1"))?.start ?? 0) * 512, proven),
  };
}

/**
 * What is not true, for people; nothing when the disk is right.
 * @param wanted what its root must hold: what the bake has listed of the image and found right (truths.ts), with what only a disk has
 */
export function brokenDisk(layout: Layout, architecture: string, esp: string[], wanted: TreeEntry[], facts: DiskFacts): string[] {
  const broken: string[] = [];
  const is = (what: string, found: unknown, wanted: unknown) => {
    if (String(found).toLowerCase() !== String(wanted).toLowerCase()) broken.push(`${what} is ${found}, and not ${wanted}`);
  };
  const { table } = facts;
  is("the table of partitions", table.label, "gpt");
  is("the disk's id", table.id, layout.ids.disk);
  const partitions: [number, string, { start: number; sectors: number }, string, string][] = [
    [1, "the root", layout.root, partitionTypes.root[architecture] ?? "", layout.ids.root],
    [14, "the partition for BIOS boot", layout.bios, partitionTypes.bios, layout.ids.bios],
    [15, "the ESP", layout.esp, partitionTypes.esp, layout.ids.esp],
  ];
  is("the number of partitions", table.partitions.length, partitions.length);
  for (const [number, name, at, type, id] of partitions) {
    const there = table.partitions.find((p) => p.node.endsWith(`.raw${number}`));
    is(`${name}: where it is`, [there?.start, there?.size], [at.start, at.sectors]);
    is(`${name}: its type`, there?.type, type);
    is(`${name}: its id`, there?.uuid, id);
  }
  is("the root's file system", facts.super["Filesystem UUID"], layout.ids.fileSystem);
  is("the seed of its folders", facts.super["Directory Hash Seed"], layout.ids.hashSeed);
  is("its state", facts.super["Filesystem state"], "clean");
  is("how often it was mounted", facts.super["Mount count"], "0");
  is("where it was mounted", facts.super["Last mounted on"], "<not available>");
  is("what is on the ESP", facts.esp.sort(), esp.sort());

  is("the size of /etc/machine-id", facts.root.find((f) => f.path === "/etc/machine-id")?.size, 0);

  return [...broken, ...brokenRoot(wanted, facts.root)];
}

/** @throws RefusedError with what is not true */
export function refuseBroken(name: string, broken: string[]): void {
  if (broken.length) throw new RefusedError(`the disk of ${name} is not what it must be:\n${broken.map((b) => `  ${b}`).join("\n")}`);
}

/** As brokenDisk(), of its root alone. */
export function brokenRoot(wanted: TreeEntry[], there: TreeEntry[]): string[] {
  const broken: string[] = [];
  const found = there.filter((f) => f.path !== "/lost+found").map(said);
  const asked = wanted.map(said);
  const some = (list: string[]) => `${list.slice(0, 5).join("; ")}${list.length > 5 ? ` and ${list.length - 5} more` : ""}`;
  const without = (list: string[], others: Set<string>) => list.filter((f) => !others.has(f));
  const lacking = without(asked, new Set(found));
  const more = without(found, new Set(asked));
  if (lacking.length) broken.push(`the image has, and the disk has not: ${some(lacking)}`);
  if (more.length) broken.push(`the disk has, and the image has not: ${some(more)}`);
  return broken;
}

/** All of an entry; a file system of a disk may keep whole seconds alone. */
const said = (f: TreeEntry): string =>
  [f.path, f.type, f.mode, f.uid, f.gid, f.size, Math.floor(f.mtime), f.content, f.links, f.attributes].join(" ").trimEnd();
