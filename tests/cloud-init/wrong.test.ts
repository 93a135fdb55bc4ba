// Every wrong stack in wrong/ and exactly what is said about it. To add one: write wrong/<what>.yaml, run this with INGOT_UPDATE=1,
// and read wrong/<what>.txt as the person would who wrote the YAML.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import * as assert from "uvu/assert";
import { compile } from "../../cloud-init/compile.ts";
import { loadStack } from "../../cloud-init/model.ts";
import { type Diagnostic, format, InputError } from "../../lib/diagnostics.ts";
import { toolFolder } from "../../lib/paths.ts";
import { suite } from "../suite.ts";
import { around, golden, here } from "./fixtures.ts";

const test = suite("wrong stacks");
const folder = join(here, "wrong");
const binary = fileURLToPath(new URL("../../ingot.js", import.meta.url));
const names = readdirSync(folder)
  .filter((f) => f.endsWith(".yaml"))
  .map((f) => basename(f, ".yaml"))
  .sort();

// Files are shown relative to where one stands.
process.chdir(toolFolder);

function wrongIn(file: string): { diagnostics: Diagnostic[]; sources: Map<string, string> } {
  try {
    const model = loadStack(file, around);
    compile(model);
    return { diagnostics: model.warnings, sources: new Map([[model.yaml.file, model.yaml.text]]) };
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    return error;
  }
}

for (const name of names) {
  test(name, () => {
    const { diagnostics, sources } = wrongIn(join(folder, `${name}.yaml`));
    assert.ok(diagnostics.length > 0, "nothing is wrong with it");
    golden(join(folder, `${name}.txt`), `${diagnostics.map((d) => format(d, sources)).join("\n\n")}\n`);
  });
}

test("each message belongs to a stack that is there", () => {
  const messages = readdirSync(folder).filter((f) => f.endsWith(".txt"));
  assert.equal(
    messages.filter((f) => !existsSync(join(folder, f.replace(/\.txt$/, ".yaml")))),
    [],
  );
});

test("`ingot validate` says the same, ends with exit code 2, and gives it as JSON", () => {
  const file = "tests/cloud-init/wrong/several-at-once.yaml";
  const { diagnostics, sources } = wrongIn(join(toolFolder, file));
  const ingot = (...args: string[]) => spawnSync(process.execPath, [binary, ...args], { encoding: "utf8" });
  const plain = ingot("validate", file);
  assert.is(plain.status, 2);
  assert.is(plain.stdout, "");
  assert.is(plain.stderr, `${diagnostics.map((d) => `${format(d, sources)}\n\n`).join("")}${diagnostics.length} errors\n`);
  const json = ingot("validate", file, "--json");
  assert.is(json.status, 2);
  assert.equal(JSON.parse(json.stdout), { files: [file], diagnostics: JSON.parse(JSON.stringify(diagnostics)) });
});

test("warnings alone are fine", () => {
  const fine = spawnSync(process.execPath, [binary, "validate", "tests/cloud-init/wrong/warnings.yaml"], {
    encoding: "utf8",
  });
  assert.is(fine.status, 0);
  assert.match(fine.stderr, /warning ING1403/);
});

test.run();
