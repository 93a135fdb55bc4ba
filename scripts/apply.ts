// ingot apply: running machines become what the stack says now, by the same generation that a first boot activates.
import { parseArgs } from "node:util";
import { compile } from "../cloud-init/compile.ts";
import { findStack, loadStack, type StackModel } from "../cloud-init/model.ts";
import type { StackPlan } from "../cloud-init/plan.ts";
import { surroundingsOf } from "../cloud-init/surroundings.ts";
import { UsageError } from "../lib/diagnostics.ts";
import { activate, foreseeOn, gather, type HostOutcome, prepare } from "../stacks/launch.ts";
import type { HostInput, Machine, Target } from "../stacks/target.ts";
import { type Io, table } from "./command.ts";
import { activated, machineOf, sayFailures, stepTable, targetOf } from "./machines.ts";
import { hostOf, only, splitName } from "./stack.ts";

export const help = `Activates what the stack says now on its running machines: the same steps as at first boot, each done only where something differs.
Applying twice changes nothing.

  ingot apply <stack>[/<host>] [--check [--diff]]

--check asks the machines what would change and changes nothing (Ingot's own programs on them are brought to this version first): exit code 1
when anything would. --diff shows files as they are and as they would be. A step says that it would change something when it finds work now, or
when a file that it uses would be another.

Exit code 1 when a step fails; mend what is wrong and apply again: it goes on with the rest.`;

export async function main(args: string[], io: Io): Promise<number> {
  const options = { check: { type: "boolean" }, diff: { type: "boolean" } } as const;
  const { positionals, values } = parseArgs({ args, allowPositionals: true, options });
  const usage = "ingot apply <stack>[/<host>] [--check [--diff]]";
  const { stack: given, host: one } = splitName(only(positionals, "stack", usage));
  if (values.diff && !values.check) throw new UsageError("--diff belongs to --check", usage);
  const began = performance.now();
  const applying = await prepared(given, one, io);
  const { model, plan } = applying;
  if (values.check) return check(applying, values.diff ? "diff" : "names", io);
  const outcomes = await applied(applying, io);
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

export interface Applying {
  target: Target;
  model: StackModel;
  plan: StackPlan;
  all: HostInput[];
  /** Of the machines that are meant. */
  hosts: HostInput[];
  machines: Map<string, Machine>;
}

/** Everything that an apply needs, built; nothing has changed on a machine yet. `one`: a host, when only that one is meant. */
export async function prepared(given: string, one: string | undefined, io: Io): Promise<Applying> {
  const file = findStack(io.project, given);
  const target = await targetOf(io, given);
  const declared = loadStack(file, surroundingsOf(io.project));
  const wanted = compile(declared);
  const machines = new Map<string, Machine>();
  const pinned: Record<string, string> = {};
  if (one !== undefined) hostOf(wanted, one); // says which there are
  for (const host of declared.hosts.filter((h) => one === undefined || h.name === one)) {
    const machine = await machineOf(target, declared.name, host.name);
    machines.set(host.name, machine);
    pinned[host.image.name] = machine.imageDigest;
    for (const text of target.beyondApply(hostOf(wanted, host.name), machine, host.image.digest))
      io.progress.say(`  ${host.name}: ${text}`);
  }
  const { model, plan, hosts: all } = await prepare(io.project, file, target, io.progress, pinned);
  return { target, model, plan, all, hosts: all.filter((h) => machines.has(h.plan.host)), machines };
}

/** Applies it to all machines at once. */
export async function applied({ target, plan, all, hosts, machines }: Applying, io: Io): Promise<HostOutcome[]> {
  await target.refresh(plan, all);
  return Promise.all(
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
}

/** Says what an apply would change. */
async function check({ plan: { stack }, hosts, machines, target }: Applying, how: "diff" | "names", io: Io): Promise<number> {
  const found = await Promise.all(
    hosts.map(async (input) => {
      const machine = machines.get(input.plan.host);
      if (!machine) throw new Error(`no machine of ${input.plan.host}`);
      const { files, steps } = await foreseeOn(machine, target.connect(machine), input);
      return { host: input.plan.host, files, steps: steps.filter((s) => s.outcome !== "unchanged") };
    }),
  );
  const count = found.reduce((n, f) => n + f.files.length + f.steps.length, 0);
  if (io.json) io.print(JSON.stringify({ stack, changes: count > 0, hosts: found }, null, 2));
  else {
    for (const { host, files, steps } of found) {
      const rows = [
        ...files.map((f) => ["  ", f.change === "removed" ? "would be removed" : "would be written", f.path]),
        ...steps.map((s) => ["  ", s.outcome === "failed" ? "could not be asked" : "would change", s.step]),
      ];
      io.print(`${stack}/${host}${rows.length ? `\n${table(rows)}` : ": nothing would change"}`);
      for (const f of how === "diff" ? files : []) io.print(`\n${f.path}\n${f.diff}`);
    }
  }
  return count ? 1 : 0;
}
