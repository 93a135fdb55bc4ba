// The bootable disk of an image, for who needs one: EC2 and the `vm` target; containers boot the root tree. It lies beside the image,
// `<store>/<digest>/disk-<key>.raw`, and its key stands for everything that makes it. Called by scripts/image.ts and stacks/local/vm.ts.
import { chmodSync, existsSync, mkdirSync, readFileSync, realpathSync, renameSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { diagnostic, InputError, MissingError, RefusedError } from "../lib/diagnostics.ts";
import { short } from "../lib/digest.ts";
import { ledgerAt } from "../lib/ledger.ts";
import { lockWhenFree } from "../lib/lock.ts";
import type { Project } from "../lib/paths.ts";
import { during, type Progress, type Task } from "../lib/progress.ts";
import { RunError, run } from "../lib/run.ts";
import { debPath, fetchDebs, GoneError, solve } from "./archive.ts";
import { bake } from "./bake.ts";
import { diskKey, diskScripts, hasToolsLock, toolsFor, toolsLockOf, toolsName, toolsRecipe } from "./disk-key.ts";
import { type Layout, layoutOf, leastOf, partitionTable } from "./disk-layout.ts";
import { brokenDisk, readDiskFacts } from "./disk-truths.ts";
import type { Image } from "./image.ts";
import { bytesOf, type LockedPackage, lockPath, lockText, megabytes, type PackageLock } from "./lock.ts";
import { provision } from "./provision.ts";
import { loadRecipe, placeOf, type Recipe } from "./recipe.ts";

export const diskFormats = ["raw", "qcow2"] as const;
export type DiskFormat = (typeof diskFormats)[number];

export interface Disk {
  image: Image;
  format: DiskFormat;
  /** Absolute; never written to. */
  path: string;
  /** Bytes, as a machine sees it. */
  size: number;
  /** False when it was there already. */
  made: boolean;
  seconds: number;
}

/** What only a disk has, by its path in the root. */
export function diskFiles(layout: Layout): Record<string, string> {
  return {
    "/etc/fstab": `UUID=${layout.ids.fileSystem} / ext4 defaults,errors=remount-ro 0 1\n`,
    "/boot/grub/grub.cfg": configuration("grub.cfg", layout),
  };
}

const configuration = (file: string, { ids }: Layout): string =>
  readFileSync(join(diskScripts, file), "utf8").replaceAll("@ROOT@", ids.fileSystem);

/**
 * The disk of a recipe's image, found in the store or made; the image is baked when it is not there.
 * @throws RefusedError when it cannot be made, MissingError, Cancelled
 */
export async function makeDisk(
  project: Project,
  name: string,
  format: DiskFormat,
  { locked, progress }: { locked?: true; progress: Progress },
): Promise<Disk> {
  const { image } = await bake(project, name, { locked, progress });
  return diskOf(project, image, format, { locked, progress });
}

/** As makeDisk(), of an image that is baked. */
export async function diskOf(
  project: Project,
  image: Image,
  format: DiskFormat,
  { locked, progress }: { locked?: true; progress: Progress },
): Promise<Disk> {
  const began = performance.now();
  const recipe = loadRecipe(project, image.name);
  if (!Object.keys(image.manifest.packages).some((name) => name.startsWith("linux-image-")))
    throw new RefusedError(`the image ${image.name} has no kernel to boot`, "add `linux-image-cloud-amd64` to the recipe's packages");
  assertRoom(project, recipe, image);
  if (format === "qcow2") needQemuImg();
  let lock = await toolsLock(project, recipe, locked, progress);
  const layout = layoutOf(image, recipe.disk);
  for (;;) {
    const path = join(dirname(image.root), `disk-${diskKey(recipe, image, lock)}.raw`);
    const turn = await lockWhenFree(`disk ${realpathSync(dirname(image.root))}`, `disk of ${image.name}`, (holder) =>
      progress.say(`waiting for the ${holder}`),
    );
    try {
      const wanted = format === "raw" ? path : path.replace(/raw$/, "qcow2");
      const there = existsSync(wanted);
      if (!there && !existsSync(path)) {
        await fetchDebs(project, toolsRecipe(recipe), { ...lock, packages: toolsFor(lock, image) }, progress);
        await makeRaw({ project, recipe, image, layout, tools: toolsFor(lock, image), progress }, path);
      }
      if (!existsSync(wanted)) await convert(project, image, path, wanted, progress);
      return { image, format, path: wanted, size: layout.sectors * 512, made: !there, seconds: (performance.now() - began) / 1000 };
    } catch (error) {
      if (!(error instanceof GoneError) || locked) throw error;
      progress.say(`What makes the disk of ${image.name} cannot be had any more (${error.message}): locking anew.`);
      lock = await lockTools(project, recipe, progress);
    } finally {
      turn.release();
    }
  }
}

async function toolsLock(project: Project, recipe: Recipe, locked: true | undefined, progress: Progress): Promise<PackageLock> {
  const lock = toolsLockOf(project, recipe);
  if (lock) return lock;
  if (locked)
    throw new RefusedError(
      hasToolsLock(project, recipe)
        ? `${toolsName(recipe)}.lock.json was made for other packages`
        : `what makes ${recipe.image}'s disk is not locked`,
      `make it: ingot image disk ${recipe.image}`,
    );
  return lockTools(project, recipe, progress);
}

/** Locks what makes disks of the recipe's release: GRUB, shim, and the programs that write file systems. */
export async function lockTools(project: Project, recipe: Recipe, progress: Progress): Promise<PackageLock> {
  const solved = await solve(toolsRecipe(recipe), progress);
  // What is essential is in every image.
  const lock = { ...solved, packages: solved.packages.filter((p) => !p.essential) };
  const path = lockPath(project, lock.image);
  writeFileSync(`${path}.${process.pid}.tmp`, lockText(lock));
  renameSync(`${path}.${process.pid}.tmp`, path);
  return lock;
}

/** @throws InputError when the recipe's `disk:` has no room for what is in the image */
function assertRoom(project: Project, { image: name, disk }: Recipe, image: Image): void {
  if (disk.size === undefined || bytesOf(disk.size) >= leastOf(image, disk)) return;
  const { range, sources } = placeOf(project, name, ["disk", "size"]);
  const least = `${Math.ceil(leastOf(image, disk) / bytesOf("1GiB"))}GiB`;
  const message = `${disk.size} is too little for ${name}: its files come to ${megabytes(image.manifest.size)}, and with partitions and file systems they need ${least}`;
  const usual = layoutOf(image, { esp: disk.esp }).sectors * 512;
  const hint = `write \`size: ${least}\` or more; without it the disk is ${usual / bytesOf("1GiB")}GiB`;
  throw new InputError([diagnostic("ING1712", range, message, { hint, fix: { range, text: least } })], sources);
}

interface Job {
  project: Project;
  recipe: Recipe;
  image: Image;
  layout: Layout;
  tools: LockedPackage[];
  progress: Progress;
}

async function makeRaw(job: Job, path: string): Promise<void> {
  const { project, image, layout } = job;
  const { architecture } = image.manifest;
  await inFolder(project, image, async (folder) => {
    for (const [file, content] of Object.entries(diskFiles(layout))) {
      mkdirSync(dirname(join(folder, "files", file)), { recursive: true });
      writeFileSync(join(folder, "files", file), content);
    }
    mkdirSync(join(folder, "facts"));
    const esp = espFiles(job.recipe);
    writeFileSync(join(folder, "grub-esp.cfg"), configuration("grub-esp.cfg", layout));
    writeFileSync(
      join(folder, "esp"),
      Object.entries(esp)
        .map(([to, from]) => `${from}\t${to}\n`)
        .join(""),
    );
    writeFileSync(join(folder, "table"), partitionTable(layout, architecture));
    writeFileSync(join(folder, "debs"), job.tools.map((p) => `${debPath(project, p)}\n`).join(""));
    await runScript(job, folder);
    const broken = brokenDisk(layout, architecture, Object.keys(esp), diskFiles(layout), readDiskFacts(join(folder, "facts")));
    if (broken.length)
      throw new RefusedError(`the disk of ${image.name} is not what it must be:\n${broken.map((b) => `  ${b}`).join("\n")}`);
    renameSync(join(folder, "disk.raw"), path);
  });
}

/** What is on the ESP, and where each comes from in the folder of the build. */
function espFiles({ distro, architecture }: Recipe): Record<string, string> {
  const { x64, grub } = { amd64: { x64: "x64", grub: "x86_64" }, arm64: { x64: "aa64", grub: "arm64" } }[architecture];
  return {
    [`/EFI/BOOT/BOOT${x64.toUpperCase()}.EFI`]: `tools/usr/lib/shim/shim${x64}.efi.signed`,
    [`/EFI/BOOT/grub${x64}.efi`]: `tools/usr/lib/grub/${grub}-efi-signed/grub${x64}.efi.signed`,
    [`/EFI/BOOT/mm${x64}.efi`]: `tools/usr/lib/shim/mm${x64}.efi.signed`,
    // The distribution's signed GRUB looks here for its configuration.
    [`/EFI/${distro}/grub.cfg`]: "grub-esp.cfg",
  };
}

async function runScript({ recipe, image, layout, progress }: Job, folder: string): Promise<void> {
  const { ids, sectors, bios, esp, root } = layout;
  const environment = {
    DISK_FOLDER: folder,
    DISK_IMAGE: image.root,
    // Of the image: the bake has written it when it was through.
    DISK_DATE: Math.floor(statSync(join(image.root, "etc/.updated")).mtimeMs / 1000),
    DISK_OWNER: `${process.getuid?.()}:${process.getgid?.()}`,
    DISK_BIOS: recipe.architecture === "amd64" ? "yes" : "no",
    DISK_SECTORS: sectors,
    DISK_BIOS_START: bios.start,
    DISK_ESP_START: esp.start,
    DISK_ESP_SECTORS: esp.sectors,
    DISK_ROOT_START: root.start,
    DISK_ROOT_SECTORS: root.sectors,
    DISK_ROOT_UUID: ids.fileSystem,
    DISK_HASH_SEED: ids.hashSeed,
    DISK_ESP_ID: ids.espVolume,
  };
  const lines: string[] = [];
  let task: Task | undefined;
  try {
    await provision("disk/make.sh", environment, (line) => {
      const phase = /^ingot: phase (.*)$/.exec(line)?.[1];
      if (phase === undefined) return void lines.push(line);
      task?.done();
      task = progress.start(titles[phase] ?? phase);
    });
    task?.done();
  } catch (error) {
    task?.failed();
    if (!(error instanceof RunError)) throw error;
    throw new RefusedError(`the disk of ${image.name} could not be made:\n${lines.slice(-15).join("\n")}`);
  }
}

const titles: Record<string, string> = {
  tools: "unpack what makes the disk",
  table: "lay out its partitions",
  root: "write the root's file system",
  loader: "make it boot, by UEFI and by BIOS",
  prove: "look at what is on it",
};

async function convert(project: Project, image: Image, from: string, to: string, progress: Progress): Promise<void> {
  await inFolder(project, image, async (folder) => {
    const file = join(folder, "disk.qcow2");
    const options = ["-f", "raw", "-O", "qcow2", "-c", "-o", "compression_type=zstd"];
    await during(progress, "pack it as qcow2", () => run(["qemu-img", "convert", ...options, from, file]));
    chmodSync(file, 0o444);
    renameSync(file, to);
  });
}

function needQemuImg(): void {
  if ((process.env.PATH ?? "").split(":").some((folder) => existsSync(join(folder, "qemu-img")))) return;
  throw new MissingError("qcow2 needs qemu-img", "sudo apt-get install qemu-utils");
}

/** A folder in the store, gone at the end; what lies in it is the ledger's from before its beginning. */
async function inFolder(project: Project, image: Image, work: (folder: string) => Promise<void>): Promise<void> {
  const ledger = ledgerAt(project.ledger);
  const folder = join(project.store, `.disk-${short(image.digest)}-${process.pid}`);
  const entry = ledger.begin(`bake-disk-${short(image.digest)}-${process.pid}`, `disk of ${image.name}`);
  try {
    ledger.add(entry, { kind: "folder", path: folder });
    mkdirSync(folder);
    await work(folder);
  } finally {
    await ledger.undo(entry);
  }
}
