// Baking: from a recipe and its lock to an image in the store. Called by scripts/bake.ts, and by whoever needs an image.
import { mkdirSync, readFileSync, realpathSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { RefusedError } from "../lib/diagnostics.ts";
import { sha256File, short } from "../lib/digest.ts";
import { ledgerAt } from "../lib/ledger.ts";
import { lockOneWhenFree, lockWhenFree } from "../lib/lock.ts";
import { type Project, toolFolder } from "../lib/paths.ts";
import type { Progress, Task } from "../lib/progress.ts";
import { RunError } from "../lib/run.ts";
import { debFolder, fetchDebs, GoneError, lockRecipe } from "./archive.ts";
import { type Digests, digestsOf } from "./digest.ts";
import { secondsOf, stepsOf } from "./estimate.ts";
import { hostFiles, lateFiles, type TreeFile } from "./files.ts";
import { assertRuns } from "./foreign.ts";
import type { Image } from "./image.ts";
import { type Layer, type LayerRecord, layerAt, layerFolder, layersIn, missingOf } from "./layers.ts";
import { describeChanges, type LockedPackage, type PackageLock, readLock, solvedPart } from "./lock.ts";
import { type Facts, manifestOf, readFacts } from "./manifest.ts";
import { provision } from "./provision.ts";
import { removeFolder } from "./prune.ts";
import { loadRecipe, type Recipe } from "./recipe.ts";
import { configureValues, environmentOf, layerValues, scratch, writeFiles, writePackages, writeScripts } from "./step.ts";
import { imageAt, listImages } from "./store.ts";
import { brokenTruths } from "./truths.ts";
import { isSound } from "./verify.ts";

export interface BakeOptions {
  /** Fails where the lock is missing, out of date, or no longer to be had, instead of locking anew. */
  locked?: true;
  progress: Progress;
  /** Begun when the layers are there, and done before the image is: what else can be made of them while the configuration is put on top. */
  beside?: (below: LayersMade) => Promise<void>;
}

export interface LayersMade {
  recipe: Recipe;
  lock: PackageLock;
  /** Their keys, the lowest first. */
  layers: string[];
  /** What is in the topmost. */
  listing: string;
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
export async function bake(project: Project, name: string, { locked, progress, beside }: BakeOptions): Promise<Baked> {
  const began = performance.now();
  const since = () => (performance.now() - began) / 1000;
  await undoAbandoned(project, progress);
  const recipe = loadRecipe(project, name);
  let lock = await currentLock(project, recipe, locked, progress);
  for (;;) {
    // Read once, so that what is digested, put in and proven is the same while somebody edits it.
    const host = hostFiles(toolFolder);
    const layers = layersIn(project, recipe, lock);
    const digests = digestsOf(recipe, lock, host, toolFolder, layers);
    const { digest } = digests;
    const ready = imageAt(project, digest);
    if (ready) return { image: ready, baked: false, seconds: since() };
    assertRuns(recipe.architecture);
    mkdirSync(project.store, { recursive: true });
    const turn = await lockOn(project, `bake ${digest}`, `bake of ${name}`, progress);
    try {
      const meanwhile = imageAt(project, digest);
      if (meanwhile) return { image: meanwhile, baked: false, seconds: since() };
      const packages = missingOf(project, layers).flatMap((l) => l.packages);
      const steps = stepsOf(project, recipe, layers, listImages(project));
      if (steps.every((s) => s.seconds !== undefined))
        progress.say(`baking ${name}: about ${secondsOf(steps).toFixed(0)} s, by the last bakes`);
      await fetchDebs(project, recipe, { ...lock, packages }, progress);
      return {
        image: await makeImage({ project, recipe, lock, host, digests, layers, progress, since, beside }),
        baked: true,
        seconds: since(),
      };
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

/** By its real path: several projects may share one store through a symbolic link. */
const lockOn = (project: Project, name: string, what: string, progress: Progress) =>
  lockWhenFree(`${realpathSync(project.store)} ${name}`, what, (holder) => progress.say(`waiting for the ${holder}`));

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

/** Of what layers are made. */
interface LayerJob {
  project: Project;
  recipe: Recipe;
  lock: PackageLock;
  progress: Progress;
}

interface Job extends LayerJob {
  /** Ingot's own files. */
  host: TreeFile[];
  digests: Digests;
  layers: Layer[];
  since: () => number;
  beside: BakeOptions["beside"];
}

/** A layer that is there: made just now, or found and not yet proven. */
interface Below {
  layer: Layer;
  root: string;
  tree: string;
  proven: boolean;
}

async function makeImage(job: Job): Promise<Image> {
  const { project, recipe, lock, host, digests, layers, beside } = job;
  const { digest } = digests;
  const final = join(project.store, digest);
  const manifest = await make(job, { what: `bake of ${recipe.image}`, key: digest, final, layers }, async (folder, below) => {
    const began = performance.now();
    mkdirSync(join(folder, "facts"));
    await writeFiles(folder, [...host, ...lateFiles(recipe, lock)], lock);
    writeScripts(folder, recipe, lock);
    const keys = layers.map((l) => l.key);
    // Whatever fails of it is made again, and said, by whoever needs it.
    const other = below && beside?.({ recipe, lock, layers: keys, listing: join(below.root, "../files") }).catch(() => undefined);
    try {
      await runStep(job, folder, below, "configure.sh", [], configureValues(recipe, host));
    } finally {
      await other;
    }
    const facts = readFacts(join(folder, "facts"));
    proveTruths(recipe, lock, host, facts);
    renameSync(join(folder, "facts/files"), join(folder, "files"));
    const made = manifestOf(recipe, lock, digests, facts, {
      baked: new Date().toISOString(),
      bakeSeconds: tenths(job.since()),
      configureSeconds: tenths((performance.now() - began) / 1000),
      layers: keys,
    });
    writeFileSync(join(folder, "manifest.json"), `${JSON.stringify(made, null, 1)}\n`);
    return made;
  });
  return { name: recipe.image, digest, root: join(final, "root"), manifest };
}

/** The topmost of these layers: found, or made on top of those below it. */
export async function layered(job: LayerJob, layers: Layer[]): Promise<Below | undefined> {
  const { project, recipe, lock, progress } = job;
  const layer = layers.at(-1);
  if (!layer) return undefined;
  const find = (proven: boolean) => {
    const there = layerAt(project, layer.key);
    return there && { layer, root: there.root, tree: there.record.tree, proven };
  };
  const there = find(false);
  if (there) return there;
  const what = `bake of ${recipe.image} (${layer.title})`;
  const turn = await lockOn(project, `layer ${layer.key}`, what, progress);
  try {
    const meanwhile = find(false);
    if (meanwhile) return meanwhile;
    const target = { what, key: layer.key, final: layerFolder(project, layer.key), layers: layers.slice(0, -1) };
    await make(job, target, async (folder, below) => {
      const began = performance.now();
      await fetchDebs(project, recipe, { ...lock, packages: layer.packages }, progress);
      await writeFiles(folder, layer.files, lock);
      await runStep(job, folder, below, layer.step, layer.packages, layerValues(layer));
      const record: LayerRecord = {
        title: layer.title,
        image: recipe.image,
        tree: await sha256File(join(folder, "files")),
        made: new Date().toISOString(),
        seconds: tenths((performance.now() - began) / 1000),
      };
      writeFileSync(join(folder, "layer.json"), `${JSON.stringify(record, null, 1)}\n`);
    });
    return find(true);
  } finally {
    turn.release();
  }
}

/**
 * Makes a folder of the store, whole or not at all. While it is being made the layer below is proven: when that is not what it was once, it and
 * what was made on it are thrown away, and both are made anew.
 */
async function make<T>(
  job: LayerJob,
  { what, key, final, layers }: { what: string; key: string; final: string; layers: Layer[] },
  work: (folder: string, below: Below | undefined) => Promise<T>,
): Promise<T> {
  const { project, progress } = job;
  const ledger = ledgerAt(project.ledger);
  for (;;) {
    const below = await layered(job, layers);
    // What is there is not whole: somebody began to remove it by hand, or half of it was lost.
    await removeFolder(project, final);
    const folder = join(project.store, `.baking-${short(key)}-${process.pid}`);
    const entry = ledger.begin(`bake-${short(key)}-${process.pid}`, what);
    try {
      ledger.add(entry, { kind: "folder", path: folder });
      mkdirSync(folder);
      const proof = !below || below.proven ? true : isSound(below.root, below.tree);
      const [sound, made] = await Promise.allSettled([proof, work(folder, below)]);
      if (sound.status === "rejected") throw sound.reason;
      if (sound.value) {
        if (made.status === "rejected") throw made.reason;
        for (const file of scratch) rmSync(join(folder, file), { recursive: true, force: true });
        mkdirSync(dirname(final), { recursive: true });
        renameSync(folder, final);
        ledger.close(entry);
        return made.value;
      }
    } catch (error) {
      await ledger.undo(entry);
      throw error;
    }
    await ledger.undo(entry);
    if (!below) continue;
    progress.say(`The layer of ${below.layer.title} is not what it was when it was made: making it anew.`);
    await removeFolder(project, dirname(below.root));
  }
}

const tenths = (n: number): number => Math.round(n * 10) / 10;

/** Runs images/provision/layer.sh, which runs `step` on what is below. */
async function runStep(
  { project, recipe, lock, progress }: LayerJob,
  folder: string,
  below: Below | undefined,
  step: string,
  packages: LockedPackage[],
  values: Record<string, string>,
): Promise<void> {
  writePackages(folder, packages);
  // Images and layers are made beside each other, as many on this computer as it has processors.
  const slots = Array.from({ length: atOnce }, (_, i) => `bake slot ${i}`);
  const slot = await lockOneWhenFree(slots, `bake of ${recipe.image}`, (holder) =>
    progress.say(`waiting for the ${holder}: ${atOnce} at a time`),
  );
  const at = { folder, provision: join(toolFolder, "images/provision"), debs: debFolder(project), below: below?.root ?? "" };
  const environment = { ...environmentOf(recipe, lock, at, step), BAKE_TMPFS: String(memoryFor(packages)), ...values };
  const lines: string[] = [];
  const shown = new Phases(progress, packages.length);
  try {
    await provision("provision/layer.sh", environment, (line) => {
      if (!shown.read(line)) lines.push(line);
    });
    shown.end();
  } catch (error) {
    shown.failed();
    if (!(error instanceof RunError)) throw error;
    const telling = lines.filter((l) => !usual.test(l));
    throw new RefusedError(`the bake of ${recipe.image} failed:\n${telling.slice(-15).join("\n")}`);
  } finally {
    slot.release();
  }
}

const atOnce = availableParallelism();

/** Bytes of memory that a step may take, or 0 when there is too little and the disk must do. A tree is about 4.5 times its .debs, and half of
 * them lie beside it without compression while they are unpacked. */
function memoryFor(packages: LockedPackage[]): number {
  const needed = packages.reduce((sum, p) => sum + p.size, 0) * 7 + 200e6;
  const available = Number(/^MemAvailable:\s+(\d+) kB/m.exec(readFileSync("/proc/meminfo", "utf8"))?.[1] ?? 0) * 1024;
  // The others that are at it may take as much.
  const share = available / Math.max(2, atOnce);
  return share > needed ? Math.round(share) : 0;
}

/** Turns the scripts' lines into tasks of the progress. */
class Phases {
  private task: Task | undefined;
  private phase = "";
  private count = 0;
  constructor(
    private readonly progress: Progress,
    /** How many packages there are to unpack and to configure. */
    private readonly packages: number,
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
    // dpkg names some twice, for their triggers.
    if (status === counted[this.phase]) this.task?.note(`${Math.min(++this.count, this.packages)} of ${this.packages} packages`);
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
  settings: "put the configuration on top",
  essential: "install the essential packages",
  unpack: "unpack the packages",
  configure: "configure the packages",
  finish: "compile Python, make locales and initramfs",
  look: "look at what is in it",
  store: "put it into the store",
};

function proveTruths(recipe: Recipe, lock: PackageLock, host: TreeFile[], facts: Facts): void {
  const broken = brokenTruths(recipe, lock, host, facts);
  if (broken.length)
    throw new RefusedError(`the image of ${recipe.image} is not what it must be:\n${broken.map((b) => `  ${b}`).join("\n")}`);
}
