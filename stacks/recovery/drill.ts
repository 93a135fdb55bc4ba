// A drill: a stack made anew beside its production from the backups alone, proven, timed, and taken away again. Its machines are containers, whichever
// target of this computer production is on; scripts/drill.ts leads through it. Everything of it is below `.ingot/drills/<stack>/` (lib/paths.ts,
// besideOf) and in a network that nothing leaves; production's repositories are mounted so that nobody can write to them (stacks/local/repository.sh),
// or copies of them (vm-disk.ts), its buckets read through a gate that cannot write (gate.ts). Which drills there were is kept in
// `.ingot/recovery/drills/<stack>.jsonl`.
import { appendFileSync, existsSync, mkdirSync, readFileSync, statfsSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Bucket } from "../../cloud-init/backup/bucket.ts";
import type { HostPlan, StackPlan, VolumePlan } from "../../cloud-init/plan.ts";
import { logRoom } from "../../cloud-init/resources/postgresql.ts";
import { RefusedError } from "../../lib/diagnostics.ts";
import { networkOf, numberOf } from "../../lib/ipv4.ts";
import { type Entry, ledgerAt } from "../../lib/ledger.ts";
import { besideOf, type Project, toolFolder } from "../../lib/paths.ts";
import { asRoot, run, tryRun } from "../../lib/run.ts";
import { addressPlan, usualNetwork } from "../local/address.ts";
import { enter } from "../local/connection.ts";
import { leaderOf, machineFolder } from "../local/machine.ts";
import { repositoryThere } from "../local/nspawn.ts";
import { drillId, mark, undoDrill } from "../local/stack.ts";
import { commandIn } from "../local/vm-connection.ts";
import { copyDisk, copySize, runningVm } from "../local/vm-disk.ts";
import { volumeFile } from "../local/volume.ts";
import { wayOut } from "../local/way.ts";
import type { SecretStore } from "../secrets.ts";
import type { Connection, HostInput, Machine, Target } from "../target.ts";
import { age, type BackupSettings, backupSettings, mebibytes, nearest } from "./backups.ts";
import { inWords, openBucket, placeOf } from "./bucket.ts";
import { type Layer, layerOver, misplaced, serve } from "./gate.ts";
import { type Sizes, sizesOf } from "./past.ts";

/** In their order. Those of `rto` a rebuild needs, too, until the host is back; the others prove it, or clean up. */
export const drillPhases = ["repository", "image", "launch", "prove", "write", "backup", "checks", "end"] as const;
export type DrillPhase = (typeof drillPhases)[number];
const rto: readonly DrillPhase[] = ["image", "launch", "write", "checks"];

/** What a machine says of itself (drill.py). `wrong`, everywhere: in words. */
export interface Proof {
  postgresql?: {
    backup: string;
    timeline: number;
    /** How much older what was restored is than the moment at which it was, or of which the copy is that it was read from. */
    age_seconds: number | null;
    /** Table → what was counted at the same point as then; or why nothing was. */
    rows: Record<string, { rows: number }> | string;
    amcheck: { relations: number | null; pages: number | null; seconds: number };
    page_sums: boolean;
    verify_seconds: number;
  };
  directories?: { copy: string; paths: string[]; age_seconds: number | null; check_seconds: number };
  wrong: string[];
}

export interface DrilledHost {
  host: string;
  /** Digests. */
  image: string;
  generation: string;
  /** Whether production runs the same; `unknown` while it does not run. */
  production: "same" | "other" | "unknown";
  /** Steps of the first boot that restored, with their seconds. */
  steps: { step: string; seconds: number }[];
  /** Of hosts that have backups. */
  proof?: Proof;
  /** Backups that were made, by what they are. */
  backups: Record<string, string>;
}

