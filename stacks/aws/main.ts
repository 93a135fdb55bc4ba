// The app of the `cdktf` CLI (cdktf.json: `node dist/cdktf.js`), for those who want its diff, its get, or stacks of their own beside Ingot's.
// `ingot plan <stack> --on aws` writes what it reads, .ingot/aws/<stack>.plan/shape.json: a shape that the account has answered for.
// INGOT_SHAPES=<file>:<file> names others. Ingot itself needs no CLI: synth.ts writes the same JSON.
//
// In an app of one's own, declare() puts a whole stack into a TerraformStack, and Network, Host and Fleet make its parts.
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { App, TerraformStack } from "cdktf";
import { RefusedError } from "../../lib/diagnostics.ts";
import { findProject } from "../../lib/paths.ts";
import { declare, finish, type Synthesised, type TerraformJson } from "./synth.ts";

function shapes(): string[] {
  const given = process.env.INGOT_SHAPES;
  if (given) return given.split(":");
  const folder = join(findProject().state, "aws");
  const found = (existsSync(folder) ? readdirSync(folder) : [])
    .filter((name) => name.endsWith(".plan"))
    .map((name) => join(folder, name, "shape.json"))
    .filter((file) => existsSync(file))
    .sort();
  if (!found.length) throw new RefusedError("no stack has been planned for EC2 here", "`ingot plan <stack> --on aws` first");
  return found;
}

function main(): void {
  const app = new App();
  const stacks = shapes().map((file) => {
    const { stack, extent, options } = JSON.parse(readFileSync(file, "utf8")) as Synthesised;
    declare(new TerraformStack(app, stack.stack), stack, extent, options.release);
    return stack;
  });
  app.synth();
  // CDKTF itself can say neither a range of providers nor how its S3 backend locks.
  for (const stack of stacks) {
    const { synthesizedStackPath } = app.manifest.forStack(app.node.findChild(stack.stack) as TerraformStack);
    const file = join(app.outdir, synthesizedStackPath);
    writeFileSync(file, `${JSON.stringify(finish(JSON.parse(readFileSync(file, "utf8")) as TerraformJson, stack), null, 2)}\n`);
  }
}

try {
  main();
} catch (error) {
  if (!(error instanceof RefusedError)) throw error;
  console.error(`${error.message}\n${error.hint ?? ""}`);
  process.exitCode = 1;
}
