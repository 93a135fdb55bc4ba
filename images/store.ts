// Where baked images lie: `<store>/<digest>/{root,files,manifest.json}`. A folder of that form is whole: it was renamed into place.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Project } from "../lib/paths.ts";
import { imageDigest } from "./digest.ts";
import type { Image, Manifest } from "./image.ts";
import { readListing, type TreeEntry } from "./manifest.ts";
import { loadRecipe } from "./recipe.ts";

/** The image of the recipe as it stands now, or undefined when it is not locked or not baked. */
export function findImage(project: Project, name: string): Image | undefined {
  const digest = imageDigest(project, loadRecipe(project, name));
  return digest === undefined ? undefined : imageAt(project, digest);
}

/** The image of this digest. */
export function imageAt(project: Project, digest: string): Image | undefined {
  const folder = join(project.store, digest);
  const file = join(folder, "manifest.json");
  if (!existsSync(file)) return undefined;
  const manifest = JSON.parse(readFileSync(file, "utf8")) as Manifest;
  return { name: manifest.name, digest, root: join(folder, "root"), manifest };
}

/** An image that differs from the one wanted in Ingot's own files alone: the same packages, users and units. */
export const imageLike = (project: Project, base: string): Image | undefined => listImages(project).find((i) => i.manifest.base === base);

/** What is in an image's tree, path by path; nothing of one that an older Ingot made. */
export function filesOf(image: Image): TreeEntry[] {
  const file = join(image.root, "../files");
  return existsSync(file) ? readListing(readFileSync(file, "utf8")) : [];
}

/** Every baked image, the newest first. */
export function listImages(project: Project): Image[] {
  if (!existsSync(project.store)) return [];
  return readdirSync(project.store)
    .filter((f) => /^[0-9a-f]{64}$/.test(f))
    .flatMap((digest) => imageAt(project, digest) ?? [])
    .sort((a, b) => (a.manifest.baked < b.manifest.baked ? 1 : -1));
}
