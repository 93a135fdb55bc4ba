// Programs that make disks or images and are in none: the .debs of each kind have a lock of their own, one for all recipes of a release,
// `images/debian-bookworm-amd64.disk.lock.json`. They are unpacked where they are needed and never installed. Called by disk.ts and packer-folder.ts.
import { existsSync, renameSync, writeFileSync } from "node:fs";
import type { Project } from "../lib/paths.ts";
import type { Progress } from "../lib/progress.ts";
import { solve } from "./archive.ts";
import { distros } from "./distro.ts";
import { lockPath, lockText, type PackageLock, readLock, solvedPart } from "./lock.ts";
import type { Recipe } from "./recipe-schema.ts";

/** `disk`: GRUB, shim, and what writes partitions and file systems. `builder`: what a bake needs on a system that is to become the image. */
export type Tools = "disk" | "builder";

export const toolsName = (tools: Tools, { distro, release, architecture }: Recipe): string =>
  `${distro}-${release}-${architecture}.${tools}`;

/** A recipe of these programs, from the distribution's archives as they are now, wherever the recipe has them. */
export function toolsRecipe(tools: Tools, recipe: Recipe): Recipe {
  const { archives, disk, builder } = distros[recipe.distro];
  const own = Object.entries(archives(recipe.release, recipe.architecture));
  return {
    ...recipe,
    image: toolsName(tools, recipe),
    snapshot: undefined,
    archives: Object.fromEntries(own.map(([name, archive]) => [name, recipe.archives[name] ?? archive])),
    packages: tools === "disk" ? disk[recipe.architecture] : builder,
  };
}

export const hasToolsLock = (project: Project, tools: Tools, recipe: Recipe): boolean =>
  existsSync(lockPath(project, toolsName(tools, recipe)));

/** Their lock; undefined when there is none, or one of other packages. */
export function toolsLockOf(project: Project, tools: Tools, recipe: Recipe): PackageLock | undefined {
  const lock = readLock(project, toolsName(tools, recipe));
  return lock?.solved === solvedPart(toolsRecipe(tools, recipe)) ? lock : undefined;
}

/** Locks them anew. */
export async function lockTools(project: Project, tools: Tools, recipe: Recipe, progress: Progress): Promise<PackageLock> {
  const solved = await solve(toolsRecipe(tools, recipe), progress);
  // What is essential is in every image.
  const lock = { ...solved, packages: solved.packages.filter((p) => !p.essential) };
  const path = lockPath(project, lock.image);
  writeFileSync(`${path}.${process.pid}.tmp`, lockText(lock));
  renameSync(`${path}.${process.pid}.tmp`, path);
  return lock;
}
