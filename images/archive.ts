// The archives of packages: which mirror to ask, what apt makes of a recipe, and fetching the .debs of a lock. Everything is done by
// apt itself, so that its proxies, passwords and signatures count, in an apt root of our own that knows no installed package.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MissingError, RefusedError } from "../lib/diagnostics.ts";
import { sha256File } from "../lib/digest.ts";
import { startOf } from "../lib/ledger.ts";
import type { Project } from "../lib/paths.ts";
import { during, type Progress } from "../lib/progress.ts";
import { RunError, run, tryRun } from "../lib/run.ts";
import { distros } from "./distro.ts";
import {
  compareLocks,
  type LockChanges,
  type LockedPackage,
  lockPath,
  lockText,
  megabytes,
  type PackageLock,
  readLock,
  solvedPart,
  staged,
} from "./lock.ts";
import { extendedBy } from "./recipe.ts";
import type { Archive, Recipe } from "./recipe-schema.ts";

/** An index that this computer's apt is set to: one line of `apt-get indextargets`. */
export interface IndexTarget {
  address: string;
  suite: string;
  component: string;
  origin: string;
}

/** Reads the lines of `apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)'`. */
export function parseIndexTargets(text: string): IndexTarget[] {
  return text
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields.length >= 3)
    .map(([address = "", suite = "", component = "", ...origin]) => ({
      address: address.replace(/\/+$/, ""),
      suite,
      component,
      origin: origin.join(" "),
    }));
}

/**
 * Where each of the recipe's archives is taken from: the distribution's own from its past where the recipe wants a day of it, else from this
 * computer's own mirror of the same suite, else from the recipe's address.
 */
export function chooseMirrors(recipe: Recipe, targets: IndexTarget[]): Record<string, string> {
  const vendor = recipe.distro.toLowerCase();
  return Object.fromEntries(
    Object.entries(recipe.archives).map(([name, archive]) => {
      const past = recipe.snapshot !== undefined && snapshotOf(recipe, archive, recipe.snapshot);
      if (past) return [name, past];
      // Which archive somebody else's suite of the same name is, nobody can say.
      const known = archive.key === undefined ? targets : [];
      const ours = known.find(
        (t) =>
          archive.suites.includes(t.suite) &&
          archive.components.includes(t.component) &&
          (t.origin === "" || t.origin.startsWith("$(") || t.origin.toLowerCase() === vendor),
      );
      return [name, ours?.address ?? archive.mirror.replace(/\/+$/, "")];
    }),
  );
}

/** The archive as it was when this day began; undefined where nobody keeps its past. */
export function snapshotOf(recipe: Recipe, { mirror }: Archive, day: string): string | undefined {
  const past = distros[recipe.distro].snapshots[mirror];
  return past && `${past}/${day.replaceAll("-", "")}T000000Z`;
}

/** The mirrors of this computer for the recipe's archives. */
export async function mirrorsOf(recipe: Recipe): Promise<Record<string, string>> {
  const format = "$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)";
  const { stdout, code } = await tryRun(["apt-get", "indextargets", "--format", format, "Identifier: Packages"]);
  return chooseMirrors(recipe, code === 0 ? parseIndexTargets(stdout) : []);
}

/** apt's own files in a folder of ours: no installed package, the recipe's archives, this computer's proxies and passwords. */
interface AptRoot {
  folder: string;
  /** Begins every call of apt. */
  options: string[];
}

