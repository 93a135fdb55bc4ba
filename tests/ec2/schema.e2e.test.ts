// Every golden file for AWS alone is what the real AWS provider takes, by its own schema: `terraform validate`, which asks nobody. Skipped without the provider.
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { toolFolder } from "../../lib/paths.ts";
import { terraformConfiguration } from "../aws.ts";
import { environmentFor } from "../moto.ts";
import { suite } from "../suite.ts";

const test = suite("provider's schema");
const goldens = join(toolFolder, "tests/stacks/aws/synth/golden");
const configuration = terraformConfiguration();
const one = configuration ? test : test.skip;
test.after(() => configuration?.remove());

/** The provider of `packer_image` is not to be had here, and Terraform begins nothing without it. */
const isAws = (file: string): boolean => !readFileSync(join(goldens, file), "utf8").includes("toowoxx/packer");

for (const file of readdirSync(goldens).filter(isAws)) {
  one(`${file} is valid`, () => {
    const folder = mkdtempSync(join(tmpdir(), "ingot-schema-"));
    try {
      cpSync(join(goldens, file), join(folder, "cdk.tf.json"));
      // Nothing listens there: whatever asked anybody would fail.
      const env = { ...process.env, ...environmentFor("http://127.0.0.1:1"), ...configuration?.env };
      const terraform = (...args: string[]) => spawnSync("terraform", args, { cwd: folder, env, encoding: "utf8" });
      const init = terraform("init", "-backend=false", "-input=false", "-no-color");
      assert.is(init.status, 0, init.stderr);
      const said = JSON.parse(terraform("validate", "-json").stdout) as {
        valid: boolean;
        diagnostics: { summary: string; detail: string }[];
      };
      assert.equal(
        said.diagnostics.map((d) => `${d.summary}: ${d.detail}`),
        [],
      );
      assert.ok(said.valid);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
}

test.run();
