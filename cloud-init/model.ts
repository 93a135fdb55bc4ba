// From a stack's YAML to the model: parsed with positions, validated (schema, then references between resources, then each
// kind's own rules), every problem of the file in one go. compile.ts takes it from here; nothing else reads YAML.

import { validators } from "ingot:validators";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, dirname, join, relative, resolve } from "node:path";
import { type Diagnostic, diagnostic, InputError, nearest, type Range, RefusedError } from "../lib/diagnostics.ts";
import type { Chosen, Project } from "../lib/paths.ts";
import { defaultsOf, type Infer, type Schema, validate, valueAt, wrongPaths } from "../lib/schema.ts";
import { type Path, parseYaml, type YamlFile } from "../lib/yaml.ts";
import { type AwsHostDeclaration, type AwsStackDeclaration, awsHostSchema, awsStackSchema } from "./aws.ts";
import type { Host, ImageOffer, Kind, Problem, Release, Resource } from "./kind.ts";
import type { Limits, Part } from "./plan.ts";
import { kinds } from "./resources/index.ts";
import { installsMore, packageKind } from "./resources/package.ts";
import { bytesOf } from "./resources/volume.ts";
import { type HostDeclaration, stackSchema } from "./schema.ts";
import { checkShape } from "./shape.ts";
import { isFrom, type Nested, type Output, type Value } from "./value.ts";
import { type Overrides, setting, type Variable, withVariables } from "./variables.ts";

export interface StackModel {
  name: string;
  yaml: YamlFile;
  hosts: HostModel[];
  warnings: Diagnostic[];
  network?: string;
  aws: AwsStackDeclaration;
  variables: Variable[];
}

/** One host: its resources in the order declared, and which of them come before which. */
export interface HostModel extends Host {
  resources: Map<string, Resource>;
  /** Resource id → ids that it waits for. */
  after: Map<string, Set<string>>;
  /** Ids of resources whose declaration is malformed: other resources do not see them. */
  broken: Set<string>;
  /** False when its recipe is not there or has errors: what the image offers is then nobody's to say. */
  imageKnown: boolean;
  path: Path;
  count?: number;
  limits?: Limits;
  aws: AwsHostDeclaration;
  rangeOf(id: string): Range;
  /** The stack's hosts by name, itself too. */
  hosts: ReadonlyMap<string, HostModel>;
}

/** What the model must be told of the world outside the file. */
export interface Surroundings {
  /** undefined: there is no recipe of that name. */
  image(name: string): ImageOffer | undefined;
  /** Names of the recipes that there are, for the did-you-mean. */
  images(): string[];
  release(host: HostModel, application: string): Release;
  /** What the command line says: `--set name=value`, `--env name`. */
  chosen?: Chosen;
  /** Values of variables from outside the file; loadStack() makes them of `chosen`. */
  overrides?: Overrides;
}

/** The stack's file by its path or its name (`stacks/<name>.yaml`). @throws RefusedError naming the stacks that there are */
export function findStack(project: Project, given: string): string {
  for (const path of [resolve(given), join(project.stacks, `${given}.yaml`)]) if (/\.ya?ml$/.test(path) && existsSync(path)) return path;
  const names = stackNames(project);
  const near = nearest(given, names);
  throw new RefusedError(
    `there is no stack \`${given}\``,
    near ? `did you mean \`${near}\`?` : names.length ? `there are: ${names.join(", ")}` : "stacks/ is empty",
  );
}

export function stackNames(project: Project): string[] {
  return readdirSync(project.stacks)
    .filter((f) => /^[^.]+\.yaml$/.test(f)) // `<stack>.<environment>.yaml` is no stack
    .map((f) => f.slice(0, -5));
}

