// The resource of ImageStack (stacks/image.ts) run by the real Terraform: it bakes when the digest is another, and only then. Without the AWS
// provider, which takes an hour to build: what looks the AMI up is left out here, and asked by Ingot's own code instead.
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { App } from "cdktf";
import * as assert from "uvu/assert";
import { toolFolder } from "../../../../lib/paths.ts";
import { findAmis } from "../../../../stacks/aws/ami/ami.ts";
import { type Aws, awsOf } from "../../../../stacks/aws/api.ts";
import type { TerraformJson } from "../../../../stacks/aws/synth.ts";
import { type ByIngot, ImageStack } from "../../../../stacks/image.ts";
import { type AwsFront, awsFront } from "../../../aws-front.ts";
import { environmentFor, type Moto, motoProgram, region, startMoto } from "../../../moto.ts";
import { suite } from "../../../suite.ts";
import { type Tiny, tinyProject } from "./tiny.ts";

const test = suite("images by Terraform");
const terraform = (process.env.PATH ?? "")
  .split(":")
  .map((folder) => join(folder, "terraform"))
  .find((path) => existsSync(path));
const one = motoProgram() && terraform ? test : test.skip;
let moto: Moto;
let front: AwsFront;
let aws: Aws;
let tiny: Tiny;

test.before(async () => {
  if (!motoProgram() || !terraform) return;
  moto = await startMoto();
  front = await awsFront(moto.endpoint);
  process.env.AWS_ENDPOINT_URL = front.endpoint;
  aws = await awsOf(region);
  tiny = tinyProject(20);
});
test.after(async () => {
  tiny?.remove();
  front?.stop();
  await moto?.stop();
});

/** What ImageStack writes of the resource alone, where `cdktf synth` would write it. */
function synthesise(digest: string): string {
  const folder = join(tiny.project.folder, "cdktf.out/stacks/image");
  mkdirSync(folder, { recursive: true });
  const bake: ByIngot = { by: "ingot", way: "direct", program: [process.execPath, join(toolFolder, "dist/ingot.js")] };
  const stack = new ImageStack(new App({ outdir: tmpdir(), skipValidation: true }), "image", {
    region,
    images: [{ recipe: tiny.name, digest, bake }],
  });
  stack.prepareStack();
  const { resource } = stack.toTerraform() as TerraformJson;
  writeFileSync(
    join(folder, "cdk.tf.json"),
    JSON.stringify({ resource }, (key, value: unknown) => (key === "//" ? undefined : value)),
  );
  return folder;
}

async function applied(digest: string): Promise<string> {
  const folder = synthesise(digest);
  const env = { ...process.env, ...environmentFor(front.endpoint), TF_IN_AUTOMATION: "1" };
  execFileSync(terraform ?? "", ["init", "-no-color"], { cwd: folder, env });
  // The emulator's front is in this process: it must go on answering meanwhile.
  const child = spawn(terraform ?? "", ["apply", "-auto-approve", "-no-color"], { cwd: folder, env });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => (said += chunk.toString()));
  const code = await new Promise((resolve) => child.on("close", resolve));
  assert.is(code, 0, said);
  return said;
}

one("an apply bakes, the next one does nothing, and another digest bakes another AMI beside the first", async () => {
  assert.match(await applied(tiny.digest), /Resources: 1 added, 0 changed, 0 destroyed/);
  const [ami] = await findAmis(aws, { digest: tiny.digest });
  assert.is(ami?.state, "available");
  assert.match(await applied(tiny.digest), /No changes/);
  assert.is(front.images.length, 1);
  const next = tiny.change("another");
  assert.match(await applied(next), /Resources: 1 added, 0 changed, 1 destroyed/);
  assert.is((await findAmis(aws, { digest: next }))[0]?.state, "available");
  // What hosts may stand on stays.
  assert.is((await findAmis(aws, { digest: tiny.digest }))[0]?.id, ami?.id);
});

one("what was synthesised of another state of the recipe is refused, and the apply with it", async () => {
  const next = tiny.change("refused");
  const stale = `${"f".repeat(8)}${next.slice(8)}`;
  const images = front.images.length;
  const refused = await applied(stale).then(
    () => "",
    (error: Error) => error.message,
  );
  assert.match(refused, new RegExp(`the image of small is ${next.slice(0, 12)} now, and ${stale.slice(0, 12)} is asked for`));
  assert.is(front.images.length, images);
  assert.match(await applied(next), /Resources: 1 added, 0 changed, 1 destroyed/);
});

test.run();
