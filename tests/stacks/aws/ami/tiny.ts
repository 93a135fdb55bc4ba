// A project whose one recipe, `small`, counts as baked, with a disk of a few blocks: what an AMI is made of, without a bake.
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, ftruncateSync, mkdirSync, openSync, writeFileSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import { imageDigests } from "../../../../images/digest.ts";
import { diskKey } from "../../../../images/disk-key.ts";
import { lockPath, lockText } from "../../../../images/lock.ts";
import { loadRecipe } from "../../../../images/recipe.ts";
import { imageAt } from "../../../../images/store.ts";
import { toolsRecipe } from "../../../../images/tools.ts";
import { type Project, toolFolder } from "../../../../lib/paths.ts";
import type { Aws } from "../../../../stacks/aws/api.ts";
import { bucketOf } from "../../../../stacks/aws/bucket.ts";
import { keysBelow, readObject, writeObject } from "../../../../stacks/aws/object.ts";
import { blockBytes } from "../../../ebs-server.ts";
import { locked, lockOf, manifestOf, smallRecipe, temporaryProject } from "../../../images/fixtures.ts";
import { environmentFor } from "../../../moto.ts";

export interface Tiny {
  project: Project;
  name: "small";
  digest: string;
  disk: string;
  /** Another version of the recipe, whose disk differs in its first block; gives its digest. */
  change(motd: string): string;
  /** Runs the built command in the project, as a user has it. */
  begin(args: string[], endpoint: string): { child: ChildProcess; ended: Promise<Outcome> };
  /** As if the lease of a run that is over had ended: nobody waits a minute for it here. */
  expire(aws: Aws): Promise<void>;
  remove(): void;
}

export interface Outcome {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** @param blocks of data, on a disk of 1 GiB */
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
    begin(args, endpoint) {
      const child = spawn(process.execPath, [join(toolFolder, "dist/ingot.js"), ...args], {
        cwd: project.folder,
        stdio: ["ignore", "pipe", "pipe"],
        env: { ...process.env, ...environmentFor(endpoint) },
      });
      const said = { stdout: "", stderr: "" };
      for (const stream of ["stdout", "stderr"] as const) child[stream]?.on("data", (chunk: Buffer) => (said[stream] += chunk.toString()));
      return { child, ended: new Promise((resolve) => child.on("close", (code) => resolve({ code, ...said }))) };
    },
    async expire(aws) {
      const bucket = await bucketOf(aws, undefined);
      for (const key of (await keysBelow(aws, bucket, "images/")).filter((k) => k.endsWith("/lock.json"))) {
        const there = await readObject(aws, bucket, key);
        const text = JSON.stringify({ ...JSON.parse(there?.text ?? "{}"), until: new Date(0).toISOString() });
        if (there) await writeObject(aws, bucket, key, text, "anything");
      }
    },
    remove,
  };
}

function bake(project: Project, blocks: number, mark: number): { digest: string; disk: string } {
  const recipe = loadRecipe(project, "small");
  writeFileSync(lockPath(project, "small"), lockText(lockOf(recipe, [locked("linux-image-cloud-amd64", "6.1")])));
  const tools = lockOf(toolsRecipe("disk", recipe), []);
  writeFileSync(lockPath(project, tools.image), lockText(tools));
  const digests = imageDigests(project, recipe);
  if (!digests) throw new Error("it is locked");
  const { digest } = digests;
  const manifest = manifestOf({
    name: "small",
    digest,
    base: digests.base,
    baked: new Date().toISOString(),
    size: 2 ** 30,
    packages: { "linux-image-cloud-amd64": "6.1" },
  });
  const folder = join(project.store, digest);
  mkdirSync(join(folder, "root"), { recursive: true });
  writeFileSync(join(folder, "files"), "");
  writeFileSync(join(folder, "manifest.json"), JSON.stringify(manifest));
  const image = imageAt(project, digest);
  if (!image) throw new Error("it is baked");
  const disk = join(dirname(image.root), `disk-${diskKey(recipe, image, tools)}.raw`);
  const file = openSync(disk, "w");
  ftruncateSync(file, 2 ** 30);
  for (let i = 0; i < blocks; i++) writeSync(file, Uint8Array.of(i === 0 ? mark + 1 : 1, i & 255, i >> 8), 0, 3, i * blockBytes);
  closeSync(file);
  return { digest, disk };
}
