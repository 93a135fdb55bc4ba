// `npm run bench -- images [<rounds>]`: debian-12 to a bootable disk by Ingot, by mkosi 14, by mmdebstrap and by debootstrap with mke2fs (images.sh
// beside this): from nothing, and after a change. All install the packages of one lock out of one archive on this computer.
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { debPath, fetchDebs } from "../../images/archive.ts";
import { undoAbandoned } from "../../images/bake.ts";
import { excludes } from "../../images/leave-out.ts";
import { lockPath, lockText, type PackageLock, readLock, solvedPart, staged } from "../../images/lock.ts";
import { provision } from "../../images/provision.ts";
import { loadRecipe } from "../../images/recipe.ts";
import { findImage } from "../../images/store.ts";
import { toolsName, toolsRecipe } from "../../images/tools.ts";
import { listenForSignals, sleep } from "../../lib/cancel.ts";
import { ledgerAt } from "../../lib/ledger.ts";
import { type Project, projectAt, toolFolder } from "../../lib/paths.ts";
import { progressOn } from "../../lib/progress.ts";
import { asRoot, run, tryRun } from "../../lib/run.ts";
import { leftOf } from "../e2e/project.ts";
import { say, seconds, shown, verdict } from "./figures.ts";

const tool = projectAt(toolFolder);
const tools = join(tool.state, "tools/bench-images");
const name = "debian-12";
/** The small package that is added. */
const added = { package: "acl", file: "/usr/bin/getfacl" };

/** @param argv how many rounds; three without it */
export async function images([given = "3"]: string[]): Promise<void> {
  const rounds = Number(given);
  if (!(rounds >= 1)) throw new Error(`how many rounds? not ${given}`);
  listenForSignals();
  await undoAbandoned(tool, progressOn());
  const folder = `/var/tmp/ingot-bench-${process.pid}`;
  const ledger = ledgerAt(tool.ledger);
  // Called as bakes are, so that the next one cleans up after a bench that was killed.
  const entry = ledger.begin(`bake-bench-${process.pid}`, "bench of images");
  try {
    ledger.add(entry, { kind: "folder", path: folder });
    mkdirSync(folder);
    const bench = new Bench(folder);
    await bench.prepare();
    for (let round = 1; round <= rounds; round++) await bench.round(`${round} of ${rounds}`);
    console.log(bench.tables());
  } finally {
    await ledger.undo(entry);
  }
  const left = leftOf(folder);
  if (left.length) throw new Error(`left on this computer:\n${left.join("\n")}`);
}

interface Taken {
  seconds: number;
  /** MiB, at most: by how much less was available. */
  memory: number;
}

const peers = { mkosi: "mkosi 14", mmdebstrap: "mmdebstrap, mke2fs", debootstrap: "debootstrap, mke2fs" };
type Peer = keyof typeof peers;

class Bench {
  private readonly project: Project;
  private readonly taken = new Map<string, Taken[]>();
  /** Seconds of each step that Ingot shows, of each cold bake. */
  private readonly steps: Map<string, number>[] = [];
  /** Whether the added package is on the disk, by who made it. */
  private readonly has = new Map<string, boolean>();
  private readonly recipe: string;
  private readonly lock: PackageLock;
  private readonly before: PackageLock;

  constructor(private readonly folder: string) {
    this.project = projectAt(join(folder, "project"));
    this.recipe = readFileSync(join(tool.images, `${name}.yaml`), "utf8");
    const lock = readLock(tool, name);
    if (lock?.solved !== solvedPart(loadRecipe(tool, name))) throw new Error(`${name} has no lock that fits: ingot image lock ${name}`);
    this.lock = lock;
    for (const path of [this.project.images, this.project.stacks]) mkdirSync(path, { recursive: true });
    writeFileSync(this.recipeFile, this.recipeWithout);
    const packages = lock.packages.filter((p) => p.name !== added.package);
    this.before = { ...lock, packages, solved: solvedPart(loadRecipe(this.project, name)) };
  }

  private readonly at = (path: string): string => join(this.folder, path);
  private get recipeFile(): string {
    return join(this.project.images, `${name}.yaml`);
  }
  private get recipeWithout(): string {
    return this.recipe.replace(`  - ${added.package}\n`, "");
  }

