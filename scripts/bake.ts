// ingot bake: the short form of `ingot image bake`.
import { parseArgs } from "node:util";
import type { Io } from "./command.ts";
import { bakeCommand, only } from "./image.ts";

export const help = `Bake a recipe's image, unless it is there already.

Usage: ingot bake [recipe] [--locked]

The recipe's name is that of its file, images/<name>.yaml; it may be left out where there is but one.

Options:
  --locked   fail rather than lock anew when a locked package is gone from the archives
  --json     print the result as JSON`;

export async function main(args: string[], io: Io): Promise<number> {
  const { values, positionals } = parseArgs({ args, allowPositionals: true, options: { locked: { type: "boolean" } } });
  return bakeCommand(positionals[0] ?? only(io.project, "bake"), values.locked, io);
}
