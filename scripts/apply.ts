// ingot apply: running machines become what the stack says now, by the same generation that a first boot activates.
import { parseArgs } from "node:util";
import { compile } from "../cloud-init/compile.ts";
import { findStack, loadStack } from "../cloud-init/model.ts";
import { surroundingsOf } from "../cloud-init/surroundings.ts";
import { activate, gather, prepare } from "../stacks/launch.ts";
import type { Machine } from "../stacks/target.ts";
import type { Io } from "./command.ts";
import { activated, machineOf, sayFailures, stepTable, targetOf } from "./machines.ts";
import { hostOf, only } from "./stack.ts";

export const help = `Activates what the stack says now on its running machines: the same steps as at first boot, each done only where something differs.
Applying twice changes nothing.

  ingot apply <stack>

Exit code 1 when a step fails; mend what is wrong and apply again: it goes on with the rest.`;

export async function main(args: string[], io: Io): Promise<number> {
  const { positionals } = parseArgs({ args, allowPositionals: true, options: {} });
  const given = only(positionals, "stack", "ingot apply <stack>");
  const file = findStack(io.project, given);
  const target = await targetOf(io, given);
  const declared = loadStack(file, surroundingsOf(io.project));
  const wanted = compile(declared);
  const machines = new Map<string, Machine>();
  const pinned: Record<string, string> = {};
  for (const host of declared.hosts) {
    const machine = await machineOf(target, declared.name, host.name);
    machines.set(host.name, machine);
    pinned[host.image.name] = machine.imageDigest;
    for (const text of target.beyondApply(hostOf(wanted, host.name), machine, host.image.digest))
      io.progress.say(`  ${host.name}: ${text}`);
  }
  const { model, plan, hosts } = await prepare(io.project, file, target, io.progress, pinned);
  await target.refresh(plan, hosts);
  const began = performance.now();
  const outcomes = await Promise.all(
    hosts.map(async (input) => {
      const machine = machines.get(input.plan.host);
      if (!machine) throw new Error(`no machine of ${input.plan.host}`);
      const [outcome] = await gather(
        `apply to ${plan.stack}/${input.plan.host}`,
        [input.plan],
        activate(machine, target.connect(machine), input),
        io.progress,
      );
      return outcome ?? { host: input.plan.host, steps: [] };
    }),
  );
  const ok = activated(outcomes);
  const changed = outcomes.flatMap((o) => o.steps.filter((s) => s.outcome === "changed"));
  const written = outcomes.reduce((n, o) => n + (o.activation?.written ?? 0), 0);
  const removed = outcomes.reduce((n, o) => n + (o.activation?.removed ?? 0), 0);
  if (io.json)
    io.print(
      JSON.stringify({ stack: plan.stack, ok, changed: changed.map((s) => s.step), files: { written, removed }, hosts: outcomes }, null, 2),
    );
  else if (ok) {
    const what = [
      ...(changed.length ? [`${changed.length} ${changed.length === 1 ? "step" : "steps"} changed something`] : []),
      ...(written ? [`${written} ${written === 1 ? "file" : "files"} written`] : []),
      ...(removed ? [`${removed} ${removed === 1 ? "file" : "files"} removed`] : []),
    ];
    if (changed.length) io.print(stepTable(outcomes.map((o) => ({ ...o, steps: o.steps.filter((s) => s.outcome === "changed") }))));
    io.print(
      `${plan.stack}: ${what.join(", ") || "nothing changed"} in ${((performance.now() - began) / 1000).toFixed(1)} s; prove it: ingot verify ${plan.stack}`,
    );
  } else sayFailures(model, plan, outcomes);
  return ok ? 0 : 1;
}