  /** What all sides begin with: packages in the cache, an archive of them, the peers' programs; mkosi's cache of its incremental builds. */
  async prepare(): Promise<void> {
    const disks = toolsRecipe("disk", loadRecipe(tool, name));
    const toolsLock = readLock(tool, toolsName("disk", disks));
    if (!toolsLock) throw new Error(`what makes disks is not locked: ingot image disk ${name}`);
    await fetchDebs(tool, loadRecipe(tool, name), this.lock, progressOn());
    await fetchDebs(tool, disks, toolsLock, progressOn());
    writeFileSync(lockPath(this.project, toolsLock.image), lockText(toolsLock));
    await peerPrograms();
    await this.archive();
    const options = excludes(loadRecipe(this.project, name).leave_out).map((f) => f.content);
    writeFileSync(this.at("dpkg.cfg"), ["force-unsafe-io\n", ...options].join(""));
    writeFileSync(this.at("debs"), this.before.packages.map((p) => `${debPath(tool, p)}\n`).join(""));
    mkdirSync(this.at("extra/etc"), { recursive: true });
    this.atFirst();
    if (available() > 7000) {
      say("touching memory");
      await this.script("touch-memory");
    }
    say("mkosi's cache of incremental builds, not measured");
    await this.script("mkosi-incremental", "incremental");
  }

  /** The lock's packages as a mirror of Debian's has them. */
  private async archive(): Promise<void> {
    const archive = this.at("archive");
    const binary = "dists/bookworm/main/binary-amd64";
    for (const path of ["pool", binary]) mkdirSync(join(archive, path), { recursive: true });
    for (const p of this.lock.packages) copyFileSync(debPath(tool, p), join(archive, "pool", basename(p.file)));
    // mkosi 14 wants this one, which is not in the lock: an empty one costs it nothing.
    mkdirSync(this.at("empty/DEBIAN"), { recursive: true });
    const control = { Package: "systemd-resolved", Version: "1", Architecture: "all", Maintainer: "nobody", Description: "empty" };
    const lines = Object.entries(control).map(([key, value]) => `${key}: ${value}\n`);
    writeFileSync(this.at("empty/DEBIAN/control"), lines.join(""));
    await run(["dpkg-deb", "--build", this.at("empty"), join(archive, "pool/systemd-resolved_1_all.deb")]);
    const index = async (argv: string[], file: string) =>
      writeFileSync(join(archive, file), (await run(["apt-ftparchive", ...argv], { cwd: archive })).stdout);
    await index(["packages", "pool"], `${binary}/Packages`);
    await run(["gzip", "--keep", join(archive, binary, "Packages")]);
    const release = { Suite: "stable", Codename: "bookworm", Components: "main", Architectures: "amd64" };
    const options = Object.entries(release).flatMap(([key, value]) => ["-o", `APT::FTPArchive::Release::${key}=${value}`]);
    await index([...options, "release", "dists/bookworm"], "dists/bookworm/Release");
  }

  /** Recipe, lock and the peers' files as they are before a change. */
  private atFirst(): void {
    writeFileSync(this.recipeFile, this.recipeWithout);
    writeFileSync(lockPath(this.project, name), lockText(this.before));
    writeFileSync(this.at("names"), this.before.packages.map((p) => `${p.name}\n`).join(""));
    writeFileSync(this.at("extra/etc/motd"), "hello\n");
  }
  private changeFile(): void {
    writeFileSync(this.recipeFile, `${this.recipeWithout}\nfiles:\n  /etc/motd: { content: "changed\\n" }\n`);
    writeFileSync(this.at("extra/etc/motd"), "changed\n");
  }
  private addPackage(): void {
    writeFileSync(this.recipeFile, this.recipe);
    writeFileSync(lockPath(this.project, name), lockText(staged(this.before, this.lock)));
    writeFileSync(this.at("names"), this.lock.packages.map((p) => `${p.name}\n`).join(""));
  }

  async round(which: string): Promise<void> {
    const ingot = async (row: string) => {
      say(`round ${which}: Ingot, ${row}`);
      return this.measure(`Ingot ${row}`, () => this.ingot());
    };
    const mkosi = async (row: string) => {
      say(`round ${which}: mkosi, ${row}`);
      await this.measure(`mkosi ${row}`, () => this.script("mkosi-incremental", "incremental"));
    };
    this.atFirst();
    const cold = await ingot("cold");
    this.steps.push(cold.steps);
    this.prove("Ingot", await packagesOn(cold.disk), this.before);
    say(`round ${which}: the floor`);
    await this.floor();
    await ingot("nothing");
    this.changeFile();
    await ingot("file");
    this.atFirst();
    this.addPackage();
    const { disk } = await ingot("package");
    this.prove("Ingot", await packagesOn(disk), this.lock);
    this.has.set("Ingot", await isOn(disk, added.file));
    await this.remove(this.project.store);

    this.atFirst();
    for (const [peer, title] of Object.entries(peers)) {
      say(`round ${which}: ${title}, cold`);
      await this.measure(`${peer} cold`, () => this.script(peer, peer));
      this.prove(title, await packagesOn(this.at(`${peer}/disk.raw`)), this.before);
      await this.remove(this.at(peer));
    }

    await mkosi("nothing");
    this.changeFile();
    await mkosi("file");
    this.atFirst();
    this.addPackage();
    await mkosi("package");
    this.has.set("mkosi", await isOn(this.at("incremental/disk.raw"), added.file));
  }

