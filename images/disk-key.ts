// What the disk of an image is known by: the image, its layout, and what makes it, whose packages have a lock of their own. Called by
// images/disk.ts, which makes it, and by whoever asks which disks are those of today.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { digestOf, sha256, short } from "../lib/digest.ts";
import { type Project, toolFolder } from "../lib/paths.ts";
import { filesBelow } from "./digest.ts";
import { layoutOf } from "./disk-layout.ts";
import { distros } from "./distro.ts";
import type { Image } from "./image.ts";
import { type LockedPackage, lockPath, type PackageLock, readLock, solvedPart } from "./lock.ts";
import type { Recipe } from "./recipe-schema.ts";

/** Raised when the same inputs give another disk although no file that is digested changed. */
const method = 2;

/** `<store>/<digest>/disk-<key>.raw` is its name. */
export const diskKey = (recipe: Recipe, image: Image, lock: PackageLock): string =>
  short(
    digestOf({
      ...diskMade(),
      image: image.digest,
      layout: layoutOf(image, recipe.disk),
      tools: toolsFor(lock, image).map((p) => p.sha256),
    }),
  );

/** How disks are made. */
export const diskMade = () => ({
  method,
  scripts: Object.entries(filesBelow(diskScripts)).map(([path, content]) => [path, sha256(content)]),
});

export const diskScripts = join(toolFolder, "images/disk");

/** `images/debian-bookworm-amd64.disk.lock.json`: the .debs that make disks of this release, with what they need; one for all its recipes. */
export const toolsName = ({ distro, release, architecture }: Recipe): string => `${distro}-${release}-${architecture}.disk`;

/** A recipe of what makes the disk, from the distribution's archives as they are now, wherever the recipe has them. */
export function toolsRecipe(recipe: Recipe): Recipe {
  const { archives, disk } = distros[recipe.distro];
  const own = Object.entries(archives(recipe.release, recipe.architecture));
  return {
    ...recipe,
    image: toolsName(recipe),
    snapshot: undefined,
    archives: Object.fromEntries(own.map(([name, archive]) => [name, recipe.archives[name] ?? archive])),
    packages: disk[recipe.architecture],
  };
}

export const hasToolsLock = (project: Project, recipe: Recipe): boolean => existsSync(lockPath(project, toolsName(recipe)));

/** The lock of what makes it; undefined when there is none, or one of other packages. */
export function toolsLockOf(project: Project, recipe: Recipe): PackageLock | undefined {
  const lock = readLock(project, toolsName(recipe));
  return lock?.solved === solvedPart(toolsRecipe(recipe)) ? lock : undefined;
}

/** What the image has itself is not brought again. */
export const toolsFor = (lock: PackageLock, image: Image): LockedPackage[] =>
  lock.packages.filter((p) => !(p.name in image.manifest.packages));
