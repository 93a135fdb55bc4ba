// A recipe (`images/<name>.yaml`): what is the same on every host. Its shape, how it is read, and what is wrong with it.
// `validate` calls this, so it loads neither zx nor a schema library.

import { validators } from "ingot:validators";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { type Diagnostic, diagnostic, InputError, nearest, type Range, RefusedError } from "../lib/diagnostics.ts";
import type { Project } from "../lib/paths.ts";
import { validate, valueAt } from "../lib/schema.ts";
import { type Path, parseYaml, type YamlFile } from "../lib/yaml.ts";
import { capabilities } from "./capabilities/index.ts";
import type { Brought, Capability } from "./capability.ts";
import { distros, type Release } from "./distro.ts";
import { bytesOf } from "./lock.ts";
import { type Archive, type Declared, type Recipe, recipeSchema, type Script } from "./recipe-schema.ts";

export type { Recipe } from "./recipe-schema.ts";

/** The names of the project's recipes. */
export function recipeNames(project: Project): string[] {
  if (!existsSync(project.images)) return [];
  return (
    readdirSync(project.images)
      // Where they go is no recipe (release.ts).
      .filter((f) => f.endsWith(".yaml") && f !== "release.yaml")
      .map((f) => f.slice(0, -".yaml".length))
      .sort()
  );
}

/**
 * Reads a recipe of the project, with all that it takes from those that it extends and from its capabilities.
 * @throws InputError with everything that is wrong in it, RefusedError when there is none of this name
 */
export function loadRecipe(project: Project, name: string): Recipe {
  return load(project, name).recipe;
}

/** @param trail recipes that are being read because they extend this one */
function load(project: Project, name: string, trail: string[] = []): { declared: Declared; recipe: Recipe } {
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
  const { declared, recipe, diagnostics } = parseRecipe(file, name, text, {
    base: (base) => loadBase(project, base, [...trail, name]),
    folder: project.images,
  });
  if (!recipe || !declared) throw new InputError(diagnostics, new Map([[file, text]]));
  return { declared, recipe };
}

/** The recipe that another extends; in words, why it cannot be. */
function loadBase(project: Project, name: string, trail: string[]): Declared | { wrong: string; hint?: string } {
  if (trail.includes(name)) return { wrong: `a cycle: ${[...trail, name].join(" extends ")}` };
  try {
    return load(project, name, trail).declared;
  } catch (error) {
    if (error instanceof RefusedError) return { wrong: `there is no recipe \`${name}\``, hint: error.hint };
    if (error instanceof InputError) return { wrong: `${name} has errors itself`, hint: `ingot validate says which` };
    throw error;
  }
}

/** The recipe that one of the project extends, as its file says. */
export function extendedBy(project: Project, name: string): string | undefined {
  const path = join(project.images, `${name}.yaml`);
  const { value } = parseYaml(path, readFileSync(path, "utf8"));
  return value && typeof value === "object" && "extends" in value && typeof value.extends === "string" ? value.extends : undefined;
}

/** Where a recipe says something, itself or by what it extends; with the text of the file. */
export function placeOf(project: Project, name: string, path: Path): { range: Range; sources: Map<string, string> } {
  const file = relative(process.cwd(), join(project.images, `${name}.yaml`));
  const text = readFileSync(file, "utf8");
  const yaml = parseYaml(file, text);
  const base = extendedBy(project, name);
  if (base !== undefined && valueAt(yaml.value, path) === undefined) return placeOf(project, base, path);
  return { range: yaml.rangeOf(path), sources: new Map([[file, text]]) };
}

/** What lies around a recipe's text. */
interface Around {
  base?(name: string): Declared | { wrong: string; hint?: string };
  /** Where the files lie that it names. */
  folder?: string;
}

