// Removing images, layers and disks that nobody refers to: `ingot image prune`. And how anything of the store is removed at all.
import { existsSync, mkdirSync, readdirSync, readFileSync, realpathSync, renameSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { short } from "../lib/digest.ts";
import { ledgerAt, startOf } from "../lib/ledger.ts";
import type { Project } from "../lib/paths.ts";
import { imageDigest } from "./digest.ts";
import { diskKey } from "./disk-key.ts";
import { layerAt, layerFolder, layersIn } from "./layers.ts";
import { readLock } from "./lock.ts";
import { loadRecipe, recipeNames } from "./recipe.ts";
import { findImage, listImages } from "./store.ts";
import { toolsLockOf } from "./tools.ts";

export interface Prunable {
  kind: "image" | "layer" | "disk";
  /** Digest, key, or a disk's path in the store. */
  id: string;
  /** Of the image, or of the recipe and the layer. */
  name: string;
}

/**
 * What of the store nobody refers to: neither a recipe as it stands now, which is what stacks boot, nor a machine. Of an image that is kept, disks
 * that were made in another way than they are now.
 * @param machines digests of images that machines of the project have
 */
export function prunable(project: Project, machines: Set<string>): Prunable[] {
  const recipes = recipeNames(project).map((name) => loadRecipe(project, name));
  const current = new Set(recipes.map((r) => imageDigest(project, r)));
  const mounted = mountedIn(project);
  const images = listImages(project).filter((i) => !current.has(i.digest) && !machines.has(i.digest) && !mounted.includes(i.digest));
  const wanted = new Set(
    recipes.flatMap((r) => {
      const lock = readLock(project, r.image);
      return lock ? layersIn(project, r, lock).map((l) => l.key) : [];
    }),
  );
  // What machines have may stand on any of its image's disks.
  const disks = recipes.flatMap((r) => {
    const image = findImage(project, r.image);
    const lock = toolsLockOf(project, "disk", r);
    if (!image || !lock || machines.has(image.digest)) return [];
    const others = readdirSync(join(project.store, image.digest)).filter((f) => /^disk-[0-9a-f]+\.(raw|qcow2)$/.test(f));
    return others
      .filter((f) => f.slice("disk-".length, f.indexOf(".")) !== diskKey(r, image, lock))
      .map((f): Prunable => ({ kind: "disk", id: `${image.digest}/${f}`, name: r.image }));
  });
  const folder = join(project.store, "layers");
  // A bake may be standing on one.
  const layers = existsSync(folder) && !baking(project) ? readdirSync(folder).filter((key) => !wanted.has(key)) : [];
  return [
    ...images.map((i): Prunable => ({ kind: "image", id: i.digest, name: i.name })),
    ...layers.map((key): Prunable => {
      const record = layerAt(project, key)?.record;
      return { kind: "layer", id: key, name: record ? `${record.image} (${record.title})` : "half of one" };
    }),
    ...disks,
  ];
}

export async function prune(project: Project, things: Prunable[]): Promise<void> {
  for (const { kind, id } of things) {
    if (kind === "disk") rmSync(join(project.store, id));
    else await removeFolder(project, kind === "image" ? join(project.store, id) : layerFolder(project, id));
  }
}

/** Removes a folder of the store: out of its name at once, so that half of it never looks like the whole. */
export async function removeFolder(project: Project, path: string): Promise<void> {
  if (!existsSync(path)) return;
  const ledger = ledgerAt(project.ledger);
  const gone = join(project.store, `.removing-${short(basename(path))}-${process.pid}`);
  const entry = ledger.begin(`bake-removing-${short(basename(path))}-${process.pid}`, `removal of ${short(basename(path))}`);
  ledger.add(entry, { kind: "folder", path: gone });
  mkdirSync(project.store, { recursive: true });
  renameSync(path, gone);
  await ledger.undo(entry);
}

/** What overlays of this computer stand on, machines of other projects with the same store included. */
function mountedIn(project: Project): string {
  if (!existsSync(project.store)) return "";
  const store = realpathSync(project.store);
  const lines = readFileSync("/proc/self/mountinfo", "utf8").split("\n");
  return lines.filter((line) => line.includes(store) || line.includes(project.store)).join("\n");
}

/** Whether somebody makes something in the store now. */
const baking = (project: Project): boolean =>
  readdirSync(project.store).some((f) => {
    const pid = /^\.baking-[0-9a-f]+-(\d+)$/.exec(f)?.[1];
    return pid !== undefined && startOf(Number(pid)) !== undefined;
  });
