// The past that a rebuild brings back, looked for before anything is changed: which backups there are, and whether the log goes on from there. Told
// by the host itself where it runs; else by what lies beside its repositories (cloud-init/host/backup_place.py, note) and by the names of the log's
// pieces, on the host that keeps them, on a disk that no machine uses, or in a bucket. Where none of these can be asked, the new machine says it.
import { basename } from "node:path";
import { text } from "node:stream/consumers";
import type { Bucket } from "../../cloud-init/backup/bucket.ts";
import type { HostPlan, Restore, StackPlan } from "../../cloud-init/plan.ts";
import { RefusedError } from "../../lib/diagnostics.ts";
import type { Machine, Target } from "../target.ts";
import { type BackupSettings, type Backups, backupsOn, copiesOf, nearest } from "./backups.ts";
import { inWords, isAnswer, openBucket } from "./bucket.ts";

/** Times in seconds since 1970; the oldest first. */
export interface Known {
  postgresql: Pick<Backups["postgresql"][number], "label" | "ended" | "bytes" | "wal">[];
  directories: Pick<Backups["directories"][number], "id" | "of" | "at">[];
  /** undefined: nobody has looked. */
  gap?: Backups["gap"];
}

/** Seconds for which a host is asked. */
const patience = 60;

/** What is known of a host's backups; undefined: nobody can say before its new machine does. */
export async function knownBackups(
  target: Target,
  stack: StackPlan,
  plan: HostPlan,
  settings: BackupSettings,
  past: Restore,
): Promise<Known | undefined> {
  const machines = (await target.find(plan.stack)).filter((m) => m.state !== "stopped");
  const own = machines.find((m) => m.host === plan.host);
  if (own?.state === "running") {
    // One that cannot answer, or that another has taken the place of, knows nothing.
    const said = await backupsOn(own, target.connect(own), patience).catch((error: unknown) => {
      if (error instanceof RefusedError) return undefined;
      throw error;
    });
    if (said && said.postgresql.length + said.directories.length > 0) return said;
  }
  const keeper = settings.s3 ? undefined : keeperOf(stack, plan, settings);
  const place = (await livingPlace(target, stack, plan, settings, machines)) ?? (keeper && (await onDisk(target, keeper, settings.to)));
  try {
    const noted = place && (await notedIn(place));
    // By which of them a past is chosen.
    if (!place || !noted || !(settings.postgresql ? noted.postgresql : noted.directories)) return undefined;
    const known: Known = { postgresql: noted.postgresql ?? [], directories: noted.directories ?? [] };
    const chosen = chosenOf(known, past);
    return { ...known, ...(chosen && { gap: await gapSince(place, chosen.wal) }) };
  } finally {
    await place?.close?.();
  }
}

/** Bytes that what is restored wants, and a new full backup: as they were noted with the last backups. What nobody knows is none; disks that no
 * machine uses are not looked at, because that would bring their journals in. */
export async function sizesOf(target: Target, stack: StackPlan, plan: HostPlan, settings: BackupSettings): Promise<Sizes> {
  const machines = (await target.find(plan.stack)).filter((m) => m.state !== "stopped");
  const place = await livingPlace(target, stack, plan, settings, machines);
  try {
    const { postgresql = [], directories = [] } = place ? await notedIn(place) : {};
    const last = new Map(directories.map((d) => [d.of, d.bytes ?? 0]));
    return {
      postgresql: postgresql.at(-1)?.bytes ?? 0,
      directories: [...last.values()].reduce((sum, bytes) => sum + bytes, 0),
      backup: Math.max(0, ...postgresql.map((b) => b.stored ?? 0)),
    };
  } finally {
    await place?.close?.();
  }
}

export interface Sizes {
  postgresql: number;
  directories: number;
  /** Of the largest that there is. */
  backup: number;
}

/** As backup_place.py's note() writes it. */
interface Noted {
  postgresql?: (Known["postgresql"][number] & { stored?: number })[];
  directories?: (Known["directories"][number] & { bytes?: number })[];
}

async function notedIn(place: Place): Promise<Noted> {
  const noted = async <T>(what: string): Promise<T | undefined> => {
    const text = await place.read(`backups.${what}.json`);
    return text?.startsWith("[") ? (JSON.parse(text) as T) : undefined;
  };
  const postgresql = await noted<NonNullable<Noted["postgresql"]>>("postgresql");
  const directories = await noted<NonNullable<Noted["directories"]>>("directories");
  return { ...(postgresql && { postgresql }), ...(directories && { directories }) };
}