export interface Drill {
  stack: string;
  /** ISO 8601. */
  began: string;
  phases: { phase: DrillPhase; seconds: number }[];
  /** Seconds that a rebuild needs until every check holds; null: it did not come so far. */
  rto_seconds: number | null;
  /** Seconds of work that would be lost: of PostgreSQL's commits, where there is none of directories. The worst host's. */
  rpo_seconds: number | null;
  /** How the repositories were read, by the host with the disk: beside a machine that writes (`shared`), from a disk that nobody has
   * (`read-only`), or from a `copy` of it, or of that of a running virtual machine; by the host whose they are: from its `bucket`. */
  repository: Record<string, string>;
  hosts: DrilledHost[];
  checks: { passed: number; failed: string[] };
  ok: boolean;
  /** Why not, in words. */
  wrong: string[];
}

const fileOf = (project: Project, stack: string): string => join(project.state, "recovery/drills", `${stack}.jsonl`);
/** So many are kept. */
const kept = 100;

/** The drills of a stack, the oldest first. */
export function drillsOf(project: Project, stack: string): Drill[] {
  const file = fileOf(project, stack);
  if (!existsSync(file)) return [];
  return readFileSync(file, "utf8")
    .split("\n")
    .flatMap((line) => (line ? [JSON.parse(line) as Drill] : []));
}

export function remember(project: Project, drill: Drill): void {
  const file = fileOf(project, drill.stack);
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  const before = drillsOf(project, drill.stack);
  if (before.length >= kept)
    writeFileSync(
      file,
      before
        .slice(1 - kept)
        .map((d) => `${JSON.stringify(d)}\n`)
        .join(""),
    );
  appendFileSync(file, `${JSON.stringify(drill)}\n`);
}

/** What is late about a stack's drills, in words; nothing where none is asked for. @param now seconds since 1970 */
export function lateDrill(drills: Drill[], { drill_seconds: every }: BackupSettings, now: number = Date.now() / 1000): string[] {
  if (every === undefined) return [];
  const last = drills.at(-1);
  if (last && !last.ok) return [`the last drill, ${age(now - Date.parse(last.began) / 1000)} ago, failed: ${last.wrong[0]}`];
  if (!last) return [`there was no drill yet, and there is to be one every ${age(every)}`];
  const since = now - Date.parse(last.began) / 1000;
  return since > every ? [`the last drill was ${age(since)} ago, and there is to be one every ${age(every)}`] : [];
}

/** "drilled 3 days ago: RTO 34 s, RPO 4 s" */
export function drillText(drills: Drill[], now: number = Date.now() / 1000): string {
  const last = drills.at(-1);
  if (!last) return "never drilled";
  const ago = age(now - Date.parse(last.began) / 1000);
  if (!last.ok) return `the drill of ${ago} ago failed`;
  return `drilled ${ago} ago${last.rto_seconds === null ? "" : `: RTO ${age(last.rto_seconds)}`}${last.rpo_seconds === null ? "" : `, RPO ${age(last.rpo_seconds)}`}`;
}

/**
 * The secrets of production; none is made, because what is restored was encrypted with the one that is missing.
 * @param withheld those that the drill's machines are not given, but something in their place
 */
export const secretsToRead = (store: SecretStore, withheld: Set<string>): SecretStore => ({
  ...store,
  get: async (stack, name) => (withheld.has(name) ? "none-in-a-drill" : store.get(stack, name)),
  async create(stack, name) {
    throw new RefusedError(`${stack} has no secret ${name}, so it cannot be made again`, `bring it back to ${store.placeOf(stack, name)}`);
  },
});

/** Writes the drill down before anything is made of it; a run that is killed is undone by the next command. */
export function beginDrill(project: Project, stack: string): Entry {
  const folder = dirname(besideOf(project, stack).machines);
  const entry = ledgerAt(project.ledger).begin(drillId(stack), `drill of ${stack}`);
  ledgerAt(project.ledger).add(entry, { kind: "folder", path: folder });
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  writeFileSync(join(folder, mark), "");
  return entry;
}

