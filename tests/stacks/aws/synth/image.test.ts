// The stack of AMIs: what is written for Terraform, and the app that puts it before the stacks whose hosts are launched from them.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { App } from "cdktf";
import * as assert from "uvu/assert";
import { toolFolder } from "../../../../lib/paths.ts";
import type { AwsStack } from "../../../../stacks/aws/shape.ts";
import { finish, type TerraformJson } from "../../../../stacks/aws/synth.ts";
import { ImageStack, type ImageStackProps } from "../../../../stacks/image.ts";
import { golden } from "../../../cloud-init/fixtures.ts";
import { suite } from "../../../suite.ts";
import { here, stackOf } from "./fixtures.ts";

const test = suite("synth: images");
const digest = "1".repeat(64);

/** What an ImageStack becomes, without what CDKTF writes of itself. */
function jsonOf(images: ImageStackProps["images"]): TerraformJson {
  const stack = new ImageStack(new App({ outdir: tmpdir(), skipValidation: true }), "image", { region: "eu-central-1", images });
  stack.prepareStack();
  const json = JSON.parse(
    JSON.stringify(stack.toTerraform(), (key, value: unknown) => (key === "//" ? undefined : value)),
  ) as TerraformJson;
  return finish(json, { stack: "image", state: "s3", region: "eu-central-1" });
}
const text = (images: ImageStackProps["images"]) => `${JSON.stringify(jsonOf(images), null, 2)}\n`;

test("an image is baked by Ingot, run by Terraform, when its digest is another", () => {
  golden(join(here, "golden/image.json"), text([{ recipe: "inloop", digest }]));
  const command = (bake: ImageStackProps["images"][number]["bake"]) => {
    const [made] = Object.values(jsonOf([{ recipe: "inloop", digest, bake }]).resource?.terraform_data ?? {});
    const [provisioner] = (made?.provisioner ?? []) as { "local-exec": { command: string } }[];
    return provisioner?.["local-exec"].command;
  };
  const asked = `--locked --digest ${digest}`;
  assert.is(
    command({ by: "ingot", way: "direct", program: ["ingot"] }),
    `ingot bake inloop --on aws --region eu-central-1 --direct ${asked}`,
  );
  assert.is(
    command({ by: "ingot", program: ["/opt/my tools/ingot"] }),
    `'/opt/my tools/ingot' bake inloop --on aws --region eu-central-1 ${asked}`,
  );
});

test("or by packer_image of toowoxx/packer, with every argument that it documents", () => {
  const image = {
    file: "inloop.pkr.json",
    directory: "packer",
    variables: { region: "eu-central-1" },
    environment: { PACKER_LOG: "1" },
    ignoreEnvironment: false,
    additionalParams: ["-parallel-builds=1"],
    force: false,
    name: "inloop",
    triggers: { because: "of this" },
  };
  golden(join(here, "golden/image-by-packer.json"), text([{ recipe: "inloop", digest, bake: { by: "packer_image", image } }]));
});

interface Made {
  resource: Record<string, Record<string, { ami?: string }>>;
  data: Record<string, Record<string, { backend?: string; config?: { path?: string; key?: string; bucket?: string } }>>;
  variable?: { bucket: { default?: string } };
  terraform: { backend: Record<string, Record<string, unknown>>; required_providers: Record<string, unknown> };
}

/** What the app writes for these stacks. */
function app(stacks: AwsStack[], bucket: string): { made(stack: string): Made; dependencies(stack: string): string[]; folder: string } {
  const folder = mkdtempSync(join(tmpdir(), "ingot-image-"));
  for (const name of ["images", "stacks"]) mkdirSync(join(folder, name));
  const files = stacks.map((stack) => {
    const file = join(folder, `${stack.stack}.json`);
    writeFileSync(file, JSON.stringify({ stack, extent: "all", options: { bucket } }));
    return file;
  });
  const env = { ...process.env, INGOT_SHAPES: files.join(":"), CDKTF_OUTDIR: join(folder, "cdktf.out") };
  execFileSync(process.execPath, [join(toolFolder, "dist/cdktf.js")], { cwd: folder, env });
  const read = (path: string) => JSON.parse(readFileSync(join(folder, "cdktf.out", path), "utf8")) as unknown;
  return {
    folder,
    made: (stack) => read(`stacks/${stack}/cdk.tf.json`) as Made,
    dependencies: (stack) =>
      (read("manifest.json") as { stacks: Record<string, { dependencies: string[] }> }).stacks[stack]?.dependencies ?? [],
  };
}
const amiless = (stack: AwsStack, state: AwsStack["state"]): AwsStack => ({
  ...stack,
  state,
  hosts: stack.hosts.map((h) => ({ ...h, image: { ...h.image, id: "", recipe: "inloop", digest } })),
});

test("the app makes both: the hosts' stack comes after the image's, and has the AMI's id from its state", () => {
  const { made, dependencies, folder } = app([amiless(stackOf("inloop"), "s3")], "mine");
  try {
    assert.equal(dependencies("inloop"), ["image"]);
    const inloop = made("inloop");
    assert.match(inloop.resource.aws_instance?.web?.ami ?? "", /^\$\{data\.terraform_remote_state\..*\.outputs\..*\}$/);
    const [state] = Object.values(inloop.data.terraform_remote_state ?? {});
    assert.is(state?.backend, "s3");
    assert.is(state?.config?.key, "images/terraform.tfstate");
    // The same states as Ingot's own, so that `ingot up` and `cdktf deploy` may follow each other.
    assert.equal(inloop.terraform.backend, {
      s3: { bucket: "mine", key: "stacks/inloop/terraform.tfstate", region: "eu-central-1", encrypt: true, use_lockfile: true },
    });
    assert.equal(made("image").terraform.backend.s3?.key, "images/terraform.tfstate");
    assert.is(inloop.variable?.bucket.default, "mine");
    assert.equal(Object.keys(made("image").resource), ["terraform_data"]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("states in the project are Ingot's own; a stack with AMIs of its own brings no stack of images", () => {
  const { made, folder } = app([amiless(stackOf("two-hosts"), "local")], "mine");
  try {
    assert.equal(made("two-hosts").terraform.backend, { local: { path: join(folder, ".ingot/aws/two-hosts/terraform.tfstate") } });
  } finally {
    rmSync(folder, { recursive: true });
  }
  const own = app([stackOf("two-hosts")], "mine");
  try {
    assert.equal(own.dependencies("two-hosts"), []);
    assert.throws(() => own.made("image"), /ENOENT/);
    assert.is(own.made("two-hosts").resource.aws_instance?.application?.ami, "ami-0123456789abcdef0");
  } finally {
    rmSync(own.folder, { recursive: true });
  }
});

test.run();
