// What comes before Packer is run: that it is there, is HashiCorp's, and that the recipe can be made by it; and what its lines say.
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { lockText } from "../../../../images/lock.ts";
import { loadRecipe } from "../../../../images/recipe.ts";
import { MissingError, RefusedError } from "../../../../lib/diagnostics.ts";
import { silent } from "../../../../lib/progress.ts";
import { packAmi, parseLine } from "../../../../stacks/aws/ami/packer.ts";
import { awsOf } from "../../../../stacks/aws/api.ts";
import { lockOf, smallRecipe, temporaryProject } from "../../../images/fixtures.ts";
import { suite } from "../../../suite.ts";

const test = suite("packer");
const path = process.env.PATH;
const around = temporaryProject({ small: smallRecipe });
test.after.each(() => {
  process.env.PATH = path;
});
test.after(() => around.remove());

/** With only this program called packer in the way of others. */
function withPacker(script: string | undefined): void {
  const folder = join(around.project.folder, `bin-${Math.random()}`);
  mkdirSync(folder);
  if (script !== undefined) {
    writeFileSync(join(folder, "packer"), `#!/bin/sh\n${script}\n`);
    chmodSync(join(folder, "packer"), 0o755);
  }
  process.env.PATH = folder;
}

async function failure(): Promise<unknown> {
  const aws = await awsOf("eu-central-1");
  const context = { project: around.project, name: "small", aws, run: "r", progress: silent, builder: { sshFrom: ["198.51.100.7/32"] } };
  return packAmi(context).then(
    () => undefined,
    (error: unknown) => error,
  );
}

test("without Packer, it is said how to get it", async () => {
  withPacker(undefined);
  const error = await failure();
  assert.instance(error, MissingError);
  assert.match((error as MissingError).mend, /apt-get install packer/);
});

test("a program of the same name that is not HashiCorp's is seen", async () => {
  // cracklib's: it reads words from its standard input.
  withPacker("echo 0 0");
  const error = await failure();
  assert.instance(error, MissingError);
  assert.match((error as MissingError).message, "not HashiCorp's");
});

test("a recipe without a lock, and one without a kernel, are refused before anything is made", async () => {
  withPacker("echo Packer v1.6.6");
  assert.match(((await failure()) as RefusedError).message, "small has no lock");
  const { project } = around;
  writeFileSync(join(project.images, "small.lock.json"), lockText(lockOf(loadRecipe(project, "small"), [])));
  const error = (await failure()) as RefusedError;
  assert.instance(error, RefusedError);
  assert.match(`${error.message}; ${error.hint}`, "small has no kernel to boot; add the capability `kernel: true`");
});

test("a line of Packer's own: commas and line breaks in its data are read back", () => {
  assert.equal(parseLine("1795994707,aws,ui,say,==> aws: a%!(PACKER_COMMA) b\\nc"), { type: "ui", data: ["say", "==> aws: a, b\nc"] });
  assert.equal(parseLine("1795994707,aws,artifact,0,id,eu-central-1:ami-0123"), {
    type: "artifact",
    data: ["0", "id", "eu-central-1:ami-0123"],
  });
  assert.is(parseLine("Error: something, else"), undefined);
});

test.run();
