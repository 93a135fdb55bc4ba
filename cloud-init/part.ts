// A part of a host: the resources that somebody names and what they need; and what the host becomes when only these are brought to what the
// stack says now. `apply <resource>` and `deploy` make such generations: all else in them is as the host has it.
import { canonicalJson } from "../lib/digest.ts";
import { generationOf } from "./compile.ts";
import type { HostModel } from "./model.ts";
import type { Arg, Check, GeneratedFile, Generation, HostPlan, Step } from "./plan.ts";
import { application } from "./resources/application.ts";

/** plan.json of a machine's generation, as planJson() wrote it; `contents`: of its files, by sha256. */
export function generationFrom(planJson: string, contents: (sha256: string) => string): Generation {
  const plan = JSON.parse(planJson) as {
    steps: (Omit<Step, "resource"> & { resource?: string })[];
    files: Record<string, { sha256: string; mode: GeneratedFile["mode"]; resource?: string }>;
    checks: (Omit<Check, "resource" | "seen"> & { resource?: string })[];
  };
  return generationOf(
    plan.steps.map((s) => ({ ...s, resource: s.resource ?? s.id })),
    Object.entries(plan.files).map(([path, { sha256, mode, resource = "" }]) => ({ path, mode, resource, content: contents(sha256) })),
    plan.checks.map((c) => ({ ...c, resource: c.resource ?? c.id, seen: "inside" as const })),
  );
}

/**
 * The resources that go with those that are named: what they need, each as the stack has it now; and what takes them over, which itself needs
 * only what the host does not have yet: nginx of a site, supervisor of its program, what runs an application.
 */
export function partOf(host: HostModel, { generation: { steps, files } }: HostPlan, named: string[], now: Generation): Set<string> {
  const part = new Map<string, "whole" | "itself">();
  const there = new Set([...now.steps, ...now.files, ...now.checks].map((t) => t.resource));
  const paths = new Set(now.files.map((f) => f.path));
  const ownerOf = new Map(files.map((f) => [f.path, f.resource]));
  const resourceOf = new Map(steps.map((s) => [s.id, s.resource]));
  const visit = (id: string, how: "whole" | "itself"): void => {
    if (part.get(id) === "whole" || part.get(id) === how) return;
    part.set(id, how);
    const own = steps.filter((s) => s.resource === id);
    for (const need of [...(host.after.get(id) ?? []), ...own.flatMap((s) => s.after.flatMap((a) => resourceOf.get(a) ?? []))])
      if (need !== id && (how === "whole" || !there.has(need))) visit(need, "whole");
    // What takes over many reads a file of each: one that would not be there comes along.
    for (const path of own.flatMap((s) => Object.values(s.args).flatMap(textsIn))) {
      const owner = ownerOf.get(path);
      if (owner !== undefined && !paths.has(path)) visit(owner, "itself");
    }
    for (const other of takenOverBy(id, own, host)) visit(other, "itself");
  };
  for (const id of named) visit(id, "whole");
  return new Set(part.keys());
}

const textsIn = (arg: Arg): string[] => (typeof arg === "string" ? [arg] : Array.isArray(arg) ? arg : []);

/** A resource without a step of its own is brought into force by those that come after it; an application by what runs it. */
function takenOverBy(id: string, own: Step[], host: HostModel): string[] {
  const runs = (value: unknown) =>
    typeof value === "object" && value !== null && "application" in value && `${application.kind}/${value.application}` === id;
  return [...host.resources.values()].flatMap((other) =>
    (own.length === 0 && host.after.get(other.id)?.has(id)) || runs(other.value) ? [other.id] : [],
  );
}

/** The host as it is `now`, but for the resources of the part, which are as `plan` has them. */
export function withPart(host: HostModel, plan: HostPlan, part: ReadonlySet<string>, now: Generation): HostPlan {
  const chosen = (t: { resource: string }) => part.has(t.resource);
  const wanted = plan.generation;
  const merged = <T extends { resource: string }>(key: (t: T) => string, then: T[], before: T[]): T[] => {
    const kept = new Map(before.filter((t) => !chosen(t)).map((t) => [key(t), t]));
    // In the stack's order: where nothing differs, it is the same generation.
    const own = then.flatMap((t) => (chosen(t) ? [t] : (kept.get(key(t)) ?? [])));
    const keys = new Set(own.map(key));
    return [...own, ...[...kept.values()].filter((t) => !keys.has(key(t)))];
  };
  const steps = merged((s) => s.id, wanted.steps, now.steps);
  const ids = new Set(steps.map((s) => s.id));
  const generation = generationOf(
    // What one waited for may have other steps by now; it is there already.
    steps.map((s) => ({ ...s, after: s.after.filter((a) => ids.has(a)) })),
    merged((f) => f.path, wanted.files, now.files),
    withPorts(
      merged((c) => c.id, wanted.checks, now.checks),
      wanted.checks,
    ),
  );
  const alike = checksOf(host, plan, generation);
  return {
    ...plan,
    generation,
    checks: plan.checks.filter((c) => chosen(c) || alike.includes(c)),
    artifacts: plan.artifacts.filter(chosen),
  };
}

/** The checks from outside that can be asked of a host that is this generation: of resources that are in it as the plan has them. */
export function checksOf(host: HostModel, { checks, generation: wanted }: HostPlan, generation: Generation): Check[] {
  const isWanted = (id: string): boolean => ofResource(id, generation) === ofResource(id, wanted);
  return checks.filter((c) => [c.resource, ...(host.after.get(c.resource) ?? [])].every(isWanted));
}

const ofResource = (id: string, { steps, files }: Generation): string =>
  canonicalJson([
    steps.filter((s) => s.resource === id).map(({ after: _, ...s }) => s),
    files.filter((f) => f.resource === id).sort((a, b) => (a.path < b.path ? -1 : 1)),
  ]);

/** Which ports may be open is asked of the host as a whole: those that it had, and those of the part. */
const withPorts = (checks: Check[], wanted: Check[]): Check[] =>
  checks.map((check) => {
    const now = wanted.find((c) => c.id === check.id && c.check === "listening");
    if (!now || check.check !== "listening" || !Array.isArray(check.args.allowed) || !Array.isArray(now.args.allowed)) return check;
    const ports = [...check.args.allowed, ...now.args.allowed];
    return { ...check, args: { ...check.args, allowed: [...new Map(ports.map((p) => [JSON.stringify(p), p])).values()] } };
  });
