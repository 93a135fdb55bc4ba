// What commands on machines share: the target, the machines of a stack, and how results are said.

import type { StackModel } from "../cloud-init/model.ts";
import type { HostPlan, StackPlan } from "../cloud-init/plan.ts";
import { undoAbandoned as undoBakes } from "../images/bake.ts";
import { sleep } from "../lib/cancel.ts";
import { format, nearest, RefusedError, UsageError } from "../lib/diagnostics.ts";
import { failures, type HostOutcome, succeeded } from "../stacks/launch.ts";
import { containerTarget } from "../stacks/local/container.ts";
import { records } from "../stacks/local/machine.ts";
import { undoAbandoned } from "../stacks/local/stack.ts";
import type { Machine, Target } from "../stacks/target.ts";
import { type CheckResult, verifyHost } from "../stacks/verify.ts";
import { type Choices, type Io, table } from "./command.ts";
import { stackName } from "./stack.ts";

/**
 * Where stacks run, as `--on` says; commands never ask which target they have.
 * @param stack name or file of the stack that the command is about; a target far away finds its region and bucket in it
 */
export async function targetOf(io: Io, stack?: string, choices: Choices = {}): Promise<Target> {
  if (io.on === "aws") {
    const [{ awsTarget }, { settingsOf }] = await Promise.all([import("../stacks/aws/target.ts"), import("../stacks/aws/settings.ts")]);
    return awsTarget(io.project, io.progress, settingsOf(io.project, stack), choices);
  }
  const given = Object.entries(choices).find(([, names]) => names?.length);
  if (given) throw new UsageError("--replace and --yes-delete-volume are for --on aws", "on this computer `ingot down` keeps data volumes");
  await mend(io);
  if (io.on === "vm") return (await import("../stacks/local/vm.ts")).vmTarget(io.project, io.progress);
  return containerTarget(io.project, io.progress);
}

/** Undoes what killed runs left. */
export async function mend(io: Io): Promise<void> {
  await undoBakes(io.project, io.progress);
  await undoAbandoned(io.project, io.progress);
}

/** The machines of a stack that is given by its name or its file, whether the file is right or not; none when it is not up. */
export async function machinesUp(given: string, target: Target, io: Io): Promise<{ stack: string; machines: Machine[] }> {
  const all = await target.find();
  const stack = stackName(
    given,
    all.map((m) => m.stack),
    io,
  );
  return { stack, machines: all.filter((m) => m.stack === stack) };
}

/** That a stack is not up, or none; where the other target of this computer has one, that it is there. */
export function notUp(io: Pick<Io, "project" | "on">, stack?: string): { message: string; hint: string; elsewhere: boolean } {
  const { on } = io;
  const other = records(io.project, stack).find(({ record }) => (record.target ?? "container") !== on)?.record;
  const message = stack ? `${stack} is not up` : "nothing is up";
  const elsewhere = other !== undefined && on !== "aws";
  if (!elsewhere) return { message, hint: `launch ${stack ? "it" : "a stack"}: ingot up ${stack ?? "<stack>"}`, elsewhere };
  const there = other.target ?? "container";
  return { message: `${message} on ${on}`, hint: `${other.stack} is up on ${there}: add \`--on ${there}\``, elsewhere };
}

/**
 * The machine of a host, of a fleet the first one; of a stack with one host its name may be left out.
 * @throws RefusedError with what to do
 */
export async function machineOf(io: Io, target: Target, stack: string, host: string | undefined, there?: Machine[]): Promise<Machine> {
  const machines = there ?? (await target.find(stack));
  const names = [...new Set(machines.map((m) => m.host))];
  const machine = host === undefined ? (names.length === 1 ? machines[0] : undefined) : machines.find((m) => m.host === host);
  if (machine) return machine;
  if (!machines.length) {
    const { message, hint } = notUp(io, stack);
    throw new RefusedError(message, hint);
  }
  const near = host === undefined ? undefined : nearest(host, names);
  throw new RefusedError(
    host === undefined ? `${stack} has several machines` : `${stack} has no machine \`${host}\``,
    near ? `did you mean \`${stack}/${near}\`?` : `there are: ${names.map((n) => `${stack}/${n}`).join(", ")}`,
  );
}

