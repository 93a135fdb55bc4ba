// A lock (`images/<name>.lock.json`): every .deb of a recipe, exactly. Its shape, how it is read, and what changed against another.
// Made by images/archive.ts; `validate` and the digest read it, so nothing heavy is loaded here.
import { existsSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { RefusedError } from "../lib/diagnostics.ts";
import { digestOf } from "../lib/digest.ts";
import type { Project } from "../lib/paths.ts";
import type { Recipe } from "./recipe-schema.ts";
import { describeUpdates, type Update } from "./update.ts";

export interface LockedPackage {
  name: string;
  version: string;
  architecture: string;
  /** The recipe's archive that it comes from. */
  archive: string;
  /** Its file, relative to the archive's root; not percent-encoded. */
  file: string;
  /** Bytes. */
  size: number;
  sha256: string;
  /** Part of the smallest system: unpacked before anything else, so that the others' scripts can run. */
  essential?: true;
  /** It came, when it was locked, by a pocket of security updates. */
  security?: true;
  /** Installed on top of all of the stages before, as a layer of its own; 1 where it does not say. */
  stage?: number;
}

export interface PackageLock {
  /** Of the lock's own form. */
  version: 1;
  image: string;
  /** What of the recipe was solved: when it differs from the recipe's, the lock is out of date. */
  solved: string;
  /** Seconds since 1970: the newest Release file's date. Files written by the bake are no younger. */
  date: number;
  /** The recipe that it extends, when its first stages are that one's: then they are the same layers. */
  base?: { image: string; stages: number };
  /** Sorted by name. */
  packages: LockedPackage[];
}

/** What of a recipe decides the packages. A mirror is no part of it. */
export function solvedPart(recipe: Recipe): string {
  const archives = Object.entries(recipe.archives).map(([name, a]) => ({ name, suites: a.suites, components: a.components }));
  return digestOf({
    distro: recipe.distro,
    release: recipe.release,
    architecture: recipe.architecture,
    archives,
    ...(recipe.snapshot !== undefined && { snapshot: recipe.snapshot }),
    packages: [...recipe.packages].sort(),
  });
}

/** sha256 of its .debs, by package. */
export const debsOf = (lock: PackageLock): Record<string, string> => Object.fromEntries(lock.packages.map((p) => [p.name, p.sha256]));

export const lockPath = (project: Project, name: string): string => join(project.images, `${name}.lock.json`);

/** The recipe's lock, or undefined when there is none yet. */
export function readLock(project: Project, name: string): PackageLock | undefined {
  const path = lockPath(project, name);
  if (!existsSync(path)) return undefined;
  try {
    const lock = JSON.parse(readFileSync(path, "utf8")) as PackageLock;
    if (lock.version === 1 && Array.isArray(lock.packages)) return lock;
  } catch {}
  throw new RefusedError(
    `${relative(process.cwd(), path)} is not a lock that this version of Ingot can read`,
    `make it again: ingot image lock ${name}`,
  );
}

/** One package on one line, so that a change reads well in git. */
export function lockText(lock: PackageLock): string {
  const { packages, ...head } = lock;
  const top = JSON.stringify(head, null, 2).slice(0, -2);
  return `${top},\n  "packages": [\n${packages.map((p) => `    ${JSON.stringify(p)}`).join(",\n")}\n  ]\n}\n`;
}

export interface LockChanges {
  added: LockedPackage[];
  removed: LockedPackage[];
  changed: Update[];
}

/** What is different in `after`; a file that changed under the same version counts as changed. */
export function compareLocks(before: PackageLock | undefined, after: PackageLock): LockChanges {
  const old = new Map(before?.packages.map((p) => [p.name, p]));
  const now = new Map(after.packages.map((p) => [p.name, p]));
  return {
    added: after.packages.filter((p) => !old.has(p.name)),
    removed: (before?.packages ?? []).filter((p) => !now.has(p.name)),
    changed: after.packages.flatMap((p) => {
      const was = old.get(p.name);
      return was && was.sha256 !== p.sha256 ? [{ name: p.name, from: was.version, to: p.version, security: p.security === true }] : [];
    }),
  };
}

/** Each more would cost a bake from nothing another run of dpkg. */
const lastStage = 4;

/**
 * The lock in stages: what `before` has stays in its stage, so that its layers can be kept, and what is new is a stage on top. From the first
 * stage on in which a package changed or went, all is one stage. An image of this lock is made in its stages, whether from nothing or on top of a
 * layer that is there, and so is the same. The date stays with the first stage: a younger one would make everything anew.
 */
export function staged(before: PackageLock | undefined, after: PackageLock): PackageLock {
  const now = new Map(after.packages.map((p) => [p.name, p]));
  const old = new Map(before?.packages.map((p) => [p.name, p]));
  const stageOf = (p: LockedPackage) => (p.essential ? 1 : (old.get(p.name)?.stage ?? 1));
  const changed = [...old.values()].filter((p) => now.get(p.name)?.sha256 !== p.sha256);
  const essentials = after.packages.filter((p) => p.essential && !old.get(p.name)?.essential);
  const top = Math.min(lastStage, Math.max(0, ...[...old.values()].map(stageOf)) + 1, ...[...changed, ...essentials].map(stageOf));
  const packages = after.packages.map((now) => {
    const was = old.get(now.name);
    // The same file stays as it was said, whichever pocket has it by now.
    const { stage: _, ...p } = was?.sha256 === now.sha256 && was.essential === now.essential ? was : now;
    const stage = was ? Math.min(stageOf(p), top) : top;
    return stage > 1 && !p.essential ? { ...p, stage } : p;
  });
  const kept = before && top > 1;
  // Of another recipe's lock: the one that this recipe extends.
  const base = kept && before.image !== after.image && { image: before.image, stages: top - 1 };
  return { ...after, ...(kept && { date: before.date }), ...(base && { base }), packages };
}

/** The changes for people: one line each, or that there are none. */
export function describeChanges(changes: LockChanges): string[] {
  const lines = [
    ...changes.added.map((p) => `+ ${p.name} ${p.version}`),
    ...changes.removed.map((p) => `- ${p.name} ${p.version}`),
    ...describeUpdates(
      changes.changed,
      (c) => `  ${c.name} ${c.from} -> ${c.to}${c.to === c.from ? " (another file)" : ""}${c.security ? " (security update)" : ""}`,
    ),
  ];
  return lines.length ? lines : ["nothing changed"];
}

const units = { MB: 1e6, GB: 1e9, MiB: 2 ** 20, GiB: 2 ** 30 };

/** "900MB", "1.2GB", "8GiB" */
export const bytesOf = (size: string): number => Number.parseFloat(size) * units[size.replace(/^[\d.]+/, "") as keyof typeof units];

export const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(0)} MB`;
