// Baking: from a recipe and its lock to an image in the store. Called by scripts/bake.ts, and by whoever needs an image.
import { chmodSync, existsSync, mkdirSync, readFileSync, realpathSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { RefusedError } from "../lib/diagnostics.ts";
import { short } from "../lib/digest.ts";
import { ledgerAt } from "../lib/ledger.ts";
import { lockWhenFree } from "../lib/lock.ts";
import { type Project, toolFolder } from "../lib/paths.ts";
import type { Progress, Task } from "../lib/progress.ts";
import { asRoot, RunError, run } from "../lib/run.ts";
import { debFolder, fetchDebs, GoneError, lockRecipe } from "./archive.ts";
import { type Digests, digestsOf } from "./digest.ts";
import { enabledUnitsOf, hostFiles, maskedIfPresent, recipeFiles, type TreeFile } from "./files.ts";
import { assertRuns } from "./foreign.ts";
import type { Image } from "./image.ts";
import { describeChanges, type LockedPackage, type PackageLock, readLock, solvedPart } from "./lock.ts";
import { type Facts, manifestOf, readFacts } from "./manifest.ts";
import { loadRecipe, type Recipe } from "./recipe.ts";
import { imageAt, imageLike } from "./store.ts";
import { brokenTruths } from "./truths.ts";

export interface BakeOptions {
  /** Fails where the lock is missing, out of date, or no longer to be had, instead of locking anew. */
  locked?: true;
  progress: Progress;
}

export interface Baked {
  image: Image;
  /** False when the image was there already. */
  baked: boolean;
  seconds: number;
}

/**
 * The image of a recipe: found in the store, or baked.
 * @throws InputError when the recipe is wrong, RefusedError when it cannot be locked or baked, Cancelled
 */
export async function bake(project: Project, name: string, { locked, progress }: BakeOptions): Promise<Baked> {
  const began = performance.now();
  const since = () => (performance.now() - began) / 1000;
  await undoAbandoned(project, progress);
  const recipe = loadRecipe(project, name);
  let lock = await currentLock(project, recipe, locked, progress);
  for (;;) {
    // Read once, so that what is digested, put in and proven is the same while somebody edits it.
    const host = hostFiles(toolFolder);
    const digests = digestsOf(recipe, lock, host, toolFolder);
    const { digest } = digests;
    const ready = imageAt(project, digest);
    if (ready) return { image: ready, baked: false, seconds: since() };
    assertRuns(recipe.architecture);
    // By its real path: several projects may share one store through a symbolic link.
    mkdirSync(project.store, { recursive: true });
    const turn = await lockWhenFree(`bake ${join(realpathSync(project.store), digest)}`, `bake of ${name}`, (holder) =>
      progress.say(`waiting for the ${holder}`),
    );
    try {
      const meanwhile = imageAt(project, digest);
      if (meanwhile) return { image: meanwhile, baked: false, seconds: since() };
      const like = imageLike(project, digests.base);
      if (!like) await fetchDebs(project, recipe, lock, progress);
      return { image: await makeImage({ project, recipe, lock, host, digests, like, progress, since }), baked: true, seconds: since() };
    } catch (error) {
      if (!(error instanceof GoneError)) throw error;
      if (locked)
        throw new RefusedError(
          [`the lock of ${name} cannot be had any more: ${error.message}`, ...error.past.addresses.map((a) => `  still at ${a}`)].join(
            "\n",
          ),
          `lock anew: ingot image lock ${name}${error.past.addresses.length ? `; with \`snapshot: ${error.past.day}\` in the recipe these come again` : ""}`,
        );
      progress.say(`The lock of ${name} cannot be had any more (${error.message}): locking anew.`);
      lock = await relock(project, recipe, progress);
    } finally {
      turn.release();
    }
  }
}

async function currentLock(project: Project, recipe: Recipe, locked: true | undefined, progress: Progress): Promise<PackageLock> {
  const lock = readLock(project, recipe.image);
  if (lock?.solved === solvedPart(recipe)) return lock;
  const why = lock ? `The lock of ${recipe.image} was made for other packages than the recipe has now` : `${recipe.image} has no lock`;
  if (locked) throw new RefusedError(`${why[0]?.toLowerCase()}${why.slice(1)}`, `make it: ingot image lock ${recipe.image}`);
  progress.say(`${why}: locking ${lock ? "anew" : "it"}.`);
  return relock(project, recipe, progress);
}

async function relock(project: Project, recipe: Recipe, progress: Progress): Promise<PackageLock> {
  const before = readLock(project, recipe.image);
  const { lock, changes } = await lockRecipe(project, recipe, progress);
  if (before) for (const line of describeChanges(changes)) progress.say(`  ${line}`);
  return lock;
}

/** Undoes what bakes left behind whose process died. */
export async function undoAbandoned(project: Project, progress: Progress): Promise<void> {
  const ledger = ledgerAt(project.ledger);
  for (const entry of ledger.abandoned().filter((e) => e.id.startsWith("bake-"))) {
    progress.say(`Cleaning up after an interrupted ${entry.what}.`);
    await ledger.undo(entry);
  }
}

interface Job {
  project: Project;
  recipe: Recipe;
  lock: PackageLock;
  /** Ingot's own files. */
  host: TreeFile[];
  digests: Digests;
  /** An image that differs in Ingot's own files alone. */
  like: Image | undefined;
  progress: Progress;
  since: () => number;
}

async function makeImage(job: Job): Promise<Image> {
  const { project, recipe, lock, host, digests, like } = job;
  const { digest } = digests;
  const ledger = ledgerAt(project.ledger);
  const folder = join(project.store, `.baking-${short(digest)}-${process.pid}`);
  const final = join(project.store, digest);
  let entry = ledger.begin(`bake-${short(digest)}-${process.pid}`, `bake of ${recipe.image}`);
  try {
    // A folder without its manifest is no image: somebody began to remove it by hand.
    if (existsSync(final)) {
      ledger.add(entry, { kind: "folder", path: final });
      await ledger.undo(entry);
      entry = ledger.begin(entry.id, entry.what);
    }
    ledger.add(entry, { kind: "folder", path: folder });
    mkdirSync(join(folder, "facts"), { recursive: true });
    await (like ? refitTree(job, folder, like) : bakeTree(job, folder));
    const facts = readFacts(join(folder, "facts"), join(folder, like ? "root" : "tree/root"));
    proveTruths(recipe, lock, host, facts);
    const manifest = manifestOf(recipe, digests, facts, new Date(), job.since());
    for (const file of inputs) rmSync(join(folder, file), { recursive: true, force: true });
    writeFileSync(join(folder, "manifest.json"), `${JSON.stringify(manifest, null, 1)}\n`);
    renameSync(folder, final);
    ledger.close(entry);
    return { name: recipe.image, digest, root: join(final, "root"), manifest };
  } catch (error) {
    await ledger.undo(entry);
    throw error;
  }
}

/** What the scripts read and write beside the tree. */
const inputs = ["facts", "files", "files.tar", "scripts", "essential", "others", "stale"];

/** From .debs. */
async function bakeTree(job: Job, folder: string): Promise<void> {
  const { recipe, lock, host } = job;
  const list = (file: string, packages: LockedPackage[]) =>
    writeFileSync(join(folder, file), packages.map((p) => `${p.sha256}.deb\n`).join(""));
  list(
    "essential",
    lock.packages.filter((p) => p.essential),
  );
  list(
    "others",
    lock.packages.filter((p) => !p.essential),
  );
  await writeFiles(folder, [...host, ...recipeFiles(recipe, lock)], lock);
  writeScripts(folder, recipe, lock);
  await provision(job, "tree.sh", folder, {
    BAKE_DEBS: debFolder(job.project),
    BAKE_ARCHITECTURE: recipe.architecture,
    BAKE_LOCALES: recipe.locales.join(" "),
    BAKE_DISABLED: recipe.disabled.join(" "),
    BAKE_ENABLED: [...enabledUnitsOf(host), ...recipe.enabled].join(" "),
    BAKE_MASKED_IF_PRESENT: maskedIfPresent.join(" "),
    BAKE_TMPFS: String(memoryForTree(lock)),
  });
}

/** From an image that differs in Ingot's own files alone. */
async function refitTree(job: Job, folder: string, like: Image): Promise<void> {
  const { host } = job;
  const stale = Object.keys(like.manifest.files);
  const names = stale.map((path) => path.slice(path.lastIndexOf("/") + 1));
  writeFileSync(join(folder, "stale"), stale.map((path) => `.${path}\n`).join(""));
  await writeFiles(folder, host, job.lock);
  await provision(job, "refit.sh", folder, {
    BAKE_BASE: like.root,
    BAKE_DISABLED: names.filter((name) => like.manifest.units[name] === "enabled").join(" "),
    BAKE_ENABLED: enabledUnitsOf(host).join(" "),
  });
}

/** One archive of files without their folders, which so keep owner and mode. */
async function writeFiles(folder: string, files: TreeFile[], lock: PackageLock): Promise<void> {
  for (const file of files) {
    const path = join(folder, "files", file.path);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, file.content);
    chmodSync(path, Number.parseInt(file.mode, 8));
  }
  const argv = ["tar", "--create", "--file", join(folder, "files.tar"), "--directory", join(folder, "files"), "--owner=0", "--group=0"];
  const input = files.map((f) => `.${f.path}\n`).join("");
  await run([...argv, `--mtime=@${lock.date}`, "--verbatim-files-from", "--files-from=-"], { input });
}

/** The recipe's own scripts, for images/provision/scripts.sh. */
function writeScripts(folder: string, recipe: Recipe, lock: PackageLock): void {
  recipe.provision.forEach(({ script, content, variables }, i) => {
    const into = join(folder, "scripts", String(i).padStart(3, "0"));
    mkdirSync(into, { recursive: true });
    const environment = {
      PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
      HOME: "/root",
      LC_ALL: "C.UTF-8",
      DEBIAN_FRONTEND: "noninteractive",
      SOURCE_DATE_EPOCH: String(lock.date),
      ...variables,
    };
    const call = ["env", "--ignore-environment", ...Object.entries(environment).map(([k, v]) => `${k}=${v}`), "/run/ingot-script"];
    writeFileSync(join(into, "title"), script);
    writeFileSync(join(into, "script"), content);
    writeFileSync(join(into, "call"), call.map((word) => `${word}\0`).join(""));
  });
}

/** Runs images/provision/bake.sh as root: the one privileged call. */
async function provision({ recipe, lock, progress }: Job, script: string, folder: string, values: Record<string, string>): Promise<void> {
  const environment = {
    PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    BAKE_FOLDER: folder,
    BAKE_PROVISION: join(toolFolder, "images/provision"),
    BAKE_DATE: String(lock.date),
    SOURCE_DATE_EPOCH: String(lock.date),
    ...values,
  };
  const argv = ["env", "--ignore-environment", ...Object.entries(environment).map(([k, v]) => `${k}=${v}`)];
  const lines: string[] = [];
  const shown = new Phases(progress, lock);
  try {
    await run(asRoot([...argv, "sh", join(toolFolder, "images/provision/bake.sh"), script]), {
      leash: true,
      onLine: (line) => {
        if (!shown.read(line)) lines.push(line);
      },
    });
    shown.end();
  } catch (error) {
    shown.failed();
    if (!(error instanceof RunError)) throw error;
    const telling = lines.filter((l) => !usual.test(l));
    throw new RefusedError(`the bake of ${recipe.image} failed:\n${telling.slice(-15).join("\n")}`);
  }
}

/** Bytes of memory to bake in, or 0 when there is too little and the disk must do. A tree is about 4.5 times its .debs. */
function memoryForTree(lock: PackageLock): number {
  const tree = lock.packages.reduce((sum, p) => sum + p.size, 0) * 4.5 + 200e6;
  const available = Number(/^MemAvailable:\s+(\d+) kB/m.exec(readFileSync("/proc/meminfo", "utf8"))?.[1] ?? 0) * 1024;
  return available > tree * 2 ? Math.round(tree * 1.8) : 0;
}

/** Turns the scripts' lines into tasks of the progress. */
class Phases {
  private task: Task | undefined;
  private phase = "";
  private count = 0;
  constructor(
    private readonly progress: Progress,
    private readonly lock: PackageLock,
  ) {}

  /** True when the line was for us. */
  read(line: string): boolean {
    const phase = /^ingot: phase (.*)$/.exec(line)?.[1];
    if (phase) {
      this.task?.done();
      this.task = this.progress.start(titles[phase] ?? phase);
      this.phase = phase;
      this.count = 0;
      return true;
    }
    const status = /^status: \S+: (\S+)/.exec(line)?.[1];
    if (status === undefined) return /^processing: /.test(line);
    // The essential packages came before; dpkg names some twice, for their triggers.
    const total = this.lock.packages.filter((p) => !p.essential).length;
    if (status === counted[this.phase]) this.task?.note(`${Math.min(++this.count, total)} of ${total} packages`);
    return true;
  }
  end(): void {
    this.task?.done();
  }
  failed(): void {
    this.task?.failed();
  }
}

/** The state of a package that counts as one more in a phase; dpkg-query(1) has them all. */
const counted: Record<string, string> = { unpack: "unpacked", configure: "installed" };

/** What dpkg and mmdebstrap say when all is well. */
const usual =
  /^(Selecting previously|Preparing to unpack|Unpacking |Setting up |Processing triggers|Created symlink|\(Reading database|I: )/;

const titles: Record<string, string> = {
  refit: "put Ingot's new files into the image of the same packages",
  essential: "install the essential packages",
  unpack: "unpack the packages",
  configure: "configure the packages",
  finish: "compile Python, make locales and initramfs",
  clean: "clean the tree of identity",
  look: "look at what is in it",
  store: "put it into the store",
};

function proveTruths(recipe: Recipe, lock: PackageLock, host: TreeFile[], facts: Facts): void {
  const broken = brokenTruths(recipe, lock, host, facts);
  if (broken.length)
    throw new RefusedError(`the image of ${recipe.image} is not what it must be:\n${broken.map((b) => `  ${b}`).join("\n")}`);
}