/** @throws InputError with everything that is wrong in the file */
export function loadStack(file: string, around: Surroundings): StackModel {
  const shown = relative(process.cwd(), file);
  const name = shown.startsWith("..") ? file : shown;
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch {
    throw new RefusedError(`${name} cannot be read`);
  }
  return modelOf(parseYaml(name, text), dirname(resolve(file)), {
    ...around,
    overrides: around.overrides ?? overridesOf(file, around.chosen),
  });
}

/** What the command line says of variables, and the environment's file that it names. @throws RefusedError when there is none */
export function overridesOf(file: string, chosen: Chosen | undefined): Overrides {
  const set = Object.fromEntries((chosen?.set ?? []).map(setting));
  if (chosen?.environment === undefined) return { set };
  const path = environmentFile(file, chosen.environment);
  const shown = relative(process.cwd(), path);
  return { set, environment: parseYaml(shown.startsWith("..") ? path : shown, readFileSync(path, "utf8")) };
}

/** `stacks/<stack>.<environment>.yaml`. @throws RefusedError naming those that there are */
export function environmentFile(file: string, environment: string): string {
  const path = file.replace(/\.ya?ml$/, `.${environment}.yaml`);
  if (existsSync(path)) return path;
  const begin = `${basename(file).replace(/\.ya?ml$/, "")}.`;
  const there = readdirSync(dirname(file)).flatMap((f) => (f.startsWith(begin) && f.endsWith(".yaml") ? [f.slice(begin.length, -5)] : []));
  const names = there.filter((n) => n !== "" && !n.includes("."));
  throw new RefusedError(
    `there is no environment \`${environment}\`: no file ${relative(process.cwd(), path)}`,
    names.length ? `there are: ${names.join(", ")}` : "it has `vars:` with values for the stack's variables",
  );
}

/** As loadStack(), from text already parsed. `folder` (absolute) is what paths in the YAML are relative to. */
export function modelOf(yaml: YamlFile, folder: string, around: Surroundings): StackModel {
  const found: Diagnostic[] = [...yaml.diagnostics];
  const sources = new Map([[yaml.file, yaml.text]]);
  const stop = () => {
    if (found.some((d) => d.severity === "error")) throw new InputError(inOrder(found, yaml.file), sources);
  };
  stop();
  const { environment } = around.overrides ?? {};
  if (environment) sources.set(environment.file, environment.text);
  const { value, unknown, variables } = withVariables(yaml, around.overrides ?? { set: {} }, found);
  chooseCommits(value, around.chosen?.commits ?? {});
  found.push(...validate(yaml, value, stackSchema, validators.stack, unknown));
  const malformed = [...wrongPaths(validators.stack, value), ...unknown];
  if (!isStack(value)) stop();
  const stack = value as Infer<typeof stackSchema>;
  const hosts = Object.entries(stack.hosts)
    .filter(([, declared]) => isMap(declared))
    .map(([name, declared]) => hostOf(stack.stack, name, declared, yaml, folder, around, found, sources));
  const byName = new Map(hosts.map((h) => [h.name, h]));
  for (const host of hosts) host.hosts = byName;
  for (const host of hosts)
    host.peers = hosts.flatMap(({ name, hostname, fqdn, address }) =>
      name === host.name || address === undefined ? [] : [{ name, hostname, fqdn, address }],
    );
  for (const host of hosts) {
    // What is malformed is left out of the rest, so that one run says everything that can be said.
    for (const { id, path, implied } of host.resources.values())
      if (!implied && malformed.some((wrong) => isWithin(wrong, path))) host.broken.add(id);
    checkReferences(host, yaml, found);
    checkKinds(host, yaml, found);
    checkPorts(host, yaml, found);
  }
  checkOrder(hosts, found);
  const { network, aws = defaultsOf(awsStackSchema) } = stack;
  const model = { name: stack.stack, yaml, hosts, variables, ...(typeof network === "string" && { network }), aws };
  checkShape(model, found);
  stop();
  return { ...model, warnings: inOrder(found, yaml.file) };
}

