// ingot rollback: machines become again what they were before, by the generation that is still on them.
import { parseArgs } from "node:util";
import { RefusedError } from "../lib/diagnostics.ts";
import { short } from "../lib/digest.ts";
import { activateThere, gather, type HostOutcome, historyOf, stepsThere, succeeded } from "../stacks/launch.ts";
import type { Machine, Target } from "../stacks/target.ts";
import type { Io } from "./command.ts";
import { machineOf, machinesUp, targetOf } from "./machines.ts";
import { only, splitName } from "./stack.ts";

export const help = `Makes running machines again what they were before the last apply: configuration, units and releases. Data stays as it is, and so does what a migration
did to it. The stack's file is not read: the next apply brings what it says.

  ingot rollback <stack>[/<host>] [--to <generation>]

--to: the beginning of a generation's digest, as \`ingot history\` shows it.`;

export async function main(args: string[], io: Io): Promise<number> {
  const { positionals, values } = parseArgs({ args, allowPositionals: true, options: { to: { type: "string" } } });
  const { stack: given, host } = splitName(only(positionals, "stack", "ingot rollback <stack>[/<host>] [--to <generation>]"));
  const target = await targetOf(io, given);
  const machines = await machinesOf(given, host, target, io);
  const goals = await Promise.all(machines.map(async (machine) => ({ machine, generation: await goalOf(machine, target, values.to) })));
  const outcomes = (await Promise.all(goals.map(({ machine, generation }) => backTo(machine, target, generation, io)))).flat();
  const ok = outcomes.every(succeeded);
  if (io.json)
    io.print(JSON.stringify({ ok, hosts: goals.map((g) => ({ host: g.machine.host, generation: g.generation })), outcomes }, null, 2));
  else
    for (const { machine, generation } of goals)
      io.print(
        `${machine.stack}/${machine.host} ${ok ? "is" : "could not become"} ${short(generation)} again; prove it: ingot verify ${machine.stack}`,
      );
  return ok ? 0 : 1;
}

/** The machines that are meant. @throws RefusedError when there is none */
export async function machinesOf(given: string, host: string | undefined, target: Target, io: Io): Promise<Machine[]> {
  const { stack, machines } = await machinesUp(given, target, io);
  if (host !== undefined || !machines.length) return [await machineOf(target, stack, host, machines)];
  return machines;
}

/** The generation before the present one, or the one whose digest begins so. @throws RefusedError */
async function goalOf(machine: Machine, target: Target, to: string | undefined): Promise<string> {
  const id = `${machine.stack}/${machine.host}`;
  const history = (await historyOf(target.connect(machine))).map((p) => p.generation);
  const now = history.at(-1);
  const found = to === undefined ? history.findLast((g) => g !== now) : history.findLast((g) => g.startsWith(to));
  if (found !== undefined) return found;
  throw new RefusedError(
    to === undefined ? `${id} has not been anything else before` : `${id} has never been ${to}`,
    `what it has been: ingot history ${machine.stack}`,
  );
}

export async function backTo(machine: Machine, target: Target, generation: string, io: Io): Promise<HostOutcome[]> {
  const connection = target.connect(machine);
  const steps = await stepsThere(machine, connection, generation);
  const host = { host: machine.host, generation: { steps } };
  return gather(
    `${machine.stack}/${machine.host} back to ${short(generation)}`,
    [host],
    activateThere(machine, connection, generation),
    io.progress,
  );
}
