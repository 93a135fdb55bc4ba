// Whatever stands in a stack's file, the answer is a model or a list of diagnostics: never a stack trace.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { dump, load } from "js-yaml";
import * as assert from "uvu/assert";
import { compile } from "../../cloud-init/compile.ts";
import type { ImageOffer } from "../../cloud-init/kind.ts";
import { diagnostic, format, InputError } from "../../lib/diagnostics.ts";
import { toolFolder } from "../../lib/paths.ts";
import { parseYaml } from "../../lib/yaml.ts";
import { suite } from "../suite.ts";
import { around, modelOfText, stackWith } from "./fixtures.ts";

const test = suite("model");
fc.configureGlobal({ includeErrorInReport: true });
type Tree = null | boolean | number | string | Tree[] | { [key: string]: Tree };

const inloop = readFileSync(join(toolFolder, "stacks/inloop.yaml"), "utf8");
const tree = load(inloop) as Tree;

/** Every place in a value. */
const placesIn = (value: Tree, path: (string | number)[] = []): (string | number)[][] => [
  path,
  ...(value && typeof value === "object"
    ? Object.keys(value).flatMap((k) =>
        placesIn((value as Record<string, Tree>)[k] ?? null, [...path, Array.isArray(value) ? Number(k) : k]),
      )
    : []),
];
const places = placesIn(tree).filter((p) => p.length > 0);

function changed(root: Tree, path: (string | number)[], change: (old: Tree) => Tree | undefined): Tree {
  const copy = structuredClone(root);
  const parent = path.slice(0, -1).reduce<Tree>((v, part) => (v as Record<string, Tree>)[part] ?? null, copy);
  if (!parent || typeof parent !== "object") return copy;
  const last = path.at(-1) ?? "";
  const made = change((parent as Record<string, Tree>)[last] ?? null);
  if (made === undefined) delete (parent as Record<string, Tree>)[last];
  else (parent as Record<string, Tree>)[last] = made;
  return copy;
}

/** The diagnostics of a text; every one of them is looked at. */
function wrongIn(text: string): number {
  try {
    compile(modelOfText(text));
    return 0;
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    assert.ok(error.diagnostics.length > 0);
    for (const d of error.diagnostics) {
      assert.ok(d.range.start.offset >= 0 && d.range.end.offset <= text.length && d.range.start.offset <= d.range.end.offset, d.message);
      assert.match(d.code, /^ING\d{4}$/);
      assert.not.match(`${d.message} ${d.hint ?? ""}`, /undefined|\[object|NaN/);
      assert.ok(format(d, error.sources).includes(d.message));
    }
    return error.diagnostics.length;
  }
}

const leaf = fc.oneof(
  fc.constantFrom<Tree>(
    null,
    true,
    0,
    -1,
    1.5,
    "",
    " ",
    "/",
    "x",
    "yes",
    "web",
    "a/b",
    "service/gunicorn",
    "../x",
    "'",
    "$",
    "\u0000",
    "é",
    "__proto__",
    "constructor",
    "database/inloop.url",
    [],
    {},
    [null],
    [[]],
    { from: "" },
    { from: "a" },
    { from: "site/inloop.x" },
    { from: null },
    { secret: "" },
    { secret: "../x" },
    { var: "domain" },
    { var: "nope" },
    { var: null },
    { value: "x", plain: true },
    { a: { b: null } },
  ),
  fc.string({ maxLength: 12 }),
  fc.integer(),
);

test("one value of a stack replaced by anything gives diagnostics or a model", () => {
  fc.assert(
    fc.property(fc.constantFrom(...places), leaf, (path, value) => void wrongIn(dump(changed(tree, path, () => structuredClone(value))))),
    // Once found by chance: an application without anything, whose static files a site serves.
    { numRuns: 300, examples: [[["hosts", "web", "applications", "inloop"], null]] },
  );
});

test("one key of a stack removed, or moved to another place, gives diagnostics or a model", () => {
  for (const path of places) wrongIn(dump(changed(tree, path, () => undefined)));
  fc.assert(
    fc.property(fc.constantFrom(...places), fc.constantFrom(...places), (from, to) => {
      const value = from.reduce<Tree>((v, part) => (v as Record<string, Tree>)[part] ?? null, tree);
      wrongIn(dump(changed(tree, to, () => structuredClone(value))));
    }),
    { numRuns: 100 },
  );
});

test("a stack cut off anywhere, or with a character too many, gives diagnostics or a model", () => {
  fc.assert(
    fc.property(
      fc.nat(inloop.length),
      fc.constantFrom("", "\t", "\n", ":", "{", "[", '"', "'", "- ", "&a ", "*a", "!!x ", "---\n", "\u0000", "\r"),
      fc.boolean(),
      (at, more, cut) => void wrongIn(`${inloop.slice(0, at)}${more}${cut ? "" : inloop.slice(at)}`),
    ),
    { numRuns: 300 },
  );
});

// --- What only a baked image can tell ---------------------------------------------------------------------------------------

/** What is wrong with a host on an image that offers this. */
function wrongOn(offer: Partial<ImageOffer>, keys: string): string[] {
  try {
    modelOfText(stackWith(keys), undefined, {
      ...around,
      image: (name) => {
        const known = around.image(name);
        return known && { ...known, ...offer };
      },
    });
    return [];
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    return error.diagnostics.map((d) => `${d.code} ${d.message}`);
  }
}

test("a service that would hide a unit of the image is refused", () => {
  const service = "services:\n  cron: { user: root, command: cron }\n";
  assert.equal(wrongOn({ units: new Set(["cron.service"]) }, service), ["ING1507 cron.service is a unit of the image debian-12 already"]);
  assert.equal(wrongOn({ units: new Set() }, service), []);
  assert.equal(wrongOn({}, service), []);
});

test("users and groups of the image can be named; others cannot", () => {
  const keys = "directories:\n  /srv/a: { owner: shop, group: sellers }\n";
  assert.equal(wrongOn({ users: new Set(["root", "shop"]), groups: new Set(["sellers"]) }, keys), []);
  assert.equal(wrongOn({ users: new Set(["root"]), groups: new Set(["sellers"]) }, keys), ["ING1203 web has no user `shop`"]);
});

test("a package's name that JavaScript knows is no package of the image", () =>
  assert.match(wrongOn({}, "packages:\n  constructor: {}\n")[0] ?? "", /^ING1301 package\/constructor needs the package constructor/));

test("what is wrong with the recipe is said along with what is wrong with the stack", () => {
  const recipe = parseYaml("images/debian-12.yaml", "image: other\n");
  const broken = diagnostic("ING1701", recipe.rangeOf(["image"]), "another name");
  try {
    modelOfText(stackWith("user: {}\n"), undefined, {
      ...around,
      image: () => {
        throw new InputError([broken], new Map([[recipe.file, recipe.text]]));
      },
    });
    assert.unreachable();
  } catch (error) {
    assert.instance(error, InputError);
    assert.equal(
      (error as InputError).diagnostics.map((d) => `${d.range.file} ${d.code}`),
      ["stacks/test.yaml ING1101", "images/debian-12.yaml ING1701"],
    );
    assert.is((error as InputError).sources.get("images/debian-12.yaml"), "image: other\n");
  }
});

test.run();
