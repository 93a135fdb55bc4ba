// A ledger is written before anything is created, so that whatever a killed run left can be found and undone:
// by the next run, or by `ingot gc`. One JSON file for each thing begun; a running machine's file is its inventory.
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { toolFolder } from "./paths.ts";

/** What can be left behind, and so must be undone; undone in the reverse order of creation by lib/undo.sh. */
export type Thing =
  /** `own`: everything in it is the caller's own, and root is not needed for it. */
  | { kind: "folder"; path: string; own?: true }
  | { kind: "mount"; path: string }
  | { kind: "netns"; name: string }
  | { kind: "cgroup"; name: string }
  | { kind: "loop"; file: string }
  /** The process that `file` names ("pid start"), once it has been begun. */
  | { kind: "holder"; file: string }
  /** `start` is field 22 of /proc/<pid>/stat: the same pid with another start is another process. */
  | { kind: "process"; pid: number; start: string };

export interface Entry {
  id: string;
  /** What it is, for people: "bake of debian-12", "machine inloop/web". */
  what: string;
  /** `begun`: somebody is making it, and if that process is dead it must be undone. `kept`: made, and stays until taken down. */
  state: "begun" | "kept";
  owner: { pid: number; start: string };
  began: string;
  things: Thing[];
}

export interface Ledger {
  begin(id: string, what: string): Entry;
  /** Writes `thing` down; call it before making the thing. */
  add(entry: Entry, thing: Thing): void;
  keep(entry: Entry): void;
  /** Forgets the entry: everything in it is gone, or is somebody else's now. */
  close(entry: Entry): void;
  /** Undoes everything in the entry, then forgets it. */
  undo(entry: Entry): Promise<void>;
  find(id: string): Entry | undefined;
  all(): Entry[];
  /** Entries whose maker died before the end. */
  abandoned(): Entry[];
}

export function ledgerAt(folder: string): Ledger {
  const file = (id: string) => join(folder, `${id.replaceAll("/", ".")}.json`);
  const write = (entry: Entry) => {
    mkdirSync(folder, { recursive: true });
    const temporary = `${file(entry.id)}.${process.pid}.tmp`;
    writeFileSync(temporary, `${JSON.stringify(entry, null, 1)}\n`);
    renameSync(temporary, file(entry.id));
  };
  const read = (path: string): Entry => JSON.parse(readFileSync(path, "utf8")) as Entry;
  const ledger: Ledger = {
    begin(id, what) {
      const entry: Entry = {
        id,
        what,
        state: "begun",
        owner: { pid: process.pid, start: startOf(process.pid) ?? "" },
        began: new Date().toISOString(),
        things: [],
      };
      write(entry);
      return entry;
    },
    add(entry, thing) {
      entry.things.push(thing);
      write(entry);
    },
    keep(entry) {
      entry.state = "kept";
      write(entry);
    },
    close: (entry) => rmSync(file(entry.id), { force: true }),
    async undo(entry) {
      await undoThings(entry.things);
      ledger.close(entry);
    },
    find: (id) => (existsSync(file(id)) ? read(file(id)) : undefined),
    all: () => (existsSync(folder) ? readdirSync(folder) : []).filter((f) => f.endsWith(".json")).map((f) => read(join(folder, f))),
    abandoned: () => ledger.all().filter((e) => e.state === "begun" && startOf(e.owner.pid) !== e.owner.start),
  };
  return ledger;
}

/** Undoes things, the last first; what is gone already is fine. */
export async function undoThings(things: Thing[]): Promise<void> {
  if (!things.length) return;
  const lines = [...things].reverse().map(undoLine);
  // Only here: `validate` reads releases, whose builds write ledgers, and must not load zx for it.
  const { asRoot, run } = await import("./run.ts");
  const undo = ["sh", join(toolFolder, "lib/undo.sh")];
  const own = things.every((thing) => thing.kind === "holder" || (thing.kind === "folder" && thing.own));
  await run(own ? undo : asRoot(undo), { input: `${lines.join("\n")}\n`, evenWhenCancelled: true });
}

/** When a process began (clock ticks after boot), or undefined when there is none. Source: proc(5), /proc/pid/stat field 22. */
export function startOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  } catch {
    return undefined;
  }
}

/** One line for undo.sh: kind, then its fields, separated by tabs (paths of ours hold neither tab nor newline). */
function undoLine(thing: Thing): string {
  switch (thing.kind) {
    case "folder":
    case "mount":
      return `${thing.kind}\t${thing.path}`;
    case "netns":
    case "cgroup":
      return `${thing.kind}\t${thing.name}`;
    case "loop":
    case "holder":
      return `${thing.kind}\t${thing.file}`;
    case "process":
      return `process\t${thing.pid}\t${thing.start}`;
  }
}