/** Puts the commits that were asked for in the places of the stack's. */
function chooseCommits(stack: unknown, commits: NonNullable<Chosen["commits"]>): void {
  if (!isMap(stack) || !isMap(stack.hosts)) return;
  for (const host of Object.keys(stack.hosts))
    for (const [name, { commit, ref }] of Object.entries(commits)) {
      const source = valueAt(stack, ["hosts", host, "applications", name, "source"]);
      if (isMap(source) && "git" in source) Object.assign(source, { commit }, ref !== undefined && { ref });
    }
}

const isMap = (value: unknown): value is Record<string, unknown> => Boolean(value && typeof value === "object" && !Array.isArray(value));
const isStack = (value: unknown): boolean => isMap(value) && isMap(value.hosts);
const isWithin = (path: Path, outer: Path): boolean => outer.every((part, i) => path[i] === part);

/** As they stand in the stack's file; those of its recipes behind them. */
const inOrder = (diagnostics: Diagnostic[], file: string): Diagnostic[] =>
  diagnostics.sort((a, b) => Number(a.range.file !== file) - Number(b.range.file !== file) || a.range.start.offset - b.range.start.offset);

function hostOf(
  stack: string,
  name: string,
  declared: HostDeclaration,
  yaml: YamlFile,
  folder: string,
  around: Surroundings,
  found: Diagnostic[],
  sources: Map<string, string>,
): HostModel {
  const path: Path = ["hosts", name];
  const resources = new Map<string, Resource>();
  const add = (kind: Kind, resource: string, value: unknown, at: Path, implied: boolean) => {
    const id = kind.shape === "one" ? kind.kind : `${kind.kind}/${resource}`;
    resources.set(id, { id, kind: kind.kind, name: resource, value, path: at, implied });
  };
  const given = declared as unknown as Record<string, unknown>;
  const hostname = typeof declared.hostname === "string" ? declared.hostname : name;
  const domain = typeof declared.domain === "string" ? declared.domain : undefined;
  for (const kind of kinds) {
    const value = given[kind.key];
    if (kind.kind === "hostname") add(kind, hostname, hostname, value === undefined ? path : [...path, kind.key], value === undefined);
    else if (value === undefined) continue;
    else if (kind.shape === "one") add(kind, kind.kind, value, [...path, kind.key], false);
    else if (isMap(value)) for (const [key, v] of Object.entries(value)) add(kind, key, v, [...path, kind.key, key], false);
  }
  for (let i = 0; i < kinds.length; i++) {
    for (const resource of [...resources.values()]) {
      for (const wanted of kindOf(resource).implies ?? []) {
        const kind = kinds.find((k) => k.kind === wanted);
        if (kind && !resources.has(wanted)) add(kind, wanted, defaultsOf(kind.schema), resource.path, true);
      }
    }
  }
  const image = typeof declared.image === "string" ? declared.image : "";
  const offer = image === "" ? undefined : offerOf(image, yaml.rangeOf([...path, "image"]), around, found, sources);
  let opened: ReturnType<Host["ports"]> | undefined;
  const host: HostModel = {
    stack,
    name,
    hostname,
    domain,
    fqdn: domain ? `${hostname}.${domain}` : hostname,
    image: offer ?? { name: image, packages: {}, users: new Set(), groups: new Set(), numbers: new Map(), locales: [] },
    imageKnown: offer !== undefined,
    stackFolder: folder,
    peers: [],
    hosts: new Map(),
    resources,
    after: new Map(),
    broken: new Set(),
    path,
    ...(typeof declared.address === "string" && { address: declared.address }),
    ...(typeof declared.count === "number" && { count: declared.count }),
    ...(isMap(declared.limits) && { limits: limitsOf(declared.limits) }),
    aws: isMap(declared.aws) ? (declared.aws as AwsHostDeclaration) : defaultsOf(awsHostSchema),
    rangeOf: (id) => yaml.keyRangeOf(resources.get(id)?.path ?? path),
    other: (other) => host.hosts.get(other),
    has: (id) => resources.has(id),
    all: <T>(kind: Kind<T>) => [...resources.values()].filter((r) => r.kind === kind.kind && !host.broken.has(r.id)) as Resource<T>[],
    get: <T>(kind: Kind<T>, resource?: string) => {
      const id = kind.shape === "one" ? kind.kind : `${kind.kind}/${resource}`;
      return host.broken.has(id) ? undefined : (resources.get(id) as Resource<T> | undefined);
    },
    parts: (value) => partsOf(value, host),
    ports: () => {
      opened ??= [...resources.values()].flatMap((r) =>
        r.kind === "firewall" || host.broken.has(r.id) ? [] : (kindOf(r).compile(r, host).ports ?? []),
      );
      return opened;
    },
    state: (id) => {
      const resource = host.broken.has(id) ? undefined : resources.get(id);
      return resource && kindOf(resource).state?.(resource, host);
    },
    release: (application) => around.release(host, application),
  };
  return host;
}