function aptRoot(recipe: Recipe, mirrors: Record<string, string>): AptRoot {
  const { keyring, keyringPackage } = distros[recipe.distro];
  if (!existsSync(keyring) && Object.values(recipe.archives).some((a) => a.key === undefined))
    throw new MissingError(`the keys of ${recipe.distro}'s archives are missing: ${keyring}`, `apt-get install ${keyringPackage}`);
  const folder = mkdtempSync(join(tmpdir(), "ingot-apt-"));
  for (const path of ["lists/partial", "cache/archives/partial", "preferences.d", "sources.d"])
    mkdirSync(join(folder, path), { recursive: true });
  const sources = Object.entries(recipe.archives).flatMap(([name, a]) => {
    const own = join(folder, `${name}.asc`);
    if (a.key !== undefined) writeFileSync(own, a.key);
    // What is of the past is valid no more by its own word.
    const options = `arch=${recipe.architecture} signed-by=${a.key === undefined ? keyring : own} check-valid-until=${recipe.snapshot === undefined ? "yes" : "no"}`;
    return a.suites.map((suite) => `deb [${options}] ${mirrors[name]} ${suite} ${a.components.join(" ")}\n`);
  });
  writeFileSync(join(folder, "sources.list"), sources.join(""));
  for (const file of ["status", "preferences"]) writeFileSync(join(folder, file), "");
  // A file rather than -o options, because only a file can clear a list: this computer's own hooks must not run on our folder.
  writeFileSync(
    join(folder, "apt.conf"),
    `#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Architectures;
#clear Acquire::IndexTargets::deb::DEP-11;
#clear Acquire::IndexTargets::deb::DEP-11-icons;
#clear Acquire::IndexTargets::deb::DEP-11-icons-small;
#clear Acquire::IndexTargets::deb::DEP-11-icons-hidpi;
#clear Acquire::IndexTargets::deb::DEP-11-icons-large;
#clear Acquire::IndexTargets::deb::CNF;
#clear Acquire::IndexTargets::deb::Contents-deb;
Dir::State "${folder}";
Dir::State::status "${folder}/status";
Dir::State::lists "${folder}/lists";
Dir::Cache "${folder}/cache";
Dir::Etc::sourcelist "${folder}/sources.list";
Dir::Etc::sourceparts "${folder}/sources.d";
Dir::Etc::preferences "${folder}/preferences";
Dir::Etc::preferencesparts "${folder}/preferences.d";
APT::Architecture "${recipe.architecture}";
APT::Architectures { "${recipe.architecture}"; };
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::Languages "none";
Acquire::ForceHash "SHA256";
APT::Sandbox::User "";
APT::Default-Release "";
pkgCacheGen::ForceEssential ",";
`,
  );
  return { folder, options: ["--config-file", join(folder, "apt.conf")] };
}

/** One line of `apt-get install --print-uris`: 'address' name_version_architecture.deb size SHA256:hash */
export function parseUris(text: string): { address: string; name: string; size: number; sha256: string }[] {
  return text.split("\n").flatMap((line) => {
    const match = /^'([^']+)' ([^_\s]+)_\S+ (\d+) SHA256:([0-9a-f]{64})$/.exec(line.trim());
    return match ? [{ address: match[1] ?? "", name: match[2] ?? "", size: Number(match[3]), sha256: match[4] ?? "" }] : [];
  });
}

/**
 * Asks the archives which .debs the recipe comes to. Signatures are verified by apt with the distribution's keyring.
 * @throws RefusedError when apt finds no solution or a signature is wrong, MissingError without the keyring
 */
export async function solve(recipe: Recipe, progress: Progress): Promise<PackageLock> {
  const mirrors = await mirrorsOf(recipe);
  const { base, releases } = distros[recipe.distro];
  const merged = releases[recipe.release]?.merged;
  const first = ["?essential", ...(merged === undefined ? [] : [merged])];
  const apt = aptRoot(recipe, mirrors);
  try {
    return await during(progress, `solve ${recipe.image}`, async (task) => {
      await orRefuse(`${recipe.distro}'s package lists could not be had`, run(["apt-get", ...apt.options, "update", "--error-on=any"]));
      const uris = async (...wanted: string[]) =>
        parseUris(
          (
            await orRefuse(
              "apt finds no way to install the recipe's packages",
              run(["apt-get", ...apt.options, "install", "--print-uris", "-qq", "-y", ...wanted]),
            )
          ).stdout,
        );
      const essential = new Set((await uris(...first)).map((u) => u.sha256));
      const all = await uris(...first, ...base, ...recipe.packages);
      const names = all.map((u) => u.name);
      const versions = await versionsOf(apt, names);
      const places = parseMadison((await run(["apt-cache", ...apt.options, "madison", ...names])).stdout);
      const packages = all.map((u): LockedPackage => {
        const version = versions.get(u.sha256);
        const at = places.filter((p) => p.name === version?.name && p.version === version.version);
        const archive = Object.entries(recipe.archives).find(([name, { suites }]) =>
          at.some((p) => p.root === mirrors[name] && suites.includes(p.suite) && u.address.startsWith(`${p.root}/`)),
        )?.[0];
        if (!version || archive === undefined) throw new RefusedError("apt wants a package from an address that the recipe does not know");
        return {
          ...version,
          archive,
          file: decodeURIComponent(u.address.slice(`${mirrors[archive]}/`.length)),
          size: u.size,
          sha256: u.sha256,
          ...(essential.has(u.sha256) && { essential: true as const }),
          ...(at.some((p) => p.suite.endsWith("-security")) && { security: true as const }),
        };
      });
      packages.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
      task.note(`${packages.length} packages`);
      return { version: 1, image: recipe.image, solved: solvedPart(recipe), date: newestDate(apt), packages };
    });
  } finally {
    rmSync(apt.folder, { recursive: true, force: true });
  }
}

