// ingot stop: a stack's machines are powered off and kept.
import { parseArgs } from "node:util";
import type { Io } from "./command.ts";
import { machineOf, machinesUp, targetOf } from "./machines.ts";
import { only } from "./stack.ts";

export const help = `Powers the machines of a stack off, in order, and keeps them as they are: \`ingot start\` powers them on again.

  ingot stop <stack>`;

export async function main(args: string[], io: Io): Promise<number> {
  const { positionals } = parseArgs({ args, allowPositionals: true, options: {} });
  const given = only(positionals, "stack", "ingot stop <stack>");
  const target = await targetOf(io, given);
  const { stack, machines } = await machinesUp(given, target, io);
  if (!machines.length) await machineOf(io, target, stack, undefined);
  await target.stop(stack);
  if (io.json) io.print(JSON.stringify({ stack, stopped: machines.map((m) => m.host) }, null, 2));
  else io.print(`${stack} is off; power it on: ingot start ${stack}`);
  return 0;
}
