// What security updates mend: the entries of Debian's changelogs that are newer than the version before, from the .debs in the cache.
// Called by `ingot image plan`, `diff` and `lock`.
import { existsSync, lstatSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { gunzipSync } from "node:zlib";
import { Cancelled } from "../lib/cancel.ts";
import { sha256File } from "../lib/digest.ts";
import { type Project, toolFolder } from "../lib/paths.ts";
import type { Progress } from "../lib/progress.ts";
import { tryRun } from "../lib/run.ts";
import { debFolder, fetchDebs } from "./archive.ts";
import { debsOf, type LockChanges, type PackageLock } from "./lock.ts";
import type { Recipe } from "./recipe-schema.ts";
import type { Change, Update } from "./update.ts";

/**
 * The updates, each security update with what it changed.
 * @param debs sha256 of the .debs that they lead to, and of all beside them, by package: some have their changelog in another's folder
 */
export async function explained(project: Project, updates: Update[], debs: Record<string, string>): Promise<Update[]> {
  const read = new Map<string, Change[] | null>();
  const changelog = async (name: string): Promise<Change[] | null> => {
    const known = read.get(name) ?? (await readChangelog(project, name, debs[name], changelog));
    read.set(name, known);
    return known;
  };
  const all: Update[] = [];
  for (const update of updates) {
    const entries = update.security ? await changelog(update.name) : undefined;
    all.push(entries === undefined ? update : { ...update, changes: entries && (await newerThan(entries, update)) });
  }
  return all;
}

/**
 * What a new lock changes, each security update with what it mends. Their .debs are brought into the cache for it, which the next bake wants anyway;
 * where that fails, it is not known.
 */
export async function explainedLock(
  project: Project,
  recipe: Recipe,
  lock: PackageLock,
  changes: LockChanges,
  progress: Progress,
): Promise<LockChanges> {
  const names = new Set([...changes.added, ...changes.changed].map((p) => p.name));
  const packages = lock.packages.filter((p) => p.security && names.has(p.name));
  try {
    if (changes.changed.some((c) => c.security)) await fetchDebs(project, recipe, { ...lock, packages }, progress);
  } catch (error) {
    if (error instanceof Cancelled) throw error;
  }
  return { ...changes, changed: await explained(project, changes.changed, debsOf(lock)) };
}

/** Debian's changelog of a package, the newest entry first. `other`: that of another package, whose folder is this one's, too. */
async function readChangelog(
  project: Project,
  name: string,
  sha256: string | undefined,
  other: (name: string) => Promise<Change[] | null>,
): Promise<Change[] | null> {
  const deb = join(debFolder(project), `${sha256}.deb`);
  if (!existsSync(deb) || (await sha256File(deb)) !== sha256) return null;
  const folder = mkdtempSync(join(tmpdir(), "ingot-changelog-"));
  try {
    // A package without any documentation is none of tar's: it says so and fails.
    await tryRun(["sh", join(toolFolder, "images/changelog.sh"), deb, folder]);
    const docs = join(folder, "usr/share/doc", name);
    const status = lstatSync(docs, { throwIfNoEntry: false });
    if (status?.isSymbolicLink()) return basename(readlinkSync(docs)) === name ? null : await other(basename(readlinkSync(docs)));
    const files = status ? readdirSync(docs).sort() : [];
    // Of a package that is Debian's own work `changelog` is Debian's; else it is its makers'. Who was built anew says so in a file more.
    const debians = files.filter((f) => /^changelog\.Debian(\.[a-z0-9-]+)?(\.gz)?$/.test(f));
    const texts = (debians.length ? debians : files.filter((f) => /^changelog(\.gz)?$/.test(f))).map((f) => {
      const bytes = readFileSync(join(docs, f));
      return (f.endsWith(".gz") ? gunzipSync(bytes) : bytes).toString();
    });
    const entries = texts.flatMap(parseChangelog);
    return entries.length ? entries : null;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Reads the form of deb-changelog(5). */
export function parseChangelog(text: string): Change[] {
  const entries: Change[] = [];
  for (const line of text.split("\n")) {
    const version = /^\S+ \(([^)\s]+)\)[^;]*;/.exec(line)?.[1];
    if (version !== undefined) entries.push({ version, date: "", cves: [], lines: [] });
    const entry = entries.at(-1);
    if (!entry || version !== undefined) continue;
    const date = /^ -- .*>\s+(.*)$/.exec(line)?.[1];
    if (date !== undefined) entry.date = date;
    else if (line.startsWith("  ") && line.trim()) entry.lines.push(line.slice(2).trimEnd());
  }
  return entries.map((e) => ({ ...e, cves: [...new Set(e.lines.join(" ").match(/\bCVE-\d{4}-\d{4,}/g))].sort() }));
}

async function newerThan(entries: Change[], { from, to }: Update): Promise<Change[]> {
  const isNewer = async (version: string) => (await tryRun(["dpkg", "--compare-versions", version, "gt", from])).code === 0;
  if (!(await isNewer(to))) return [];
  const newer: Change[] = [];
  for (const entry of entries) {
    if (!(await isNewer(entry.version))) break;
    newer.push(entry);
  }
  // A few packages count otherwise than their source: of them the newest is known.
  return newer.length ? newer : entries.slice(0, 1);
}
