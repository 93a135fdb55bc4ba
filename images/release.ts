// images/release.yaml: to which accounts and regions AMIs go. Read here, with what is wrong in it; done by stacks/aws/ami/release.ts.
import { validators } from "ingot:validators";
import { existsSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { type Diagnostic, diagnostic, InputError, nearest, RefusedError } from "../lib/diagnostics.ts";
import type { Project } from "../lib/paths.ts";
import { validate } from "../lib/schema.ts";
import { type Path, parseYaml } from "../lib/yaml.ts";
import { recipeNames } from "./recipe.ts";
import { type ReleaseDeclaration, releaseSchema } from "./release-schema.ts";

export const releaseFile = "release.yaml";

export interface ReleasePlace {
  account: string;
  /** undefined: the account that the AMIs are in. */
  role?: string;
  region: string;
  key?: string;
  channel?: "candidate" | "stable";
}

export interface Release {
  recipes: string[];
  /** undefined: the project's. */
  from?: string;
  places: ReleasePlace[];
}

/**
 * @param path @default images/release.yaml
 * @throws InputError with everything that is wrong in it, RefusedError when there is none
 */
export function loadRelease(project: Project, path = join(project.images, releaseFile)): Release {
  const file = relative(process.cwd(), path);
  if (!existsSync(path)) throw new RefusedError(`there is no ${file}`, "docs/images-on-aws.md shows one");
  const text = readFileSync(path, "utf8");
  const yaml = parseYaml(file, text);
  const value = yaml.value as ReleaseDeclaration;
  const found: Diagnostic[] = [...yaml.diagnostics];
  if (!found.length) found.push(...validate(yaml, value, releaseSchema, validators.release));
  if (!found.length)
    found.push(
      ...problems(
        value,
        recipeNames(project),
        (p) => yaml.rangeOf(p),
        (p) => yaml.keyRangeOf(p),
      ),
    );
  if (found.length) throw new InputError(found, new Map([[file, text]]));
  return { recipes: value.recipes, ...(value.from !== undefined && { from: value.from }), places: placesOf(value) };
}

type RangeOf = (path: Path) => Diagnostic["range"];

function problems(value: ReleaseDeclaration, recipes: string[], rangeOf: RangeOf, keyRangeOf: RangeOf): Diagnostic[] {
  const found: Diagnostic[] = [];
  value.recipes.forEach((name, i) => {
    const path = ["recipes", i];
    const near = nearest(name, recipes);
    if (!recipes.includes(name))
      found.push(
        diagnostic("ING1713", rangeOf(path), `there is no recipe \`${name}\``, {
          hint: near ? `did you mean \`${near}\`?` : `recipes here: ${recipes.join(", ") || "none"}`,
          ...(near !== undefined && { fix: { range: rangeOf(path), text: near } }),
        }),
      );
    else if (value.recipes.indexOf(name) !== i)
      found.push(diagnostic("ING1714", rangeOf(path), `\`${name}\` stands in the list a second time`));
  });
  const twice = (regions: string[] | undefined, path: Path) =>
    regions?.forEach((region, i) => {
      if (regions.indexOf(region) !== i)
        found.push(diagnostic("ING1714", rangeOf([...path, i]), `\`${region}\` stands in the list a second time`));
    });
  twice(value.regions, ["regions"]);
  const used = new Set<string>();
  for (const [account, own] of Object.entries(value.accounts)) {
    const regions = own.regions ?? value.regions;
    if (!regions)
      found.push(
        diagnostic("ING1715", keyRangeOf(["accounts", account]), `nothing says which regions of ${account} are meant`, {
          hint: "write `regions:` here, or at the top for all accounts",
        }),
      );
    twice(own.regions, ["accounts", account, "regions"]);
    for (const region of regions ?? []) used.add(region);
    if (typeof own.key === "object")
      for (const region of Object.keys(own.key))
        if (regions && !regions.includes(region)) found.push(keyless(region, keyRangeOf(["accounts", account, "key", region]), regions));
  }
  if (typeof value.key === "object")
    for (const region of Object.keys(value.key)) if (!used.has(region)) found.push(keyless(region, keyRangeOf(["key", region]), [...used]));
  return found;
}

function keyless(region: string, range: Diagnostic["range"], regions: string[]): Diagnostic {
  const near = nearest(region, regions);
  return diagnostic("ING1716", range, `a key is given for ${region}, and nothing is released there`, {
    hint: near ? `did you mean \`${near}\`?` : `regions: ${regions.join(", ")}`,
  });
}

function placesOf({ regions, key, channel, accounts }: ReleaseDeclaration): ReleasePlace[] {
  return Object.entries(accounts).flatMap(([account, own]) =>
    (own.regions ?? regions ?? []).map((region): ReleasePlace => {
      const keys = own.key ?? key;
      const keyHere = typeof keys === "object" ? keys[region] : keys;
      const channelHere = own.channel ?? channel;
      return {
        ...{ account, region },
        ...(own.role !== undefined && { role: own.role }),
        ...(keyHere !== undefined && { key: keyHere }),
        ...(channelHere !== undefined && { channel: channelHere }),
      };
    }),
  );
}
