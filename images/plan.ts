// What a bake of a recipe would do, before it is done: `ingot image plan`. Reads manifests and small files alone.
import { short } from "../lib/digest.ts";
import { type Project, toolFolder } from "../lib/paths.ts";
import { explained } from "./changelog.ts";
import { apart, type Difference, differenceOf, packagesApart } from "./difference.ts";
import { type Digests, digestsOf } from "./digest.ts";
import { type Step, secondsOf, stepsOf } from "./estimate.ts";
import { hostFiles } from "./files.ts";
import type { Image } from "./image.ts";
import { layersIn } from "./layers.ts";
import { debsOf, type PackageLock, readLock, solvedPart } from "./lock.ts";
import { loadRecipe } from "./recipe.ts";
import { filesOf, imageAt, listImages } from "./store.ts";

export interface ImagePlan {
  image: string;
  /** Of what the recipe comes to now; undefined until it is locked. */
  digest?: string;
  action: "skip" | "bake" | "lock and bake";
  /** What changed since the newest image of this recipe, in words; all of it is new where there is none. */
  because: string[];
  /** What would be made, in this order, and how many seconds it took the last time. */
  steps: Step[];
  /** The sum of what is known of them. */
  seconds?: number;
  /** The image that it is compared with. */
  against?: { name: string; digest: string };
  /** The whole of it between two images; of what is not baked yet, only the packages. */
  difference?: Difference | { packages: Difference["packages"] };
}

/** @param against another image to compare with; else the newest one of this recipe that is not what it comes to now */
export async function planImage(project: Project, name: string, against?: Image): Promise<ImagePlan> {
  const recipe = loadRecipe(project, name);
  const lock = readLock(project, name);
  if (lock?.solved !== solvedPart(recipe)) {
    const because = [lock ? "the recipe wants other packages than its lock was made for" : "there is no lock"];
    return { image: name, action: "lock and bake", because, steps: [] };
  }
  const layers = layersIn(project, recipe, lock);
  const digests = digestsOf(recipe, lock, hostFiles(toolFolder), toolFolder, layers);
  const image = imageAt(project, digests.digest);
  const images = listImages(project);
  const before = images.find((i) => i.name === name && i.digest !== digests.digest);
  const other = against ?? before;
  const plan = {
    image: name,
    digest: digests.digest,
    ...(other && { against: { name: other.name, digest: other.digest }, difference: await compared(project, lock, other, image) }),
  };
  if (image) return { ...plan, action: "skip", because: [], steps: [] };
  const steps = stepsOf(project, recipe, layers, images);
  return {
    ...plan,
    action: "bake",
    because: before ? changesOf(before, digests) : ["no image of it was baked yet"],
    steps,
    ...(steps.some((s) => s.seconds !== undefined) && { seconds: secondsOf(steps) }),
  };
}

async function compared(
  project: Project,
  lock: PackageLock,
  other: Image,
  image: Image | undefined,
): Promise<NonNullable<ImagePlan["difference"]>> {
  const found = differenceTo(lock, other, image);
  const changed = await explained(project, found.packages.changed, debsOf(lock));
  return { ...found, packages: { ...found.packages, changed } };
}

function differenceTo(lock: PackageLock, other: Image, image: Image | undefined): NonNullable<ImagePlan["difference"]> {
  if (image) return differenceOf({ manifest: other.manifest, files: filesOf(other) }, { manifest: image.manifest, files: filesOf(image) });
  const security = new Set(lock.packages.filter((p) => p.security).map((p) => p.name));
  const packages = Object.fromEntries(lock.packages.map((p) => [p.name, p.version]));
  return { packages: packagesApart(other.manifest.packages, packages, security) };
}

/** Which inputs differ from those of an image. */
function changesOf(before: Image, { inputs }: Digests): string[] {
  // An image of an older Ingot does not say.
  if (!before.manifest.inputs) return [`${short(before.digest)} was made by another version of Ingot`];
  const now = Object.fromEntries(Object.entries(inputs).map(([name, sum]) => [name, short(sum)]));
  const { added, removed, changed } = apart(before.manifest.inputs, now);
  return [
    ...added.map((name) => `${name} is new`),
    ...removed.map((name) => `${name} is gone`),
    ...changed.map((c) => `${c.name} changed`),
  ];
}
