// What apply and deploy have in common: running machines become what the stack says now, all or a part of it; one change at a time, proven by
// its checks, and taken back when it is not what it should be.
import { compile } from "../cloud-init/compile.ts";
import { findStack, type HostModel, loadStack, type StackModel } from "../cloud-init/model.ts";
import { checksOf, partOf, withPart } from "../cloud-init/part.ts";
import type { Generation, HostPlan, StackPlan } from "../cloud-init/plan.ts";
import { surroundingsOf } from "../cloud-init/surroundings.ts";
import { userDataOf } from "../cloud-init/user-data.ts";
import { Cancelled } from "../lib/cancel.ts";
import { nearest, RefusedError } from "../lib/diagnostics.ts";
import { activate, activateThere, gather, generationNow, type HostOutcome, prepare, succeeded } from "../stacks/launch.ts";
import type { HostInput, Machine, Target } from "../stacks/target.ts";
import { type CheckResult, verifyHost } from "../stacks/verify.ts";
import type { Io } from "./command.ts";
import { activated, machineOf, sayFailures, targetOf, verifyAll } from "./machines.ts";
import { hostOf } from "./stack.ts";

/** What is to be changed. */
export interface Extent {
  /** The stack, by its name or file. */
  stack: string;
  /** The host, when only one is meant. */
  host?: string;
  /** Of each host the resources that are named, when not all are meant; hosts without are left alone. @throws RefusedError */
  named?: (model: StackModel, hosts: HostModel[]) => Map<string, string[]>;
  /** "apply live/web": for whoever waits for it, and for the machines' history. */
  what: string;
}

/** A change, everything for it built; nothing has changed on a machine yet. */
export interface Change {
  extent: Extent;
  target: Target;
  model: StackModel;
  /** Of the hosts that are meant, as they are to become. */
  plan: StackPlan;
  /** Of the whole stack. */
  all: HostInput[];
  hosts: HostInput[];
  machines: Map<string, Machine>;
  /** What they are now, where they have become anything. */
  before: Map<string, Generation>;
  /** Host → the resources that are brought, when not all are. */
  parts: Map<string, ReadonlySet<string>>;
}

/** Prepares a change and hands it to `work`, alone on the stack's machines for so long. */
export async function changing<T>(extent: Extent, io: Io, work: (change: Change) => Promise<T>): Promise<T> {
  const file = findStack(io.project, extent.stack);
  const target = await targetOf(io, extent.stack);
  const declared = loadStack(file, surroundingsOf(io.project));
  const wanted = compile(declared);
  if (extent.host !== undefined) hostOf(wanted, extent.host); // says which there are
  const meant = declared.hosts.filter((h) => extent.host === undefined || h.name === extent.host);
  const named = extent.named?.(declared, meant);
  const hosts = meant.filter((h) => !named || named.has(h.name));
  for (const host of hosts) await machineOf(io, target, declared.name, host.name);
  const held = await target.hold(declared.name, extent.what);
  try {
    const machines = new Map<string, Machine>();
    const before = new Map<string, Generation>();
    const parts = new Map<string, ReadonlySet<string>>();
    const pinned: Record<string, string> = {};
    for (const host of hosts) {
      const machine = await machineOf(io, target, declared.name, host.name);
      if (machine.state === "stopped")
        throw new RefusedError(`${declared.name}/${host.name} is powered off`, `\`ingot start ${declared.name}\` powers it on`);
      machines.set(host.name, machine);
      pinned[host.image.name] = machine.imageDigest;
      const plan = hostOf(wanted, host.name);
      const now = await generationNow(machine, target.connect(machine), plan.generation, io.progress.say);
      if (now) before.set(host.name, now);
      if (named && !now)
        throw new RefusedError(
          `${declared.name}/${host.name} has not become anything yet that a part could be changed of`,
          `the whole first: ingot apply ${declared.name}/${host.name}`,
        );
      const part = named && now && partOf(host, plan, named.get(host.name) ?? [], now);
      if (part) parts.set(host.name, part);
      const volumes = plan.volumes.filter((v) => machine.volumes.includes(v.name) || (part?.has(`volume/${v.name}`) ?? true));
      const ports = plan.ports.filter((p) => part?.has(p.resource) ?? true);
      for (const text of target.beyondApply({ ...plan, volumes, ports }, machine, host.image.digest))
        io.progress.say(`  ${host.name}: ${text}`);
    }
    const isMeant = (host: string, resource: string): boolean => !named || (parts.get(host)?.has(resource) ?? false);
    const prepared = await prepare(io.project, file, target, io.progress, { pinned, meant: isMeant });
    const all = prepared.hosts.map((input): HostInput => {
      if (!named) return input;
      const { host: name, artifacts } = input.plan;
      const [part, now] = [parts.get(name), before.get(name)];
      const host = prepared.model.hosts.find((h) => h.name === name);
      const plan: HostPlan =
        part && now && host
          ? withPart(host, input.plan, part, now)
          : { ...input.plan, artifacts: artifacts.filter((a) => isMeant(name, a.resource)) };
      return { ...input, plan, userData: userDataOf(plan, target.spills ? "spills" : "stays") };
    });
    const own = all.filter((h) => machines.has(h.plan.host));
    const plan = { ...prepared.plan, hosts: own.map((h) => h.plan) };
    return await work({ extent, target, model: prepared.model, plan, all, hosts: own, machines, before, parts });
  } finally {
    await held.release();
  }
}

