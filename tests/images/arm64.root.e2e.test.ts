// An image of arm64, baked on a computer of another architecture through QEMU, and its disk, booted by QEMU, too. In the long suite: 7 minutes.
import { spawn, spawnSync } from "node:child_process";
import { closeSync, copyFileSync, existsSync, mkdtempSync, openSync, readFileSync, readSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import * as assert from "uvu/assert";
import { bake } from "../../images/bake.ts";
import { type Disk, makeDisk } from "../../images/disk.ts";
import { assertRuns } from "../../images/foreign.ts";
import type { Image } from "../../images/image.ts";
import { readLock } from "../../images/lock.ts";
import { filesOf } from "../../images/store.ts";
import { verifyImage } from "../../images/verify.ts";
import { projectAt, toolFolder } from "../../lib/paths.ts";
import { silent } from "../../lib/progress.ts";
import { run } from "../../lib/run.ts";
import { suite } from "../suite.ts";
import { temporaryProject } from "./fixtures.ts";

/** Where the kernel is told which programs it hands to whom, and what it is told of arm64's by Debian's package of QEMU. */
const binfmt = "/proc/sys/fs/binfmt_misc";
const registration = "/usr/lib/binfmt.d/qemu-aarch64.conf";
const mounting = ["unshare", "--mount", "--propagation", "private"];

const long = process.env.INGOT_TEST_LONG !== undefined;
if (long && !process.env.ARM64_REGISTERED && !runsHere()) {
  // This kernel has been told of none. What it is told goes with the last mount of its file system, and so with this test's processes, however
  // they end.
  const argv = [...mounting.slice(1), process.execPath, "--enable-source-maps", fileURLToPath(import.meta.url)];
  const { status } = spawnSync("unshare", argv, { stdio: "inherit", env: { ...process.env, ARM64_REGISTERED: "yes" } });
  const { stdout } = await run([...mounting, "sh", "-c", `mount -t binfmt_misc binfmt_misc ${binfmt} && ls ${binfmt}`]);
  assert.not.match(stdout, "qemu-aarch64", "the kernel was left with what it was told");
  process.exit(status ?? 1);
}
if (process.env.ARM64_REGISTERED) {
  await run(["mount", "-t", "binfmt_misc", "binfmt_misc", binfmt]);
  writeFileSync(join(binfmt, "register"), readFileSync(registration, "utf8").trim());
}

function runsHere(): boolean {
  try {
    assertRuns("arm64");
    return true;
  } catch {
    return false;
  }
}

const recipe = `image: small
distro: debian
release: bookworm
architecture: arm64
capabilities: { kernel: true }
packages: [sudo]
disabled: [apt-daily.timer]
files:
  /etc/motd: { content: "hello\\n" }
`;

const test = suite("arm64");
const inLong = long ? test : test.skip;
process.env.INGOT_CACHE ??= projectAt(toolFolder).cache;
let around: ReturnType<typeof temporaryProject>;
let image: Image;
let disk: Disk;

test.before(() => {
  around = temporaryProject({ small: recipe });
});
test.after(() => {
  rmSync(around.project.store, { recursive: true, force: true });
  around.remove();
});

inLong("it is baked, by the same truths", async () => {
  const baked = await bake(around.project, "small", { progress: silent });
  image = baked.image;
  assert.ok(baked.baked);
  const { manifest } = image;
  assert.equal([manifest.architecture, manifest.units["apt-daily.timer"]], ["arm64", "disabled"]);
  assert.ok(manifest.packages["linux-image-cloud-arm64"] && manifest.binaries.includes("/usr/bin/sudo"));
  const lock = readLock(around.project, "small");
  assert.equal([...new Set(lock?.packages.map((p) => p.architecture))].sort(), ["all", "arm64"]);
  assert.equal(manifest.packages, Object.fromEntries((lock?.packages ?? []).map((p) => [p.name, p.version])));
  assert.is((await bake(around.project, "small", { progress: silent })).baked, false);
  assert.equal(await verifyImage(image, silent), { ok: true, said: [] });
});

inLong("every program in it is arm64's, and nothing of the QEMU that ran them is left", () => {
  const files = filesOf(image).filter((f) => f.type === "f");
  // The list has a backslash as two.
  const programs = files.flatMap(({ path }) => machineOf(join(image.root, path.replaceAll("\\\\", "\\"))) ?? []);
  assert.ok(programs.length > 300, `${programs.length} programs`);
  assert.equal([...new Set(programs)], [183]);
  // What the kernel and others have for machines that QEMU makes is theirs.
  const left = files.filter((f) => /qemu/.test(f.path) && !/^\/usr\/(share|lib\/modules)\//.test(f.path));
  assert.equal(left, []);
});

/** The architecture of a program in ELF's form, as elf(5) numbers them; undefined of another file. */
function machineOf(path: string): number | undefined {
  const head = beginning(path, 20);
  return head.subarray(0, 4).toString("latin1") === "\x7fELF" ? head.readUInt16LE(18) : undefined;
}

function beginning(path: string, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  const file = openSync(path, "r");
  readSync(file, bytes);
  closeSync(file);
  return bytes;
}

inLong("its disk has an ESP of its own, and no GRUB for a BIOS", async () => {
  disk = await makeDisk(around.project, "small", "raw", { progress: silent });
  assert.equal(beginning(disk.path, 440), Buffer.alloc(440), "there is something to boot in its first sector");
  assert.ok(existsSync(join(around.project.images, "debian-bookworm-arm64.disk.lock.json")));
});

inLong("it boots by UEFI up to its login", async () => {
  const folder = mkdtempSync("/var/tmp/ingot-arm64-");
  const file = (name: string) => join(folder, name);
  copyFileSync("/usr/share/AAVMF/AAVMF_VARS.fd", file("variables.fd"));
  await run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", disk.path, "-F", "raw", file("root.qcow2")]);
  const argv = [
    ...["-nodefaults", "-no-user-config", "-display", "none", "-machine", "virt", "-cpu", "cortex-a72", "-m", "1024M"],
    ...["-drive", "if=pflash,format=raw,readonly=on,file=/usr/share/AAVMF/AAVMF_CODE.fd"],
    ...["-drive", "if=pflash,format=raw,file=variables.fd", "-serial", "file:console.log"],
    ...["-drive", "if=none,id=root,format=qcow2,file=root.qcow2", "-device", "nvme,drive=root,serial=root"],
  ];
  const machine = spawn("qemu-system-aarch64", argv, { cwd: folder, stdio: "inherit" });
  const said = () => (existsSync(file("console.log")) ? readFileSync(file("console.log"), "latin1") : "");
  try {
    for (const end = Date.now() + 600_000; !/^localhost login: /m.test(said()); await delay(500))
      if (Date.now() > end || machine.exitCode !== null) throw new Error(`it did not boot: ${said().slice(-2000)}`);
    assert.match(said(), /Linux version 6\.1\.\S+-arm64 /);
    assert.not.match(said(), /EXT4-fs error|Kernel panic|Failed to start/);
  } finally {
    machine.kill();
    rmSync(folder, { recursive: true });
  }
});

test.run();
