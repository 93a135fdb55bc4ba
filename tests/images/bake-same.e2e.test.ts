// Two bakes of one lock give the same tree: made in folders of other names, one after the other. With INGOT_TEST_LONG alone: what is short of it,
// a small recipe baked from nothing in another folder, is in bake-layers.e2e.test.ts.
import { cpSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { bake } from "../../images/bake.ts";
import type { Image } from "../../images/image.ts";
import { lockPath } from "../../images/lock.ts";
import { projectAt, toolFolder } from "../../lib/paths.ts";
import { silent } from "../../lib/progress.ts";
import { asRoot, run } from "../../lib/run.ts";
import { smallRecipe, temporaryProject } from "./fixtures.ts";

const own = projectAt(toolFolder);
process.env.INGOT_CACHE ??= own.cache;

/** A project of its own with this clone's recipes and locks. */
function another(recipes?: Record<string, string>): ReturnType<typeof temporaryProject> {
  const made = temporaryProject(recipes ?? {});
  if (!recipes)
    for (const file of readdirSync(own.images).filter((f) => /\.(yaml|lock\.json)$/.test(f)))
      cpSync(join(own.images, file), join(made.project.images, file));
  return made;
}

const listing = (image: Image): string[] => readFileSync(join(image.root, "../files"), "utf8").split("\n");
/** The lines that one has and the other has not: what differs, and nothing else. */
const apart = (some: string[], others: string[]): string[] => {
  const known = new Set(others);
  return some.filter((line) => !known.has(line));
};

async function bakedTwice(name: string, recipes?: Record<string, string>): Promise<void> {
  const one = another(recipes);
  const two = another(recipes);
  try {
    const first = (await bake(one.project, name, { progress: silent })).image;
    writeFileSync(lockPath(two.project, name), readFileSync(lockPath(one.project, name)));
    const second = (await bake(two.project, name, { progress: silent })).image;
    assert.is(first.digest, second.digest);
    assert.is.not(first.root, second.root);
    assert.equal([apart(listing(first), listing(second)), apart(listing(second), listing(first))], [[], []]);
    assert.is(first.manifest.tree, second.manifest.tree);
    // Not by our own listing alone; of device nodes diff says that they differ, whatever they are.
    await run(asRoot(["diff", "--recursive", "--no-dereference", "--exclude=dev", first.root, second.root]));
  } finally {
    for (const { project, remove } of [one, two]) {
      await run(asRoot(["rm", "-rf", "--one-file-system", project.store]));
      remove();
    }
  }
}

const test = suite("the same bake twice");

const inLong = process.env.INGOT_TEST_LONG ? test : test.skip;
inLong("a small recipe gives the same tree, file for file", () => bakedTwice("small", { small: smallRecipe }));
inLong("debian-12 gives the same tree, file for file", () => bakedTwice("debian-12"));

test.run();