/** How a change went. */
export interface Result {
  ok: boolean;
  outcomes: HostOutcome[];
  checks: CheckResult[];
  /** Checks that fail, as they did before the change: nothing is taken back for them alone. */
  already: string[];
  /** Machines that were made again what they were. */
  back: { host: string; generation: string; ok: boolean }[];
}

/** Applies a change to its machines, all at once, and verifies those where something changed. What fails is taken back, on all of them. */
export async function make(change: Change, io: Io, how: Making): Promise<Result> {
  const already = await failingNow(change);
  return between(change.plan.stack, () => made(change, already, io, how));
}

/** Work on machines that is not undone when the user stops it: what is said then. */
export async function between<T>(stack: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof Cancelled)
      error.left = `${stack} may be between what it was and what it is to be: \`ingot apply ${stack}\` goes on`;
    throw error;
  }
}

interface Making {
  /** Whether machines are verified where nothing changed, too. */
  prove: "always" | "changed";
  keep: boolean;
}

async function made(change: Change, already: ReadonlySet<string>, io: Io, { prove, keep }: Making): Promise<Result> {
  const { target, model, plan, machines, extent } = change;
  await target.refresh({ ...plan, hosts: change.all.map((h) => h.plan) }, change.all);
  const outcomes = await Promise.all(
    change.hosts.map(async (input) => {
      const machine = theMachine(change, input.plan.host);
      const events = activate(machine, target.connect(machine), input, { by: extent.what, say: io.progress.say });
      const [outcome] = await gather(`${extent.what}: ${input.plan.host}`, [input.plan], events, io.progress);
      return outcome ?? { host: input.plan.host, steps: [] };
    }),
  );
  const result: Result = { ok: activated(outcomes), outcomes, checks: [], already: [], back: [] };
  if (result.ok) {
    const hosts = plan.hosts.filter((h) => prove === "always" || outcomes.some((o) => o.host === h.host && hasChanged(o)));
    result.checks = await verifyAll({ ...plan, hosts }, target, io);
    const failing = result.checks.filter((c) => !c.ok);
    result.ok = !failing.length;
    // Nothing that held before fails now.
    if (failing.every((c) => already.has(keyOf(c)))) {
      result.already = failing.map((c) => c.id);
      return result;
    }
  } else if (!io.json) sayFailures(model, plan, outcomes);
  if (keep) return result;
  for (const { host, generation } of plan.hosts) {
    const past = change.before.get(host);
    const machine = machines.get(host);
    if (!past || !machine || past.digest === generation.digest) continue;
    const [outcome] = await backTo(machine, target, past, `back from ${extent.what}`, io);
    result.back.push({ host, generation: past.digest, ok: outcome !== undefined && succeeded(outcome) });
  }
  return result;
}

