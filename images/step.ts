// What a step of a bake reads: the files in its folder and the environment of images/provision/layer.sh, computed from recipe and lock. The step
// itself runs on this computer (bake.ts) or on a builder that Packer has started (packer-folder.ts).
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { run } from "../lib/run.ts";
import { enabledUnitsOf, maskedIfPresent, type TreeFile } from "./files.ts";
import type { Layer } from "./layers.ts";
import type { LockedPackage, PackageLock } from "./lock.ts";
import type { Recipe } from "./recipe-schema.ts";

/** What is written here and by the scripts beside the tree. */
export const scratch = ["facts", "own", "files.tar", "scripts", "packages", "sums"];

/** One archive of files without their folders, which so keep owner and mode. */
export async function writeFiles(folder: string, files: TreeFile[], lock: PackageLock): Promise<void> {
  mkdirSync(join(folder, "own"));
  for (const file of files) {
    const path = join(folder, "own", file.path);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, file.content);
    chmodSync(path, Number.parseInt(file.mode, 8));
  }
  const argv = ["tar", "--create", "--file", join(folder, "files.tar"), "--directory", join(folder, "own"), "--owner=0", "--group=0"];
  const input = files.map((f) => `.${f.path}\n`).join("");
  await run([...argv, `--mtime=@${lock.date}`, "--verbatim-files-from", "--files-from=-"], { input });
}

export const writePackages = (folder: string, packages: LockedPackage[]): void =>
  writeFileSync(join(folder, "packages"), packages.map((p) => `${p.sha256}.deb\n`).join(""));

/** The recipe's own scripts, for images/provision/scripts.sh. */
export function writeScripts(folder: string, recipe: Recipe, lock: PackageLock): void {
  recipe.provision.forEach(({ script, content, variables }, i) => {
    const into = join(folder, "scripts", String(i).padStart(3, "0"));
    mkdirSync(into, { recursive: true });
    const environment = {
      PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
      HOME: "/root",
      LC_ALL: "C.UTF-8",
      DEBIAN_FRONTEND: "noninteractive",
      SOURCE_DATE_EPOCH: String(lock.date),
      ...variables,
    };
    const call = ["env", "--ignore-environment", ...Object.entries(environment).map(([k, v]) => `${k}=${v}`), "/run/ingot-script"];
    writeFileSync(join(into, "title"), script);
    writeFileSync(join(into, "script"), content);
    writeFileSync(join(into, "call"), call.map((word) => `${word}\0`).join(""));
  });
}

/** Where a step is made: its folder, images/provision/, the .debs by sha256, and the tree below; empty for the first. */
export interface StepPlaces {
  folder: string;
  provision: string;
  debs: string;
  below: string;
}

/** What every step finds in its environment; beside it come BAKE_TMPFS and the values of the kind of step. */
export const environmentOf = (
  recipe: Recipe,
  lock: PackageLock,
  { folder, provision, debs, below }: StepPlaces,
  step: string,
): Record<string, string> => ({
  BAKE_FOLDER: folder,
  BAKE_PROVISION: provision,
  BAKE_DATE: String(lock.date),
  SOURCE_DATE_EPOCH: String(lock.date),
  BAKE_ARCHITECTURE: recipe.architecture,
  BAKE_DEBS: debs,
  BAKE_BELOW: below,
  BAKE_STEP: step,
});

/** Of a layer of packages. */
export const layerValues = ({ locales }: Layer): Record<string, string> => ({ BAKE_LOCALES: locales.join(" ") });

/** Of configure.sh, which makes the image. @param host Ingot's own files */
export const configureValues = (recipe: Recipe, host: TreeFile[]): Record<string, string> => ({
  BAKE_DISABLED: recipe.disabled.join(" "),
  BAKE_ENABLED: [...enabledUnitsOf(host), ...recipe.enabled].join(" "),
  BAKE_MASKED_IF_PRESENT: maskedIfPresent.join(" "),
});
