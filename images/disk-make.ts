// How a disk is made: by a script of images/disk/, in a folder of its own. Called by disk-base.ts and disk.ts.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { RefusedError } from "../lib/diagnostics.ts";
import { ledgerAt } from "../lib/ledger.ts";
import type { Project } from "../lib/paths.ts";
import type { Progress, Task } from "../lib/progress.ts";
import { RunError } from "../lib/run.ts";
import { debPath } from "./archive.ts";
import { diskScripts } from "./disk-key.ts";
import type { Layout } from "./disk-layout.ts";
import type { LockedPackage } from "./lock.ts";
import { provision } from "./provision.ts";
import type { Recipe } from "./recipe.ts";

/** A file of images/disk/ for this layout. */
export const configuration = (file: string, { ids }: Layout): string =>
  readFileSync(join(diskScripts, file), "utf8").replaceAll("@ROOT@", ids.fileSystem);

/** What a disk is made of. */
export interface DiskJob {
  project: Project;
  recipe: Recipe;
  layout: Layout;
  /** Every time on the disk that is no file's own. */
  date: number;
  progress: Progress;
}

/**
 * Runs images/disk/<script>, whose own variables come beside those of inside.sh.
 * @param tools .debs of what makes it and `tree` has not
 * @throws RefusedError with its last lines
 */
export async function runDiskScript(
  script: "base.sh" | "patch.sh",
  { project, recipe, layout, date, progress }: DiskJob,
  { folder, tree, tools }: { folder: string; tree: string; tools: LockedPackage[] },
  values: Record<string, string | number>,
): Promise<void> {
  writeFileSync(join(folder, "debs"), tools.map((p) => `${debPath(project, p)}\n`).join(""));
  const environment = {
    DISK_FOLDER: folder,
    DISK_TREE: tree,
    DISK_DATE: date,
    DISK_OWNER: `${process.getuid?.()}:${process.getgid?.()}`,
    DISK_ROOT_START: layout.root.start,
    ...values,
  };
  const lines: string[] = [];
  let task: Task | undefined;
  try {
    await provision(`disk/${script}`, environment, (line) => {
      const phase = /^ingot: phase (.*)$/.exec(line)?.[1];
      if (phase === undefined) return void lines.push(line);
      task?.done();
      task = progress.start(titles[phase] ?? phase);
    });
    task?.done();
  } catch (error) {
    task?.failed();
    if (!(error instanceof RunError)) throw error;
    throw new RefusedError(`the disk of ${recipe.image} could not be made:\n${lines.slice(-15).join("\n")}`);
  }
}

const titles: Record<string, string> = {
  tools: "unpack what makes the disk",
  table: "lay out its partitions",
  root: "write the file system of the packages",
  loader: "make it boot, by UEFI and by BIOS",
  patch: "put the configuration on it",
  prove: "look at what is on it",
};

/** A folder in the store, gone at the end; what lies in it is the ledger's from before its beginning. */
export async function inFolder(
  project: Project,
  what: { key: string; name: string },
  work: (folder: string) => Promise<void>,
): Promise<void> {
  const ledger = ledgerAt(project.ledger);
  const folder = join(project.store, `.disk-${what.key}-${process.pid}`);
  const entry = ledger.begin(`bake-disk-${what.key}-${process.pid}`, `disk of ${what.name}`);
  try {
    ledger.add(entry, { kind: "folder", path: folder });
    mkdirSync(folder);
    await work(folder);
  } finally {
    await ledger.undo(entry);
  }
}
