// Two bakes of one lock give the same tree, the same layers and the same disk: made in folders of other names, one after the other. With INGOT_TEST_LONG alone: what is short of it,
// a small recipe baked from nothing in another folder, is in bake-layers.e2e.test.ts.
import { cpSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { bake } from "../../images/bake.ts";
import { makeDisk } from "../../images/disk.ts";
import type { Image } from "../../images/image.ts";
import { layerFolder } from "../../images/layers.ts";
import { lockPath } from "../../images/lock.ts";
import { type Project, projectAt, toolFolder } from "../../lib/paths.ts";
import { silent } from "../../lib/progress.ts";
import { asRoot, run } from "../../lib/run.ts";
import { suite } from "../suite.ts";
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

const listing = (root: string): string[] => readFileSync(join(root, "../files"), "utf8").split("\n");
/** The lines that one has and the other has not: what differs, and nothing else. */
const apart = (some: string[], others: string[]): string[] => {
  const known = new Set(others);
  return some.filter((line) => !known.has(line));
};

/** Both trees have the same in them. */
async function same(one: string, two: string): Promise<void> {
  assert.is.not(one, two);
  assert.equal([apart(listing(one), listing(two)), apart(listing(two), listing(one))], [[], []]);
  // Not by our own listing alone; of device nodes diff says that they differ, whatever they are.
  await run(asRoot(["diff", "--recursive", "--no-dereference", "--exclude=dev", one, two]));
}

/** @param made gives the image of the project's recipe, and what else is to be the same, byte for byte */
async function bakedTwice(
  name: string,
  made: (project: Project) => Promise<{ image: Image; files: string[] }>,
  recipes?: Record<string, string>,
): Promise<void> {
  const one = another(recipes);
  const two = another(recipes);
  try {
    const first = await made(one.project);
    writeFileSync(lockPath(two.project, name), readFileSync(lockPath(one.project, name)));
    const second = await made(two.project);
    assert.is(first.image.digest, second.image.digest);
    assert.is(first.image.manifest.tree, second.image.manifest.tree);
    assert.equal(first.image.manifest.layers, second.image.manifest.layers);
    await same(first.image.root, second.image.root);
    for (const key of first.image.manifest.layers)
      await same(join(layerFolder(one.project, key), "root"), join(layerFolder(two.project, key), "root"));
    for (const [i, file] of first.files.entries()) await run(["cmp", file, second.files[i] ?? ""]);
  } finally {
    for (const { project, remove } of [one, two]) {
      await run(asRoot(["rm", "-rf", "--one-file-system", project.store]));
      remove();
    }
  }
}

const test = suite("the same bake twice");

const inLong = process.env.INGOT_TEST_LONG ? test : test.skip;
inLong("a small recipe gives the same tree and layers, file for file", () =>
  bakedTwice("small", async (project) => ({ image: (await bake(project, "small", { progress: silent })).image, files: [] }), {
    small: smallRecipe,
  }),
);
inLong("debian-12 gives the same tree and layers, file for file, and the same disk, bit for bit", () =>
  bakedTwice("debian-12", async (project) => {
    const { image, path } = await makeDisk(project, "debian-12", "raw", { locked: true, progress: silent });
    return { image, files: [path] };
  }),
);

test.run();