/** The recipe that `text` declares, or what is wrong with it. */
export function parseRecipe(
  file: string,
  name: string,
  text: string,
  around: Around = {},
): { declared?: Declared; recipe?: Recipe; diagnostics: Diagnostic[] } {
  const yaml = parseYaml(file, text);
  if (yaml.diagnostics.length) return { diagnostics: yaml.diagnostics };
  const value = structuredClone(yaml.value);
  const under = baseOf(value, yaml, around);
  if (under && "code" in under) return { diagnostics: [under] };
  const whole = under ? over(value as Record<string, unknown>, under) : value;
  const wrong = validate(yaml, whole, recipeSchema, validators.recipe);
  if (wrong.length) return { diagnostics: wrong };
  const declared = whole as Declared;
  const found = contradictions(declared, name, yaml, under);
  if (found.length) return { diagnostics: found };
  const keys = keysOf(declared, yaml, around);
  const scripts = scriptsOf(declared, yaml, around);
  const recipe = expanded(declared, keys.keys, scripts.scripts);
  const diagnostics = [...keys.diagnostics, ...scripts.diagnostics, ...numbersTwice(recipe, yaml)];
  return diagnostics.length ? { diagnostics } : { declared, recipe, diagnostics };
}

/** What `extends:` names. */
function baseOf(value: unknown, yaml: YamlFile, { base }: Around): Declared | Diagnostic | undefined {
  const name = value && typeof value === "object" && !Array.isArray(value) && "extends" in value ? value.extends : undefined;
  if (name === undefined) return undefined;
  const found = typeof name === "string" && base ? base(name) : { wrong: "`extends:` takes the name of a recipe" };
  return "wrong" in found ? diagnostic("ING1706", yaml.rangeOf(["extends"]), found.wrong, { hint: found.hint }) : found;
}

const lists = ["packages", "locales", "disabled", "enabled", "setuid"] as const;
const maps = ["archives", "capabilities", "users", "groups", "files", "sysctl", "disk"] as const;
/** Of which what is extended stays as it is. */
const fixed = ["archives", "capabilities", "users", "groups"] as const;

/** A recipe on top of another: lists and maps are added to, everything else is its own or the other's. Its own entries come first. */
function over({ extends: _, ...own }: Record<string, unknown>, base: Declared): unknown {
  const merged: Record<string, unknown> = { ...base, ...own, image: own.image };
  for (const key of lists) if (Array.isArray(own[key])) merged[key] = [...own[key], ...base[key]];
  // In the order in which they are run.
  if (Array.isArray(own.provision)) merged.provision = [...base.provision, ...own.provision];
  for (const key of maps) {
    const given = own[key];
    if (given && typeof given === "object" && !Array.isArray(given)) merged[key] = { ...base[key], ...given };
  }
  // What it says nothing of is missing, and not undefined.
  return Object.fromEntries(Object.entries(merged).filter(([, v]) => v !== undefined));
}

