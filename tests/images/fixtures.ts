// A small recipe, packages made by hand, and projects of their own in a temporary folder.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Manifest } from "../../images/image.ts";
import { type LockedPackage, type PackageLock, solvedPart } from "../../images/lock.ts";
import { parseRecipe, type Recipe } from "../../images/recipe.ts";
import { sha256 } from "../../lib/digest.ts";
import { type Project, projectAt } from "../../lib/paths.ts";

/** What every recipe called `small` begins with. */
export const smallHead = `image: small
distro: debian
release: bookworm
architecture: amd64
archives:
  main: { mirror: http://deb.debian.org/debian, suites: [bookworm, bookworm-updates], components: [main] }
  security: { mirror: http://security.debian.org/debian-security, suites: [bookworm-security], components: [main] }
`;

/** The smallest image that boots: some 95 packages, baked in a few seconds. */
export const smallRecipe = `${smallHead}packages: [sudo]
disabled: [apt-daily.timer]
files:
  /etc/motd: { content: "hello\\n" }
`;

export function recipeOf(text: string): Recipe {
  const { recipe, diagnostics } = parseRecipe("images/small.yaml", "small", text);
  if (!recipe) throw new Error(diagnostics.map((d) => d.message).join("\n"));
  return recipe;
}

export function locked(name: string, version: string): LockedPackage {
  const file = `pool/main/${name[0]}/${name}/${name}_${version}_amd64.deb`;
  return { name, version, architecture: "amd64", archive: "main", file, size: 1000, sha256: sha256(file) };
}

export function lockOf(recipe: Recipe, packages: LockedPackage[]): PackageLock {
  return { version: 1, image: recipe.image, solved: solvedPart(recipe), date: 1_700_000_000, packages };
}

/** The manifest of an image with nothing in it but what is said. */
export const manifestOf = (more: Pick<Manifest, "name" | "digest"> & Partial<Manifest>): Manifest => ({
  base: more.digest,
  distro: "debian",
  release: "bookworm",
  architecture: "amd64",
  baked: "",
  bakeSeconds: 0,
  tree: "",
  size: 0,
  packages: {},
  security: [],
  units: {},
  users: {},
  groups: {},
  binaries: [],
  files: {},
  versions: {},
  locales: [],
  layers: [],
  inputs: {},
  configureSeconds: 0,
  ...more,
});

/** A project below /var/tmp with one recipe; `remove` takes it away (its images need root for that, and are gone before). */
export function temporaryProject(recipes: Record<string, string> = { small: smallRecipe }): { project: Project; remove(): void } {
  const project = projectAt(mkdtempSync("/var/tmp/ingot-test-"));
  for (const folder of [project.images, project.stacks]) mkdirSync(folder);
  for (const [name, text] of Object.entries(recipes)) writeFileSync(join(project.images, `${name}.yaml`), text);
  return { project, remove: () => rmSync(project.folder, { recursive: true, force: true }) };
}