const keyOf = ({ host, id }: CheckResult): string => `${host} ${id}`;

/** What fails before the change, which is not to blame for it. Where no change is coming, nothing is asked. */
async function failingNow({ model, hosts, machines, before, target }: Change): Promise<Set<string>> {
  const found = await Promise.all(
    hosts.map(async ({ plan }) => {
      const [machine, now, host] = [machines.get(plan.host), before.get(plan.host), model.hosts.find((h) => h.name === plan.host)];
      if (!machine || !now || !host || now.digest === plan.generation.digest) return [];
      const asked = { ...plan, generation: now, checks: checksOf(host, plan, now) };
      return verifyHost(asked, machine, target.connect(machine), target.secrets);
    }),
  );
  return new Set(found.flat().flatMap((c) => (c.ok ? [] : [keyOf(c)])));
}

const hasChanged = ({ steps, activation }: HostOutcome): boolean =>
  steps.some((s) => s.outcome === "changed") || Boolean(activation?.written || activation?.removed);

function theMachine({ machines }: Change, host: string): Machine {
  const machine = machines.get(host);
  if (!machine) throw new Error(`no machine of ${host}`);
  return machine;
}

/** Makes a machine again what it was. */
export function backTo(machine: Machine, target: Target, past: Generation, by: string, io: Io): Promise<HostOutcome[]> {
  const events = activateThere(machine, target.connect(machine), past.digest, { by, say: io.progress.say });
  return gather(
    `${machine.stack}/${machine.host} back to ${past.digest.slice(0, 12)}`,
    [{ host: machine.host, generation: past }],
    events,
    io.progress,
  );
}

/** Says on standard error what became of a change that failed. @throws RefusedError when a machine is left between the two */
export function sayBack({ plan: { stack } }: Change, { already, back }: Result, keep: boolean, io: Io): void {
  const stuck = back.filter((b) => !b.ok).map((b) => `${stack}/${b.host}`);
  if (stuck.length)
    throw new RefusedError(
      `${stuck.join(", ")} could not be brought back to what it was`,
      `look at it: ingot history ${stack}, ingot logs ${stack}`,
    );
  if (io.json) return;
  const said = already.length
    ? `${stack} is what it should be, but for what failed before, too: ${already.join(", ")}`
    : keep
      ? `${stack} is left as it is now, for you to look at: ingot logs ${stack}; mend it and apply again, or: ingot rollback ${stack}`
      : back.length
        ? `${stack} is again what it was before`
        : `${stack} was not another before: nothing to go back to`;
  console.error(`\n${said}`);
}

/** The hosts that have the resources, each with its own. It throws RefusedError naming the nearest for what none has. */
export const hostsOf =
  (ids: string[]): NonNullable<Extent["named"]> =>
  (model, hosts) => {
    for (const id of ids) {
      if (hosts.some((h) => h.has(id))) continue;
      const known = [...new Set(hosts.flatMap((h) => [...h.resources.keys()]))];
      const near = nearest(id, known);
      const [one] = hosts;
      throw new RefusedError(
        `${model.name}${hosts.length === 1 && one ? `/${one.name}` : ""} has no resource \`${id}\``,
        near ? `did you mean \`${near}\`?` : `there are: ${known.join(", ")}`,
      );
    }
    return new Map(
      hosts.flatMap((h): [string, string[]][] => {
        const own = ids.filter((id) => h.has(id));
        return own.length ? [[h.name, own]] : [];
      }),
    );
  };