const limitsOf = ({ cpus, memory }: { cpus?: unknown; memory?: unknown }): Limits => ({
  ...(typeof cpus === "number" && { cpus }),
  ...(typeof memory === "string" && { memory: bytesOf(memory) }),
});

/** What the image offers; what is wrong with its name or its recipe is reported. */
function offerOf(name: string, at: Range, around: Surroundings, found: Diagnostic[], sources: Map<string, string>): ImageOffer | undefined {
  try {
    const offer = around.image(name);
    if (offer) return offer;
    const names = around.images();
    const near = nearest(name, names);
    found.push(
      diagnostic("ING1201", at, `there is no recipe images/${name}.yaml`, {
        hint: near ? `did you mean \`${near}\`?` : names.length ? `there are: ${names.join(", ")}` : "images/ has no recipe yet",
      }),
    );
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    const known = new Set(found.map((d) => JSON.stringify(d)));
    found.push(...error.diagnostics.filter((d) => !known.has(JSON.stringify(d))));
    for (const [file, text] of error.sources) sources.set(file, text);
  }
  return undefined;
}

export function kindOf(resource: Resource): Kind {
  const kind = kinds.find((k) => k.kind === resource.kind);
  if (!kind) throw new Error(`no kind ${resource.kind}`);
  return kind;
}

export const loopback = "127.0.0.1";

/** Where an output is: `[host:]kind/name.output`. Of a kind with one resource per host the name belongs to the output: `redis/cache.url`. */
export interface OutputPlace {
  /** undefined: the stack has no host of that name. */
  on?: HostModel;
  host: string;
  resource?: Resource;
  id: string;
  output: string;
}
export function outputOf(from: string, host: HostModel): OutputPlace {
  const [, named, local = from] = /^([a-z][a-z0-9-]*):(.*)$/.exec(from) ?? [];
  const on = named === undefined ? host : host.hosts.get(named);
  const at = { on, host: named ?? host.name };
  const slash = local.indexOf("/");
  const kind = kinds.find((k) => k.kind === local.slice(0, slash));
  if (kind?.shape === "one") return { ...at, resource: on?.resources.get(kind.kind), id: kind.kind, output: local.slice(slash + 1) };
  const dot = local.lastIndexOf(".");
  return { ...at, resource: on?.resources.get(local.slice(0, dot)), id: local.slice(0, dot), output: local.slice(dot + 1) };
}

export function outputsAt({ on, resource }: OutputPlace, reader: HostModel): Record<string, Output> {
  // What is malformed has been said, and is nothing to read from.
  if (!on || !resource || on.broken.has(resource.id)) return {};
  return kindOf(resource).outputs?.(resource, on, on === reader ? loopback : (on.address ?? "")) ?? {};
}

