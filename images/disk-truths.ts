// What must be true of every bootable disk, held against what images/disk/patch.sh found on the finished disk itself. A disk that breaks one
// is thrown away.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Layout, partitionTypes } from "./disk-layout.ts";

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
  /** What debugfs(8) finds in the root, and what find(1) found in the folder that it was made from: "path type mode uid gid size". */
  files: string[];
  tree: string[];
  /** Contents by absolute path, of some. */
  contents: Record<string, string>;
}

export function readDiskFacts(folder: string): DiskFacts {
  const text = (name: string) => readFileSync(join(folder, name), "utf8");
  const lines = (name: string) => text(name).split("\n").filter(Boolean);
  return {
    table: (JSON.parse(text("table")) as { partitiontable: DiskFacts["table"] }).partitiontable,
    super: Object.fromEntries(lines("super").flatMap((l) => [/^([^:]+):\s+(.*)$/.exec(l)?.slice(1, 3) ?? []].filter((f) => f.length))),
    esp: lines("esp").flatMap((l) => (l.endsWith("/") ? [] : [l.replace(/^::/, "")])),
    files: parseListing(text("files")).sort(),
    tree: lines("tree")
      .map((l) => {
        const [type = "", mode = "", uid = "", gid = "", size = "", path = ""] = l.split("\t");
        return listed({ path, type, mode, uid, gid, size });
      })
      .sort(),
    contents: Object.fromEntries(
      ["/etc/machine-id", "/etc/fstab", "/boot/grub/grub.cfg"].map((p) => [p, text(p.slice(p.lastIndexOf("/") + 1))]),
    ),
  };
}

const kinds: Record<string, string> = { "04": "d", "10": "f", "12": "l", "02": "c", "06": "b", "01": "p", "14": "s" };

/** What debugfs says to `ls -p "<folder>"` for each folder: its prompt with the command, then /inode/mode/uid/gid/name/size/ a line. */
export function parseListing(text: string): string[] {
  let folder = "";
  return text.split("\n").flatMap((line) => {
    const command = /^debugfs: ls -p "(.*)"$/.exec(line)?.[1];
    if (command !== undefined) folder = command === "/" ? "" : command;
    const [, , mode = "", uid, gid, name = "", size = ""] = /^\/\d+\/\d{6}\//.test(line) ? line.split("/") : [];
    if (mode === "" || name === "." || name === "..") return [];
    const type = kinds[mode.slice(0, 2)] ?? "?";
    return [listed({ path: `${folder}/${name}`, type, mode: mode.slice(2), uid: uid ?? "", gid: gid ?? "", size })];
  });
}

/** One entry as both sides have it: only a file has a size that means something. */
export function listed(entry: { path: string; type: string; mode: string; uid: string; gid: string; size: string }): string {
  const { path, type, mode, uid, gid, size } = entry;
  return [path, type, mode.padStart(4, "0"), uid, gid, type === "f" ? size : "-"].join(" ");
}

/** What is not true, for people; nothing when the disk is right. */
export function brokenDisk(layout: Layout, architecture: string, esp: string[], files: Record<string, string>, facts: DiskFacts): string[] {
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

  const there = new Set(facts.files);
  const wanted = new Set(facts.tree);
  const some = (list: string[]) => `${list.slice(0, 5).join("; ")}${list.length > 5 ? ` and ${list.length - 5} more` : ""}`;
  const lacking = facts.tree.filter((f) => !there.has(f));
  const more = facts.files.filter((f) => !wanted.has(f) && !f.startsWith("/lost+found "));
  if (lacking.length) broken.push(`the image has, and the disk has not: ${some(lacking)}`);
  if (more.length) broken.push(`the disk has, and the image has not: ${some(more)}`);
  for (const [path, content] of Object.entries({ ...files, "/etc/machine-id": "" }))
    if (facts.contents[path] !== content) broken.push(`${path} is not what it must be`);
  return broken;
}
