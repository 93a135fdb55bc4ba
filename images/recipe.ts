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
 * Reads a recipe of the project, with all that it takes from those that it extends.
 * @param trail recipes that are being read because they extend this one
 * @throws InputError with everything that is wrong in it, RefusedError when there is none of this name
 */
export function loadRecipe(project: Project, name: string, trail: string[] = []): Recipe {
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
  const { recipe, diagnostics } = parseRecipe(file, name, text, (base) => loadBase(project, base, [...trail, name]));
  if (!recipe) throw new InputError(diagnostics, new Map([[file, text]]));
  return recipe;
}

/** The recipe that another extends; in words, why it cannot be. */
function loadBase(project: Project, name: string, trail: string[]): Recipe | { wrong: string; hint?: string } {
  if (trail.includes(name)) return { wrong: `a cycle: ${[...trail, name].join(" extends ")}` };
  try {
    return loadRecipe(project, name, trail);
  } catch (error) {
    if (error instanceof RefusedError) return { wrong: `there is no recipe \`${name}\``, hint: error.hint };
    if (error instanceof InputError) return { wrong: `${name} has errors itself`, hint: `ingot validate says which` };
    throw error;
  }
}

type Base = (name: string) => Recipe | { wrong: string; hint?: string };

/** The recipe that `text` declares, or what is wrong with it. */
export function parseRecipe(file: string, name: string, text: string, base?: Base): { recipe?: Recipe; diagnostics: Diagnostic[] } {
  const yaml = parseYaml(file, text);
  if (yaml.diagnostics.length) return { diagnostics: yaml.diagnostics };
  const value = structuredClone(yaml.value);
  const under = baseOf(value, yaml, base);
  if (under && "code" in under) return { diagnostics: [under] };
  const whole = under ? over(value as Record<string, unknown>, under) : value;
  const wrong = validate(yaml, whole, recipeSchema, validators.recipe);
  if (wrong.length) return { diagnostics: wrong };
  const recipe = whole as Recipe;
  const diagnostics = contradictions(recipe, name, yaml, under);
  return diagnostics.length ? { diagnostics } : { recipe, diagnostics };
}

/** What `extends:` names. */
function baseOf(value: unknown, yaml: YamlFile, base: Base | undefined): Recipe | Diagnostic | undefined {
  const name = value && typeof value === "object" && !Array.isArray(value) && "extends" in value ? value.extends : undefined;
  if (name === undefined) return undefined;
  const found = typeof name === "string" && base ? base(name) : { wrong: "`extends:` takes the name of a recipe" };
  return "wrong" in found ? diagnostic("ING1706", yaml.rangeOf(["extends"]), found.wrong, { hint: found.hint }) : found;
}

const lists = ["packages", "locales", "disabled"] as const;
const maps = ["archives", "users", "groups", "files"] as const;

/** A recipe on top of another: lists and maps are added to, everything else is its own or the other's. Its own entries come first. */
function over({ extends: _, ...own }: Record<string, unknown>, base: Recipe): unknown {
  const merged: Record<string, unknown> = { ...base, ...own, image: own.image };
  for (const key of lists) if (Array.isArray(own[key])) merged[key] = [...own[key], ...base[key]];
  for (const key of maps) {
    const given = own[key];
    if (given && typeof given === "object" && !Array.isArray(given)) merged[key] = { ...base[key], ...given };
  }
  // What it says nothing of is missing, and not undefined.
  return Object.fromEntries(Object.entries(merged).filter(([, v]) => v !== undefined));
}

/** What no schema can say: names that must agree, and numbers that must be one's own. Codes ING17xx. */
function contradictions(recipe: Recipe, name: string, yaml: YamlFile, base: Recipe | undefined): Diagnostic[] {
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
  for (const key of ["distro", "release", "architecture"] as const)
    if (base && recipe[key] !== base[key])
      say("ING1706", [key], `${base.image} is for ${base[key]}, and this is for ${recipe[key]}`, `leave \`${key}:\` out`);
  for (const key of maps)
    for (const entry of Object.keys(base?.[key] ?? {}))
      if (key !== "files" && base && JSON.stringify(recipe[key][entry]) !== JSON.stringify(base[key][entry]))
        say(
          "ING1706",
          [key, entry],
          `\`${entry}\` is otherwise in ${base.image}`,
          "what a recipe extends stays as it is there: remove it here, or give it another name",
        );
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
      const own = values.length - (base?.[key].length ?? 0);
      if (first < own && i >= own) say("ING1703", [key, first], `\`${value}\` is in ${base?.image} already`, "remove it here");
      else if (first < i) say("ING1703", [key, i], `\`${value}\` is listed twice`, "remove one of them", [key, first]);
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
