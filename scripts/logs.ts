// ingot logs: what a machine, or one resource of it, wrote.
import { parseArgs } from "node:util";
import { RefusedError, UsageError } from "../lib/diagnostics.ts";
import { unitsOf } from "../stacks/units.ts";
import type { Io } from "./command.ts";
import { machineOf, targetOf } from "./machines.ts";
import { hostOf, load, splitName } from "./stack.ts";

export const help = `Says what a machine wrote: its journal, or what concerns one resource: the log of its steps, and of its unit when it is a service.

  ingot logs <stack>[/<host>] [resource] [--lines <n>]
  ingot logs <stack>[/<host>] --console

--console says what the machine wrote on its console since its start, also where nobody can come in.

  ingot logs inloop application/inloop
  ingot logs inloop/web service/gunicorn --lines 50`;

export async function main(args: string[], io: Io): Promise<number> {
  const { positionals, values } = parseArgs({
    args,
    allowPositionals: true,
    options: { lines: { type: "string", default: "200" }, console: { type: "boolean" } },
  });
  const [name, resource, extra] = positionals;
  if (name === undefined || extra !== undefined || !/^\d+$/.test(values.lines) || (values.console && resource !== undefined))
    throw new UsageError("which machine?", "ingot logs <stack>[/<host>] [resource] [--lines <n>] | --console");
  const { stack, host } = splitName(name);
  const { plan } = load(stack, io);
  const hostPlan = hostOf(plan, host);
  const target = await targetOf(io, stack);
  const connection = target.connect(await machineOf(io, target, plan.stack, hostPlan.host));
  if (values.console) {
    const lines = (await connection.console()).trimEnd().split("\n").slice(-Number(values.lines));
    io.print(io.json ? JSON.stringify({ stack: plan.stack, host: hostPlan.host, console: lines }, null, 2) : lines.join("\n"));
    return 0;
  }
  const filters: string[] = [];
  if (resource !== undefined) {
    if (!(resource in hostPlan.origins))
      throw new RefusedError(
        `${plan.stack}/${hostPlan.host} has no resource \`${resource}\``,
        `there are: ${Object.keys(hostPlan.origins).join(", ")}`,
      );
    const steps = hostPlan.generation.steps.filter((s) => s.resource === resource);
    for (const step of steps) filters.push(`SYSLOG_IDENTIFIER=${step.id}`);
    const units = new Set(unitsOf(hostPlan.generation).flatMap((u) => (u.resource === resource ? [u.unit] : [])));
    for (const unit of units) filters.push(`_SYSTEMD_UNIT=${unit}`, `UNIT=${unit}`);
    if (!filters.length) throw new RefusedError(`${resource} has no log of its own: it is a part of others`);
  }
  const matches = filters.flatMap((f, i) => (i ? ["+", f] : [f]));
  const result = await connection.exec([
    "journalctl",
    "--no-pager",
    "--quiet",
    "--output=short-iso",
    `--lines=${values.lines}`,
    ...matches,
  ]);
  if (io.json)
    io.print(JSON.stringify({ stack: plan.stack, host: hostPlan.host, resource, lines: result.stdout.trimEnd().split("\n") }, null, 2));
  else process.stdout.write(result.stdout);
  if (result.stderr) process.stderr.write(result.stderr);
  return result.code;
}
