// How long a bake will take, from the last ones. Called by `ingot image plan`, and by the bake itself.
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { Project } from "../lib/paths.ts";
import type { Image } from "./image.ts";
import { type Layer, type LayerRecord, layerAt, missingOf } from "./layers.ts";
import type { Recipe } from "./recipe-schema.ts";

export interface Step {
  title: string;
  /** That it took the last time; undefined when there was none. */
  seconds?: number;
}

/**
 * The layers that are not there, and the image on top; each as long as the last one of its kind took.
 * @param images all of the store, the newest first
 */
export function stepsOf(project: Project, recipe: Recipe, layers: Layer[], images: Image[]): Step[] {
  const records = recordsOf(project);
  const own = images.find((i) => i.name === recipe.image && i.manifest.configureSeconds !== undefined) ?? images[0];
  return [
    ...missingOf(project, layers).map(({ title }) => ({
      title,
      seconds: (records.find((r) => r.title === title && r.image === recipe.image) ?? records.find((r) => r.title === title))?.seconds,
    })),
    { title: "configuration", seconds: own?.manifest.configureSeconds },
  ];
}

/** The sum of what is known of them. */
export const secondsOf = (steps: Step[]): number => Math.round(steps.reduce((sum, s) => sum + (s.seconds ?? 0), 0) * 10) / 10;

/** Of all layers of the store, the newest first. */
function recordsOf(project: Project): LayerRecord[] {
  const folder = join(project.store, "layers");
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .flatMap((key) => layerAt(project, key)?.record ?? [])
    .sort((a, b) => (a.made < b.made ? 1 : -1));
}
