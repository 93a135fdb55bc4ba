// The model becomes the stack plan: steps in their order, the generation and its digest, what the target must bring.
import { type Diagnostic, diagnostic, InputError } from "../lib/diagnostics.ts";
import { canonicalJson, sha256 } from "../lib/digest.ts";
import { line, QuoteError } from "../lib/quote.ts";
import type { Compiled, Resource, StepDraft } from "./kind.ts";
import { type HostModel, kindOf, outputsAt, readElsewhere, type StackModel } from "./model.ts";
import type {
  Arg,
  ArtifactUse,
  Check,
  GeneratedFile,
  Generation,
  HostPlan,
  Need,
  Port,
  SecretUse,
  SharedFolder,
  StackPlan,
  Step,
  VolumePlan,
} from "./plan.ts";
import { site } from "./resources/site.ts";
import { volume } from "./resources/volume.ts";
import type { SecretNeed } from "./value.ts";

/** @throws InputError for values that cannot be written where they belong */
export function compile(model: StackModel): StackPlan {
  const unsayable: Diagnostic[] = [];
  const hosts = model.hosts.map((h) => compileHost(model, h, unsayable));
  if (unsayable.length) throw new InputError(unsayable, new Map([[model.yaml.file, model.yaml.text]]));
  return {
    stack: model.name,
    file: model.yaml.file,
    ...(model.network !== undefined && { network: model.network }),
    hosts,
    warnings: model.warnings,
    aws: model.aws,
  };
}

/**
 * What the resource's kind makes of it. A value with characters that the language it goes into cannot hold (a newline in a unit's
 * line, `$` in nginx's configuration) is reported.
 */
function madeOf(resource: Resource, host: HostModel, unsayable: Diagnostic[]): Compiled | undefined {
  try {
    const made = kindOf(resource).compile(resource, host);
    for (const { args } of made.steps ?? [])
      for (const arg of Object.values(args)) if (Array.isArray(arg)) for (const item of arg) line(item);
    return made;
  } catch (error) {
    if (!(error instanceof QuoteError)) throw error;
    unsayable.push(diagnostic("ING1418", host.rangeOf(resource.id), `${resource.id}: ${error.message}`));
    return undefined;
  }
}

