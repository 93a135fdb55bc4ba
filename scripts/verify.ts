// ingot verify: a stack's checks against its running machines.
import { parseArgs } from "node:util";
import { UsageError } from "../lib/diagnostics.ts";
import { type Io, table } from "./command.ts";
import { targetOf, verifyAll } from "./machines.ts";
import { hostOf, load, only, splitName } from "./stack.ts";

export const help = `Runs every check that a stack's resources compile to against its running machines, from inside and from their network.
On EC2 also where the names of \`dns:\` lead, by the name servers of their zone: one that leads elsewhere is waited for, for a minute.

  ingot verify <stack>[/<host>] [--within <seconds>]

--within: what fails is asked again until it holds, for so many seconds at the most; for machines that have just been powered on.
Exit code 1 when one fails. --json gives every check with its result.`;

export async function main(args: string[], io: Io): Promise<number> {
  const usage = "ingot verify <stack>[/<host>] [--within <seconds>]";
  const { positionals, values } = parseArgs({ args, allowPositionals: true, options: { within: { type: "string", default: "0" } } });
  const { stack: given, host: one } = splitName(only(positionals, "stack", usage));
  if (!/^[0-9]{1,4}$/.test(values.within)) throw new UsageError(`--within ${values.within} is no number of seconds`, usage);
  const { plan: whole } = load(given, io);
  const plan = one === undefined ? whole : { ...whole, hosts: [hostOf(whole, one)] };
  const target = await targetOf(io, given);
  const began = performance.now();
  const results = await verifyAll(plan, target, io, Number(values.within));
  const failed = results.filter((r) => !r.ok);
  if (io.json) io.print(JSON.stringify({ stack: plan.stack, ok: failed.length === 0, checks: results }, null, 2));
  else {
    io.print(table(results.map((r) => ["  ", r.ok ? "ok" : "FAILED", ...(plan.hosts.length > 1 ? [r.host] : []), r.id, r.seen])));
    io.print(
      `${results.length - failed.length} of ${results.length} checks passed in ${((performance.now() - began) / 1000).toFixed(1)} s`,
    );
  }
  return failed.length ? 1 : 0;
}
