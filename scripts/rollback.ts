// ingot rollback: machines become again what they were before, by the generation that is still on them.
import { parseArgs } from "node:util";
import { RefusedError } from "../lib/diagnostics.ts";
import { short } from "../lib/digest.ts";
import { generationThere, historyOf, succeeded } from "../stacks/launch.ts";
import type { Machine, Target } from "../stacks/target.ts";
import { backTo, between } from "./change.ts";
import type { Io } from "./command.ts";
import { machineOf, machinesUp, targetOf } from "./machines.ts";
import { only, splitName } from "./stack.ts";

export const help = `Makes running machines again what they were before the last change: configuration, units and releases, each with its virtualenv, environment and
settings. Data stays as it is, and so does what a migration did to it. The stack's file is not read: the next apply brings what it says.

  ingot rollback <stack>[/<host>] [--to <generation>]

--to: the beginning of a generation's digest, as \`ingot history\` shows it.`;

export async function main(args: string[], io: Io): Promise<number> {
  const { positionals, values } = parseArgs({ args, allowPositionals: true, options: { to: { type: "string" } } });
  const name = only(positionals, "stack", "ingot rollback <stack>[/<host>] [--to <generation>]");
  const { stack: given, host } = splitName(name);
  const target = await targetOf(io, given);
  const [first] = await machinesOf(given, host, target, io);
  const held = await target.hold(first.stack, `rollback ${name}`);
  try {
    const machines = await machinesOf(given, host, target, io);
    const goals = await Promise.all(machines.map(async (machine) => ({ machine, past: await goalOf(machine, target, values.to) })));
    const back = () => Promise.all(goals.map(({ machine, past }) => backTo(machine, target, past, `rollback ${name}`, io)));
    const outcomes = (await between(first.stack, back)).flat();
    const ok = outcomes.every(succeeded);
    if (io.json)
      io.print(JSON.stringify({ ok, hosts: goals.map((g) => ({ host: g.machine.host, generation: g.past.digest })), outcomes }, null, 2));
    else
      for (const { machine, past } of goals)
        io.print(
          `${machine.stack}/${machine.host} ${ok ? "is" : "could not become"} ${short(past.digest)} again; prove it: ingot verify ${machine.stack}`,
        );
    return ok ? 0 : 1;
  } finally {
    await held.release();
  }
}

/** The machines that are meant. @throws RefusedError when there is none */
export async function machinesOf(given: string, host: string | undefined, target: Target, io: Io): Promise<[Machine, ...Machine[]]> {
  const { stack, machines } = await machinesUp(given, target, io);
  const [first, ...others] = machines;
  return host !== undefined || !first ? [await machineOf(io, target, stack, host, machines)] : [first, ...others];
}

/** The generation before the present one, or the one whose digest begins so. @throws RefusedError */
async function goalOf(machine: Machine, target: Target, to: string | undefined) {
  const id = `${machine.stack}/${machine.host}`;
  const connection = target.connect(machine);
  const history = (await historyOf(connection)).map((p) => p.generation);
  const now = history.at(-1);
  const found = to === undefined ? history.findLast((g) => g !== now) : history.findLast((g) => g.startsWith(to));
  if (found !== undefined) return generationThere(machine, connection, found);
  throw new RefusedError(
    to === undefined ? `${id} has not been anything else before` : `${id} has never been ${to}`,
    `what it has been: ingot history ${machine.stack}`,
  );
}