export const endDrill = (project: Project, entry: Entry, stack: string): Promise<void> =>
  undoDrill(project, ledgerAt(project.ledger), entry, stack);

/** @throws RefusedError where what a drill would restore, and back up anew, is known not to fit beside production's, and where production's disks
 * cannot be read */
export async function mustHaveRoom(project: Project, production: Target, stack: StackPlan): Promise<void> {
  const { bavail, bsize } = statfsSync(project.state);
  const wanted: string[] = [];
  let sum = 0;
  const copied = new Map(
    stack.hosts.flatMap((plan) => {
      const { keeper, volume } = repositoryFor(stack, plan) ?? {};
      const running = keeper && runningVm(project, stack.stack, keeper.host);
      return running && volume ? [[`${keeper.host}'s disk ${volume.name}`, copySize(project, running, volume.name)] as const] : [];
    }),
  );
  for (const plan of stack.hosts) {
    const settings = backupSettings(plan);
    if (!settings) continue;
    // Where they are kept nobody may be let in: then the drill says it.
    const sizes = await sizesOf(production, stack, plan, settings).catch((error: unknown) => {
      if (error instanceof RefusedError) return { postgresql: 0, directories: 0, backup: 0 };
      throw error;
    });
    const cluster = settings.postgresql && nearest(plan, settings.postgresql.data);
    const all = { ...sizes, log: sizes.postgresql ? logRoom(cluster?.size ?? Number.POSITIVE_INFINITY) : 0 };
    wanted.push(roomText(plan.host, all));
    sum += all.postgresql + all.log + all.directories + all.backup;
  }
  for (const [disk, bytes] of copied) {
    wanted.push(`a copy of ${disk} ${mebibytes(bytes)}`);
    sum += bytes;
  }
  if (sum > bavail * bsize)
    throw new RefusedError(
      `a drill of ${stack.stack} wants ${mebibytes(sum)} beside production (${wanted.join("; ")}), and there are ${mebibytes(bavail * bsize)} below ${project.state}`,
      "make room there; nothing was made",
    );
}

const roomText = (host: string, { postgresql, log, directories, backup }: Sizes & { log: number }): string => {
  const parts = { PostgreSQL: postgresql, "its log": log, directories, "a new backup": backup };
  return `${host}: ${Object.entries(parts)
    .flatMap(([what, bytes]) => (bytes ? [`${what} ${mebibytes(bytes)}`] : []))
    .join(", ")}`;
};

/** What a drill reads is not taken away meanwhile: production's backups go on, and expire nothing (backup.py, READING). Where it reads a copy, nothing need
 * stay for it. The function given lets go; so does our death. */
export async function holdExpiry(project: Project, stack: StackPlan): Promise<() => Promise<void>> {
  const leash = new AbortController();
  const holders = stack.hosts.flatMap((plan) => {
    const settings = backupSettings(plan);
    if (!settings) return [];
    const vm = runningVm(project, plan.stack, plan.host);
    if (vm) return settings.s3 ? [held(commandIn(vm.folder, reading), leash.signal)] : [];
    const leader = leaderOf(machineFolder(project, plan.stack, plan.host));
    return leader ? [held(asRoot(enter(leader, reading)), leash.signal)] : [];
  });
  const letGo = async () => {
    leash.abort();
    await Promise.all(holders.map((h) => h.ended));
  };
  try {
    await Promise.all(holders.map((h) => h.begun));
  } catch (error) {
    await letGo();
    throw error;
  }
  return letGo;
}

const reading = ["flock", "--shared", "/run/ingot/backup-reading.lock", "sh", "-c", "echo held && exec cat"];

function held(argv: string[], signal: AbortSignal): { begun: Promise<void>; ended: Promise<unknown> } {
  let onLine = (_: string): void => {};
  const first = new Promise<void>((resolve) => {
    onLine = () => resolve();
  });
  const ended = tryRun(argv, { leash: signal, evenWhenCancelled: true, onLine });
  // A machine that ends meanwhile expires nothing.
  return { begun: Promise.race([first, ended.then(() => {})]), ended };
}

