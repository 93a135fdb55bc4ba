// ingot history: what machines have been since their launch.
import { parseArgs } from "node:util";
import { short } from "../lib/digest.ts";
import { historyOf } from "../stacks/launch.ts";
import { type Io, table } from "./command.ts";
import { targetOf } from "./machines.ts";
import { machinesOf } from "./rollback.ts";
import { only, splitName } from "./stack.ts";

export const help = `Says what running machines have been since their launch: each generation that was activated, which it is now, and what asked for it. \`ingot rollback\` goes back
to one of the last ten.

  ingot history <stack>[/<host>]`;

export async function main(args: string[], io: Io): Promise<number> {
  const { positionals } = parseArgs({ args, allowPositionals: true, options: {} });
  const { stack: given, host } = splitName(only(positionals, "stack", "ingot history <stack>[/<host>]"));
  const target = await targetOf(io, given);
  const machines = await machinesOf(given, host, target, io);
  const found = await Promise.all(
    machines.map(async (m) => ({ stack: m.stack, host: m.host, generations: await historyOf(target.connect(m)) })),
  );
  if (io.json) io.print(JSON.stringify(found, null, 2));
  else
    io.print(
      table(
        found.flatMap(({ stack, host: name, generations }) =>
          generations.map((g, i) => [`${stack}/${name}`, short(g.generation), g.at, i === generations.length - 1 ? "now" : "", g.by ?? ""]),
        ),
      ),
    );
  return 0;
}