function compileHost(model: StackModel, host: HostModel, unsayable: Diagnostic[]): HostPlan {
  const steps: Step[] = [];
  const files: GeneratedFile[] = [];
  const checks: Check[] = [];
  const ports: Port[] = [];
  const volumes: VolumePlan[] = [];
  const artifacts: ArtifactUse[] = [];
  let containers: string | undefined;
  const shared: SharedFolder[] = [];
  const secrets = new Map<string, SecretUse>();
  const wants: Need[] = [];
  const origins: HostPlan["origins"] = {};
  const ends = new Map<string, string[]>();
  let cloudConfig: HostPlan["cloudConfig"];

  const late: { step: Step; other: string }[] = [];
  for (const resource of inOrder(host)) {
    const { id } = resource;
    const kind = kindOf(resource);
    const made = madeOf(resource, host, unsayable);
    if (!made) continue;
    const waits = waitsOf(resource, host);
    steps.push(...waits);
    const before = [...[...(host.after.get(id) ?? [])].flatMap((other) => ends.get(other) ?? []), ...waits.map((w) => w.id)];
    const drafts = made.steps ?? [];
    const own = stepsOf(resource, drafts, [...new Set(before)]);
    steps.push(...own);
    const prompt = own.filter((_, i) => !drafts[i]?.late);
    // Whoever refers to a resource without steps waits for what that resource waits for.
    ends.set(id, prompt.length ? lastOf(prompt) : before);
    for (const [i, step] of own.entries()) late.push(...(drafts[i]?.late ?? []).map((other) => ({ step, other })));
    files.push(...(made.files ?? []).map((f) => ({ ...f, resource: id })));
    ports.push(...(made.ports ?? []).map((p) => ({ ...p, resource: id })));
    volumes.push(...(made.volumes ?? []));
    artifacts.push(...(made.artifacts ?? []).map((a) => ({ resource: id, ...a })));
    containers ??= made.containers;
    shared.push(...(made.shared ?? []));
    if (made.cloudConfig) cloudConfig = { ...cloudConfig, ...made.cloudConfig };
    for (const { name, generate } of made.secrets ?? []) {
      const known = secrets.get(name);
      // Several may use it and only one say how it is made.
      secrets.set(name, { name, generate: generate ?? known?.generate, resource: known?.resource ?? id });
    }
    for (const { name, generate } of borrowed(resource, host)) {
      const known = secrets.get(name);
      secrets.set(name, { name, generate: generate ?? known?.generate, resource: known?.resource ?? id });
    }
    wants.push(...(kind.needs?.(resource, host) ?? []).map((n) => ({ ...n, resource: id }) as Need));
    origins[id] = host.rangeOf(id);
    for (const { part, ...check } of kind.checks?.(resource, host) ?? [])
      checks.push({ id: part ? `${id}:${part}` : id, resource: id, ...check });
  }
  unsayable.push(...sharedFiles(files, host), ...likeHosts(secrets, host, model));
  for (const { step, other } of late) step.after = [...new Set([...step.after, ...(ends.get(other) ?? [])])].sort();
  const open = { allowed: ports.map(({ port, protocol }) => ({ port, protocol })) };
  checks.push({ id: "host:ports", resource: "hostname", seen: "inside", check: "listening", args: open });
  checks.push({ id: "host:secrets", resource: "hostname", seen: "inside", check: "secret_files", args: {} });
  return {
    stack: model.name,
    host: host.name,
    fqdn: host.fqdn,
    hostname: host.hostname,
    ...(host.address !== undefined && { address: host.address }),
    ...(host.count !== undefined && { count: host.count }),
    ...(host.limits && { limits: host.limits }),
    aws: host.aws,
    image: { name: host.image.name, digest: host.image.digest },
    generation: generationOf(
      steps,
      files,
      checks.filter((c) => c.seen === "inside"),
    ),
    ...(cloudConfig && { cloudConfig }),
    checks: checks.filter((c) => c.seen !== "inside"),
    artifacts,
    secrets: [...secrets.values()],
    // As declared, and not as they come: EC2's devices are named in this order.
    volumes: host.all(volume).flatMap((v) => volumes.filter(({ name }) => name === v.name)),
    ...(containers !== undefined && { containers }),
    ...(shared.length && { shared }),
    ports,
    origins,
    localNames: host.all(site).flatMap((s) => s.value.names.filter((n) => n.endsWith(".localhost"))),
    wants,
  };
}

/** Secrets whose names are those of hosts: a host's own ones (`web/ssh-host-key`) are kept below its name. */
const likeHosts = (secrets: Map<string, SecretUse>, host: HostModel, { hosts }: StackModel): Diagnostic[] =>
  [...secrets.values()]
    .filter(({ name }) => hosts.some((h) => h.name === name))
    .map(({ name, resource }) =>
      diagnostic("ING1510", host.rangeOf(resource), `the secret ${name} has the name of a host, below which its own secrets are kept`, {
        hint: "give the secret another name",
      }),
    );

/** Files that two resources write, or that one writes and another declares. */
function sharedFiles(files: GeneratedFile[], host: HostModel): Diagnostic[] {
  const owners = new Map<string, string>();
  const claims = [
    ...files.map((f) => ({ path: f.path, id: f.resource })),
    ...[...host.resources.values()].flatMap(({ id, kind, name }) =>
      ["file", "link", "directory"].includes(kind) ? [{ path: name, id }] : [],
    ),
  ];
  return claims.flatMap(({ path, id }) => {
    const owner = owners.get(path) ?? id;
    owners.set(path, owner);
    // Two that declare it themselves have been told.
    if (owner === id || owner.endsWith(`/${path}`)) return [];
    return [
      diagnostic("ING1509", host.rangeOf(id), `${path} is a file of ${owner}, which writes it itself`, {
        related: [{ message: `${owner} is declared here`, range: host.rangeOf(owner) }],
      }),
    ];
  });
}