/** Where production has the repositories of a host. */
export interface Repository {
  /** Whose machine they are on: the host itself, or the one that keeps them. */
  keeper: HostPlan;
  volume: VolumePlan;
  /** Their folder there. */
  to: string;
  /** The same as the keeper's machine of the drill sees it. */
  over: string;
}

/** undefined: the host has no backups on a disk. The kinds have seen to it that there is a volume (ING1461). */
export function repositoryFor({ hosts }: StackPlan, plan: HostPlan): Repository | undefined {
  const settings = backupSettings(plan);
  if (!settings || settings.s3) return undefined;
  const { to, on } = settings;
  const keeper = on ? hosts.find((h) => h.host === on.host) : plan;
  const volume = keeper && nearest(keeper, to);
  if (!volume) throw new Error(`${to} is on no volume`);
  return { keeper, volume, to, over: `${repositoryThere(volume.name)}${to.slice(volume.mount.length)}` };
}

/** A host of production whose backups are in a bucket. */
export interface InBucket {
  plan: HostPlan;
  bucket: Bucket;
  to: string;
  /** Where its machines find the bucket: "10.1.9.254:9000". */
  place: string;
}

/** @throws RefusedError where a drill's machine would not find its bucket */
export function bucketsOf({ hosts, network }: StackPlan): InBucket[] {
  const addresses = addressPlan(hosts, network);
  return hosts.flatMap((plan) => {
    const { s3: bucket, to = "" } = backupSettings(plan) ?? {};
    if (!bucket) return [];
    const refuse = (why: string, hint: string): never => {
      throw new RefusedError(`the backups of ${plan.stack}/${plan.host} are in ${to}, ${why}`, `${hint}; docs/drill.md`);
    };
    if (bucket.access_key === undefined)
      return refuse("which its machine opens by its role, and only on EC2 has it one", "a drill reads a bucket whose keys are declared");
    if (bucket.endpoint === undefined)
      return refuse("at AWS itself, and nothing leads there from the network of a drill", "a drill reads a bucket with an `endpoint:`");
    const { hostname } = new URL(bucket.url);
    const place = placeOf(plan, bucket);
    if (place === undefined)
      return refuse(
        `and a drill's machine has nobody to ask where ${hostname} is`,
        `write its address into \`etc_hosts:\` of ${plan.host}`,
      );
    const address = place.split(":")[0] ?? "";
    const { first, count } = networkOf(network ?? usualNetwork);
    const host = [...addresses.machines].find(([, a]) => a === address)?.[0];
    if (host !== undefined)
      return refuse(`which the stack's own host ${host} serves, and a drill makes that one anew`, "keep backups outside of the stack");
    if (numberOf(address) < first || numberOf(address) >= first + count)
      return refuse(`at ${address}, and no way leads there from the network of its machines`, "give it an address of the stack's network");
    return [{ plan, bucket, to, place }];
  });
}

/** One of production's disks with repositories, mounted to be read. */
export interface Mounted {
  host: string;
  volume: string;
  place: string;
  how: string;
  /** Of a copy that was made of a running machine's disk: when, by the clocks of the hosts that run and whose backups are on it. Seconds since 1970. */
  moments?: Record<string, number>;
}

/** Production's buckets, as a drill has them. */
export interface Gates {
  /** What the machines see of them. */
  mounted: Mounted[];
  /** What is wrong about where the backups are that the drill's machine of a host has made; undefined: it has no bucket. */
  misplaced(host: string, labels: string[]): Promise<string[] | undefined>;
  close(): Promise<void>;
}