/** What the files of these packages hold, by their sha256. */
async function versionsOf(apt: AptRoot, names: string[]): Promise<Map<string, Pick<LockedPackage, "name" | "version" | "architecture">>> {
  const { stdout } = await run(["apt-cache", ...apt.options, "show", "--all-versions", ...names]);
  return new Map(
    stdout.split("\n\n").map((stanza) => {
      const field = (name: string) => new RegExp(`^${name}: (.*)$`, "m").exec(stanza)?.[1] ?? "";
      return [field("SHA256"), { name: field("Package"), version: field("Version"), architecture: field("Architecture") }];
    }),
  );
}

/** Which archives and suites have which versions. */
interface Place {
  name: string;
  version: string;
  /** The archive's address. */
  root: string;
  suite: string;
}

/** Reads the lines of `apt-cache madison`: name | version | address suite/component architecture Packages */
export function parseMadison(text: string): Place[] {
  return text.split("\n").flatMap((line) => {
    const match = /^\s*(\S+) \|\s+(\S+) \| (\S+) (\S+)\/[^/ ]+ \S+ Packages$/.exec(line);
    return match ? [{ name: match[1] ?? "", version: match[2] ?? "", root: match[3] ?? "", suite: match[4] ?? "" }] : [];
  });
}

/** The newest `Date:` of the Release files just fetched, in seconds since 1970. */
function newestDate(apt: AptRoot): number {
  const dates = readDates(join(apt.folder, "lists"));
  return Math.max(0, ...dates);
}

function readDates(folder: string): number[] {
  return readdirSync(folder)
    .filter((f) => f.endsWith("InRelease") || f.endsWith("_Release"))
    .map((f) => Date.parse(/^Date: (.*)$/m.exec(readFileSync(join(folder, f), "utf8"))?.[1] ?? "") / 1000)
    .filter((n) => Number.isFinite(n));
}

/** Solves the recipe and writes its lock; says what changed against the old one. */
export async function lockRecipe(
  project: Project,
  recipe: Recipe,
  progress: Progress,
): Promise<{ lock: PackageLock; changes: LockChanges }> {
  const before = readLock(project, recipe.image);
  const solved = await solve(recipe, progress);
  const changes = compareLocks(before, solved);
  const base = extendedBy(project, recipe.image);
  const onBase = base === undefined ? undefined : staged(readLock(project, base), solved);
  const lock = onBase?.base ? onBase : staged(before, solved);
  const path = lockPath(project, recipe.image);
  writeFileSync(`${path}.${process.pid}.tmp`, lockText(lock));
  renameSync(`${path}.${process.pid}.tmp`, path);
  return { lock, changes };
}

/** Thrown when the archives no longer have a locked .deb. */
export class GoneError extends Error {
  /** The day of the archives' past that has them, and their addresses there, where somebody keeps it. */
  readonly past: { day: string; addresses: string[] };
  constructor(recipe: Recipe, lock: PackageLock, packages: LockedPackage[]) {
    super(`gone from the archives: ${packages.map((p) => `${p.name} ${p.version}`).join(", ")}`);
    this.name = "GoneError";
    // The lists were made some hours before whoever keeps the past had the packages.
    const day = new Date((lock.date + 86_400) * 1000).toISOString().slice(0, 10);
    const addresses = packages.flatMap((p) => {
      const archive = recipe.archives[p.archive];
      const past = archive && snapshotOf(recipe, archive, day);
      return past === undefined ? [] : [addressOf(p, { [p.archive]: past })];
    });
    this.past = { day, addresses };
  }
}

