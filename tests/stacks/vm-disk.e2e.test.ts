// The disk of a running machine of the vm target, copied by its QEMU: by QEMU's own command line, with a guest that stands still; the disk is written to
// as a guest's write would, through its device. Where QEMU is installed; `npm run test:long` sees to it.
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import * as assert from "uvu/assert";
import { startOf } from "../../lib/ledger.ts";
import { type Project, projectAt, toolFolder } from "../../lib/paths.ts";
import { asRoot, run } from "../../lib/run.ts";
import { machineFolder } from "../../stacks/local/machine.ts";
import { qemu, qemuArguments } from "../../stacks/local/qemu.ts";
import { copyDisk, copySize, endCopies, type RunningVm, runningVm } from "../../stacks/local/vm-disk.ts";
import { volumeFile } from "../../stacks/local/volume.ts";
import { suite } from "../suite.ts";

const test = suite("vm: a disk that QEMU has open");
const there = existsSync(`/usr/bin/${qemu}`) ? test : test.skip;
const MiB = 2 ** 20;
/** Bytes: of the disk, and of the file system on it; what is behind that is empty. */
const [size, used] = [256 * MiB, 160 * MiB];
let folder: string;
let project: Project;
let disk: string;
let copy: string;
let child: ChildProcess;
let vm: RunningVm;

interface Said {
  event?: string;
  data?: { id?: string; device?: string; status?: string };
  return?: unknown;
  error?: { desc: string };
}
/** QEMU's other monitor, on its standard streams. */
let wrote: string[] = [];
let hear: (said: Said) => void = () => {};
const answers: ((said: Said) => void)[] = [];
async function ask<T>(execute: string, args: Record<string, unknown> = {}): Promise<T> {
  const said = await new Promise<Said>((resolve) => {
    answers.push(resolve);
    child.stdin?.write(`${JSON.stringify({ execute, arguments: args })}\n`);
  });
  if (said.error) throw new Error(said.error.desc);
  return said.return as T;
}
/** @param speed bytes in a second; 0: as fast as it can */
const pace = (speed: number): Promise<void> => ask<void>("block-job-set-speed", { device: "ingot-copy", speed }).catch(() => {});

/** Once a copying has begun; it is so slow from then on that it is not over before the test lets it. */
const begun = (speed: number) =>
  new Promise<void>((resolve) => {
    hear = ({ event, data }) => {
      if (event !== "JOB_STATUS_CHANGE" || data?.id !== "ingot-copy" || data.status !== "running") return;
      // Once: it runs again after each pause, also in a QEMU that is ending and takes no more commands.
      hear = () => {};
      void pace(speed).then(resolve);
    };
  });

async function write(offset: number, pattern: number): Promise<void> {
  const devices = await ask<{ qdev: string; inserted?: { file: string } }[]>("query-block");
  const { qdev } = devices.find((d) => d.inserted?.file === disk) ?? {};
  wrote = [];
  await ask("human-monitor-command", { "command-line": `qemu-io -d ${qdev} "write -P ${pattern} ${offset} 4k"` });
  assert.match(wrote.join(), /^wrote 4096\/4096/);
}

/** Nothing of a copying is in QEMU any more. */
async function nothingLeft(): Promise<void> {
  assert.equal(await ask("query-block-jobs"), []);
  const nodes = await ask<{ "node-name": string }[]>("query-named-block-nodes", { flat: true });
  assert.equal(
    nodes.map((n) => n["node-name"]).filter((name) => name === "ingot-copy"),
    [],
  );
  const open = readdirSync(`/proc/${child.pid}/fd`).map((fd) => readlinkSync(`/proc/${child.pid}/fd/${fd}`));
  assert.equal(
    open.filter((file) => file.startsWith(copy)),
    [],
  );
  // And it takes the next one.
  await write(200 * MiB, 7);
}

const refusalOf = (work: Promise<void>): Promise<string> => work.then(() => "", String);
const direct = (argv: string[]): string[] => argv;

/** A copying that is under way, its first mebibyte done, and its helper's exit code. */
async function underWay(): Promise<{ helper: ChildProcess; ended: Promise<number | null> }> {
  const running = begun(MiB);
  const helper = spawn("python3", [join(toolFolder, "stacks/local/vm-disk.py"), vm.folder, "copy", "volume0", copy], {
    stdio: ["pipe", "inherit", "pipe"],
  });
  const ended = new Promise<number | null>((resolve) => helper.on("exit", resolve));
  await running;
  return { helper, ended };
}

