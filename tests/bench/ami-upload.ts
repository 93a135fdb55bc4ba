// One measured thing of `npm run bench -- amis` in a process of its own, so that its memory is its own: `read` a disk and hash every block,
// `skip` the holes, or `upload` it. Prints JSON.

import { sha256 } from "../../lib/digest.ts";
import { projectAt } from "../../lib/paths.ts";
import { silent } from "../../lib/progress.ts";
import { type BlockDisk, blockBytes, digestOfBlock, openDisk, zeros } from "../../stacks/aws/ami/blocks.ts";
import type { Encryption } from "../../stacks/aws/ami/journal.ts";
import { uploadDisk } from "../../stacks/aws/ami/upload.ts";
import { awsOf } from "../../stacks/aws/api.ts";

const [, , what, disk = "", folder = "", recipe = "bench", encryption = "account"] = process.argv;

/** One block after the other, as sha256sum(1) would. */
async function hash(from: BlockDisk, holes: "hashed" | "skipped"): Promise<number> {
  const buffer = Buffer.alloc(blockBytes);
  let blocks = 0;
  for (let i = 0; i < from.count; i++) {
    const block = await from.read(i, buffer);
    if (block === zeros && holes === "skipped") continue;
    digestOfBlock(block);
    blocks++;
  }
  return blocks;
}

async function measured(): Promise<{ blocks: number }> {
  if (what === "upload") {
    const project = projectAt(folder);
    const aws = await awsOf(undefined);
    const { blocks } = await uploadDisk({
      project,
      aws,
      bucket: "bench-bucket",
      image: { name: recipe, digest: sha256(`${disk} ${Date.now()}`) },
      disk,
      encryption: encryption as Encryption,
      progress: silent,
    });
    return { blocks: blocks.sent };
  }
  const from = await openDisk(disk);
  const blocks = await hash(from, what === "read" ? "hashed" : "skipped");
  await from.close();
  return { blocks };
}

const began = performance.now();
const cpu = process.cpuUsage();
const { blocks } = await measured();
const { user, system } = process.cpuUsage(cpu);
console.log(
  JSON.stringify({
    seconds: (performance.now() - began) / 1000,
    cpu: (user + system) / 1e6,
    blocks,
    memory: process.resourceUsage().maxRSS / 1024,
  }),
);
