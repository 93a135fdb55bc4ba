// What an image is known by: everything that goes into it and the way it is made, and nothing of the computer that makes it.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { digestOf, sha256 } from "../lib/digest.ts";
import { type Project, toolFolder } from "../lib/paths.ts";
import { earlyFiles, hostFiles, lateFiles, type TreeFile } from "./files.ts";
import { type Layer, layersIn, method, sums } from "./layers.ts";
import { type PackageLock, readLock } from "./lock.ts";
import type { Recipe } from "./recipe-schema.ts";

export interface Digests {
  digest: string;
  /** Over everything but Ingot's own files (cloud-init/host/): images with the same base differ in those alone. */
  base: string;
  /** sha256 of each thing that goes into the image, by what it is for people: `package acl`, `file /etc/motd`. */
  inputs: Record<string, string>;
}

/** The digests of the recipe's image, or undefined when it has no lock. Reads some 50 small files. */
export function imageDigests(project: Project, recipe: Recipe): Digests | undefined {
  const lock = readLock(project, recipe.image);
  return lock && digestsOf(recipe, lock, hostFiles(toolFolder), toolFolder, layersIn(project, recipe, lock));
}

export const imageDigest = (project: Project, recipe: Recipe): string | undefined => imageDigests(project, recipe)?.digest;

/** `host`: Ingot's own files; `tool`: the folder whose images/provision/ makes the image. */
export function digestsOf(recipe: Recipe, lock: PackageLock, host: TreeFile[], tool: string, layers: Layer[]): Digests {
  // What the disk is like makes no other image of it: it is in the disk's key.
  const { files: _, disk: __, ...said } = recipe;
  const sumsOf = (files: TreeFile[]) => sums(files).map(([path, mode, sum]) => [`file ${path}`, digestOf([mode, sum])]);
  const made = Object.fromEntries([
    ["method", digestOf(method)],
    ["date of the lock", digestOf(lock.date)],
    ...Object.entries(said).map(([key, value]) => [key, digestOf([value])]),
    ...lock.packages.map((p) => [`package ${p.name}`, digestOf([p.sha256, p.essential, p.stage])]),
    ...sumsOf([...earlyFiles(recipe), ...lateFiles(recipe, lock)]),
    ...Object.entries(filesBelow(join(tool, "images/provision"))).map(([path, content]) => [`script ${path}`, sha256(content)]),
  ]) as Record<string, string>;
  const own = Object.fromEntries(sumsOf(host)) as Record<string, string>;
  const base = digestOf({ made, layers: layers.map((l) => l.key) });
  return { base, digest: digestOf({ base, own }), inputs: { ...made, ...own } };
}

/** Every file below a folder, by its path in it, sorted; nothing when there is no such folder. */
export function filesBelow(folder: string, prefix = ""): Record<string, Buffer> {
  if (!existsSync(folder)) return {};
  const found: [string, Buffer][] = readdirSync(folder, { withFileTypes: true })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((e): [string, Buffer][] => {
      if (e.name.startsWith(".") || e.name === "__pycache__") return [];
      const path = join(folder, e.name);
      return e.isDirectory() ? Object.entries(filesBelow(path, `${prefix}${e.name}/`)) : [[`${prefix}${e.name}`, readFileSync(path)]];
    });
  return Object.fromEntries(found);
}