function partsOf(value: Value, host: HostModel): Part[] {
  if (Array.isArray(value)) return [value.join(",")];
  if (typeof value !== "object") return [String(value)];
  if ("secret" in value) return [{ secret: value.secret }];
  if ("value" in value) return [value.value];
  const place = outputOf(value.from, host);
  const outputs = outputsAt(place, host);
  return (Object.hasOwn(outputs, place.output) && outputs[place.output]?.parts) || [];
}

/** What a resource reads of other hosts of the stack. */
export const readElsewhere = (resource: Resource, host: HostModel): OutputPlace[] =>
  referencesIn(kindOf(resource).schema, resource.value, resource.path).flatMap(({ to }) => {
    const place = "from" in to ? outputOf(to.from, host) : undefined;
    return place?.on && place.on !== host ? [place] : [];
  });

/** Resources of a host that need another host of the stack: they read something of it, or come after one that does. */
export function needing(host: HostModel, other: string): Set<string> {
  const found = new Set([...host.resources.values()].filter((r) => readElsewhere(r, host).some((p) => p.host === other)).map((r) => r.id));
  for (let before = 0; before !== found.size; ) {
    before = found.size;
    for (const [id, first] of host.after) if ([...first].some((f) => found.has(f))) found.add(id);
  }
  return found;
}

interface Reference {
  path: Path;
  order: boolean;
  to: { kind: string; name: string } | { from: string };
}

/** `name` or `kind/name`, as ref() of lib/schema.ts has it. */
function namedBy({ kind, or = [] }: { kind: string; or?: readonly string[] }, value: string): { kind: string; name: string } {
  const said = [kind, ...or].find((k) => value.startsWith(`${k}/`));
  return said === undefined ? { kind, name: value } : { kind: said, name: value.slice(said.length + 1) };
}

/** Every place in a resource's value that names another resource, found by the schema's `x-ref` and `x-value`. */
function referencesIn(schema: Schema, value: unknown, path: Path): Reference[] {
  if (value === undefined || value === null) return [];
  if (schema["x-ref"])
    return typeof value === "string"
      ? [
          {
            path,
            order: schema["x-ref"].order,
            to: namedBy(schema["x-ref"], value),
          },
        ]
      : [];
  const output = schema["x-output"];
  if (output)
    return typeof value === "string" && !value.startsWith("/")
      ? [{ path, order: true, to: { from: output === true ? value : `${value}.${output}` } }]
      : [];
  if (schema["x-value"] === "nested") return fromsIn(value as Nested, path);
  if (schema["x-value"]) {
    return typeof value === "object" && "from" in value
      ? [{ path: [...path, "from"], order: true, to: { from: String((value as { from: unknown }).from) } }]
      : [];
  }
  if (schema.anyOf) return schema.anyOf.filter((s) => takes(s, value)).flatMap((s) => referencesIn(s, value, path));
  if (Array.isArray(value)) return value.flatMap((v, i) => (schema.items ? referencesIn(schema.items, v, [...path, i]) : []));
  if (typeof value !== "object") return [];
  return Object.entries(value).flatMap(([k, v]) => {
    const of = schema.properties?.[k] ?? (schema.additionalProperties || undefined);
    return of ? referencesIn(of, v, [...path, k]) : [];
  });
}

/** `{ from: … }` at any depth. */
function fromsIn(value: Nested, path: Path): Reference[] {
  if (typeof value !== "object" || value === null) return [];
  if (isFrom(value)) return [{ path: [...path, "from"], order: true, to: { from: value.from } }];
  return (Array.isArray(value) ? [...value.entries()] : Object.entries(value)).flatMap(([k, v]) => fromsIn(v, [...path, k]));
}

const takes = (schema: Schema, value: unknown): boolean =>
  schema.type === undefined ||
  (schema.type === "array"
    ? Array.isArray(value)
    : schema.type === "object"
      ? typeof value === "object" && !Array.isArray(value)
      : typeof value === schema.type);

