// What makes the root of an image's disk out of that of a layer below it: commands for debugfs(8), in the order in which they work. A disk so made is the
// same whether the layer's was there already or not, and changing a file does not write a gigabyte anew. Called by images/disk.ts.
import { basename, dirname } from "node:path";
import { RefusedError } from "../lib/diagnostics.ts";
import { sha256 } from "../lib/digest.ts";
import type { TreeEntry } from "./manifest.ts";

export interface Patch {
  /** A line each. */
  commands: string[];
  /** Paths of files whose content it writes. */
  written: Set<string>;
  /** Values of extended attributes: each is the file of that number in the folder `attributes`. */
  attributes: Buffer[];
}

/**
 * @param from what the layer's tree holds, each folder before what is in it, as listing.py has it
 * @param to what the image's holds
 * @param there where debugfs finds the files of the image, and where the values of attributes
 */
export function patchOf(from: TreeEntry[], to: TreeEntry[], there: { root: string; attributes: string }): Patch {
  const old = new Map(from.map((f) => [f.path, f]));
  const now = new Map(to.map((f) => [f.path, f]));
  const [oldGroups, groups] = [groupsOf(from), groupsOf(to)];
  // A folder stays one with what is in it; of everything else that is not the same there is another in its place.
  const stays = (f: TreeEntry | undefined, other: TreeEntry | undefined): boolean =>
    f !== undefined &&
    f.type === other?.type &&
    (f.type === "d" ||
      (f.content === other.content &&
        f.attributes === other.attributes &&
        (oldGroups.get(f.path) ?? "") === (groups.get(f.path) ?? "") &&
        sameInode(f, other)));
  const removed = from.filter((f) => !stays(f, now.get(f.path))).toReversed();
  const commands = removed.map((f) => `${f.type === "d" ? "rmdir" : "rm"} ${quoted(f.path)}`);
  const attributes: Buffer[] = [];
  const written = new Set<string>();
  for (const f of to) {
    const path = quoted(f.path);
    const was = old.get(f.path);
    const isNew = !stays(was, f);
    if (isNew) commands.push(...create(f, there.root));
    if (isNew && f.type === "f") written.add(f.path);
    if (isNew && isOther(f)) continue;
    // mke2fs gives the topmost folder what it pleases.
    if (isNew || !sameInode(was, f) || f.path === "/")
      commands.push(
        `sif ${path} mode 0${typeBits[f.type]}${f.mode.padStart(4, "0")}`,
        `sif ${path} uid ${f.uid}`,
        `sif ${path} gid ${f.gid}`,
        `sif ${path} mtime @${Math.floor(f.mtime)}`,
      );
    if (isNew && f.links) commands.push(`sif ${path} links_count ${groups.get(f.path)?.split("\n").length}`);
    if (isNew || was?.attributes !== f.attributes) {
      if (!isNew) for (const name of namesIn(was?.attributes ?? "")) commands.push(`ea_rm ${path} ${name}`);
      for (const [name, value] of attributesOf(f.attributes)) {
        commands.push(`ea_set -f ${there.attributes}/${attributes.length} ${path} ${name}`);
        attributes.push(value);
      }
    }
  }
  return { commands, written, attributes };
}

const sameInode = (one: TreeEntry | undefined, two: TreeEntry): boolean =>
  one?.mode === two.mode && one.uid === two.uid && one.gid === two.gid && Math.floor(one.mtime) === Math.floor(two.mtime);

const typeBits: Record<string, string> = { d: "4", f: "10", l: "12", c: "2", b: "6", p: "1", s: "14" };

/** Of each path that is one file with others: all of them. */
function groupsOf(tree: TreeEntry[]): Map<string, string> {
  const members = new Map<string, string[]>();
  for (const f of tree) if (f.links) members.set(f.links, [...(members.get(f.links) ?? []), f.path]);
  return new Map([...members.values()].flatMap((paths) => paths.map((path) => [path, paths.join("\n")] as const)));
}

/** In its folder, by its name: with a path some of these commands do something else. */
function create(f: TreeEntry, root: string): string[] {
  const name = quoted(basename(f.path));
  const commands: Record<string, string> = {
    d: `mkdir ${name}`,
    f: `write ${quoted(root + f.path)} ${name}`,
    l: `symlink ${name} ${quoted(f.content)}`,
    p: `mknod ${name} p`,
    c: `mknod ${name} c ${f.content.replace(":", " ")}`,
    b: `mknod ${name} b ${f.content.replace(":", " ")}`,
  };
  const command = isOther(f) ? `ln ${quoted(f.links)} ${name}` : commands[f.type];
  if (command) return [`cd ${quoted(dirname(f.path))}`, command];
  throw new RefusedError(`${f.path} is a socket, which a disk cannot have`, "remove it at the end of the script that makes it");
}

/** A second name of a file. */
const isOther = (f: TreeEntry): boolean => f.links !== "" && f.links !== f.path;

/** As debugfs splits its lines: a quote within quotes is two. listing.py has written a line break and a tab as `\n` and `\t`, a backslash as two. */
function quoted(name: string): string {
  if (/(^|[^\\])(\\\\)*\\[nt]/.test(name)) throw new RefusedError(`${name}: a name with a tab or a line break cannot be put on a disk`);
  return `"${name.replaceAll("\\\\", "\\").replaceAll('"', '""')}"`;
}

const attributesOf = (text: string): [string, Buffer][] =>
  text
    .split(",")
    .filter(Boolean)
    .map((one) => [one.slice(0, one.indexOf("=")), Buffer.from(one.slice(one.indexOf("=") + 1), "hex")]);
const namesIn = (text: string): string[] => attributesOf(text).map(([name]) => name);

/** A tree as it is with some files more (their content by path), which are root's and everybody's to read; and with their folders. */
export function withFiles(tree: TreeEntry[], files: Record<string, string>, mtime: number): TreeEntry[] {
  const all = new Map(tree.map((f) => [f.path, f]));
  const entry = (type: string, mode: string, path: string, more: { size: number; content: string }): TreeEntry => ({
    ...{ type, mode, uid: 0, gid: 0, mtime, ...more, links: "", attributes: "", path },
  });
  for (const [path, content] of Object.entries(files)) {
    const missing: string[] = [];
    for (let folder = dirname(path); !all.has(folder); folder = dirname(folder)) missing.unshift(folder);
    for (const folder of missing) all.set(folder, entry("d", "755", folder, { size: 0, content: "" }));
    all.set(path, entry("f", "644", path, { size: Buffer.byteLength(content), content: sha256(content) }));
  }
  return [...all.values()];
}
