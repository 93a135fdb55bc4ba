// What Packer needs of a recipe on this computer: the folder that it sends to the builder, with the .debs of the lock and all that a bake reads.
// Needs neither root nor a baked image. Called by stacks/aws/ami/packer.ts.
import { cpSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { RefusedError } from "../lib/diagnostics.ts";
import { type Project, toolFolder } from "../lib/paths.ts";
import type { Progress } from "../lib/progress.ts";
import { debPath, fetchDebs, GoneError } from "./archive.ts";
import { type Digests, digestsOf } from "./digest.ts";
import { hostFiles, lateFiles, type TreeFile } from "./files.ts";
import { layersIn } from "./layers.ts";
import { type PackageLock, readLock, solvedPart } from "./lock.ts";
import { loadRecipe, type Recipe } from "./recipe.ts";
import { configureValues, environmentOf, layerValues, type StepPlaces, writeFiles, writePackages, writeScripts } from "./step.ts";
import { lockTools, toolsLockOf, toolsRecipe } from "./tools.ts";

/** What is made of a recipe, whoever makes it. */
export interface Wanted {
  recipe: Recipe;
  lock: PackageLock;
  /** Ingot's own files. */
  host: TreeFile[];
  digests: Digests;
  /** Keys of the layers, the lowest first. */
  layers: string[];
}

/** @throws RefusedError when its lock is missing or out of date: Packer's way never locks by itself */
export function wantedOf(project: Project, name: string): Wanted {
  const recipe = loadRecipe(project, name);
  const lock = readLock(project, name);
  if (lock?.solved !== solvedPart(recipe))
    throw new RefusedError(
      lock ? `the lock of ${name} was made for other packages than the recipe has now` : `${name} has no lock`,
      `ingot image lock ${name}`,
    );
  if (!lock.packages.some((p) => p.name.startsWith("linux-image-")))
    throw new RefusedError(`${name} has no kernel to boot`, "add the capability `kernel: true` to the recipe");
  const host = hostFiles(toolFolder);
  const layers = layersIn(project, recipe, lock);
  return { recipe, lock, host, digests: digestsOf(recipe, lock, host, toolFolder, layers), layers: layers.map((l) => l.key) };
}

/** Where the folder lies on the builder. */
const there = "/var/lib/ingot-build";

/**
 * Writes the folder that is sent, anew.
 * @throws RefusedError when a locked .deb cannot be had any more
 */
export async function writePackerFolder(
  project: Project,
  { recipe, lock, host }: Wanted,
  folder: string,
  progress: Progress,
): Promise<void> {
  const tools = toolsLockOf(project, "builder", recipe) ?? (await lockTools(project, "builder", recipe, progress));
  try {
    await fetchDebs(project, recipe, lock, progress);
    await fetchDebs(project, toolsRecipe("builder", recipe), tools, progress);
  } catch (error) {
    if (!(error instanceof GoneError)) throw error;
    throw new RefusedError(
      `the lock of ${recipe.image} cannot be had any more: ${error.message}`,
      `lock anew: ingot image lock ${recipe.image}`,
    );
  }
  rmSync(folder, { recursive: true, force: true });
  for (const part of ["debs", "steps"]) mkdirSync(join(folder, part), { recursive: true });
  cpSync(join(toolFolder, "images/provision"), join(folder, "provision"), { recursive: true });
  cpSync(join(toolFolder, "images/packer"), join(folder, "packer"), { recursive: true });
  cpSync(join(toolFolder, "images/disk/grub.cfg"), join(folder, "packer/grub.cfg"));
  writeFileSync(join(folder, "tools"), tools.packages.map((p) => `${p.name}\t${p.sha256}.deb\n`).join(""));
  // Packer's ssh follows links.
  const debs = new Map([...lock.packages, ...tools.packages].map((p) => [p.sha256, debPath(project, p)]));
  for (const [sum, path] of debs) symlinkSync(path, join(folder, "debs", `${sum}.deb`));

  let below = "";
  const step = async (number: number, script: string, files: TreeFile[], values: Record<string, string>) => {
    const name = `steps/${String(number).padStart(2, "0")}`;
    const into = join(folder, name);
    mkdirSync(into, { recursive: true });
    await writeFiles(into, files, lock);
    rmSync(join(into, "own"), { recursive: true });
    const at: StepPlaces = { folder: `${there}/${name}`, provision: `${there}/provision`, debs: `${there}/debs`, below };
    const environment = {
      PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
      ...environmentOf(recipe, lock, at, script),
      // On the disk: small builders have little memory.
      BAKE_TMPFS: "0",
      ...values,
    };
    const words = [...Object.entries(environment).map(([k, v]) => `${k}=${v}`), "sh", "provision/bake.sh", "provision/layer.sh"];
    writeFileSync(join(into, "call"), words.map((word) => `${word}\0`).join(""));
    below = `${there}/${name}/root`;
    return into;
  };
  const layers = layersIn(project, recipe, lock);
  for (const [i, layer] of layers.entries()) writePackages(await step(i, layer.step, layer.files, layerValues(layer)), layer.packages);
  writeScripts(
    await step(layers.length, "configure.sh", [...host, ...lateFiles(recipe, lock)], configureValues(recipe, host)),
    recipe,
    lock,
  );
}