/** What no schema can say: names that must agree, and what a release has not. Codes ING17xx. */
function contradictions(recipe: Declared, name: string, yaml: YamlFile, base: Declared | undefined): Diagnostic[] {
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
  for (const key of ["distro", "release"] as const)
    if (base && recipe[key] !== base[key])
      say("ING1706", [key], `${base.image} is for ${base[key]}, and this is for ${recipe[key]}`, `leave \`${key}:\` out`);
  for (const key of fixed)
    for (const [entry, before] of Object.entries(base?.[key] ?? {}))
      if (base && JSON.stringify(recipe[key][entry as keyof (typeof recipe)[typeof key]]) !== JSON.stringify(before))
        say(
          "ING1706",
          [key, entry],
          `\`${entry}\` is otherwise in ${base.image}`,
          "what a recipe extends stays as it is there: remove it here, or give it another name",
        );
  const { releases, snapshots } = distros[recipe.distro];
  if (!(recipe.release in releases)) {
    const near = nearest(recipe.release, Object.keys(releases));
    say(
      "ING1702",
      ["release"],
      `${recipe.distro} has no release \`${recipe.release}\` that Ingot knows`,
      near ? `did you mean \`${near}\`?` : `known: ${Object.keys(releases).join(", ")}`,
    );
    return found;
  }
  for (const [entry, chosen] of Object.entries(recipe.capabilities)) {
    const choices = choicesOf(recipe, entry);
    if (chosen !== true && !choices?.includes(String(chosen)))
      say(
        "ING1707",
        ["capabilities", entry],
        `${recipe.distro} ${recipe.release} has ${entry} as ${choices?.join(" and ")}, and not as ${chosen}`,
        "take what it has; others come from an archive of their makers', which is declared in `archives:`, and then by name in `packages:`",
      );
  }
  const bringer = (key: "packages" | "disabled", value: string) =>
    Object.keys(recipe.capabilities).find((entry) => broughtBy(recipe, entry)[key]?.includes(value));
  for (const [key, values] of [
    ["packages", recipe.packages],
    ["disabled", recipe.disabled],
    ["enabled", recipe.enabled],
    ["locales", recipe.locales],
    ["leave_out", recipe.leave_out as string[]],
  ] as const) {
    values.forEach((value, i) => {
      const first = values.indexOf(value);
      // What is left out is not added to: one list is in the place of the other.
      const own = values.length - (key === "leave_out" ? 0 : (base?.[key].length ?? 0));
      const by = (key !== "packages" && key !== "disabled") || i >= own ? undefined : bringer(key, value);
      if (first < own && i >= own) say("ING1703", [key, first], `\`${value}\` is in ${base?.image} already`, "remove it here");
      else if (first < i) say("ING1703", [key, i], `\`${value}\` is listed twice`, "remove one of them", [key, first]);
      else if (by) say("ING1703", [key, i], `\`${value}\` comes with the capability \`${by}\``, "remove it here", ["capabilities", by]);
    });
  }
  recipe.enabled.forEach((unit, i) => {
    const off = recipe.disabled.indexOf(unit);
    if (off >= 0 && off < recipe.disabled.length - (base?.disabled.length ?? 0))
      say("ING1703", ["enabled", i], `\`${unit}\` is to be started at boot, and is in \`disabled:\``, "take it out of one of them", [
        "disabled",
        off,
      ]);
  });
  if (bytesOf(recipe.disk.esp) < bytesOf("32MiB"))
    say(
      "ING1712",
      ["disk", "esp"],
      `${recipe.disk.esp} is too little: what boots by UEFI needs 32MiB`,
      "write `esp: 64MiB`, or leave it out",
    );
  if (recipe.snapshot !== undefined)
    for (const [entry, a] of Object.entries(recipe.archives))
      if (a.key === undefined && !(a.mirror in snapshots))
        say(
          "ING1709",
          ["archives", entry, "mirror"],
          `nobody keeps the past of ${a.mirror}, and \`snapshot:\` asks for it`,
          `take ${Object.keys(snapshots).join(" or ")}: a mirror of this computer's is used by itself where there is no \`snapshot:\``,
        );
  return found;
}

const choicesOf = (recipe: Declared, capability: string): readonly string[] | undefined =>
  (capabilities as Record<string, Capability>)[capability]?.choices?.[recipe.release as Release];

function broughtBy({ distro, release, architecture, capabilities: wanted }: Declared, name: string): Brought {
  const capability = (capabilities as Record<string, Capability>)[name];
  const chosen = wanted[name as keyof typeof wanted];
  const choice = chosen === true ? (capability?.choices?.[release as Release][0] ?? "") : String(chosen);
  return capability?.brings({ distro, release: release as Release, architecture, choice }) ?? { packages: [] };
}

/** With what capabilities bring and the distribution's archives. What the recipe itself says of an account or a file counts. */
function expanded(declared: Declared, keys: Record<string, string>, provision: Script[]): Recipe {
  const { capabilities: wanted, archives, sysctl, ...rest } = declared;
  const release = declared.release as Release;
  const brought = Object.keys(wanted).map((name) => broughtBy(declared, name));
  const all = <K extends "users" | "groups">(key: K): Recipe[K] => Object.assign({}, ...brought.map((b) => b[key]), declared[key]);
  const own = Object.entries(archives).map(([name, a]): [string, Archive] => {
    const { key: _, ...archive } = a;
    return [name, { ...archive, ...(keys[name] !== undefined && { key: keys[name] }) }];
  });
  return {
    ...rest,
    release,
    provision,
    archives: { ...distros[declared.distro].archives(release, declared.architecture), ...Object.fromEntries(own) },
    packages: [...new Set([...declared.packages, ...brought.flatMap((b) => b.packages)])],
    disabled: [...new Set([...declared.disabled, ...brought.flatMap((b) => b.disabled ?? [])])].filter(
      (u) => !declared.enabled.includes(u),
    ),
    users: all("users"),
    groups: all("groups"),
    files: { ...Object.assign({}, ...brought.map((b) => b.files && earlyOf(b.files))), ...declared.files, ...sysctlFile(sysctl) },
  };
}

