// The disk of a layer, on which the disks of the images above it are made: all that takes long, and stays the same while files and services are
// changed. It lies beside the layer's tree, `<store>/layers/<layer>/disk-<image>-<key>.raw`. Called by disk.ts.
import { readdirSync, readFileSync, realpathSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { RefusedError } from "../lib/diagnostics.ts";
import { digestOf, short } from "../lib/digest.ts";
import { lockWhenFree } from "../lib/lock.ts";
import { layered } from "./bake.ts";
import { diskMade } from "./disk-key.ts";
import { partitionTable } from "./disk-layout.ts";
import { configuration, type DiskJob, inFolder, runDiskScript } from "./disk-make.ts";
import { brokenRoot, refuseBroken } from "./disk-truths.ts";
import { readExt4 } from "./ext4.ts";
import { layerAt, layersIn } from "./layers.ts";
import { type PackageLock, readLock } from "./lock.ts";
import { readListing, type TreeEntry } from "./manifest.ts";
import type { Recipe } from "./recipe.ts";

export interface BaseDisk {
  path: string;
  /** The layer's tree. */
  root: string;
}

/** What a layer's disk is made of. */
export interface BaseJob extends DiskJob {
  /** Of the image, the lowest first, by their keys. */
  layers: string[];
  /** Of what makes disks. */
  tools: PackageLock;
}

/** Found, or made: of the first of the image's layers that has packages. */
export async function baseDisk(job: BaseJob): Promise<BaseDisk> {
  const { project, recipe, layout, tools, date, progress } = job;
  const { key: layer, root } = await layerBelow(job);
  const sums = tools.packages.map((p) => p.sha256);
  const name = `disk-${recipe.image}-${short(digestOf({ ...diskMade(), layer, layout, tools: sums, date }))}.raw`;
  const path = join(dirname(root), name);
  const turn = await lockWhenFree(`disk ${realpathSync(dirname(root))}`, `disk of ${recipe.image}`, (holder) =>
    progress.say(`waiting for the ${holder}`),
  );
  try {
    // Whoever writes to it changes its time.
    if (Math.floor((statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0) / 1000) === date) return { path, root };
    // Of this image as it was once; another's name may begin as its does.
    const before = readdirSync(dirname(root)).filter((f) => f.startsWith(`disk-${recipe.image}-`) && f.length === name.length);
    for (const file of before) rmSync(join(dirname(root), file));
    await inFolder(project, { key: short(layer), name: recipe.image }, async (folder) => {
      const { ids, sectors, bios, esp } = layout;
      writeFileSync(join(folder, "grub-esp.cfg"), configuration("grub-esp.cfg", layout));
      const lines = Object.entries(espFiles(recipe)).map(([to, from]) => `${from}\t${to}\n`);
      writeFileSync(join(folder, "esp"), lines.join(""));
      writeFileSync(join(folder, "table"), partitionTable(layout, recipe.architecture));
      const values = {
        DISK_BIOS: recipe.architecture === "amd64" ? "yes" : "no",
        DISK_SECTORS: sectors,
        DISK_BIOS_START: bios.start,
        DISK_ESP_START: esp.start,
        DISK_ESP_SECTORS: esp.sectors,
        DISK_ROOT_SECTORS: layout.root.sectors,
        DISK_ROOT_UUID: ids.fileSystem,
        DISK_HASH_SEED: ids.hashSeed,
        DISK_ESP_ID: ids.espVolume,
      };
      await runDiskScript("base.sh", job, { folder, tree: root, tools: tools.packages }, values);
      // Of the topmost folder mke2fs takes nothing.
      const below = (f: TreeEntry) => f.path !== "/";
      const wanted = readListing(readFileSync(join(root, "../files"), "utf8")).filter(below);
      refuseBroken(recipe.image, brokenRoot(wanted, readExt4(join(folder, "disk.raw"), layout.root.start * 512).filter(below)));
      renameSync(join(folder, "disk.raw"), path);
    });
    return { path, root };
  } finally {
    turn.release();
  }
}

/** The first with more than the essential packages: it is the largest by far, and what is on top of it changes most. */
async function layerBelow({ project, recipe, layers: keys, progress }: BaseJob): Promise<{ key: string; root: string }> {
  const key = keys[1] ?? keys[0] ?? "";
  const there = layerAt(project, key);
  if (there) return { key, root: there.root };
  const lock = readLock(project, recipe.image);
  const layers = lock ? layersIn(project, recipe, lock) : [];
  const at = layers.findIndex((l) => l.key === key);
  if (!lock || at < 0)
    throw new RefusedError(
      `the layer that ${recipe.image} was made on is not there any more, and the recipe comes to another`,
      `bake it as it is now: ingot bake ${recipe.image}`,
    );
  const made = await layered({ project, recipe, lock, progress }, layers.slice(0, at + 1));
  return { key, root: made?.root ?? "" };
}

/** What is on the ESP, and where each comes from in the folder of the build. */
export function espFiles({ distro, architecture }: Recipe): Record<string, string> {
  const { x64, grub } = { amd64: { x64: "x64", grub: "x86_64" }, arm64: { x64: "aa64", grub: "arm64" } }[architecture];
  return {
    [`/EFI/BOOT/BOOT${x64.toUpperCase()}.EFI`]: `tools/usr/lib/shim/shim${x64}.efi.signed`,
    [`/EFI/BOOT/grub${x64}.efi`]: `tools/usr/lib/grub/${grub}-efi-signed/grub${x64}.efi.signed`,
    [`/EFI/BOOT/mm${x64}.efi`]: `tools/usr/lib/shim/mm${x64}.efi.signed`,
    // The distribution's signed GRUB looks here for its configuration.
    [`/EFI/${distro}/grub.cfg`]: "grub-esp.cfg",
  };
}
