// A project whose one recipe, `small`, counts as baked, with a disk of a few blocks: what an AMI is made of, without a bake.
import { closeSync, ftruncateSync, mkdirSync, openSync, writeFileSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import { imageDigests } from "../../../../images/digest.ts";
import { diskKey, toolsRecipe } from "../../../../images/disk-key.ts";
import type { Manifest } from "../../../../images/image.ts";
import { lockPath, lockText } from "../../../../images/lock.ts";
import { loadRecipe } from "../../../../images/recipe.ts";
import { imageAt } from "../../../../images/store.ts";
import type { Project } from "../../../../lib/paths.ts";
import { blockBytes } from "../../../ebs-server.ts";
import { locked, lockOf, smallRecipe, temporaryProject } from "../../../images/fixtures.ts";

export interface Tiny {
  project: Project;
  name: "small";
  digest: string;
  disk: string;
  /** Another version of the recipe, whose disk differs in its first block; gives its digest. */
  change(motd: string): string;
  remove(): void;
}

/** @param blocks of data, on a disk of 3 GiB */
export function tinyProject(blocks: number): Tiny {
  const { project, remove } = temporaryProject({ small: smallRecipe });
  const made = bake(project, blocks, 0);
  return {
    project,
    name: "small",
    ...made,
    change(motd) {
      writeFileSync(join(project.images, "small.yaml"), smallRecipe.replace("hello", motd));
      return bake(project, blocks, motd.length).digest;
    },
    remove,
  };
}

function bake(project: Project, blocks: number, mark: number): { digest: string; disk: string } {
  const recipe = loadRecipe(project, "small");
  writeFileSync(lockPath(project, "small"), lockText(lockOf(recipe, [locked("linux-image-cloud-amd64", "6.1")])));
  const tools = lockOf(toolsRecipe(recipe), []);
  writeFileSync(lockPath(project, tools.image), lockText(tools));
  const digests = imageDigests(project, recipe);
  if (!digests) throw new Error("it is locked");
  const { digest } = digests;
  const manifest: Manifest = {
    name: "small",
    digest,
    base: digests.base,
    distro: "debian",
    release: "bookworm",
    architecture: "amd64",
    baked: new Date().toISOString(),
    bakeSeconds: 1,
    tree: "",
    size: 2 ** 30,
    packages: { "linux-image-cloud-amd64": "6.1" },
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
    configureSeconds: 1,
  };
  const folder = join(project.store, digest);
  mkdirSync(join(folder, "root"), { recursive: true });
  writeFileSync(join(folder, "files"), "");
  writeFileSync(join(folder, "manifest.json"), JSON.stringify(manifest));
  const image = imageAt(project, digest);
  if (!image) throw new Error("it is baked");
  const disk = join(dirname(image.root), `disk-${diskKey(recipe, image, tools)}.raw`);
  const file = openSync(disk, "w");
  ftruncateSync(file, 3 * 2 ** 30);
  for (let i = 0; i < blocks; i++) writeSync(file, Uint8Array.of(i === 0 ? mark + 1 : 1, i & 255, i >> 8), 0, 3, i * blockBytes);
  closeSync(file);
  return { digest, disk };
}
