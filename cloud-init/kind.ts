// What a resource kind is: one file in resources/ gives one of these. Interface first (schema, outputs), implementation second
// (needs, compile, checks), in one place. The model (model.ts) and the compiler (compile.ts) know kinds only through this.
import { existsSync, statSync } from "node:fs";
import { resolve } from "node:path";
import type { Json } from "../lib/digest.ts";
import type { Schema } from "../lib/schema.ts";
import type { Path } from "../lib/yaml.ts";
import type { Arg, ArtifactUse, Check, GeneratedFile, Need, Part, Port, SharedFolder, Step, VolumePlan } from "./plan.ts";
import type { Output, SecretNeed, Value } from "./value.ts";

/** One thing declared on a host. Its id is `kind/name`; of a kind with one resource per host, the kind alone. */
export interface Resource<T = unknown> {
  id: string;
  kind: string;
  name: string;
  value: T;
  /** Where it stands in the YAML; of an implied resource, where what implies it stands. */
  path: Path;
  implied: boolean;
}

export interface Problem {
  code: string;
  message: string;
  /** Below the resource's own path. */
  path?: Path;
  severity?: "warning";
  hint?: string;
  /** Another resource (by id) that is part of it. */
  related?: { id: string; message: string };
}

/** Unlike a Step: the id comes from `part`; `after` names parts of the same resource. Steps of one resource run in the order given,
 * the first of them after everything the resource refers to. */
export interface StepDraft {
  part?: string;
  action: string;
  /** An argument that is undefined is left out. */
  args: Record<string, Arg | undefined>;
  done?: Step["done"];
  stampIn?: Step["stampIn"];
  stampOf?: Step["stampOf"];
  timeoutSeconds?: number;
  /** Instead of the order given: only these parts, and with `nothing` not even what the resource refers to. */
  after?: { parts: string[]; references: boolean };
  /** Ids of resources that may wait for this one, and that this step waits for all the same: nobody waits for this step. */
  late?: string[];
}

export interface Compiled {
  steps?: StepDraft[];
  files?: Omit<GeneratedFile, "resource">[];
  secrets?: SecretNeed[];
  ports?: Omit<Port, "resource">[];
  volumes?: VolumePlan[];
  artifacts?: Omit<ArtifactUse, "resource">[];
  /** HostPlan's. */
  containers?: string;
  shared?: SharedFolder[];
  /** Keys that the user-data has beside the generation's. */
  cloudConfig?: Record<string, Json>;
}

/** What is copied at one moment, with commands of `sh` before and after. */
export interface State {
  name: string;
  paths: string[];
  before?: string | undefined;
  after?: string | undefined;
}

/** What a crash would leave: the unit's processes stand still meanwhile, and the kernel keeps who connects waiting. */
export const standingStill = (unit: string): Pick<State, "before" | "after"> => ({
  before: `systemctl kill --signal=SIGSTOP ${unit}`,
  after: `systemctl kill --signal=SIGCONT ${unit}`,
});

type NeedDraft = Need extends infer N ? (N extends Need ? Omit<N, "resource"> : never) : never;
export type CheckDraft = Omit<Check, "resource" | "id"> & { part?: string };

/** What the image offers, known from its manifest once baked, from its lock and recipe before. */
export interface ImageOffer {
  name: string;
  digest?: string;
  /** Over everything in it but Ingot's own files: what a release of an application depends on. */
  base?: string;
  packages: Record<string, string>;
  users: ReadonlySet<string>;
  groups: ReadonlySet<string>;
  /** Who has which uid or gid. */
  numbers: ReadonlyMap<number, string>;
  locales: readonly string[];
  /** undefined: not baked yet, so nobody knows. */
  units?: ReadonlySet<string>;
  binaries?: ReadonlySet<string>;
  postgresql?: string;
}

/** An application's release: known by what it is made from, before it is built. */
export interface Release {
  id: string;
  sha256: string;
  path: string;
  /** The branch, tag or commit that was asked for in place of the stack's own. */
  asked?: string;
}

/** A host, as kinds see it while they compile. */
export interface Host {
  stack: string;
  name: string;
  hostname: string;
  domain?: string;
  fqdn: string;
  /** Its fixed address in the stack's network. */
  address?: string;
  image: ImageOffer;
  /** Absolute; paths in the YAML are relative to it. */
  stackFolder: string;
  /** The stack's other hosts that have a fixed address. */
  peers: { name: string; hostname: string; fqdn: string; address: string }[];
  /** All hosts of the stack, itself among them. */
  hosts: ReadonlyMap<string, Host>;
  /** Another host of the stack. */
  other(name: string): Host | undefined;
  /** Whether there is a resource of that id. */
  has(id: string): boolean;
  all<T>(kind: Kind<T>): Resource<T>[];
  get<T>(kind: Kind<T>, name?: string): Resource<T> | undefined;
  /** The pieces of a value: outputs followed, secrets as references. Lists are joined by commas, as 12-factor applications read them. */
  parts(value: Value): Part[];
  /** What its resources open to others, but for the firewall's own. */
  ports(): Omit<Port, "resource">[];
  /** What a resource of the host keeps on disk; undefined: there is none of that id, or it keeps nothing. */
  state(id: string): State | undefined;
  /** The release of an application; its sha256 is all zeros until it has been built. */
  release(application: string): Release;
}