  /** As a user runs it. */
  private async ingot(): Promise<{ disk: string; steps: Map<string, number> }> {
    const argv = [process.execPath, join(toolFolder, "dist/ingot.js"), "image", "disk", name, "--locked", "--json"];
    const { stdout, stderr } = await run(argv, { cwd: this.project.folder, env: { INGOT_CACHE: process.env.INGOT_CACHE ?? tool.cache } });
    const steps = new Map<string, number>();
    for (const [, title = "", s] of stderr.matchAll(/^ {2}done {3}([^:\n]*).*\((\d+\.\d) s\)$/gm))
      steps.set(title.trim(), (steps.get(title.trim()) ?? 0) + Number(s));
    return { disk: (JSON.parse(stdout) as { path: string }).path, steps };
  }

  /** What a bake cannot be without, each alone. */
  private async floor(): Promise<void> {
    writeFileSync(this.at("tree"), findImage(this.project, name)?.root ?? "");
    for (const part of ["unpack", "file-system"]) await this.measure(part, () => this.script(part));
    await this.remove(this.at("floor"));
  }

  private script(what: string, into = "floor"): Promise<void> {
    const values = { BENCH_DO: what, BENCH_FOLDER: this.folder, BENCH_INTO: this.at(into), BENCH_TOOLS: tools };
    return provision("../tests/bench/images.sh", values, () => {});
  }

  private async measure<T>(row: string, work: () => Promise<T>): Promise<T> {
    // What the side before has left to be written, and its memory that is still being freed, is not this one's.
    await run(["sync"]);
    await sleep(2);
    const before = available();
    let least = before;
    const sampling = setInterval(() => (least = Math.min(least, available())), 100);
    try {
      const began = performance.now();
      const result = await work();
      this.taken.set(row, [...(this.taken.get(row) ?? []), { seconds: seconds(began), memory: before - least }]);
      return result;
    } finally {
      clearInterval(sampling);
    }
  }

  private async remove(path: string): Promise<void> {
    await run(asRoot(["rm", "-rf", "--one-file-system", "--", path]));
  }

  /** @throws Error when there are other packages on a disk than in the lock, or nothing to boot */
  private prove(who: string, found: string[], { packages }: PackageLock): void {
    const wanted = packages.map((p) => p.name);
    const wrong = [
      ...wanted.filter((p) => !found.includes(p)).map((p) => `without ${p}`),
      ...found.filter((p) => !wanted.includes(p) && p !== "systemd-resolved").map((p) => `with ${p}`),
    ];
    if (wrong.length) throw new Error(`the disk by ${who} is not what it must be: ${wrong.join(", ")}`);
  }

  private readonly of = (row: string): Taken[] => this.taken.get(row) ?? [];
  private readonly times = (row: string): number[] => this.of(row).map((t) => t.seconds);

  tables(): string {
    const both = (row: string): string => `${shown(least(this.times(row)))} | ${shown(median(this.times(row)))}`;
    const memory = (row: string): number => median(this.of(row).map((t) => t.memory));
    const cold = (row: string, title: string): string => `| ${title} | ${both(`${row} cold`)} | ${Math.round(memory(`${row} cold`))} |`;
    const names = Object.keys(peers) as Peer[];
    const fastest = (of: (n: number[]) => number): number => Math.min(...names.map((p) => of(this.times(`${p} cold`))));
    const rival = names.reduce((a, b) => (least(this.times(`${b} cold`)) < least(this.times(`${a} cold`)) ? b : a));
    const ratio = (title: string, bar: number, of: (how: (n: number[]) => number) => number): string =>
      `| ${title} | ${verdict(of(least), bar)} | ${verdict(of(median), bar)} |`;
    const yes = (who: string): string => (this.has.get(who) ? "yes" : "no");
    return [
      "| from nothing | least, s | median, s | memory at most, MiB |",
      "|---|---|---|---|",
      cold("Ingot", "Ingot"),
      ...names.map((p) => cold(p, peers[p])),
      "",
      "| after a change | Ingot: least, s | median, s | mkosi incremental: least, s | median, s |",
      "|---|---|---|---|---|",
      `| nothing changed | ${both("Ingot nothing")} | ${both("mkosi nothing")} |`,
      `| one configuration file | ${both("Ingot file")} | ${both("mkosi file")} |`,
      `| one small package (on the disk then: Ingot ${yes("Ingot")}, mkosi ${yes("mkosi")}) | ${both("Ingot package")} | ${both("mkosi package")} |`,
      "",
      "| | of the least | of the medians |",
      "|---|---|---|",
      ratio(`from nothing, against the fastest of the three`, 0.75, (how) => how(this.times("Ingot cold")) / fastest(how)),
      ratio("nothing changed, s", 0.3, (how) => how(this.times("Ingot nothing"))),
      ratio("one configuration file, against mkosi", 0.6, (how) => how(this.times("Ingot file")) / how(this.times("mkosi file"))),
      ratio(
        "one small package, against Ingot from nothing",
        0.25,
        (how) => how(this.times("Ingot package")) / how(this.times("Ingot cold")),
      ),
      `| memory, against ${peers[rival]} | | ${verdict(memory("Ingot cold") / memory(`${rival} cold`), 1)} |`,
      "",
      ...this.whereTimeGoes(),
    ].join("\n");
  }

