// ingot image …: the recipes' locks and images. All work is done by images/.
import { statSync } from "node:fs";
import { parseArgs } from "node:util";
import { imageDigest } from "../images/digest.ts";
import type { Image } from "../images/image.ts";
import { describeChanges, megabytes } from "../images/lock.ts";
import { loadRecipe, recipeNames } from "../images/recipe.ts";
import { findImage, listImages } from "../images/store.ts";
import { RefusedError, UsageError } from "../lib/diagnostics.ts";
import { short } from "../lib/digest.ts";
import type { Project } from "../lib/paths.ts";
import type { Progress } from "../lib/progress.ts";

export const help = `Lock and bake images, and show what is in them.

Usage: ingot image lock <recipe>            ask the archives which packages the recipe comes to, and write them down
       ingot image bake <recipe> [--locked] make the image, unless it is there already
       ingot image disk <recipe> [--format raw|qcow2] [--locked]
                                            make a disk of it that boots by BIOS and by UEFI, unless it is there already
       ingot image list                     the recipes, and the images that were baked
       ingot image show <recipe|digest>     what is in an image

A recipe is a file images/<name>.yaml; its lock is images/<name>.lock.json and belongs into git. What makes
disks (GRUB, shim) has a lock of its own, images/<distro>-<release>-<architecture>.disk.lock.json, from the first disk on.

Options:
  --format   raw (as it is, sparse) or qcow2 (packed, for QEMU and for carrying about); raw without it
  --locked   fail rather than lock anew when a locked package is gone from the archives
  --json     print the result as JSON`;

interface Io {
  json: boolean;
  project: Project;
  progress: Progress;
  print(text: string): void;
}

export async function main(args: string[], io: Io): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { locked: { type: "boolean" }, format: { type: "string" } },
  });
  const [verb, name, ...rest] = positionals;
  if (rest.length) throw new RefusedError(`ingot image ${verb} takes one name`, "ingot image --help");
  if (verb === "list" && name === undefined) return list(io);
  if (verb !== undefined && ["lock", "bake", "disk", "show"].includes(verb)) {
    const wanted = name ?? only(io.project, verb);
    if (verb === "lock") return lock(wanted, io);
    if (verb === "bake") return bakeCommand(wanted, values.locked, io);
    if (verb === "disk") return disk(wanted, values.format ?? "raw", values.locked, io);
    return show(wanted, io);
  }
  throw new UsageError(
    verb === undefined ? "image: what about it?" : `there is no command \`ingot image ${verb}\``,
    "lock, bake, disk, list or show: ingot image --help",
  );
}

/** The project's recipe where there is but one. */
export function only(project: Project, verb: string): string {
  const names = recipeNames(project);
  if (names.length === 1 && names[0] !== undefined) return names[0];
  throw new RefusedError(`${verb}: which recipe?`, `recipes here: ${names.join(", ") || "none"}`);
}

async function lock(name: string, { json, project, progress, print }: Io): Promise<number> {
  const { lockRecipe } = await import("../images/archive.ts");
  const { hasToolsLock, lockTools } = await import("../images/disk.ts");
  const recipe = loadRecipe(project, name);
  const { lock, changes } = await lockRecipe(project, recipe, progress);
  if (hasToolsLock(project, recipe)) await lockTools(project, recipe, progress);
  if (json) print(JSON.stringify({ image: name, packages: lock.packages.length, ...changes }, null, 2));
  else for (const line of [`images/${name}.lock.json: ${lock.packages.length} packages`, ...describeChanges(changes)]) print(line);
  return 0;
}

/** Also `ingot bake`. */
export async function bakeCommand(name: string, locked: boolean | undefined, { json, project, progress, print }: Io): Promise<number> {
  const { bake } = await import("../images/bake.ts");
  const { image, baked, seconds } = await bake(project, name, { locked: locked ? true : undefined, progress });
  if (json) print(JSON.stringify({ image: name, digest: image.digest, root: image.root, baked, seconds }, null, 2));
  else
    print(
      `${name} ${short(image.digest)} ${baked ? `baked in ${seconds.toFixed(1)} s` : "is baked already: nothing to do"}: ${summary(image)}`,
    );
  return 0;
}

async function disk(name: string, format: string, locked: boolean | undefined, { json, project, progress, print }: Io): Promise<number> {
  const { diskFormats, makeDisk } = await import("../images/disk.ts");
  const wanted = diskFormats.find((f) => f === format);
  if (!wanted) throw new UsageError(`there is no format \`${format}\``, `--format ${diskFormats.join(", or --format ")}`);
  const { image, path, size, made, seconds } = await makeDisk(project, name, wanted, { locked: locked ? true : undefined, progress });
  const holds = statSync(path).blocks * 512;
  if (json) print(JSON.stringify({ image: name, digest: image.digest, format, path, size, holds, made, seconds }, null, 2));
  else {
    print(`${name} ${short(image.digest)}: ${made ? `disk made in ${seconds.toFixed(1)} s` : "its disk is there already"}`);
    print(`  ${path}`);
    print(
      `  ${megabytes(size)}, of which ${megabytes(holds)} are on this computer; it boots by UEFI${image.manifest.architecture === "amd64" ? " and by BIOS" : ""}`,
    );
  }
  return 0;
}

const summary = (image: Image): string => `${Object.keys(image.manifest.packages).length} packages, ${megabytes(image.manifest.size)}`;

function list({ json, project, print }: Io): number {
  const current = new Map(recipeNames(project).map((name) => [imageDigest(project, loadRecipe(project, name)), name]));
  const images = listImages(project).map((image) => ({
    name: image.name,
    digest: image.digest,
    baked: image.manifest.baked,
    size: image.manifest.size,
    current: current.has(image.digest),
  }));
  if (json) {
    print(JSON.stringify({ recipes: recipeNames(project), images }, null, 2));
    return 0;
  }
  for (const name of recipeNames(project)) {
    const mine = images.filter((i) => i.name === name);
    print(`${name}${mine.some((i) => i.current) ? "" : " (not baked as it is now: ingot bake " + name + ")"}`);
    for (const i of mine)
      print(`  ${short(i.digest)} ${i.baked.slice(0, 16).replace("T", " ")} ${megabytes(i.size)}${i.current ? " current" : ""}`);
  }
  return 0;
}

function show(name: string, { json, project, print }: Io): number {
  const image = recipeNames(project).includes(name) ? findImage(project, name) : listImages(project).find((i) => i.digest.startsWith(name));
  if (!image) throw new RefusedError(`${name} is not baked`, `ingot bake ${name}`);
  const { manifest } = image;
  if (json) {
    print(JSON.stringify({ ...manifest, root: image.root }, null, 2));
    return 0;
  }
  const enabled = Object.entries(manifest.units).filter(([, state]) => state === "enabled");
  const versions = Object.entries(manifest.versions).filter(([, v]) => v !== undefined);
  print(`${manifest.name} ${manifest.digest}`);
  print(
    `  ${manifest.distro} ${manifest.release} ${manifest.architecture}, baked ${manifest.baked} in ${manifest.bakeSeconds} s, ${megabytes(manifest.size)}`,
  );
  print(`  ${image.root}`);
  print(`  ${Object.keys(manifest.packages).length} packages; ${versions.map(([n, v]) => `${n} ${v}`).join(", ")}`);
  print(`  started at boot: ${enabled.map(([n]) => n).join(", ")}`);
  print(`  everything in it: ingot image show ${name} --json`);
  return 0;
}