/** Follows every reference, says which lead nowhere, and records the order that they give. */
function checkReferences(host: HostModel, yaml: YamlFile, found: Diagnostic[]): void {
  const offered = new Map(
    [...host.resources.values()].flatMap((r) => (host.broken.has(r.id) ? [] : (kindOf(r).offers?.(r) ?? []).map((id) => [id, r.id]))),
  );
  for (const resource of host.resources.values()) {
    const kind = kindOf(resource);
    const before = new Set<string>();
    host.after.set(resource.id, before);
    if (host.broken.has(resource.id)) continue;
    for (const reference of referencesIn(kind.schema, resource.value, resource.path)) {
      if ("from" in reference.to) {
        const target = outputOf(reference.to.from, host);
        if (!target.on) {
          const near = nearest(target.host, [...host.hosts.keys()]);
          found.push(
            diagnostic("ING1203", yaml.rangeOf(reference.path), `the stack has no host \`${target.host}\``, {
              hint: near ? `did you mean \`${near}\`?` : `there are: ${[...host.hosts.keys()].join(", ")}`,
            }),
          );
          continue;
        }
        if (!target.resource) {
          found.push(missing(yaml, reference.path, target.id.split("/")[0] ?? "", target.id, target.on));
          continue;
        }
        const elsewhere = target.on !== host;
        if (target.id !== resource.id && !elsewhere) before.add(target.id);
        if (target.on.broken.has(target.id)) continue;
        if (elsewhere) checkReach(target, host, yaml.rangeOf(reference.path), found);
        const outputs = outputsAt(target, host);
        if (!Object.hasOwn(outputs, target.output)) {
          const near = nearest(target.output, Object.keys(outputs));
          found.push(
            diagnostic("ING1204", yaml.rangeOf(reference.path), `${target.id} has no output \`${target.output}\``, {
              hint: near
                ? `did you mean \`${near}\`?`
                : Object.keys(outputs).length
                  ? `it has: ${Object.keys(outputs).join(", ")}`
                  : "it has none",
            }),
          );
        }
      } else {
        const { kind: wanted, name } = reference.to;
        const declared = `${wanted}/${name}`;
        const id = host.resources.has(declared) ? declared : (offered.get(declared) ?? declared);
        if (host.resources.has(id)) {
          if (reference.order && id !== resource.id) before.add(id);
        } else if (!offeredByImage(wanted, name, host)) found.push(missing(yaml, reference.path, wanted, id, host));
      }
    }
    for (const need of kind.needs?.(resource, host) ?? [])
      if (need.need === "package" && isInstalled(need.name, host)) before.add(`package/${need.name}`);
    for (const id of kind.after?.(resource, host) ?? []) if (host.resources.has(id) && id !== resource.id) before.add(id);
  }
}

/** Whether first boot installs a package, which need not be in the image then. */
const isInstalled = (name: string, host: Host): boolean => host.get(packageKind, name)?.value.at_first_boot === true;

/** Whether another host of the stack can use what it offers. */
function checkReach({ on, resource, id, host: name }: OutputPlace, reader: HostModel, at: Range, found: Diagnostic[]): void {
  if (!on || !resource) return;
  if (on.address === undefined) {
    found.push(
      diagnostic("ING1206", at, `${name} has no fixed address, by which another host would find it`, {
        hint: `add \`address:\` to ${name}, and \`network:\` to the stack`,
      }),
    );
    return;
  }
  const kind = kindOf(resource);
  const awaited = kind.awaited?.(resource, on, on.address) ?? { unreachable: "is for its own host alone" };
  if ("unreachable" in awaited)
    found.push(
      diagnostic("ING1206", at, `${id} of ${name} ${awaited.unreachable}`, {
        ...(awaited.hint !== undefined && { hint: awaited.hint }),
        related: [{ message: `${id} is declared here`, range: on.rangeOf(id) }],
      }),
    );
  else if ((kind.compile(resource, on).ports ?? []).some(({ from }) => Array.isArray(from) && !from.includes(reader.name)))
    found.push(
      diagnostic("ING1206", at, `${id} of ${name} lets other hosts in, and not ${reader.name}`, {
        hint: `add \`${reader.name}\` to the hosts that it names`,
        related: [{ message: `${id} is declared here`, range: on.rangeOf(id) }],
      }),
    );
}