  /** The steps of the fastest cold bake, and what it cannot be without. */
  private whereTimeGoes(): string[] {
    const times = this.times("Ingot cold");
    const fastest = times.indexOf(least(times));
    const steps = [...(this.steps[fastest] ?? [])];
    const rest = (times[fastest] ?? 0) - steps.reduce((sum, [, s]) => sum + s, 0);
    const floor = ["unpack", "file-system"].map((part) => least(this.times(part)));
    return [
      "| where Ingot's time goes | s |",
      "|---|---|",
      ...[...steps, ["the rest", rest] as const].map(([title, s]) => `| ${title} | ${shown(s)} |`),
      "",
      `Its floor, each part alone: all .debs unpacked ${shown(floor[0] ?? 0)} + the file system written ${shown(floor[1] ?? 0)} s.`,
    ];
  }
}

/** mkosi, debootstrap and sfdisk by apt, unpacked and not installed: a debootstrap that is there changes what mmdebstrap does. */
async function peerPrograms(): Promise<void> {
  const done = join(tools, "complete");
  if (existsSync(done)) return;
  say("fetching mkosi and debootstrap");
  mkdirSync(tools, { recursive: true });
  await run(["apt-get", "download", "--quiet", "mkosi", "debootstrap", "fdisk", "libfdisk1"], { cwd: tools });
  const debs = readdirSync(tools).filter((f) => f.endsWith(".deb"));
  if (!debs.some((f) => f.startsWith("mkosi_14-")))
    throw new Error(`the mkosi that is measured is Debian 12's, 14; here is ${debs.join(", ")}`);
  for (const deb of debs) await run(["dpkg-deb", "--extract", deb, "."], { cwd: tools });
  writeFileSync(done, "");
}

/** Runs a command of debugfs on the root's file system: the last partition, or all of a disk that has none. */
async function debugfs(disk: string, command: string): Promise<string> {
  const table = await tryRun(asRoot(["partx", "--show", "--bytes", "--noheadings", "--output", "SIZE,START", disk]));
  const [largest] = table.stdout
    .trim()
    .split("\n")
    .map((line) => line.trim().split(/ +/).map(Number))
    .sort(([a = 0], [b = 0]) => b - a);
  return (await run(asRoot(["debugfs", "-R", command, `${disk}?offset=${(largest?.[1] ?? 0) * 512}`]))).stdout;
}

/** The packages that are installed on a disk. @throws Error when it has no kernel or no initramfs */
async function packagesOn(disk: string): Promise<string[]> {
  const boot = await debugfs(disk, "ls -p /boot");
  for (const file of ["/vmlinuz-", "/initrd.img-"]) if (!boot.includes(file)) throw new Error(`there is no /boot${file}* on ${disk}`);
  const status = await debugfs(disk, "cat /var/lib/dpkg/status");
  return [...status.matchAll(/^Package: (.*)\n(?:.+\n)*?Status: install ok installed$/gm)].map((m) => m[1] ?? "");
}

const isOn = async (disk: string, path: string): Promise<boolean> => (await debugfs(disk, `stat ${path}`)).includes("Type: regular");

/** MiB. */
const available = (): number => Number(/^MemAvailable: +(\d+) kB/m.exec(readFileSync("/proc/meminfo", "utf8"))?.[1]) / 1024;

const least = (numbers: number[]): number => Math.min(...numbers);
function median(numbers: number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 ? (sorted[middle] ?? 0) : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2;
}
