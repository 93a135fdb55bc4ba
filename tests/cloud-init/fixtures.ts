// Models and plans from text, without a baked image: what the tests of this room look at.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import * as assert from "uvu/assert";
import { compile } from "../../cloud-init/compile.ts";
import { exampleStack } from "../../cloud-init/kind.ts";
import { modelOf, type StackModel, type Surroundings } from "../../cloud-init/model.ts";
import type { HostPlan } from "../../cloud-init/plan.ts";
import { surroundingsOf } from "../../cloud-init/surroundings.ts";
import { projectAt, toolFolder } from "../../lib/paths.ts";
import { parseYaml } from "../../lib/yaml.ts";

export const here = join(toolFolder, "tests/cloud-init");

const own = surroundingsOf({ ...projectAt(toolFolder), store: "/nonexistent" });

/** Ingot's own recipes, as they are before anything is baked: the same on every computer. */
export const around: Surroundings = {
  ...own,
  release: (_, application) => ({
    id: "0123456789abcdef",
    sha256: "a".repeat(64),
    path: `/nonexistent/${application}.tar.zst`,
  }),
};

/** `folder`: what paths in the text are relative to. */
export const modelOfText = (text: string, folder = join(toolFolder, "stacks"), surroundings = around): StackModel =>
  modelOf(parseYaml("stacks/test.yaml", text), folder, surroundings);

/** The plan of the one host of a stack. */
export function planOf(text: string, folder?: string): HostPlan {
  const [host] = compile(modelOfText(text, folder)).hosts;
  if (!host) throw new Error("no host");
  return host;
}

export const stackWith = (keys: string): string => exampleStack("test", keys);

/** Holds `text` against the file, or writes it there when INGOT_UPDATE=1: look at the difference in git. */
export function golden(file: string, text: string): void {
  if (process.env.INGOT_UPDATE === "1") {
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, text);
  }
  assert.ok(existsSync(file), `${file} is not there: INGOT_UPDATE=1 writes it`);
  assert.fixture(text, readFileSync(file, "utf8"));
}