/** Stands in for production's buckets in the drill's network, once that is there. @throws RefusedError when one cannot be read */
export async function openGates(project: Project, production: Target, hosts: InBucket[], stack: string): Promise<Gates> {
  const beside = besideOf(project, stack);
  const folder = dirname(beside.machines);
  const [mounted, layers, open]: [Mounted[], Map<string, Layer>, (() => Promise<void>)[]] = [[], new Map(), []];
  const close = async () => {
    for (const one of open.reverse()) await one();
  };
  try {
    for (const { plan, bucket, to } of hosts) {
      const below = await openBucket(production, plan, bucket);
      open.push(() => below.close());
      const holder = await below.read(`${bucket.prefix}/holder`).catch((error: unknown) => {
        throw new RefusedError(`${stack}/${plan.host}: ${inWords(error, bucket)}`, `ingot doctor ${stack}`);
      });
      if (!holder) throw new RefusedError(`there are no backups of ${stack}/${plan.host} in ${to}`, `ingot backups ${stack}`);
      holder.body.destroy();
      layers.set(plan.host, layerOver(bucket.bucket, bucket.prefix, below, join(folder, "buckets", plan.host)));
    }
    const places = [...new Set(hosts.map((h) => h.place))];
    for (const place of places) {
      const here = hosts.filter((h) => h.place === place);
      const seen = join(folder, "gates", place);
      const names = [...new Set(here.map((h) => new URL(h.bucket.url).hostname))];
      const served = here.flatMap((h) => layers.get(h.plan.host) ?? []);
      const way = await wayOut(beside, stack, place, async (socket) => void open.push(await serve(served, names, seen, socket)));
      open.push(() => way.close());
      for (const { plan } of here) mounted.push({ host: plan.host, volume: gate, place: seen, how: "bucket" });
    }
  } catch (error) {
    await close();
    throw error;
  }
  return {
    mounted,
    async misplaced(host, labels) {
      const layer = layers.get(host);
      return layer && misplaced(layer, labels);
    },
    close,
  };
}

/** Beside the volumes' names, of which none is like it (backup_place.py, GATE). */
const gate = ".bucket";

/** Mounts the disks that production's repositories are on, each once. @param machines production's @throws as mountRepository() */
export async function mountRepositories(project: Project, production: Target, machines: Machine[], stack: StackPlan): Promise<Mounted[]> {
  const mounted: Mounted[] = [];
  for (const plan of stack.hosts) {
    const repository = repositoryFor(stack, plan);
    if (!repository) continue;
    const { keeper, volume } = repository;
    if (!mounted.some((m) => m.host === keeper.host && m.volume === volume.name))
      mounted.push(await mountRepository(project, production, machines, stack, keeper, volume));
  }
  return mounted;
}

/** @throws RefusedError when the disk is not there */
async function mountRepository(
  project: Project,
  production: Target,
  machines: Machine[],
  plan: StackPlan,
  keeper: HostPlan,
  volume: VolumePlan,
): Promise<Mounted> {
  const { stack, host } = keeper;
  const file = volumeFile(project, stack, host, volume.name);
  if (!existsSync(file))
    throw new RefusedError(`the volume ${volume.name} of ${stack}/${host}, with backups, is not there`, `bring ${file} back, or a copy`);
  const folder = dirname(besideOf(project, stack).machines);
  const place = join(folder, "repositories", host, volume.name);
  const script = (name: string) => join(toolFolder, "stacks/local", name);
  const holding = (argv: string[]) => ["sh", script("hold.sh"), folder, mark, ...argv];
  const mount = async (from: string, leader = "") =>
    (await run(asRoot(holding(["sh", script("repository.sh"), from, place, leader])))).stdout.trim();
  const running = runningVm(project, stack, host);
  if (!running) {
    const leader = leaderOf(machineFolder(project, stack, host));
    return { host, volume: volume.name, place, how: await mount(file, leader && String(leader.pid)) };
  }
  const copy = `${place}.img`;
  mkdirSync(dirname(copy), { recursive: true });
  // What it has been told to write before the drill is to be in the copy.
  await askRunning(production, machines, host, ["sync", "--file-system", volume.mount]);
  await copyDisk(running, volume.name, copy, holding);
  const moments: Record<string, number> = {};
  for (const other of plan.hosts) {
    const repository = repositoryFor(plan, other);
    if (repository?.keeper.host !== host || repository.volume.name !== volume.name) continue;
    const now = Number(await askRunning(production, machines, other.host, ["date", "+%s.%N"]));
    if (now) moments[other.host] = now;
  }
  return { host, volume: volume.name, place, how: await mount(copy), moments };
}