/** The host whose machine, or disk, has the repositories, where they are not in a bucket. */
const keeperOf = (stack: StackPlan, plan: HostPlan, { on }: BackupSettings): HostPlan | undefined =>
  stack.hosts.find((h) => h.host === (on?.host ?? plan.host));

/** Where the repositories are, in a bucket or on a machine that runs; undefined: nobody gets there now. @throws RefusedError where a bucket refuses */
async function livingPlace(
  target: Target,
  stack: StackPlan,
  plan: HostPlan,
  settings: BackupSettings,
  machines: Machine[],
): Promise<Place | undefined> {
  if (settings.s3) return inBucket(target, plan, settings.s3);
  const keeper = keeperOf(stack, plan, settings);
  const machine = machines.find((m) => m.host === keeper?.host);
  return machine && onMachine(target, machine, settings.to);
}

/** The folder with the repositories, wherever it is. */
interface Place {
  read(path: string): Promise<string | undefined>;
  /** Names in a folder; none where there is none. */
  list(path: string): Promise<string[]>;
  /** When a file was written. */
  written(path: string): Promise<number | undefined>;
  close?(): Promise<void>;
}

/** undefined: it does not answer here, or not to us. */
async function inBucket(target: Target, plan: HostPlan, bucket: Bucket): Promise<Place | undefined> {
  const reader = await openBucket(target, plan, bucket);
  const key = (path: string) => `${bucket.prefix}/${path}`;
  try {
    await reader.list(key(""), "/");
  } catch (error) {
    await reader.close();
    // The new machine would come with the same keys.
    if (bucket.access_key !== undefined && isAnswer(error))
      throw new RefusedError(
        `${plan.stack}/${plan.host}: ${inWords(error, bucket)}`,
        `the right ones into the secrets' store (${target.secrets.placeOf(plan.stack, bucket.access_key)}), then the same again. Nothing was changed`,
      );
    return undefined;
  }
  return {
    read: async (path) => {
      const found = await reader.read(key(path));
      return found && text(found.body);
    },
    list: async (path) => {
      const { objects, folders } = await reader.list(`${key(path)}/`, "/");
      return [...objects.keys(), ...folders].map((name) => basename(name));
    },
    written: async (path) => (await reader.look(key(path)))?.written,
    close: () => reader.close(),
  };
}

function onMachine(target: Target, machine: Machine, to: string): Place {
  const { exec } = target.connect(machine);
  const ask = async (...argv: string[]) => {
    const { code, stdout } = await exec([...argv], { timeoutSeconds: patience });
    return code === 0 ? stdout : undefined;
  };
  return {
    read: (path) => ask("cat", `${to}/${path}`),
    list: async (path) => (await ask("ls", "-1", `${to}/${path}`))?.split("\n").filter(Boolean) ?? [],
    written: async (path) => Number(await ask("stat", "-c", "%Y", `${to}/${path}`)) || undefined,
  };
}

/** undefined: the disk is not there, or broken, or this target cannot read it. */
async function onDisk({ disks }: Target, keeper: HostPlan, to: string): Promise<Place | undefined> {
  const volume = nearest(keeper, to);
  const { files } = disks;
  // What its journal holds is brought in first.
  if (!volume || !files || (await disks.health(keeper, volume.name)) !== "healthy") return undefined;
  const from = (path: string) => `${to.slice(volume.mount.length)}/${path}`;
  return {
    read: (path) => files.read(keeper, volume.name, from(path)),
    list: (path) => files.list(keeper, volume.name, from(path)),
    written: (path) => files.written(keeper, volume.name, from(path)),
  };
}

const archive = "postgresql/archive/main";

/** The first piece of PostgreSQL's log since `wal` that is missing although later ones are there. */
async function gapSince(place: Place, wal: string): Promise<Known["gap"]> {
  const files: string[] = [];
  for (const version of await place.list(archive))
    for (const folder of await place.list(`${archive}/${version}`))
      if (/^[0-9A-F]{16}$/.test(folder))
        files.push(...(await place.list(`${archive}/${version}/${folder}`)).map((name) => `${version}/${folder}/${name}`));
  const gap = gapIn(files, wal);
  const until = gap && (await place.written(`${archive}/${gap.before}`));
  return until === undefined ? null : { piece: gap?.piece ?? "", until };
}

/**
 * As backup.py's gap_in(). A piece is 16 MiB, and its name says timeline and number (PostgreSQL's documentation, "WAL Internals").
 * @param files `…/<piece>-<sum>.zst`
 * @param wal the piece that a backup begins with
 * @returns the missing piece, and the file of the one before it
 */
