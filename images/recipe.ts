// A recipe (`images/<name>.yaml`): what is the same on every host. Its shape, how it is read, and what is wrong with it.
// `validate` calls this, so it loads neither zx nor a schema library.

import { validators } from "ingot:validators";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { type Diagnostic, diagnostic, InputError, nearest, RefusedError } from "../lib/diagnostics.ts";
import type { Project } from "../lib/paths.ts";
import { validate } from "../lib/schema.ts";
import { type Path, parseYaml, type YamlFile } from "../lib/yaml.ts";
import { distros } from "./distro.ts";
import { type Recipe, recipeSchema } from "./recipe-schema.ts";

export type { Recipe } from "./recipe-schema.ts";

/** The names of the project's recipes. */
export function recipeNames(project: Project): string[] {
  if (!existsSync(project.images)) return [];
  return readdirSync(project.images)
    .filter((f) => f.endsWith(".yaml"))
    .map((f) => f.slice(0, -".yaml".length))
    .sort();
}

/**
 * Reads a recipe of the project.
 * @throws InputError with everything that is wrong in it, RefusedError when there is none of this name
 */
export function loadRecipe(project: Project, name: string): Recipe {
  const path = join(project.images, `${name}.yaml`);
  if (!existsSync(path)) {
    const near = nearest(name, recipeNames(project));
    throw new RefusedError(
      `there is no recipe ${relative(process.cwd(), path) || path}`,
      near ? `did you mean ${near}?` : `recipes here: ${recipeNames(project).join(", ") || "none"}`,
    );
  }
  const file = relative(process.cwd(), path);
  const text = readFileSync(path, "utf8");
  const { recipe, diagnostics } = parseRecipe(file, name, text);
  if (!recipe) throw new InputError(diagnostics, new Map([[file, text]]));
  return recipe;
}

/** The recipe that `text` declares, or what is wrong with it. */
export function parseRecipe(file: string, name: string, text: string): { recipe?: Recipe; diagnostics: Diagnostic[] } {
  const yaml = parseYaml(file, text);
  if (yaml.diagnostics.length) return { diagnostics: yaml.diagnostics };
  const value = structuredClone(yaml.value);
  const wrong = validate(yaml, value, recipeSchema, validators.recipe);
  if (wrong.length) return { diagnostics: wrong };
  const recipe = value as Recipe;
  const diagnostics = contradictions(recipe, name, yaml);
  return diagnostics.length ? { diagnostics } : { recipe, diagnostics };
}

/** What no schema can say: names that must agree, and numbers that must be one's own. Codes ING17xx. */
function contradictions(recipe: Recipe, name: string, yaml: YamlFile): Diagnostic[] {
  const found: Diagnostic[] = [];
  const say = (code: string, path: Path, message: string, hint?: string, related?: Path) =>
    found.push(
      diagnostic(code, yaml.rangeOf(path), message, {
        hint,
        related: related ? [{ message: "the first one", range: yaml.rangeOf(related) }] : [],
      }),
    );
  if (recipe.image !== name)
    say("ING1701", ["image"], `the image is called \`${recipe.image}\`, its file ${name}.yaml`, "give both the same name");
  const releases = distros[recipe.distro].releases;
  if (!releases.includes(recipe.release)) {
    const near = nearest(recipe.release, releases);
    say(
      "ING1702",
      ["release"],
      `${recipe.distro} has no release \`${recipe.release}\` that Ingot knows`,
      near ? `did you mean \`${near}\`?` : `known: ${releases.join(", ")}`,
    );
  }
  for (const [key, values] of [
    ["packages", recipe.packages],
    ["disabled", recipe.disabled],
    ["locales", recipe.locales],
  ] as const) {
    values.forEach((value, i) => {
      const first = values.indexOf(value);
      if (first < i) say("ING1703", [key, i], `\`${value}\` is listed twice`, "remove one of them", [key, first]);
    });
  }
  const owners = new Map<number, Path>();
  for (const [path, number] of [
    ...Object.entries(recipe.users).map(([n, u]): [Path, number] => [["users", n, "uid"], u.uid]),
    ...Object.entries(recipe.groups).map(([n, gid]): [Path, number] => [["groups", n], gid]),
  ]) {
    const first = owners.get(number);
    if (first)
      say("ING1704", path, `${number} is the number of \`${first[1]}\` already`, "every user and group has a number of its own", first);
    else owners.set(number, path);
  }
  for (const group of Object.keys(recipe.groups)) {
    if (group in recipe.users)
      say("ING1705", ["groups", group], `the group \`${group}\` comes with the user \`${group}\``, "remove it here", ["users", group]);
  }
  return found;
}