/** undefined: its machine does not run, or does not answer. */
async function askRunning(production: Target, machines: Machine[], host: string, argv: string[]): Promise<string | undefined> {
  const machine = machines.find((m) => m.host === host && m.state !== "stopped");
  if (!machine) return undefined;
  try {
    const { code, stdout } = await production.connect(machine).exec(argv, { timeoutSeconds: 60 });
    return code === 0 ? stdout.trim() : undefined;
  } catch (error) {
    if (error instanceof RefusedError) return undefined;
    throw error;
  }
}

/** A host of production as its drill launches it: to be reached from nowhere, and what is restored, or kept for others, is what was mounted. */
export function besideInput(input: HostInput, stack: StackPlan, mounted: Mounted[]): HostInput {
  const plan = { ...input.plan, ports: [] };
  const own = repositoryFor(stack, plan);
  const kept = stack.hosts.flatMap((h) => {
    const repository = h.host === plan.host ? undefined : repositoryFor(stack, h);
    return repository?.keeper.host === plan.host ? [[h.host, repository.over] as const] : [];
  });
  const disks = mounted.filter((m) => m.host === plan.host);
  return {
    ...input,
    plan,
    ...(disks.length && { repositories: Object.fromEntries(disks.map((m) => [m.volume, m.place])) }),
    ...((own || kept.length || disks.some((m) => m.volume === gate)) && {
      restore: { ...(own && { over: own.over }), ...(kept.length && { kept: Object.fromEntries(kept) }) },
    }),
  };
}

/** @throws RefusedError when the machine could not be asked */
export async function askDrill<T>(machine: Machine, { exec }: Connection, words: string[]): Promise<T> {
  const program = readFileSync(join(toolFolder, "stacks/recovery/drill.py"), "utf8");
  const { code, stdout, stderr } = await exec(["python3", "-", ...words], { input: program });
  if (code === 0) return JSON.parse(stdout) as T;
  throw new RefusedError(`${machine.stack}/${machine.host} cannot be asked: ${stderr.trim()}`);
}

/** Seconds of what a rebuild needs as well. */
export const rtoOf = ({ phases }: Pick<Drill, "phases">): number | null =>
  rto.every((name) => phases.some((p) => p.phase === name))
    ? round(phases.filter((p) => rto.includes(p.phase)).reduce((n, p) => n + p.seconds, 0))
    : null;

/** The worst host's, in seconds; null: no host says. */
export function rpoOf(hosts: Pick<DrilledHost, "proof">[]): number | null {
  const ages = hosts.flatMap(({ proof }) => (proof?.postgresql ?? proof?.directories)?.age_seconds ?? []);
  return ages.length ? Math.max(...ages) : null;
}

/** What is slower or older than it may be, in words. Seconds. */
export function missed(
  { rto_seconds, rpo_seconds }: Pick<Drill, "rto_seconds" | "rpo_seconds">,
  max: { rto?: number; rpo?: number },
): string[] {
  const over = (name: string, what: number | null, most: number | undefined) =>
    most !== undefined && (what === null || what > most)
      ? [`${name}: ${what === null ? "not known" : `${what} s`}, and at most ${most} s were asked for`]
      : [];
  return [...over("RTO", rto_seconds, max.rto), ...over("RPO", rpo_seconds, max.rpo)];
}

export const round = (n: number): number => Math.round(n * 10) / 10;
