// The backups of running machines, asked and made through their own program (cloud-init/host/backup.py). Called by `ingot backup`, `backups` and
// the rebuild.
import { type PlaceSettings, settingsPath } from "../../cloud-init/backup/place.ts";
import { isBelow } from "../../cloud-init/kind.ts";
import type { HostPlan, VolumePlan } from "../../cloud-init/plan.ts";
import { RefusedError } from "../../lib/diagnostics.ts";
import type { Connection, Machine } from "../target.ts";

/** What a host's `backup:` comes to (cloud-init/resources/backup.ts writes it). */
export interface BackupSettings extends PlaceSettings {
  /** Folder of the repositories; of a bucket: s3://bucket/prefix. */
  to: string;
  /** All paths that are copied; those among them that are held still meanwhile, or have commands around it. */
  directories: string[];
  held: { name: string; paths: string[]; before?: string; after?: string }[];
  /** What is backed up (`full`, `differential`, `incremental`, `directories`) → when. */
  times: Record<string, string>;
  /** There is to be a drill as often as that. */
  drill_seconds?: number;
  postgresql?: { data: string; archive_seconds: number; tables: { database: string; table: string }[] };
}

/** undefined: the host has no `backup:`. */
export function backupSettings({ generation }: HostPlan): BackupSettings | undefined {
  const file = generation.files.find((f) => f.path === settingsPath);
  return file && (JSON.parse(file.content) as BackupSettings);
}

/** The volume that a path is on; of `to`, the one that holds the repositories. */
export const nearest = ({ volumes }: HostPlan, path: string): VolumePlan | undefined =>
  volumes.filter((v) => isBelow(path, v.mount)).sort((a, b) => b.mount.length - a.mount.length)[0];

/** The names by which restic has the copies. */
export const copiesOf = ({ directories, held }: BackupSettings): string[] => [
  ...(directories.every((path) => held.some((h) => h.paths.includes(path))) ? [] : ["directories"]),
  ...held.map(({ name }) => name),
];

/** What a backup of all is made by: what stands on others is left out. */
export const wholeOnes = ({ times }: BackupSettings): string[] =>
  Object.keys(times).filter((what) => !["differential", "incremental"].includes(what));

export interface Backups {
  /** The oldest first; times in seconds since 1970, sizes in bytes. */
  postgresql: {
    label: string;
    type: string;
    began: number;
    ended: number;
    bytes: number;
    stored: number;
    error: boolean;
    /** The first piece of the log that belongs to it. */
    wal: string;
    point: string | null;
  }[];
  /** `of`: a server, a directory that has commands around its copy, or `directories`, which are the others. */
  directories: { id: string; of: string; at: number; paths: string[] }[];
  /** The first piece of PostgreSQL's log since the last backup that is missing although later ones are there, and when the one before it came. */
  gap: { piece: string; until: number } | null;
  /** Of PostgreSQL's log. `rpo_seconds`: what a lost disk would cost now. */
  archive: { archived: number | null; rpo_seconds: number | null; failing: boolean } | null;
  /** In words. */
  late: string[];
}

/** One backup that was made. */
export interface Made {
  what: string;
  seconds: number;
  /** Of PostgreSQL. */
  label?: string;
  rows?: Record<string, { rows: number; sum: string }>;
  /** Of directories. */
  id?: string;
  files?: number;
  bytes?: number;
}

const program = "/usr/lib/ingot/backup.py";

async function ask<T>(machine: Machine, connection: Connection, words: string[], what: string, timeoutSeconds?: number): Promise<T> {
  const { code, stdout, stderr } = await connection.exec([program, ...words], { timeoutSeconds });
  if (code === 0) return JSON.parse(stdout) as T;
  if (code === 124 && timeoutSeconds !== undefined)
    throw new RefusedError(`${machine.stack}/${machine.host}: ${what} within ${timeoutSeconds} s`);
  throw new RefusedError(
    `${machine.stack}/${machine.host}: ${what}: ${stderr.trim()}`,
    `ingot logs ${machine.stack}/${machine.host} backup`,
  );
}

/** @param within seconds that it may take @default as long as it takes */
export const backupsOn = (machine: Machine, connection: Connection, within?: number): Promise<Backups> =>
  ask(machine, connection, ["list"], "its backups cannot be listed", within);

/** @param what one of BackupSettings.times @throws RefusedError when it failed */
export const backUp = (machine: Machine, connection: Connection, what: string): Promise<Made> =>
  ask(machine, connection, ["run", what], `the ${what} backup failed`);

/** Sizes, for people. */
export const mebibytes = (bytes: number): string => `${Math.ceil(bytes / 2 ** 20)} MiB`;

/** How old, for people: "3 min", "5 h", "2 days". */
export function age(seconds: number): string {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} days`;
}