export function gapIn(files: string[], wal: string): { piece: string; before: string } | undefined {
  const number = (name: string) => Number.parseInt(name.slice(8, 16), 16) * 256 + Number.parseInt(name.slice(16, 24), 16);
  const there = new Map<number, string>();
  for (const file of files) {
    const [, name = ""] = /\/([0-9A-F]{24})-[0-9a-f]{40}(?:\.\w+)?$/.exec(file) ?? [];
    if (name.slice(0, 8) >= wal.slice(0, 8) && number(name) >= number(wal)) there.set(number(name), file);
  }
  const numbers = [...there.keys()].sort((a, b) => a - b);
  const last = numbers.find((n, i) => i + 1 < numbers.length && numbers[i + 1] !== n + 1);
  if (last === undefined) return undefined;
  const hex = (n: number) => n.toString(16).toUpperCase().padStart(8, "0");
  return { piece: hex(Math.floor((last + 1) / 256)) + hex((last + 1) % 256), before: there.get(last) ?? "" };
}

const secondsOf = (at: string | undefined): number | undefined => (at === undefined ? undefined : Date.parse(at) / 1000);
const stamp = (seconds: number): string => `${new Date(seconds * 1000).toISOString().slice(0, 19)}Z`;

/** The backup of PostgreSQL that the past is restored from. */
export function chosenOf({ postgresql }: Known, { at, backup }: Restore): Known["postgresql"][number] | undefined {
  if (backup !== undefined) return postgresql.find((b) => b.label === backup);
  const until = secondsOf(at);
  return postgresql.filter((b) => until === undefined || b.ended <= until).at(-1);
}

/** Why that past cannot be had, and what there is; undefined: as far as is known, it can. */
export function notThere(known: Known, settings: BackupSettings, past: Restore): { message: string; hint: string } | undefined {
  const { at, backup } = past;
  const ofPostgresql = settings.postgresql !== undefined;
  if (backup !== undefined) {
    const names = ofPostgresql ? known.postgresql.map((b) => b.label) : known.directories.map((d) => d.id);
    return names.includes(backup) ? undefined : { message: `there is no backup ${backup}`, hint: thereAre(known, settings) };
  }
  const until = secondsOf(at);
  if (ofPostgresql && !chosenOf(known, past))
    return {
      message: `there is no backup of PostgreSQL${until === undefined ? "" : ` from before ${at}`}`,
      hint: thereAre(known, settings),
    };
  if (ofPostgresql && known.gap && (until === undefined || until > known.gap.until))
    return {
      message: `the log of transactions has a gap: its piece ${known.gap.piece} is not in the repository, and later ones are; a restore is possible up to ${stamp(known.gap.until)}`,
      hint: `--at ${stamp(known.gap.until)}; ${thereAre(known, settings)}`,
    };
  const late = until === undefined ? undefined : copiesOf(settings).find((of) => isTooEarly(known, of, until));
  return late === undefined ? undefined : { message: `there is no copy of ${late} from before ${at}`, hint: thereAre(known, settings) };
}

/** One that was never copied is not what keeps a rebuild. */
const isTooEarly = ({ directories }: Known, of: string, until: number): boolean => {
  const times = directories.filter((d) => d.of === of).map((d) => d.at);
  return times.length > 0 && times.every((t) => t > until);
};

/** So many are named. */
const most = 12;

/** "there are 20261124-030000F (until 2026-11-24T03:00:12Z), …; copies of directories from … to …" */
function thereAre({ postgresql, directories }: Known, settings: BackupSettings): string {
  const named = settings.postgresql
    ? postgresql.map((b) => `${b.label} (it ended ${stamp(b.ended)})`)
    : directories.map((d) => `${d.id} (of ${stamp(d.at)})`);
  const left = named.length - most;
  const [first, last] = [directories[0], directories.at(-1)];
  return [
    `there are ${left > 0 ? `${left} older ones, ` : ""}${named.slice(-most).join(", ") || "none"}`,
    ...(settings.postgresql && first && last ? [`copies of directories from ${stamp(first.at)} to ${stamp(last.at)}`] : []),
  ].join("; ");
}

/** @throws RefusedError where it is known that what is asked for is not there */
export async function mustBeThere(
  target: Target,
  stack: StackPlan,
  plan: HostPlan,
  settings: BackupSettings,
  past: Restore,
): Promise<void> {
  const known = await knownBackups(target, stack, plan, settings, past);
  const why = known && notThere(known, settings, past);
  if (why) throw new RefusedError(`${plan.stack}/${plan.host}: ${why.message}`, `${why.hint}. Nothing was changed`);
}
