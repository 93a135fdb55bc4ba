// The vm target without machines: QEMU's command line, and both ends of the line that commands go by.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import * as assert from "uvu/assert";
import { toolFolder } from "../../lib/paths.ts";
import { type QemuMachine, qemuArguments } from "../../stacks/local/qemu.ts";
import { until } from "../lib/processes.ts";
import { suite } from "../suite.ts";

const test = suite("vm");

const machine: QemuMachine = {
  name: "ingot-1",
  acceleration: "tcg",
  firmware: "uefi",
  memory: 2 ** 30,
  cpus: 1,
  network: { tap: "tap0", mac: "52:54:00:12:34:56" },
  volumes: [{ file: '/a, "b"/data.img', serial: "vol0123456789abcdef0" }],
  seed: "seed",
  facts: "facts.img",
  ports: 2,
};

test("a path may hold what QEMU's other form separates by", () => {
  const blocks = qemuArguments(machine).filter((a) => a.startsWith("{"));
  const files = blocks.map((b) => (JSON.parse(b) as { file?: { filename?: string } }).file?.filename).filter(Boolean);
  assert.ok(files.includes('/a, "b"/data.img'));
});

test("disks are found by their serial, and the firmware is the one that was asked for", () => {
  const uefi = qemuArguments(machine).join(" ");
  assert.match(uefi, /-device nvme,drive=volume0,serial=vol0123456789abcdef0 /);
  assert.match(uefi, /-device virtio-blk-pci,drive=facts,serial=ingot-facts /);
  assert.match(uefi, /pflash0=firmware/);
  assert.not.match(qemuArguments({ ...machine, firmware: "bios" }).join(" "), /pflash|OVMF/);
});

test("nothing of a machine listens on a network, and only its volumes and its own disk can be written to", () => {
  const words = qemuArguments(machine);
  assert.equal(
    words.filter((w) => /hostfwd|vnc|tcp:|:user/.test(w)),
    [],
  );
  const readOnly = words.filter((w) => w.startsWith("{")).filter((w) => (JSON.parse(w) as { "read-only"?: boolean })["read-only"]);
  assert.equal(
    readOnly.map((w) => (JSON.parse(w) as { "node-name": string })["node-name"]),
    ["firmware", "seed", "facts"],
  );
});

// ---- commands ----

let folder: string;
let agent: ChildProcess;
test.before(async () => {
  folder = mkdtempSync(join(tmpdir(), "ingot-vm-"));
  const script = join(toolFolder, "tests/stacks/vm-agent.py");
  agent = spawn("python3", [script, join(toolFolder, "cloud-init/host/agent.py"), folder], { stdio: "inherit", cwd: "/" });
  await until(() => existsSync(join(folder, "port0.lock")));
});
test.after(() => {
  agent?.kill();
  if (folder) rmSync(folder, { recursive: true, force: true });
});

const exec = (argv: string[], input: string | Buffer = "") => {
  const program = [join(toolFolder, "stacks/local/vm-exec.py"), folder, "20", "--", ...argv];
  const { status, stdout, stderr } = spawnSync("python3", program, { input, maxBuffer: 2 ** 26, timeout: 60_000 });
  return { code: status, stdout: stdout.toString(), stderr: stderr.toString() };
};

test("a command's arguments are what they were, and so is its exit code", () => {
  const awkward = ["", "a b", "'\"$HOME`x`\\", "ä\n-"];
  const { code, stdout } = exec(["python3", "-c", "import sys, json; print(json.dumps(sys.argv[1:])); sys.exit(7)", ...awkward]);
  assert.equal([JSON.parse(stdout), code], [awkward, 7]);
});

test("its two outputs stay apart", () => {
  assert.equal(exec(["sh", "-c", "echo one; echo two >&2"]), { code: 0, stdout: "one\n", stderr: "two\n" });
});

test("input of any size goes through while output comes", () => {
  const large = Buffer.alloc(5_000_000, "0123456789\n");
  const { stdout, code } = exec(["cat"], large);
  assert.equal([stdout.length, stdout === large.toString(), code], [large.length, true, 0]);
});

test("a program that does not read its input does not keep it from ending", () => {
  assert.equal(exec(["sh", "-c", "exit 3"], Buffer.alloc(3_000_000)).code, 3);
});

test("a program that is not there, and one that is killed, say so", () => {
  assert.equal([exec(["no-such-program"]).code, exec(["sh", "-c", "kill -9 $$"]).code], [127, 137]);
});

test("whoever goes takes his program with him", async () => {
  const mark = join(folder, "alive");
  const script = `trap 'exit 0' TERM; while :; do touch "$0"; sleep 0.1; done`;
  const program = [join(toolFolder, "stacks/local/vm-exec.py"), folder, "20", "--", "sh", "-c", script, mark];
  const child = spawn("python3", program, { stdio: ["ignore", "ignore", "inherit"] });
  assert.ok(await until(() => existsSync(mark)));
  child.kill("SIGKILL");
  // It is taken along a moment later; until then the mark is made again ten times a second.
  for (const end = performance.now() + 60_000; ; ) {
    rmSync(mark, { force: true });
    await delay(1000);
    if (!existsSync(mark)) break;
    assert.ok(performance.now() < end, "it runs on a minute later");
  }
  assert.is(exec(["true"]).code, 0);
});

test("a command that went with a reboot of the machine ends", async () => {
  const rebooted = mkdtempSync(join(tmpdir(), "ingot-vm-"));
  const hello = Buffer.from("H\0\0\0\0");
  // QEMU stays through it, and the next boot's agent finds whoever was there.
  const server = createServer((connection) => {
    connection.once("data", () => connection.write(hello));
    connection.write(hello);
  });
  try {
    writeFileSync(join(rebooted, "port0.lock"), "");
    await new Promise<void>((listening) => server.listen(join(rebooted, "port0"), listening));
    const program = [join(toolFolder, "stacks/local/vm-exec.py"), rebooted, "20", "--", "sleep", "100"];
    const child = spawn("python3", program, { stdio: ["ignore", "ignore", "pipe"] });
    let said = "";
    child.stderr.on("data", (chunk) => (said += chunk));
    const code = await new Promise((ended) => child.on("close", ended));
    assert.equal([code, said], [255, "vm-exec: the machine has rebooted, and the command went with it\n"]);
  } finally {
    server.close();
    rmSync(rebooted, { recursive: true, force: true });
  }
});

test("where nobody answers, the exit code says so", () => {
  const nobody = mkdtempSync(join(tmpdir(), "ingot-vm-"));
  const program = join(toolFolder, "stacks/local/vm-exec.py");
  try {
    spawnSync("sh", ["-c", 'mkdir "$1/run"; : >"$1/port0.lock"; : >"$1/run/exit"', "sh", nobody]);
    const { status, stderr } = spawnSync("python3", [program, nobody, "5", "--", "true"]);
    assert.equal([status, stderr.toString()], [255, "vm-exec: the machine is off\n"]);
  } finally {
    rmSync(nobody, { recursive: true, force: true });
  }
});

test.run();
