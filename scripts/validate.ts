// ingot validate: everything that is wrong in stacks and recipes, in one run, before anything is baked or launched.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, join, relative, resolve } from "node:path";
import { parseArgs } from "node:util";
import { compile } from "../cloud-init/compile.ts";
import { findStack, loadStack } from "../cloud-init/model.ts";
import { surroundingsOf } from "../cloud-init/surroundings.ts";
import { loadRecipe, recipeNames } from "../images/recipe.ts";
import { loadRelease, releaseFile } from "../images/release.ts";
import { type Diagnostic, format, InputError } from "../lib/diagnostics.ts";
import { parseYaml } from "../lib/yaml.ts";
import type { Io } from "./command.ts";

export const help = `Says everything that is wrong in stacks and recipes, and in images/release.yaml, with file, line, column and what to do.

  ingot validate [files…]

Without files: every recipe and stack of the project, the latter in each of its environments. Exit code 2 when something is wrong; warnings alone are fine.
--json gives the diagnostics as JSON.

  ingot validate stacks/inloop.yaml`;

export async function main(args: string[], io: Io): Promise<number> {
  const { positionals } = parseArgs({ args, allowPositionals: true, options: {} });
  const files = positionals.length ? positionals.map((p) => (existsSync(p) ? resolve(p) : findStack(io.project, p))) : everything(io);
  const around = surroundingsOf(io.project);
  const found: Diagnostic[] = [];
  const sources = new Map<string, string>();
  const fine: string[] = [];
  // A recipe's errors come once, however many stacks stand on it; and a stack's, however many environments it has.
  const tell = (diagnostics: Diagnostic[], texts: Iterable<[string, string]>) => {
    found.push(...diagnostics.filter((d) => !found.some((f) => isSame(f, d))));
    for (const [name, text] of texts) sources.set(name, text);
  };
  for (const file of files) {
    try {
      if (basename(file) === releaseFile) loadRelease(io.project, file);
      else if (isRecipe(file)) loadRecipe(io.project, basename(file, ".yaml"));
      else {
        const of = environmentOf(file);
        const model = of
          ? loadStack(of.stack, surroundingsOf({ ...io.project, chosen: { set: [], ...io.project.chosen, ...of } }))
          : loadStack(file, around);
        compile(model);
        tell(model.warnings, [[model.yaml.file, model.yaml.text]]);
      }
      fine.push(relative(process.cwd(), file));
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      tell(error.diagnostics, error.sources);
    }
  }
  const errors = found.filter((d) => d.severity === "error").length;
  if (io.json) io.print(JSON.stringify({ files: files.map((f) => relative(process.cwd(), f)), diagnostics: found }, null, 2));
  else {
    for (const d of found) console.error(`${format(d, sources, process.stderr.isTTY)}\n`);
    for (const file of fine) io.print(`${file}: fine`);
    if (errors) console.error(`${errors} ${errors === 1 ? "error" : "errors"}`);
  }
  return errors ? 2 : 0;
}

const isSame = (a: Diagnostic, b: Diagnostic): boolean =>
  a.code === b.code && a.message === b.message && a.range.file === b.range.file && a.range.start.offset === b.range.start.offset;

const everything = (io: Io): string[] => [
  ...recipeNames(io.project).map((n) => join(io.project.images, `${n}.yaml`)),
  ...[join(io.project.images, releaseFile)].filter(existsSync),
  ...readdirSync(io.project.stacks)
    .filter((f) => /^[^.]+(\.[^.]+)?\.yaml$/.test(f))
    .map((f) => join(io.project.stacks, f)),
];

/** `<stack>.<environment>.yaml` is no stack of its own: it is held against the one that it belongs to. */
function environmentOf(file: string): { stack: string; environment: string } | undefined {
  const [, begin, environment] = /^(.*\/[^/.]+)\.([^/.]+)\.ya?ml$/.exec(file) ?? [];
  const stack = `${begin}.yaml`;
  return environment !== undefined && existsSync(stack) ? { stack, environment } : undefined;
}

/** A recipe says `image:` at its top, a stack `stack:`; what says neither is held to be a stack. */
function isRecipe(file: string): boolean {
  const { value } = parseYaml(file, readFileSync(file, "utf8"));
  return Boolean(value && typeof value === "object" && "image" in value && !("stack" in value));
}