/** A capability's files are there for the scripts of its packages to find. */
const earlyOf = (files: NonNullable<Brought["files"]>): Recipe["files"] =>
  Object.fromEntries(Object.entries(files).map(([path, file]) => [path, { ...file, early: true }]));

/** After those of packages, so that these count. */
function sysctlFile(settings: Declared["sysctl"]): Recipe["files"] {
  const content = Object.entries(settings).map(([name, value]) => `${name} = ${value}\n`);
  return content.length ? { "/etc/sysctl.d/90-recipe.conf": { content: content.join(""), mode: "0644", early: false } } : {};
}

/** The keys that the archives' files hold, by the archives' names. */
function keysOf(recipe: Declared, yaml: YamlFile, { folder = "" }: Around): { keys: Record<string, string>; diagnostics: Diagnostic[] } {
  const keys: Record<string, string> = {};
  const diagnostics: Diagnostic[] = [];
  for (const [name, { key }] of Object.entries(recipe.archives)) {
    if (key === undefined) continue;
    const path = join(folder, key);
    const text = existsSync(path) ? readFileSync(path, "utf8") : undefined;
    const [message, hint] =
      text === undefined
        ? [`there is no file \`${key}\` beside the recipe`]
        : /PRIVATE KEY/.test(text)
          ? [`${key} holds a private key`, "name the public one"]
          : !/^-----BEGIN PGP PUBLIC KEY BLOCK-----$/m.test(text)
            ? [`${key} is no public key in ASCII armor`, "write it by `gpg --armor --export`"]
            : [];
    if (message) diagnostics.push(diagnostic("ING1708", yaml.rangeOf(["archives", name, "key"]), message, { hint }));
    else keys[name] = text ?? "";
  }
  return { keys, diagnostics };
}

/** The scripts that the recipe names. Those of a recipe that it extends come first, and were looked at there. */
function scriptsOf(recipe: Declared, yaml: YamlFile, { folder = "" }: Around): { scripts: Script[]; diagnostics: Diagnostic[] } {
  const diagnostics: Diagnostic[] = [];
  const value = yaml.value as { provision?: unknown[] };
  const inherited = recipe.provision.length - (value.provision?.length ?? 0);
  const say = (code: string, path: Path, message: string, hint?: string) => {
    diagnostics.push(diagnostic(code, yaml.rangeOf(path), message, { hint }));
  };
  const scripts = recipe.provision.map(({ script, variables }, i): Script => {
    const path = ["provision", i - inherited];
    const file = join(folder, "provision", script);
    const content = existsSync(file) ? readFileSync(file, "utf8") : undefined;
    if (content === undefined) {
      const near = nearest(script, existsSync(join(folder, "provision")) ? readdirSync(join(folder, "provision")) : []);
      say("ING1710", [...path, "script"], `there is no script images/provision/${script}`, near && `did you mean \`${near}\`?`);
    } else {
      if (!content.startsWith("#!"))
        say("ING1710", [...path, "script"], `images/provision/${script} does not say what runs it`, "begin it with `#!/bin/sh`");
      for (const name of Object.keys(variables))
        if (!new RegExp(`\\b${name}\\b`).test(content))
          say(
            "ING1711",
            [...path, "variables", name],
            `images/provision/${script} makes no use of \`${name}\``,
            "remove it here, or use it there",
          );
    }
    return { script, content: content ?? "", variables: Object.fromEntries(Object.entries(variables).map(([k, v]) => [k, String(v)])) };
  });
  return { scripts, diagnostics };
}

/** Every user and group has a number of its own, those that capabilities bring among them. */
function numbersTwice(recipe: Recipe, yaml: YamlFile): Diagnostic[] {
  const found: Diagnostic[] = [];
  const say = (code: string, path: Path, message: string, hint: string, related: Path) =>
    found.push(
      diagnostic(code, yaml.rangeOf(path), message, { hint, related: [{ message: "the first one", range: yaml.rangeOf(related) }] }),
    );
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
