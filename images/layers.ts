// The layers below an image: the essential packages, then the packages of each stage of the lock. The configuration on top of them is the image
// itself. A layer is known by all that it is made of, the layer below it included, and kept as a whole tree in `<store>/layers/<key>/`; what is
// the same in several trees is shared by hard links. Which files go into which layer is said here; images/bake.ts makes them.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { digestOf, sha256 } from "../lib/digest.ts";
import { type Project, toolFolder } from "../lib/paths.ts";
import { earlyFiles, type TreeFile } from "./files.ts";
import { excludes } from "./leave-out.ts";
import { type LockedPackage, type PackageLock, readLock } from "./lock.ts";
import { loadRecipe } from "./recipe.ts";
import type { Recipe } from "./recipe-schema.ts";

/** Raised when baking the same inputs gives another image although no file that is digested changed. */
export const method = 2;

export const sums = (files: TreeFile[]): string[][] => files.map((f) => [f.path, f.mode, sha256(f.content)]);

export interface Layer {
  key: string;
  /** For people: "essential packages". */
  title: string;
  /** Of images/provision/: what makes it. */
  step: "base.sh" | "packages.sh";
  packages: LockedPackage[];
  /** Written between the unpacking and the configuring of the packages; those of the first layer before the unpacking. */
  files: TreeFile[];
  locales: string[];
}

/** What images/provision/ has for every layer, and what it has for one kind of them. */
const scripts = {
  all: ["bake.sh", "layer.sh", "keep.py", "clean.sh", "times.sh", "listing.py"],
  "base.sh": ["base.sh", "setup.sh"],
  "packages.sh": ["packages.sh", "plain.py", "early.py", "enter.sh", "nothing.sh", "py3compile.sh"],
};

/**
 * The layers of an image, the lowest first. `tool`: the folder whose images/provision/ makes them.
 * @param under the recipes whose stages the lock begins with: their layers are those of their own images
 */
export function layersOf(recipe: Recipe, lock: PackageLock, tool: string, under: Under[] = []): Layer[] {
  const layers: Layer[] = [];
  const add = (title: string, step: Layer["step"], packages: LockedPackage[], more: { files: TreeFile[]; locales: string[] }) => {
    const provision = [...scripts.all, ...scripts[step]].map((name) => sha256(readFileSync(join(tool, "images/provision", name))));
    const { architecture } = recipe;
    const made = { method, below: layers.at(-1)?.key, architecture, date: lock.date, provision, locales: more.locales };
    const key = digestOf({ ...made, packages: packages.map((p) => p.sha256), files: sums(more.files) });
    layers.push({ key, title, step, packages, ...more });
  };
  add(
    "essential packages",
    "base.sh",
    lock.packages.filter((p) => p.essential),
    { files: excludes(recipe.leave_out), locales: [] },
  );
  let before: TreeFile[] = [];
  // A file that is there already may have been changed by the scripts of packages since.
  const newIn = (said: Recipe) =>
    earlyFiles(said).filter((f) => !before.some((b) => b.path === f.path && b.mode === f.mode && b.content === f.content));
  for (const stage of stagesOf(lock)) {
    const said = under.find((u) => stage <= u.stages)?.recipe ?? recipe;
    const packages = lock.packages.filter((p) => !p.essential && stageOf(p) === stage);
    add(stage === 1 ? "packages" : `packages, part ${stage}`, "packages.sh", packages, { files: newIn(said), locales: said.locales });
    before = earlyFiles(said);
  }
  // A recipe that adds no package to the one that it extends may add accounts, early files or locales.
  const files = newIn(recipe);
  const { locales } = recipe;
  if (files.length || digestOf(locales) !== digestOf(layers.at(-1)?.locales))
    add("accounts, locales and early files", "packages.sh", [], { files, locales });
  return layers;
}

/** The layers of a recipe of the project. */
export const layersIn = (project: Project, recipe: Recipe, lock: PackageLock): Layer[] =>
  layersOf(recipe, lock, toolFolder, underOf(project, lock));

/** A recipe that another extends, and the last of the stages that are its own. */
interface Under {
  recipe: Recipe;
  stages: number;
}

function underOf(project: Project, { base }: PackageLock): Under[] {
  if (!base) return [];
  const lock = readLock(project, base.image);
  return [...(lock ? underOf(project, lock) : []), { recipe: loadRecipe(project, base.image), stages: base.stages }];
}

const stageOf = (p: LockedPackage): number => p.stage ?? 1;
const stagesOf = (lock: PackageLock): number[] =>
  [...new Set(lock.packages.filter((p) => !p.essential).map(stageOf))].sort((a, b) => a - b);

/** A layer's `layer.json`: written last, so a folder without it is none. */
export interface LayerRecord {
  title: string;
  /** The recipe that it was made for first. */
  image: string;
  /** sha256 of its listing, as in an image's manifest. */
  tree: string;
  /** When, in ISO 8601. */
  made: string;
  seconds: number;
}

export const layerFolder = (project: Project, key: string): string => join(project.store, "layers", key);

export function layerAt(project: Project, key: string): { root: string; record: LayerRecord } | undefined {
  const folder = layerFolder(project, key);
  try {
    return { root: join(folder, "root"), record: JSON.parse(readFileSync(join(folder, "layer.json"), "utf8")) as LayerRecord };
  } catch {
    // Not there, or not whole.
    return undefined;
  }
}

/** The layers that a bake makes: what is below one that is there is not asked for. */
export const missingOf = (project: Project, layers: Layer[]): Layer[] =>
  layers.slice(layers.findLastIndex((l) => layerAt(project, l.key)) + 1);