/** Where a locked .deb lies once it is fetched. `INGOT_CACHE` serves several projects with one cache. */
export const debFolder = (project: Project): string => join(process.env.INGOT_CACHE ?? project.cache, "debs");
export const debPath = (project: Project, p: LockedPackage): string => join(debFolder(project), `${p.sha256}.deb`);

/**
 * Brings the lock's .debs into the cache, verified by size and sha256.
 * @throws GoneError when the archives lack some of them
 */
export async function fetchDebs(
  project: Project,
  recipe: Recipe,
  lock: PackageLock,
  progress: Progress,
): Promise<{ fetched: number; bytes: number }> {
  const folder = debFolder(project);
  mkdirSync(folder, { recursive: true });
  // What a killed fetch left.
  for (const f of readdirSync(folder)) {
    const pid = /^\.partial-(\d+)-/.exec(f)?.[1];
    if (pid !== undefined && startOf(Number(pid)) === undefined) rmSync(join(folder, f), { recursive: true, force: true });
  }
  const there = await Promise.all(lock.packages.map((p) => isWhole(debPath(project, p), p)));
  const missing = lock.packages.filter((_, i) => !there[i]);
  const bytes = missing.reduce((sum, p) => sum + p.size, 0);
  if (missing.length === 0) return { fetched: 0, bytes: 0 };
  const mirrors = await mirrorsOf(recipe);
  const partial = mkdtempSync(join(folder, `.partial-${process.pid}-`));
  try {
    await during(progress, `fetch ${missing.length} packages (${megabytes(bytes)})`, async (task) => {
      let count = 0;
      let had = 0;
      const sizes = new Map(missing.map((p) => [fileName(p), p.size]));
      const result = await tryRun(
        // The sum after the second argument is verified by apt as the bytes come in.
        [
          "/usr/lib/apt/apt-helper",
          "-o",
          "APT::Sandbox::User=",
          "download-file",
          ...missing.flatMap((p) => [addressOf(p, mirrors), join(partial, `${p.sha256}.deb`), `SHA256:${p.sha256}`]),
        ],
        {
          onLine: (line) => {
            const file = /^Get:\d+ \S*\/(\S+)/.exec(line)?.[1];
            if (!file) return;
            count++;
            had += sizes.get(decodeURIComponent(file)) ?? 0;
            task.note(`${count} of ${missing.length}, ${megabytes(had)}`);
          },
        },
      );
      const lacking = missing.filter((p) => statSync(join(partial, `${p.sha256}.deb`), { throwIfNoEntry: false })?.size !== p.size);
      if (lacking.length) {
        // As apt says it, "404  Not Found": the number alone may be in a port or in a version.
        if (/\s404(\s{2}|\s*\[|$)|Not Found/m.test(result.stderr + result.stdout)) throw new GoneError(recipe, lock, lacking);
        throw new RunError(["apt-helper"], result);
      }
      await Promise.all(
        missing.map(async (p) => {
          if ((await sha256File(join(partial, `${p.sha256}.deb`))) !== p.sha256)
            throw new RefusedError(`the archive's ${p.file} is not the file that was locked`);
        }),
      );
      for (const p of missing) renameSync(join(partial, `${p.sha256}.deb`), debPath(project, p));
      task.note(`${missing.length} of ${missing.length}, ${megabytes(bytes)}`);
    });
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
  return { fetched: missing.length, bytes };
}

/** What was found whole once, this process does not read again. */
const whole = new Set<string>();
async function isWhole(path: string, p: LockedPackage): Promise<boolean> {
  if (statSync(path, { throwIfNoEntry: false })?.size !== p.size) return false;
  if (!whole.has(path) && (await sha256File(path)) === p.sha256) whole.add(path);
  return whole.has(path);
}

const fileName = (p: LockedPackage): string => p.file.slice(p.file.lastIndexOf("/") + 1);
const addressOf = (p: LockedPackage, mirrors: Record<string, string>): string =>
  `${mirrors[p.archive]}/${p.file.split("/").map(encodeURIComponent).join("/")}`;

async function orRefuse<T>(what: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof RunError)) throw error;
    const said = error.result.stderr
      .split("\n")
      .filter((l) => /^[EW]:|Depends:|Unable|The following/.test(l.trim()))
      .join("\n");
    throw new RefusedError(`${what}:\n${said || error.message}`);
  }
}
