// The app of the `cdktf` CLI (cdktf.json: `node dist/cdktf.js`), for those who want its diff, its get, or stacks of their own beside Ingot's.
// `ingot plan <stack> --on aws` writes what it reads, .ingot/aws/<stack>.plan/shape.json: a shape that the account has answered for.
// INGOT_SHAPES=<file>:<file> names others. Ingot itself needs no CLI: synth.ts writes the same JSON, and the states are the same.
//
// Beside them there is a stack `image`, which bakes the recipes' AMIs where they are not there: `cdktf deploy image inloop` does both.
//
// In an app of one's own, declare() puts a whole stack into a TerraformStack, and Network, Host, Fleet and BakedImage make its parts.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { App, LocalBackend, S3Backend, TerraformStack } from "cdktf";
import { RefusedError } from "../../lib/diagnostics.ts";
import { findProject, type Project } from "../../lib/paths.ts";
import { ImageStack } from "../image.ts";
import { type AwsStack, keyToBe, names } from "./shape.ts";
import { declare, finish, type Synthesised, type TerraformBlock, type TerraformJson } from "./synth.ts";

function shapes(project: Project): Synthesised[] {
  const given = process.env.INGOT_SHAPES;
  const folder = join(project.state, "aws");
  const planned = (existsSync(folder) ? readdirSync(folder) : [])
    .filter((name) => name.endsWith(".plan"))
    .map((name) => join(folder, name, "shape.json"))
    .filter((file) => existsSync(file))
    .sort();
  const files = given ? given.split(":") : planned;
  if (!files.length) throw new RefusedError("no stack has been planned for EC2 here", "`ingot plan <stack> --on aws` first");
  return files.map((file) => JSON.parse(readFileSync(file, "utf8")) as Synthesised);
}

/** Where a stack's state is: in the bucket under its key, or in the project. */
interface StatePlace {
  key: string;
  file: string;
}

function keepState(stack: TerraformStack, place: StatePlace, { options, stack: { state, region } }: Synthesised): void {
  if (state === "s3" && options.bucket !== undefined)
    new S3Backend(stack, { bucket: options.bucket, key: place.key, region, encrypt: true });
  else {
    mkdirSync(dirname(place.file), { recursive: true });
    new LocalBackend(stack, { path: place.file });
  }
}

/** The stack of the recipes' AMIs; undefined where every host names an AMI of its own. */
function imagesOf(app: App, all: Synthesised[], project: Project): ImageStack | undefined {
  const wanted = all.flatMap(({ stack }) => stack.hosts.map((h) => h.image));
  const images = new Map(wanted.flatMap(({ recipe, digest }) => (recipe === undefined ? [] : [[recipe, { recipe, digest }] as const])));
  const [first] = all;
  if (!images.size || !first) return undefined;
  const elsewhere = all.find(({ stack }) => stack.region !== first.stack.region);
  if (elsewhere)
    throw new RefusedError(
      `${first.stack.stack} is in ${first.stack.region} and ${elsewhere.stack.stack} in ${elsewhere.stack.region}, and the stack \`image\` makes AMIs in one region`,
      "say which stacks are meant: INGOT_SHAPES=.ingot/aws/<stack>.plan/shape.json",
    );
  const stack = new ImageStack(app, "image", { region: first.stack.region, images: [...images.values()] });
  keepState(stack, { key: names.imageState, file: join(project.state, "aws/image.tfstate") }, first);
  return stack;
}

/** The stack with the ids that the stack `image` will know. */
const onImages = (stack: AwsStack, images: ImageStack | undefined): AwsStack => ({
  ...stack,
  hosts: stack.hosts.map((host) =>
    host.image.recipe !== undefined && images ? { ...host, image: { ...host.image, id: images.amiId(host.image.recipe) } } : host,
  ),
});

function main(): void {
  const app = new App();
  const project = findProject();
  const all = shapes(project);
  const images = imagesOf(app, all, project);
  const made: { terraform: TerraformStack; stack: AwsStack; bucket?: string }[] = all.map((one) => {
    const { stack, extent, options } = one;
    const terraform = new TerraformStack(app, stack.stack);
    keepState(terraform, { key: names.state(stack.stack), file: join(project.state, "aws", stack.stack, "terraform.tfstate") }, one);
    declare(terraform, onImages(stack, images), extent, options.release);
    return { terraform, stack, bucket: options.bucket };
  });
  if (images && all[0]) made.push({ terraform: images, stack: all[0].stack });
  app.synth();
  for (const { stack } of made.filter((m) => m.stack.operatorKey === keyToBe && m.terraform !== images))
    console.error(
      `${stack.stack} has no operator's key yet, and cannot be launched: \`ingot up ${stack.stack} --on aws\` makes it and launches; or see docs/images-on-aws.md`,
    );
  // CDKTF itself can say neither a range of providers nor how its S3 backend locks.
  for (const { terraform, stack, bucket } of made) {
    const file = join(app.outdir, app.manifest.forStack(terraform).synthesizedStackPath);
    const json = JSON.parse(readFileSync(file, "utf8")) as TerraformJson;
    const finished = finish(json, stack, (json.terraform as TerraformBlock).backend);
    if (bucket !== undefined) Object.assign((finished.variable as { bucket: object }).bucket, { default: bucket });
    writeFileSync(file, `${JSON.stringify(finished, null, 2)}\n`);
  }
}

try {
  main();
} catch (error) {
  if (!(error instanceof RefusedError)) throw error;
  console.error(`${error.message}\n${error.hint ?? ""}`);
  process.exitCode = 1;
}
