// What an image is known by: everything that goes into it and the way it is made, and nothing of the computer that makes it.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { digestOf, sha256 } from "../lib/digest.ts";
import { type Project, toolFolder } from "../lib/paths.ts";
import { hostFiles, recipeFiles, type TreeFile } from "./files.ts";
import { type PackageLock, readLock } from "./lock.ts";
import type { Recipe } from "./recipe-schema.ts";

/** Raised when baking the same inputs gives another image although no file that is digested changed. */
const method = 1;

export interface Digests {
  digest: string;
  /** Over everything but Ingot's own files (cloud-init/host/): of images with the same base one is refitted to the other. */
  base: string;
}

/** The digests of the recipe's image, or undefined when it has no lock. Reads some 50 small files. */
export function imageDigests(project: Project, recipe: Recipe): Digests | undefined {
  const lock = readLock(project, recipe.image);
  return lock && digestsOf(recipe, lock, hostFiles(toolFolder), toolFolder);
}

export const imageDigest = (project: Project, recipe: Recipe): string | undefined => imageDigests(project, recipe)?.digest;

/** `host`: Ingot's own files; `tool`: the folder whose images/provision/ makes the image. */
export function digestsOf(recipe: Recipe, lock: PackageLock, host: TreeFile[], tool: string): Digests {
  const sums = (files: TreeFile[]) => files.map((f) => [f.path, f.mode, sha256(f.content)]);
  const provision = Object.entries(filesBelow(join(tool, "images/provision"))).map(([path, content]) => [path, sha256(content)]);
  const base = digestOf({ method, recipe, lock, files: sums(recipeFiles(recipe, lock)), provision });
  return { base, digest: digestOf({ base, host: sums(host) }) };
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
