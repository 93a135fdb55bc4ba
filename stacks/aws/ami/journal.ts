// What of a disk EC2 has taken already, on this computer, so that an upload that was killed goes on where it stopped: one line of JSON for
// each thing that happened, appended as it happens. A line that was torn by the kill, the last one, counts as not written.
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, truncateSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Project } from "../../../lib/paths.ts";
import type { Encrypting } from "./key.ts";

/** The first line: what is uploaded, and as what. Written before the snapshot is asked for, so that a second call gives the same one. */
export interface JournalHead {
  version: 1;
  /** What of the disk's file must be the same for the journal to be of use: name, size, time. */
  disk: string;
  digest: string;
  region: string;
  /** GiB. */
  gib: number;
  encryption: Encryption;
  /** The snapshot that it differs from, and the digest of the image in that. */
  parent?: { snapshot: string; digest: string };
  /** StartSnapshot's ClientToken. */
  token: string;
  /** Of names.tags.run. */
  run: string;
}

/** `account`: as the account's "encryption by default" has it. */
export type Encryption = "account" | Encrypting;

export interface Snapshot {
  id: string;
  /** Every block is written: what is left out of an encrypted snapshot reads as noise. */
  extent: "every block" | "what differs";
}

export interface Journal {
  head: JournalHead;
  snapshot: Snapshot | undefined;
  /** Digests of the blocks that were taken. */
  readonly accepted: ReadonlyMap<number, Buffer>;
  /** CompleteSnapshot was called, or about to be. */
  sealed: boolean;
  started(snapshot: Snapshot): void;
  accept(index: number, digest: Buffer): void;
  seal(): void;
  close(): void;
}

type Line = { snapshot: Snapshot } | { sealed: true } | [index: number, digest: string];

const folderOf = (project: Project): string => join(project.state, "aws/ami");

/** One for each digest, region, and whether it is encrypted. */
export function journalPath(
  project: Project,
  { region, digest, encryption }: Pick<JournalHead, "region" | "digest" | "encryption">,
): string {
  return join(folderOf(project), region, `${digest}${encryption === "account" ? "" : "-encrypted"}.journal`);
}

/** Begins one, in place of what is there. */
export function beginJournal(path: string, head: JournalHead): Journal {
  mkdirSync(dirname(path), { recursive: true });
  const file = openSync(path, "w", 0o600);
  append(file, head, "safe");
  return journalOn(file, { head, accepted: new Map(), sealed: false });
}

/** The journal at a path, to go on with; undefined when there is none, or nothing to be understood. */
export function readJournal(path: string): Journal | undefined {
  const found = parse(path);
  if (!found) return undefined;
  truncateSync(path, found.bytes);
  return journalOn(openSync(path, "a"), found);
}

export const removeJournal = (path: string): void => rmSync(path, { force: true });

/** Snapshots of the region that an upload from this computer can go on with, and how many blocks they have. */
export function resumable(project: Project, region: string): Map<string, number> {
  const folder = join(folderOf(project), region);
  const files = existsSync(folder) ? readdirSync(folder).filter((f) => f.endsWith(".journal")) : [];
  return new Map(
    files.flatMap((f): [string, number][] => {
      const found = parse(join(folder, f));
      return found?.snapshot ? [[found.snapshot.id, found.accepted.size]] : [];
    }),
  );
}

interface Read {
  head: JournalHead;
  snapshot?: Snapshot;
  accepted: Map<number, Buffer>;
  sealed: boolean;
}

/** What was written before the first line that cannot be read, and how many bytes that is. */
function parse(path: string): (Read & { bytes: number }) | undefined {
  if (!existsSync(path)) return undefined;
  const lines = readFileSync(path, "utf8").split("\n");
  // What follows the last end of a line was torn.
  lines.pop();
  const head = read(lines.shift()) as JournalHead | undefined;
  if (head?.version !== 1) return undefined;
  const found: Read & { bytes: number } = { head, accepted: new Map(), sealed: false, bytes: size(head) };
  for (const text of lines) {
    const line = read(text) as Line | undefined;
    if (line === undefined) break;
    if (Array.isArray(line)) found.accepted.set(line[0], Buffer.from(line[1], "base64"));
    else if ("snapshot" in line) found.snapshot = line.snapshot;
    else found.sealed = true;
    found.bytes += size(line);
  }
  return found;
}

function read(line: string | undefined): unknown {
  try {
    return JSON.parse(line ?? "");
  } catch {
    return undefined;
  }
}

function journalOn(file: number, { head, snapshot, accepted, sealed }: Read): Journal {
  return {
    head,
    snapshot,
    accepted,
    sealed,
    started(made) {
      this.snapshot = made;
      append(file, { snapshot: made }, "safe");
    },
    accept(index, digest) {
      accepted.set(index, digest);
      append(file, [index, digest.toString("base64")], "soon");
    },
    seal() {
      this.sealed = true;
      append(file, { sealed: true }, "safe");
    },
    close: () => closeSync(file),
  };
}

const textOf = (line: Line | JournalHead): string => `${JSON.stringify(line)}\n`;
const size = (line: Line | JournalHead): number => Buffer.byteLength(textOf(line));

/** `safe`: on the disk before anything else is done. A kill loses nothing of what is only with the kernel. */
function append(file: number, line: Line | JournalHead, how: "safe" | "soon"): void {
  writeSync(file, textOf(line));
  if (how === "safe") fsyncSync(file);
}
