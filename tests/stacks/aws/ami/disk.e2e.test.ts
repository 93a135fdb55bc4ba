// The real disk of debian-12 becomes an AMI: what EBS was sent is the disk that was baked here, block by block, and a stack takes the AMI.
import { createHash } from "node:crypto";
import { closeSync, openSync, readSync } from "node:fs";
import * as assert from "uvu/assert";
import { makeDisk } from "../../../../images/disk.ts";
import { projectAt, toolFolder } from "../../../../lib/paths.ts";
import { silent } from "../../../../lib/progress.ts";
import type { MadeAmi } from "../../../../stacks/aws/ami/make.ts";
import { awsOf } from "../../../../stacks/aws/api.ts";
import { amiOf } from "../../../../stacks/aws/images.ts";
import { type AwsFront, awsFront } from "../../../aws-front.ts";
import { type TestProject, testProject } from "../../../e2e/project.ts";
import { blockBytes, zeros } from "../../../ebs-server.ts";
import { type Moto, motoProgram, startMoto } from "../../../moto.ts";
import { suite } from "../../../suite.ts";

const test = suite("AMI of a real disk");
const one = motoProgram() ? test : test.skip;
let moto: Moto;
let front: AwsFront;
let project: TestProject;

test.before(async () => {
  if (!motoProgram()) return;
  moto = await startMoto();
  front = await awsFront(moto.endpoint);
  front.ebs.keeps = "digests";
  process.env.AWS_ENDPOINT_URL = front.endpoint;
  project = await testProject();
});
test.after(async () => {
  front?.stop();
  await project?.remove();
  await moto?.stop();
});

one("bake debian-12 --on aws --direct: each block of the disk, once; found again; taken by a stack", async () => {
  const bake = ["bake", "debian-12", "--on", "aws", "--direct"];
  const first = (await project.json(bake)) as MadeAmi;
  const { ami, made, upload } = first;
  assert.ok(made, JSON.stringify(first));
  const disk = await makeDisk(projectAt(toolFolder), "debian-12", "raw", { progress: silent });
  assert.is(ami.digest, disk.image.digest);
  const snapshot = front.ebs.snapshots.get(upload?.snapshot ?? "");
  assert.ok(snapshot);
  const file = openSync(disk.path, "r");
  const block = Buffer.alloc(blockBytes);
  let sent = 0;
  for (let i = 0; i < disk.size / blockBytes; i++) {
    readSync(file, block, 0, blockBytes, i * blockBytes);
    const digest = snapshot.digests.get(i);
    if (digest) sent++;
    assert.ok(digest ? digest.equals(createHash("sha256").update(block).digest()) : block.equals(zeros), `block ${i}`);
  }
  closeSync(file);
  assert.is(front.ebs.puts.length, sent);
  assert.is(snapshot.gib * 2 ** 30, disk.size);
  assert.is(((await project.json(bake)) as MadeAmi).made, false);
  assert.is((await amiOf(await awsOf(ami.region), "recipe", { name: "debian-12", digest: ami.digest })).id, ami.id);
});

test.run();