test.before(async () => {
  if (there !== test) return;
  folder = mkdtempSync("/var/tmp/ingot disk: ");
  project = projectAt(folder);
  disk = volumeFile(project, "one", "db", "backup");
  copy = join(folder, 'a "copy", of it.img');
  const own = machineFolder(project, "one", "db");
  for (const part of [join(own, "run"), join(disk, ".."), join(folder, "files")]) mkdirSync(part, { recursive: true });
  const noise = Buffer.alloc(MiB);
  for (let i = 0; i < MiB; i += 4) noise.writeUInt32LE((i * 2654435761) >>> 0, i);
  for (let i = 0; i < 120; i++) writeFileSync(join(folder, "files", String(i)), noise);
  await run(["mke2fs", "-q", "-t", "ext4", "-d", join(folder, "files"), disk, `${used / 1024}k`]);
  await run(["truncate", "--size", String(size), disk]);
  await run(["qemu-img", "create", "-q", "-f", "qcow2", join(own, "root.qcow2"), "64M"]);
  const args = qemuArguments({
    name: "one",
    acceleration: "tcg",
    firmware: "bios",
    memory: 64 * MiB,
    cpus: 1,
    volumes: [{ file: disk, serial: "vol0123456789abcdef0" }],
    ports: 0,
  });
  writeFileSync(join(own, "run/argv"), args.join("\0"));
  child = spawn(qemu, ["-S", ...args], { cwd: own, stdio: ["pipe", "pipe", "inherit"] });
  createInterface({ input: child.stdout as NodeJS.ReadableStream }).on("line", (line) => {
    // What qemu-io says of a write comes here, too.
    if (!line.startsWith("{")) return void wrote.push(line);
    const said = JSON.parse(line) as Said;
    if (said.event) hear(said);
    else if ("return" in said || said.error) answers.shift()?.(said);
  });
  await ask("qmp_capabilities");
  writeFileSync(join(own, "machine.json"), JSON.stringify({ stack: "one", host: "db", target: "vm", volumes: ["backup"] }));
  mkdirSync(join(own, "../run"));
  writeFileSync(join(own, "../run/holder"), `${child.pid} ${startOf(child.pid ?? 0)}\n`);
  const found = runningVm(project, "one", "db");
  assert.ok(found);
  vm = found;
});
test.after(() => {
  child?.kill();
  if (folder) rmSync(folder, { recursive: true, force: true });
});
test.after.each(() => {
  hear = () => {};
  if (copy) rmSync(copy, { force: true });
});

there("the copy is the disk, and empty where that is", async () => {
  await copyDisk(vm, "backup", copy, direct);
  assert.ok(readFileSync(copy).equals(readFileSync(disk)));
  assert.ok(statSync(copy).blocks * 512 <= copySize(project, vm, "backup"));
  assert.is(statSync(copy).mode & 0o777, 0o600);
  await run(["e2fsck", "-n", "-f", copy]);
  await nothingLeft();
});

there(
  "written to while it is copied: of writes one after the other the copy has the first ones, all of them, and none that came after it",
  async () => {
    // Here and there behind the file system: some where the copying has been already, some where it comes yet.
    const places = Array.from({ length: 4000 }, (_, i) => used + ((i * 7919) % ((size - used) / 4096)) * 4096);
    const running = begun(40 * MiB);
    let ended = false;
    const copying = copyDisk(vm, "backup", copy, direct).finally(() => (ended = true));
    await running;
    let [written, before] = [0, 0];
    const began = performance.now();
    for (let after = 0; after < 20 && written < places.length; after += ended ? 1 : 0) {
      if (!before && performance.now() - began > 1000) {
        before = written;
        await pace(0);
      }
      await write(places[written++] ?? 0, 0xa5);
    }
    await copying;
    const bytes = readFileSync(copy);
    const has = places.slice(0, written).map((at) => bytes.subarray(at, at + 4096).every((b) => b === 0xa5));
    const first = has.indexOf(false);
    assert.ok(first >= before && before > 0, `${first} of ${written}, ${before} before it could end`);
    assert.equal(
      has.slice(first).filter((h) => h),
      [],
    );
    assert.ok(bytes.subarray(0, used).equals(readFileSync(disk).subarray(0, used)));
    await nothingLeft();
  },
);

there("whoever asked for it dies: it is given up, and nothing of it is in QEMU", async () => {
  const { helper, ended } = await underWay();
  helper.stdin?.destroy();
  assert.is(await ended, 1);
  await nothingLeft();
});

there("what copies is killed itself: whoever undoes the drill ends what QEMU goes on with", async () => {
  const { helper, ended } = await underWay();
  helper.kill("SIGKILL");
  await ended;
  assert.is((await ask<unknown[]>("query-block-jobs")).length, 1);
  await endCopies(project, "one");
  await nothingLeft();
  await endCopies(project, "one");
});

there("there is no room for it: it fails alone, while the machine's own writes go on", async () => {
  const small = join(folder, "small");
  mkdirSync(small);
  await run(asRoot(["mount", "-t", "tmpfs", "-o", "size=40M,mode=0777", "ingot", small]));
  try {
    const running = begun(40 * MiB);
    const failed = refusalOf(copyDisk(vm, "backup", join(small, "copy"), direct));
    await running;
    let ended = false;
    void failed.then(() => (ended = true));
    // Over the first blocks, too, which a backup job would have to save first.
    for (let i = 0; !ended; i++) await write(used + (i % 2000) * 4096, 0x5a);
    assert.match(await failed, /the disk backup of one\/db could not be copied: No space left on device/);
    await write(used, 0x5b);
  } finally {
    await run(asRoot(["umount", small]));
  }
  await nothingLeft();
  assert.match(await refusalOf(copyDisk(vm, "backup", join(folder, "files/0"), direct)), /File exists/);
  await nothingLeft();
});

there(
  "a machine that reboots meanwhile is not kept from it, and it is said; one that is off has nothing to end; an older one is launched anew",
  async () => {
    const { helper, ended } = await underWay();
    let said = "";
    helper.stderr?.on("data", (chunk: Buffer) => (said += chunk.toString()));
    // As of a guest's reboot: QEMU ends, and would be run again (vm-hold.sh).
    await ask("system_reset");
    assert.is(await ended, 1);
    assert.match(said, /vm-disk: the machine has gone/);
    for (let n = 0; n < 100 && runningVm(project, "one", "db"); n++) await delay(50);
    assert.is(runningVm(project, "one", "db"), undefined);
    await endCopies(project, "one");
    writeFileSync(join(vm.folder, "run/argv"), "");
    assert.throws(() => copySize(project, vm, "backup"), /launched by an older Ingot/);
  },
);

test.run();
