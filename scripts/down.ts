// ingot down: a stack's machines end; their volumes and secrets stay.
import { parseArgs } from "node:util";
import { during } from "../lib/progress.ts";
import { choicesOf, guardOptions, type Io } from "./command.ts";
import { machinesUp, notUp, targetOf } from "./machines.ts";
import { only } from "./stack.ts";

export const help = `Ends a stack's machines: an orderly power-off, then everything of them goes, except their data volumes and secrets. \`ingot up\`
gives the same hosts again, with their data.

  ingot down <stack> [--on aws [--yes-delete-volume <host>/<volume>]]

On EC2 data volumes stay as well, until they are named.`;

export async function main(args: string[], io: Io): Promise<number> {
  const { positionals, values } = parseArgs({
    args,
    allowPositionals: true,
    options: { "yes-delete-volume": guardOptions["yes-delete-volume"] },
  });
  const given = only(positionals, "stack", "ingot down <stack>");
  const target = await targetOf(io, given, choicesOf(values));
  const { stack, machines } = await machinesUp(given, target, io);
  const released = values["yes-delete-volume"]?.length;
  if (machines.length || released) await during(io.progress, `${stack} down`, () => target.down(stack));
  if (io.json) io.print(JSON.stringify({ stack, ended: machines.map((m) => m.host) }, null, 2));
  else
    io.print(
      machines.length
        ? `${stack} is down; its ${released ? "other " : ""}data and secrets stay`
        : released
          ? `the volumes are gone`
          : nothing(io, stack),
    );
  return 0;
}

/** There was none to end, unless on the other target. */
function nothing(io: Io, stack: string): string {
  const { message, hint, elsewhere } = notUp(io, stack);
  return elsewhere ? `${message}; ${hint}` : message;
}
