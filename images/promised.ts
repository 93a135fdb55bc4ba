// What the image of a digest promises, by the recipe that has this digest now, or by the image that was baked here. For smoke boots.
import { RefusedError } from "../lib/diagnostics.ts";
import { short } from "../lib/digest.ts";
import { type Project, toolFolder } from "../lib/paths.ts";
import { type Promised, promisedByManifest, promisedByRecipe } from "./booted.ts";
import { imageDigest } from "./digest.ts";
import { hostFiles } from "./files.ts";
import { readLock } from "./lock.ts";
import { loadRecipe, recipeNames } from "./recipe.ts";
import { imageAt } from "./store.ts";

/** @throws RefusedError when nobody here knows what it should be */
export function promisedOf(project: Project, name: string, digest: string): Promised {
  const image = imageAt(project, digest);
  if (image) return promisedByManifest(image.manifest);
  if (recipeNames(project).includes(name)) {
    const recipe = loadRecipe(project, name);
    const lock = readLock(project, name);
    if (lock && imageDigest(project, recipe) === digest) return promisedByRecipe(recipe, lock, hostFiles(toolFolder));
  }
  throw new RefusedError(
    `what ${name} ${short(digest)} should be is not known here: the recipe is another by now, and the image was not baked on this computer`,
    "check out the commit that it was baked from, and do it there",
  );
}
