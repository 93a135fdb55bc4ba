// The bootable disk of an image, for who needs one: EC2 and the `vm` target; containers boot the root tree. It lies beside the image,
// `<store>/<digest>/disk-<key>.raw`, and its key stands for everything that makes it. Called by scripts/image.ts and stacks/local/vm.ts.
import { chmodSync, existsSync, mkdirSync, readFileSync, realpathSync, renameSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { diagnostic, InputError, MissingError, RefusedError } from "../lib/diagnostics.ts";
import { short } from "../lib/digest.ts";
import { lockWhenFree } from "../lib/lock.ts";
import type { Project } from "../lib/paths.ts";
import { during, type Progress } from "../lib/progress.ts";
import { run } from "../lib/run.ts";
import { fetchDebs, GoneError } from "./archive.ts";
import { bake, type LayersMade } from "./bake.ts";
import { type BaseJob, baseDisk, espFiles } from "./disk-base.ts";
import { diskKey, toolsFor } from "./disk-key.ts";
import { type Layout, layoutOf, leastOf } from "./disk-layout.ts";
import { configuration, inFolder, runDiskScript } from "./disk-make.ts";
import { patchOf, withFiles } from "./disk-patch.ts";
import { brokenDisk, readDiskFacts, refuseBroken } from "./disk-truths.ts";
import type { Image } from "./image.ts";
import { bytesOf, megabytes, type PackageLock } from "./lock.ts";
import { readListing, sizeOf } from "./manifest.ts";
import { loadRecipe, placeOf, type Recipe } from "./recipe.ts";
import { filesOf } from "./store.ts";
import { hasToolsLock, lockTools, toolsLockOf, toolsName, toolsRecipe } from "./tools.ts";

export const diskFormats = ["raw", "qcow2"] as const;
export type DiskFormat = (typeof diskFormats)[number];

export interface Disk {
  image: Image;
  format: DiskFormat;
  /** Absolute; never written to. */
  path: string;
  /** Bytes, as a machine sees it. */
  size: number;
  /** False when it was there already. */
  made: boolean;
  seconds: number;
}

/** What only a disk has, by its path in the root. */
export function diskFiles(layout: Layout): Record<string, string> {
  return {
    "/etc/fstab": `UUID=${layout.ids.fileSystem} / ext4 defaults,errors=remount-ro 0 1\n`,
    "/boot/grub/grub.cfg": configuration("grub.cfg", layout),
  };
}

/**
 * The disk of a recipe's image, found in the store or made; the image is baked when it is not there.
 * @throws RefusedError when it cannot be made, MissingError, Cancelled
 */
export async function makeDisk(
  project: Project,
  name: string,
  format: DiskFormat,
  { locked, progress }: { locked?: true; progress: Progress },
): Promise<Disk> {
  // The part of it that is the packages' is made while the image is: as large as they suggest, and again if that was wrong.
  const beside = async ({ recipe, lock, layers, listing }: LayersMade) => {
    const tools = toolsLockOf(project, "disk", recipe);
    if (!tools || !lock.packages.some((p) => p.name.startsWith("linux-image-"))) return;
    const size = sizeOf(readListing(readFileSync(listing, "utf8")));
    const layout = layoutOf({ name, manifest: { size } }, recipe.disk);
    await fetchDebs(project, toolsRecipe("disk", recipe), tools, progress);
    await baseDisk({ project, recipe, layers, layout, tools, date: lock.date, progress });
  };
  const { image } = await bake(project, name, { locked, progress, beside });
  return diskOf(project, image, format, { locked, progress });
}

/** As makeDisk(), of an image that is baked. */
export async function diskOf(
  project: Project,
  image: Image,
  format: DiskFormat,
  { locked, progress }: { locked?: true; progress: Progress },
): Promise<Disk> {
  const began = performance.now();
  const recipe = loadRecipe(project, image.name);
  if (!Object.keys(image.manifest.packages).some((name) => name.startsWith("linux-image-")))
    throw new RefusedError(`the image ${image.name} has no kernel to boot`, "add `linux-image-cloud-amd64` to the recipe's packages");
  assertRoom(project, recipe, image);
  if (format === "qcow2") needQemuImg();
  let lock = await toolsLock(project, recipe, locked, progress);
  const layout = layoutOf(image, recipe.disk);
  for (;;) {
    const path = join(dirname(image.root), `disk-${diskKey(recipe, image, lock)}.raw`);
    const turn = await lockWhenFree(`disk ${realpathSync(dirname(image.root))}`, `disk of ${image.name}`, (holder) =>
      progress.say(`waiting for the ${holder}`),
    );
    try {
      const wanted = format === "raw" ? path : path.replace(/raw$/, "qcow2");
      const there = existsSync(wanted);
      if (!there && !existsSync(path)) {
        await fetchDebs(project, toolsRecipe("disk", recipe), lock, progress);
        // Of the image: the bake has written it when it was through.
        const date = Math.floor(statSync(join(image.root, "etc/.updated")).mtimeMs / 1000);
        await makeRaw({ project, recipe, layers: image.manifest.layers, layout, tools: lock, date, progress }, image, path);
      }
      if (!existsSync(wanted)) await convert(project, image, path, wanted, progress);
      return { image, format, path: wanted, size: layout.sectors * 512, made: !there, seconds: (performance.now() - began) / 1000 };
    } catch (error) {
      if (!(error instanceof GoneError) || locked) throw error;
      progress.say(`What makes the disk of ${image.name} cannot be had any more (${error.message}): locking anew.`);
      lock = await lockTools(project, "disk", recipe, progress);
    } finally {
      turn.release();
    }
  }
}

async function toolsLock(project: Project, recipe: Recipe, locked: true | undefined, progress: Progress): Promise<PackageLock> {
  const lock = toolsLockOf(project, "disk", recipe);
  if (lock) return lock;
  if (locked)
    throw new RefusedError(
      hasToolsLock(project, "disk", recipe)
        ? `${toolsName("disk", recipe)}.lock.json was made for other packages`
        : `what makes ${recipe.image}'s disk is not locked`,
      `make it: ingot image disk ${recipe.image}`,
    );
  return lockTools(project, "disk", recipe, progress);
}

/** @throws InputError when the recipe's `disk:` has no room for what is in the image */
function assertRoom(project: Project, { image: name, disk }: Recipe, image: Image): void {
  if (disk.size === undefined || bytesOf(disk.size) >= leastOf(image, disk)) return;
  const { range, sources } = placeOf(project, name, ["disk", "size"]);
  const least = `${Math.ceil(leastOf(image, disk) / bytesOf("1GiB"))}GiB`;
  const message = `${disk.size} is too little for ${name}: its files come to ${megabytes(image.manifest.size)}, and with partitions and file systems they need ${least}`;
  const usual = layoutOf(image, { esp: disk.esp }).sectors * 512;
  const hint = `write \`size: ${least}\` or more; without it the disk is ${usual / bytesOf("1GiB")}GiB`;
  throw new InputError([diagnostic("ING1712", range, message, { hint, fix: { range, text: least } })], sources);
}

async function makeRaw(job: BaseJob, image: Image, path: string): Promise<void> {
  const { project, recipe, layout, tools, date } = job;
  const { architecture } = image.manifest;
  const base = await baseDisk(job);
  await inFolder(project, { key: short(image.digest), name: image.name }, async (folder) => {
    const only = diskFiles(layout);
    for (const [file, content] of Object.entries(only)) {
      mkdirSync(dirname(join(folder, "files", file)), { recursive: true });
      writeFileSync(join(folder, "files", file), content);
    }
    mkdirSync(join(folder, "facts"));
    mkdirSync(join(folder, "attributes"));
    const from = readListing(readFileSync(join(base.root, "../files"), "utf8"));
    const to = withFiles(filesOf(image), only, date);
    const { commands, written, attributes } = patchOf(from, to, { root: "/mnt/root", attributes: "/mnt/attributes" });
    writeFileSync(join(folder, "patch"), commands.map((line) => `${line}\n`).join(""));
    attributes.forEach((value, i) => {
      writeFileSync(join(folder, "attributes", String(i)), value);
    });
    const made = { folder, tree: image.root, tools: toolsFor(tools, image) };
    await runDiskScript("patch.sh", job, made, { DISK_BASE: base.path, DISK_ESP_START: layout.esp.start });
    const proven = new Map(to.flatMap((f) => (f.type === "f" && !written.has(f.path) ? [[f.path, f.content] as const] : [])));
    refuseBroken(image.name, brokenDisk(layout, architecture, Object.keys(espFiles(recipe)), to, readDiskFacts(folder, proven)));
    renameSync(join(folder, "disk.raw"), path);
  });
}

async function convert(project: Project, image: Image, from: string, to: string, progress: Progress): Promise<void> {
  await inFolder(project, { key: short(image.digest), name: image.name }, async (folder) => {
    const file = join(folder, "disk.qcow2");
    const options = ["-f", "raw", "-O", "qcow2", "-c", "-o", "compression_type=zstd"];
    await during(progress, "pack it as qcow2", () => run(["qemu-img", "convert", ...options, from, file]));
    chmodSync(file, 0o444);
    renameSync(file, to);
  });
}

function needQemuImg(): void {
  if ((process.env.PATH ?? "").split(":").some((folder) => existsSync(join(folder, "qemu-img")))) return;
  throw new MissingError("qcow2 needs qemu-img", "sudo apt-get install qemu-utils");
}