/** Users and groups of packages are the image's, and every user there has the group of its name. */
function offeredByImage(kind: string, name: string, host: HostModel): boolean {
  if (!host.imageKnown && ["user", "group"].includes(kind)) return true;
  if (kind === "user") return host.image.users.has(name);
  if (kind === "group") return host.image.groups.has(name) || host.image.users.has(name);
  return false;
}

function missing(yaml: YamlFile, path: Path, kind: string, id: string, host: HostModel): Diagnostic {
  const name = id.slice(id.indexOf("/") + 1);
  const known = kinds.find((k) => k.kind === kind);
  const range = yaml.rangeOf(path);
  if (!known) {
    const near = nearest(
      kind,
      kinds.map((k) => k.kind),
    );
    return diagnostic("ING1203", range, `there is no kind \`${kind}\``, {
      hint: near ? `did you mean \`${near}\`?` : `kinds: ${kinds.map((k) => k.kind).join(", ")}`,
    });
  }
  const names = [...host.resources.values()].filter((r) => r.kind === kind).map((r) => r.name);
  const near = nearest(name, [...names, ...(kind === "user" ? host.image.users : kind === "group" ? host.image.groups : [])]);
  return diagnostic("ING1203", range, known.shape === "one" ? `${host.name} has no ${kind}` : `${host.name} has no ${kind} \`${name}\``, {
    hint: near
      ? `did you mean \`${near}\`?`
      : known.shape === "one"
        ? `declare \`${known.key}:\``
        : `declare it below \`${known.key}:\`${names.length ? `; there are: ${names.join(", ")}` : ""}`,
    ...(near &&
      names.includes(near) && { related: [{ message: `${kind} \`${near}\` is declared here`, range: host.rangeOf(`${kind}/${near}`) }] }),
  });
}

/** Each kind's own rules, what the image lacks, and what two resources both claim. */
function checkKinds(host: HostModel, yaml: YamlFile, found: Diagnostic[]): void {
  for (const resource of host.resources.values()) {
    if (host.broken.has(resource.id)) continue;
    const kind = kindOf(resource);
    for (const problem of kind.problems?.(resource, host) ?? []) found.push(problemOf(problem, resource, host, yaml));
    for (const need of host.imageKnown ? (kind.needs?.(resource, host) ?? []) : []) {
      const { image } = host;
      const at = host.rangeOf(resource.id);
      if (need.need === "package" && !Object.hasOwn(image.packages, need.name) && !isInstalled(need.name, host)) {
        const near = nearest(need.name, Object.keys(image.packages));
        found.push(
          diagnostic("ING1301", at, `${resource.id} needs the package ${need.name}, which is not in the image ${image.name}`, {
            hint: `add \`- ${need.name}\` to \`packages:\` in images/${image.name}.yaml and run \`ingot image lock ${image.name}\`, or allow it on the host: \`packages: { ${need.name}: { at_first_boot: true } }\`${near && kind.kind === "package" ? `; or did you mean \`${near}\`?` : ""}`,
          }),
        );
      } else if (need.need === "locale" && image.locales.length && !image.locales.includes(need.name)) {
        found.push(
          diagnostic("ING1302", at, `${resource.id} needs the locale ${need.name}, which is not in the image ${image.name}`, {
            hint: `add \`- ${need.name}\` to \`locales:\` in images/${image.name}.yaml`,
          }),
        );
      } else if (need.need === "unit" && image.units && !image.units.has(need.name)) {
        found.push(diagnostic("ING1303", at, `${resource.id} needs the unit ${need.name}, which is not in the image ${image.name}`));
      } else if (need.need === "binary" && image.binaries && !image.binaries.has(need.path) && !installsMore(host).length) {
        found.push(diagnostic("ING1303", at, `${resource.id} needs ${need.path}, which is not in the image ${image.name}`));
      }
    }
  }
}

