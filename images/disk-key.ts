// What the disk of an image is known by: the image, its layout, and what makes it, whose packages have a lock of their own. Called by
// images/disk.ts, which makes it, and by whoever asks which disks are those of today.
import { join } from "node:path";
import { digestOf, sha256, short } from "../lib/digest.ts";
import { toolFolder } from "../lib/paths.ts";
import { filesBelow } from "./digest.ts";
import { layoutOf } from "./disk-layout.ts";
import type { Image } from "./image.ts";
import type { LockedPackage, PackageLock } from "./lock.ts";
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

/** What the image has itself is not brought again. */
export const toolsFor = (lock: PackageLock, image: Image): LockedPackage[] =>
  lock.packages.filter((p) => !(p.name in image.manifest.packages));
