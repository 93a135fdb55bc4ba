// Where a host's backups can be kept: what `backup:` (resources/backup.ts) asks of a place. Each place is a file here: a folder of the host
// (folder.ts), another host of the stack (store.ts), a bucket of S3 (bucket.ts). A new one is a file, and a line each in the schema and in
// placeOf() of resources/backup.ts. What runs on the host is told of it by the settings (host/backup_place.py).
// Files of places hold parts of that kind's schema, so that nobody but it may load them first: resources/ imports in circles.
import type { Compiled, Host, Problem, StepDraft } from "../kind.ts";
import type { Part } from "../plan.ts";
import type { SecretNeed } from "../value.ts";
import type { Bucket } from "./bucket.ts";

/** Folder of what the host's programs need for its backups. */
export const folder = "/etc/ingot/backup";
export const settingsPath = `${folder}/settings.json`;
/** What restic asks for; pgBackRest has it in its configuration. */
export const passwordPath = `${folder}/password`;

/** What is kept at a place. */
export interface Kept {
  host: Host;
  /** Name of the secret that the repositories are encrypted with. */
  password: string;
  /** PostgreSQL's, where it is backed up: its folder, and how many full backups are kept. */
  cluster?: { data: string; keep: number };
}

/** What the settings say of a place beside `to`; of a folder of the host, nothing. */
export interface PlaceSettings {
  /** The bucket, where it is one. */
  s3?: Bucket;
  /** The host that has the folder, where it is another one. */
  on?: { host: string; login: string };
}

export interface Place {
  /** Folder of the repositories; of a bucket: s3://bucket/prefix. */
  to: string;
  settings: PlaceSettings;
  /** The folder, where it is one of this host. */
  here?: string;
  /** Ids of resources that come first. */
  after: string[];
  /** pgBackRest's configuration on this host, where its cluster is backed up. */
  pgbackrest?: Part[];
  secrets?: SecretNeed[];
  files?: Compiled["files"];
  steps?: StepDraft[];
  /**
   * @param held what is backed up, by its path
   * @param others the places of the stack's other hosts
   */
  problems(held: { what: string; path: string }[], others: { host: string; settings: PlaceSettings }[]): Problem[];
}
