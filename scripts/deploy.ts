// ingot deploy: apply, prove, and go back to what was there when it does not prove itself.
import { parseArgs } from "node:util";
import { RefusedError } from "../lib/diagnostics.ts";
import { historyOf, succeeded } from "../stacks/launch.ts";
import { applied, prepared } from "./apply.ts";
import type { Io } from "./command.ts";
import { activated, sayFailures, verifyAll } from "./machines.ts";
import { backTo } from "./rollback.ts";
import { only, splitName } from "./stack.ts";

export const help = `Applies what the stack says now to its running machines, and verifies them. When a step or a check fails, each of them becomes again what it was
before: the release that served goes on serving. What a migration did to a database stays.

  ingot deploy <stack>[/<host>]

A release is built before anything is touched; on the machine it is unpacked and migrated beside the old one, which serves until the new one is whole.
Exit code 1 when it was taken back.`;

export async function main(args: string[], io: Io): Promise<number> {
  const { positionals } = parseArgs({ args, allowPositionals: true, options: {} });
  const { stack: given, host: one } = splitName(only(positionals, "stack", "ingot deploy <stack>[/<host>]"));
  const began = performance.now();
  const applying = await prepared(given, one, io);
  const { plan, model, target, machines } = applying;
  const before = new Map(
    await Promise.all([...machines.values()].map(async (m) => [m.host, (await historyOf(target.connect(m))).at(-1)?.generation] as const)),
  );
  const outcomes = await applied(applying, io);
  const hosts = plan.hosts.filter((h) => machines.has(h.host));
  const checks = activated(outcomes) ? await verifyAll({ ...plan, hosts }, target, io) : [];
  const failed = checks.filter((c) => !c.ok);
  const ok = activated(outcomes) && failed.length === 0;
  const back: { host: string; generation: string; ok: boolean }[] = [];
  if (!ok) {
    if (!io.json && !activated(outcomes)) sayFailures(model, plan, outcomes);
    for (const machine of machines.values()) {
      const generation = before.get(machine.host);
      const now = hosts.find((h) => h.host === machine.host)?.generation.digest;
      if (generation === undefined || generation === now) continue;
      const [outcome] = await backTo(machine, target, generation, io);
      back.push({ host: machine.host, generation, ok: outcome !== undefined && succeeded(outcome) });
    }
  }
  const stuck = back.filter((b) => !b.ok).map((b) => `${plan.stack}/${b.host}`);
  if (io.json) io.print(JSON.stringify({ stack: plan.stack, ok, hosts: outcomes, checks, back }, null, 2));
  else if (ok)
    io.print(`${plan.stack}: deployed and verified (${checks.length} checks) in ${((performance.now() - began) / 1000).toFixed(1)} s`);
  if (stuck.length)
    throw new RefusedError(
      `${stuck.join(", ")} could not be brought back to what it was`,
      `look at it: ingot history ${plan.stack}, ingot logs ${plan.stack}`,
    );
  if (!ok && !io.json)
    console.error(
      back.length ? `\n${plan.stack} is again what it was before` : `\n${plan.stack} was not another before: nothing to go back to`,
    );
  return ok ? 0 : 1;
}