/** Resources so that each comes after all it waits for; otherwise as declared. There is no cycle: the model has seen to it. */
function inOrder(host: HostModel): Resource[] {
  const sorted: Resource[] = [];
  const seen = new Set<string>();
  const visit = (id: string): void => {
    const resource = host.resources.get(id);
    if (seen.has(id) || !resource) return;
    seen.add(id);
    for (const other of host.after.get(id) ?? []) visit(other);
    sorted.push(resource);
  };
  for (const id of host.resources.keys()) visit(id);
  return sorted;
}

/** A path may hold what a step's name cannot: then the name is like it, and its hash makes it one of its own. */
const stepName = (id: string): string => {
  const plain = id.replace(/[^A-Za-z0-9._/:@-]/g, "_");
  return plain === id ? id : `${plain}@${sha256(id).slice(0, 8)}`;
};

function stepsOf(resource: Resource, drafts: StepDraft[], before: string[]): Step[] {
  const name = stepName(resource.id);
  const idOf = (part?: string) => (part ? `${name}:${stepName(part)}` : name);
  return drafts.map((draft, i): Step => {
    const previous = drafts[i - 1];
    const after = draft.after
      ? [...draft.after.parts.map(idOf), ...(draft.after.references ? before : [])]
      : previous
        ? [idOf(previous.part)]
        : before;
    return {
      id: idOf(draft.part),
      resource: resource.id,
      after: [...new Set(after)].sort(),
      action: draft.action,
      args: Object.fromEntries(Object.entries(draft.args).filter((e): e is [string, Arg] => e[1] !== undefined)),
      done: draft.done ?? "probe",
      ...(draft.stampIn && { stampIn: draft.stampIn }),
      ...(draft.stampOf && { stampOf: draft.stampOf }),
      timeoutSeconds: draft.timeoutSeconds ?? 60,
    };
  });
}

/** Steps that wait for what a resource reads of other hosts: each once. */
function waitsOf(resource: Resource, host: HostModel): Step[] {
  const found = new Map<string, Step>();
  for (const { on, resource: other, host: name } of readElsewhere(resource, host)) {
    const draft = on?.address !== undefined && other ? kindOf(other).awaited?.(other, on, on.address) : undefined;
    if (!draft || !other || "unreachable" in draft) continue;
    const part = `waits-${name}-${other.id.replaceAll("/", "-")}`;
    const [step] = stepsOf(resource, [{ ...draft, part }], []);
    if (step) found.set(part, step);
  }
  return [...found.values()];
}

/** Secrets of other hosts that are part of what a resource reads of them, with how each is made. */
function borrowed(resource: Resource, host: HostModel): SecretNeed[] {
  return readElsewhere(resource, host).flatMap((place) => {
    const parts = outputsAt(place, host)[place.output]?.parts ?? [];
    const names = [...new Set(parts.flatMap((p) => (typeof p === "string" ? [] : [p.secret])))];
    const { on } = place;
    if (!on || !names.length) return [];
    const made = [...on.resources.values()].flatMap((r) => kindOf(r).compile(r, on).secrets ?? []);
    return names.map((name) => made.find((m) => m.name === name && m.generate) ?? { name });
  });
}

/** The steps of a resource that no other step of it waits for. */
const lastOf = (steps: Step[]): string[] => steps.map((s) => s.id).filter((id) => !steps.some((s) => s.after.includes(id)));

/** What `plan.json` says; the host holds its bytes against the generation's digest. Whose a step or a check is stands there unless its id says it. */
export function planJson(generation: Omit<Generation, "digest">): string {
  const whose = ({ id, resource }: { id: string; resource: string }) => (id === resource ? {} : { resource });
  return canonicalJson({
    steps: generation.steps.map(({ resource, ...step }) => ({ ...step, ...whose({ id: step.id, resource }) })),
    files: Object.fromEntries(generation.files.map((f) => [f.path, { sha256: sha256(f.content), mode: f.mode, resource: f.resource }])),
    checks: generation.checks.map(({ resource, seen: _, ...check }) => ({ ...check, ...whose({ id: check.id, resource }) })),
  });
}

export function generationOf(steps: Step[], files: GeneratedFile[], checks: Check[]): Generation {
  const generation = { steps, files, checks };
  return { digest: sha256(planJson(generation)), ...generation };
}