/** Two resources that listen on one port. Those that a host has one of keep theirs: the other is told. */
function checkPorts(host: HostModel, yaml: YamlFile, found: Diagnostic[]): void {
  const taken = new Map<number, string>();
  const resources = [...host.resources.values()].filter((r) => !host.broken.has(r.id));
  for (const shape of ["one", "many"]) {
    for (const resource of resources.filter((r) => kindOf(r).shape === shape)) {
      for (const port of kindOf(resource).binds?.(resource, host) ?? []) {
        const other = taken.get(port);
        taken.set(port, other ?? resource.id);
        if (other === undefined) continue;
        const path = [...resource.path, ...(isMap(resource.value) && "listens" in resource.value ? ["listens"] : [])];
        found.push(
          diagnostic("ING1504", yaml.rangeOf(path), `port ${port} is ${other}'s`, {
            related: [{ message: `${other} is declared here`, range: host.rangeOf(other) }],
          }),
        );
      }
    }
  }
}

function problemOf(problem: Problem, resource: Resource, host: HostModel, yaml: YamlFile): Diagnostic {
  const path = [...resource.path, ...(problem.path ?? [])];
  return diagnostic(problem.code, problem.path?.length ? yaml.rangeOf(path) : host.rangeOf(resource.id), problem.message, {
    ...(problem.severity && { severity: problem.severity }),
    hint: problem.hint,
    related: problem.related ? [{ message: problem.related.message, range: host.rangeOf(problem.related.id) }] : [],
  });
}

/** What comes before a resource: on its own host, and what it waits for on others. */
interface Place {
  host: HostModel;
  id: string;
}
const beforeOf = ({ host, id }: Place): Place[] => {
  const resource = host.resources.get(id);
  return [
    ...[...(host.after.get(id) ?? [])].map((other) => ({ host, id: other })),
    ...(resource && !host.broken.has(id) ? readElsewhere(resource, host) : []).flatMap(({ on, id: other }) =>
      on ? [{ host: on, id: other }] : [],
    ),
  ];
};

/** A cycle between resources, of one host or of several, is an error that shows every line of it. */
function checkOrder(hosts: HostModel[], found: Diagnostic[]): void {
  const state = new Map<string, "open" | "done">();
  const trail: Place[] = [];
  const keyOf = ({ host, id }: Place) => `${host.name}:${id}`;
  const visit = (place: Place): void => {
    const key = keyOf(place);
    if (state.get(key) === "done") return;
    if (state.get(key) === "open") {
      const cycle = trail.slice(trail.findIndex((p) => keyOf(p) === key));
      const several = new Set(cycle.map((p) => p.host.name)).size > 1;
      const shown = (p: Place) => (several ? keyOf(p) : p.id);
      const [first = place, ...others] = cycle;
      found.push(
        diagnostic("ING1205", first.host.rangeOf(first.id), `a cycle: ${[...cycle, first].map(shown).join(" → ")}`, {
          related: others.map((o) => ({ message: `${shown(o)} is part of it`, range: o.host.rangeOf(o.id) })),
          hint: "each of these waits for the next: take one of the references away",
        }),
      );
      return;
    }
    state.set(key, "open");
    trail.push(place);
    for (const next of beforeOf(place)) visit(next);
    trail.pop();
    state.set(key, "done");
  };
  for (const host of hosts) for (const id of host.resources.keys()) visit({ host, id });
}