/** @param within seconds in which what fails is asked again: programs of a machine that has just been powered on come in their own time */
export async function verifyAll(plan: StackPlan, target: Target, io: Io, within = 0): Promise<CheckResult[]> {
  const machines = await target.find(plan.stack);
  for (const host of plan.hosts) await machineOf(io, target, plan.stack, host.host, machines);
  const end = performance.now() + within * 1000;
  const results = await Promise.all(
    machines.flatMap((machine) => {
      const host = plan.hosts.find((h) => h.host === machine.host);
      return host ? [verifyUntil(host, machine, target, end)] : [];
    }),
  );
  const several = (host: string) => machines.filter((m) => m.host === host).length > 1;
  const all = results.flatMap(({ machine, found }) =>
    several(machine.host) ? found.map((r) => ({ ...r, host: `${r.host} ${machine.instance}` })) : found,
  );
  for (const r of all.filter((c) => !c.ok))
    io.progress.say(
      `  FAILED    ${plan.hosts.length > 1 ? `${r.host}: ` : ""}${r.id}, seen from ${r.seen}: ${r.message}${lineOf(plan, r)}`,
    );
  return all;
}

/** The line of the YAML that asked for what a check looks at. */
function lineOf(plan: StackPlan, { host, resource }: CheckResult): string {
  const range = plan.hosts.find((h) => h.host === host)?.origins[resource];
  return range ? ` (${range.file}:${range.start.line}:${range.start.column})` : "";
}

/** All checks of a machine; those that fail again and again until they hold or it is `end`. */
async function verifyUntil(plan: HostPlan, machine: Machine, target: Target, end: number) {
  // Of a fleet they lead to its balancer.
  const named = plan.count === undefined ? target.found?.prove(plan, machine) : undefined;
  let found = await verifyHost(plan, machine, target.connect(machine), target.secrets);
  while (performance.now() < end && found.some((r) => !r.ok)) {
    await sleep(1);
    const failed = new Set(found.filter((r) => !r.ok).map((r) => r.id));
    const again = await verifyHost(only(plan, failed), machine, target.connect(machine), target.secrets);
    found = found.map((r) => again.find((a) => a.id === r.id) ?? r);
  }
  return { machine, found: [...found, ...((await named) ?? [])] };
}

const only = (plan: HostPlan, ids: Set<string>): HostPlan => ({
  ...plan,
  checks: plan.checks.filter((c) => ids.has(c.id)),
  generation: { ...plan.generation, checks: plan.generation.checks.filter((c) => ids.has(c.id)) },
});

/** Where each machine answers on this computer. */
export function urls(plan: HostPlan, machine: Machine): string[] {
  const secure = machine.forwards[443];
  const plain = machine.forwards[80];
  const forward = secure ?? plain;
  if (!forward) return [];
  const port = forward.split(":").at(-1);
  const scheme = secure ? "https" : "http";
  const usual = secure ? "443" : "80";
  return plan.localNames.map((name) => `${scheme}://${name}${port === usual ? "" : `:${port}`}/`);
}

/** Says on standard error what failed on the machines, at the lines of the stack that asked for it. */
export function sayFailures({ yaml }: StackModel, plan: StackPlan, outcomes: HostOutcome[]): void {
  const sources = new Map([[yaml.file, yaml.text]]);
  const said = failures(plan.hosts, outcomes).map((d) => format(d, sources, process.stderr.isTTY));
  console.error(`\n${said.join("\n\n")}`);
}

/** The steps of a first boot or an apply, with their times. */
export function stepTable(outcomes: HostOutcome[]): string {
  return table(
    outcomes.flatMap((o) =>
      o.steps.map((s) => ["  ", ...(outcomes.length > 1 ? [o.host] : []), s.step, s.outcome, `${s.seconds.toFixed(1)} s`]),
    ),
  );
}

/** The steps of a first boot that nothing could have made shorter but being shorter themselves, in their order, with their seconds. */
export function criticalPath({ generation }: HostPlan, { steps }: HostOutcome): { step: string; seconds: number }[] {
  const seconds = new Map(steps.map((s) => [s.step, s.seconds]));
  const before = new Map(generation.steps.map((s) => [s.id, s.after]));
  const longest = new Map<string, { total: number; previous?: string }>();
  const visit = (id: string): number => {
    const known = longest.get(id);
    if (known) return known.total;
    let [total, previous]: [number, string | undefined] = [0, undefined];
    for (const other of before.get(id) ?? []) if (visit(other) > total) [total, previous] = [visit(other), other];
    total += seconds.get(id) ?? 0;
    longest.set(id, { total, ...(previous !== undefined && { previous }) });
    return total;
  };
  let last: string | undefined;
  for (const { id } of generation.steps) if (last === undefined || visit(id) > visit(last)) last = id;
  const path: { step: string; seconds: number }[] = [];
  for (let id = last; id !== undefined; id = longest.get(id)?.previous) path.unshift({ step: id, seconds: seconds.get(id) ?? 0 });
  return path;
}

export function activated(outcomes: HostOutcome[]): boolean {
  return outcomes.every(succeeded);
}
