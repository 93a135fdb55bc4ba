// ingot runbook: how a stack's hosts are made by hand, as pages to print.
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { loadRecipe } from "../images/recipe.ts";
import { asHtml, asMarkdown, type ImageFacts, runbookOf } from "../stacks/recovery/runbook.ts";
import type { Io } from "./command.ts";
import { load, only } from "./stack.ts";

export const help = `Writes down how each host of a stack is made, or restored from its backups, by hand: pages for the day when Ingot is not there. No secret's
value is in them.

  ingot runbook <stack> [--html] [--output <file>]

Markdown on standard output, or HTML that prints; --output writes a file. Make it anew when the stack changes, and keep it where it can be had
without Ingot.`;

export async function main(args: string[], io: Io): Promise<number> {
  const options = { html: { type: "boolean" }, output: { type: "string" } } as const;
  const { positionals, values } = parseArgs({ args, allowPositionals: true, options });
  const { plan, model } = load(only(positionals, "stack", "ingot runbook <stack>"), io);
  const images = new Map(
    model.hosts.map(({ name, image }): [string, ImageFacts] => {
      const { distro, release } = loadRecipe(io.project, image.name);
      return [name, { distro, release, packages: image.packages }];
    }),
  );
  const blocks = runbookOf(plan, images);
  const text = io.json ? JSON.stringify(blocks, null, 2) : values.html ? asHtml(blocks, `${plan.stack}: by hand`) : asMarkdown(blocks);
  if (values.output === undefined) io.print(text.trimEnd());
  else {
    writeFileSync(values.output, text);
    io.print(`${values.output}: ${plan.hosts.length} ${plan.hosts.length === 1 ? "host" : "hosts"}`);
  }
  return 0;
}
