import { appendFileSync, cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import * as assert from "uvu/assert";
import { digestsOf } from "../../images/digest.ts";
import { hostFiles, lateFiles } from "../../images/files.ts";
import { layersOf } from "../../images/layers.ts";
import type { PackageLock } from "../../images/lock.ts";
import type { Recipe } from "../../images/recipe.ts";
import { toolFolder } from "../../lib/paths.ts";
import { suite } from "../suite.ts";
import { locked, lockOf, recipeOf, smallRecipe } from "./fixtures.ts";

const test = suite("image digest");
const recipe = recipeOf(smallRecipe);
const lock = lockOf(recipe, [locked("cloud-init", "22.4.2"), locked("sudo", "1.9")]);
const digestOf = (r: Recipe, l: PackageLock, tool: string): string => digestsOf(r, l, hostFiles(tool), tool, layersOf(r, l, tool)).digest;
const digest = digestOf(recipe, lock, toolFolder);

/** A copy of what goes into the image from Ingot's own folder, with one file changed. */
function withTool(file: string, content: string): string {
  const tool = mkdtempSync("/var/tmp/ingot-tool-");
  try {
    for (const folder of ["cloud-init/host", "images/provision"]) cpSync(join(toolFolder, folder), join(tool, folder), { recursive: true });
    mkdirSync(dirname(join(tool, file)), { recursive: true });
    if (file) writeFileSync(join(tool, file), content);
    return digestOf(recipe, lock, tool);
  } finally {
    rmSync(tool, { recursive: true });
  }
}

test("the same inputs give the same digest, wherever Ingot lies", () => {
  assert.is(digestOf(recipeOf(smallRecipe), lockOf(recipe, [...lock.packages]), toolFolder), digest);
  assert.is(withTool("cloud-init/elsewhere", "not part of the image"), digest);
});

test("it changes with the recipe", () => {
  for (const [from, to] of [
    ["hello", "goodbye"],
    ["disabled: [apt-daily.timer]", "disabled: []"],
    ["packages: [sudo]", "packages: [sudo]\nlocales: [en_US.UTF-8]"],
    ["packages: [sudo]", "packages: [sudo]\nleave_out: [docs]"],
  ] as const)
    assert.is.not(digestOf(recipeOf(smallRecipe.replace(from, to)), lock, toolFolder), digest);
});

test("it does not change with what its disk is like", () =>
  assert.is(digestOf(recipeOf(`${smallRecipe}disk: { size: 8GiB, esp: 128MiB }\n`), lock, toolFolder), digest));

test("it does not change with a recipe's comments and order of keys", () => {
  const [first = "", ...rest] = smallRecipe.split("\n").filter(Boolean);
  assert.is(digestOf(recipeOf(`# why\n${rest.join("\n")}\n${first}\n`), lock, toolFolder), digest);
});

test("it changes with a package's version and file", () => {
  assert.is.not(digestOf(recipe, lockOf(recipe, [locked("cloud-init", "22.4.3"), locked("sudo", "1.9")]), toolFolder), digest);
});

test("it changes with every action, unit and provision script", () => {
  for (const file of ["cloud-init/host/actions/new.sh", "cloud-init/host/units/new.service", "images/provision/clean.sh"])
    assert.is.not(withTool(file, "#!/bin/sh\n"), digest, file);
});

test("every script makes the image another, and is known by what it makes", () => {
  const layers = (tool: string) => layersOf(recipe, lock, tool).map((l) => l.key);
  const before = layers(toolFolder);
  const changed = (script: string) => {
    const tool = mkdtempSync("/var/tmp/ingot-tool-");
    try {
      cpSync(join(toolFolder, "images/provision"), join(tool, "images/provision"), { recursive: true });
      appendFileSync(join(tool, "images/provision", script), "# changed\n");
      return layers(tool).filter((key) => !before.includes(key)).length;
    } finally {
      rmSync(tool, { recursive: true });
    }
  };
  assert.is(before.length, 2);
  // How many layers each of them makes: what no layer is made by (0) is part of the configuration alone.
  const made = { "base.sh": 2, "setup.sh": 2, "layer.sh": 2, "keep.py": 2, "clean.sh": 2, "times.sh": 2, "bake.sh": 2, "listing.py": 2 };
  const packages = { "packages.sh": 1, "plain.py": 1, "early.py": 1, "enter.sh": 1, "nothing.sh": 1, "py3compile.sh": 1 };
  const configuration = { "configure.sh": 0, "facts.sh": 0, "scripts.sh": 0 };
  const all = { ...made, ...packages, ...configuration };
  assert.equal(readdirSync(join(toolFolder, "images/provision")).sort(), Object.keys(all).sort());
  for (const [script, layers] of Object.entries(all)) assert.is(changed(script), layers, script);
});

test("what is left out is left out of every layer", () => {
  const keys = (leave_out: Recipe["leave_out"]) => layersOf({ ...recipe, leave_out }, lock, toolFolder).map((l) => l.key);
  const [all, less] = [keys(recipe.leave_out), keys(["docs"])];
  assert.is(all.length, 2);
  assert.equal(
    less.filter((key) => all.includes(key)),
    [],
  );
  assert.equal(keys(recipe.leave_out.toReversed()), all);
});

test("what extends a recipe begins with its layers, and has one of its own for what it adds", () => {
  const keys = (r: Recipe, l: PackageLock) => layersOf(r, l, toolFolder, [{ recipe, stages: 1 }]).map((layer) => layer.key);
  const below = layersOf(recipe, lock, toolFolder).map((layer) => layer.key);
  assert.equal(keys({ ...recipe, disabled: [] }, lock), below);
  const stages = { ...lock, packages: [...lock.packages, { ...locked("zstd", "1"), stage: 2 }] };
  const more: [string, Recipe, PackageLock][] = [
    ["a package", recipe, stages],
    ["a user", recipeOf(`${smallRecipe}users: { keeper: { uid: 650, home: /var/lib/keeper } }\n`), lock],
    ["a locale", { ...recipe, locales: ["de_DE.UTF-8"] }, lock],
    ["an early file", { ...recipe, files: { "/etc/early": { content: "x", mode: "0644", early: true } } }, lock],
  ];
  for (const [what, r, l] of more) {
    const found = keys(r, l);
    assert.equal(found.slice(0, -1), below, what);
    assert.is(found.length, below.length + 1, what);
  }
});

test("no file of the image holds an address that the recipe does not name", () => {
  const named = new Set(["deb.debian.org", "security.debian.org"]);
  const sources = lateFiles(recipe, lock).find((f) => f.path === "/etc/apt/sources.list");
  for (const [, host = ""] of String(sources?.content).matchAll(/https?:\/\/([^/\s]+)/g)) assert.ok(named.has(host), host);
});

test.run();