export interface Kind<T = unknown> {
  kind: string;
  /** The host's key. */
  key: string;
  shape: "many" | "one";
  /** One sentence for the docs, then what one must know. */
  summary: string;
  schema: Schema<T>;
  /** What a resource of this kind may be called. */
  names?: Schema<string>;
  /** YAML of a host's keys, or, from `hosts:` on, of several hosts, whose first is meant; every one is compiled by the tests. */
  examples: string[];
  /** Kinds of shape `one` that must be there with it, added with their defaults when they are not declared. */
  implies?: string[];
  /** @param at the address by which the reader reaches this host: loopback where it is the host itself */
  outputs?(resource: Resource<T>, host: Host, at: string): Record<string, Output>;
  /**
   * The step by which another host waits for it, run there before what refers to an output; or why another host cannot use it, in words that
   * go on after its id.
   */
  awaited?(resource: Resource<T>, host: Host, at: string): StepDraft | { unreachable: string; hint?: string };
  /** Ids of what comes with it, and that others may refer to: `group/<name>` of a user. */
  offers?(resource: Resource<T>): string[];
  /** What it keeps on disk, for who copies it (`backup:`). */
  state?(resource: Resource<T>, host: Host): State;
  /** TCP ports that it listens on, at whatever address: no two resources may have the same. */
  binds?(resource: Resource<T>, host: Host): number[];
  /** Ids of resources that come first without being referred to. */
  after?(resource: Resource<T>, host: Host): string[];
  problems?(resource: Resource<T>, host: Host): Problem[];
  needs?(resource: Resource<T>, host: Host): NeedDraft[];
  compile(resource: Resource<T>, host: Host): Compiled;
  checks?(resource: Resource<T>, host: Host): CheckDraft[];
}

/** The stack of an example: of one host, `web`, of the image debian-12 unless it names one; with a network where it has addresses. */
export function exampleStack(stack: string, keys: string): string {
  const head = `stack: ${stack}\n${/^ *address:/m.test(keys) ? "network: 10.1.1.0/24\n" : ""}`;
  if (keys.startsWith("hosts:")) return head + keys;
  return `${head}hosts:\n  web:\n${/^image:/m.test(keys) ? "" : "    image: debian-12\n"}${keys.replace(/^(?=.)/gm, "    ")}`;
}

/** Says the types of a kind; gives it back as it is. */
export const kind = <T>(k: Kind<T>): Kind<T> => k;

export const pkg = (name: string) => ({ need: "package", name }) as const;
export const inside = (check: string, args: Check["args"], part?: string): CheckDraft => ({ seen: "inside", check, args, part });
export const stranger = (check: string, args: Check["args"], part?: string): CheckDraft => ({ seen: "stranger", check, args, part });
export const operator = (check: string, args: Check["args"], part?: string): CheckDraft => ({ seen: "operator", check, args, part });

/** A file with secrets in it. */
export const renderedFile = (part: string, file: { path: string; owner?: string | undefined; mode: string }, value: Part[]): StepDraft => ({
  part,
  action: "file",
  args: { ...file, source: { render: { format: "text", value } } },
});

/** A folder or file is there, with the owner and mode that were declared; its group only where one was. */
export const owned = (
  type: "directory" | "file",
  path: string,
  { owner, group, mode }: { owner: string; group?: string; mode?: string },
): CheckDraft => inside("path", { path, type, owner, ...(group !== undefined && { group }), ...(mode !== undefined && { mode }) });

/** What is wrong when not exactly one of these keys is given; undefined when one is. */
export function onlyOne(what: string, given: Record<string, unknown>): string | undefined {
  const keys = Object.keys(given).map((key) => `\`${key}:\``);
  const there = keys.filter((_, i) => Object.values(given)[i] !== undefined);
  if (there.length === 1) return undefined;
  if (there.length === 0) return `${what} has ${keys.length === 2 ? `neither ${keys[0]} nor ${keys[1]}` : `none of ${keys.join(", ")}`}`;
  return `${what} has ${there.length === 2 ? "both " : ""}${there.join(" and ")}, and can have only one of them`;
}

/**
 * The fixed number of a user or group that names none: a function of its name alone, so that every machine agrees and data keeps its
 * owner. System: 400-599 and 700-899 (Debian packages take 100 upwards and 999 downwards, recipes 600-699), login: 2000-9999.
 */
export function fixedId(name: string, system: boolean): number {
  let hash = 2166136261; // FNV-1a
  for (const c of name) hash = Math.imul(hash ^ c.charCodeAt(0), 16777619) >>> 0;
  if (!system) return 2000 + (hash % 8000);
  return 400 + (hash % 400) + (hash % 400 < 200 ? 0 : 100);
}

/** True when `path` is `folder` or below it. */
export const isBelow = (path: string, folder: string): boolean =>
  path === folder || path.startsWith(folder.endsWith("/") ? folder : `${folder}/`);

/** A path of the YAML, relative to the stack's folder, as an absolute one. */
export const inStackFolder = (host: Pick<Host, "stackFolder">, path: string): string => resolve(host.stackFolder, path);

/** Whether the stack may name this: a file, or a folder, that is there. */
export function isThere(host: Pick<Host, "stackFolder">, path: string, type: "file" | "folder"): boolean {
  const full = inStackFolder(host, path);
  if (path === "" || !existsSync(full)) return false;
  return type === "file" ? statSync(full).isFile() : statSync(full).isDirectory();
}
