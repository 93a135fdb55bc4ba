// What holds the machines of a stack of the vm target, with programs in the place of QEMU: the network that leads nowhere, ports on this
// computer's loopback, and an end that takes everything along. It needs no root, but where /dev/net/tun is root's alone.
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import * as assert from "uvu/assert";
import { ledgerAt } from "../../lib/ledger.ts";
import { projectAt, toolFolder } from "../../lib/paths.ts";
import { silent } from "../../lib/progress.ts";
import { choosePorts } from "../../stacks/local/forward.ts";
import { holderOf } from "../../stacks/local/machine.ts";
import { vmTarget } from "../../stacks/local/vm.ts";
import { suite } from "../suite.ts";

const test = suite("vm: what holds the machines");

/** A stack's folder with one program in the place of each machine. */
async function begin(programs: Record<string, string[]>, ports: Record<number, string> = {}): Promise<string> {
  const folder = mkdtempSync("/var/tmp/ingot hold: ");
  mkdirSync(join(folder, "run"));
  const names = Object.keys(programs);
  for (const [name, argv] of Object.entries(programs)) {
    mkdirSync(join(folder, name, "run"), { recursive: true });
    writeFileSync(join(folder, name, "run/argv"), argv.map((word) => `${word}\0`).join(""));
  }
  writeFileSync(join(folder, "run/machines"), names.map((name, i) => `${name}\ttap${i}\n`).join(""));
  writeFileSync(
    join(folder, "run/forwards"),
    Object.entries(ports)
      .map(([port, here]) => `${here}\t10.83.0.1:${port}\n`)
      .join(""),
  );
  execFileSync("sh", [join(toolFolder, "stacks/local/vm-start.sh"), folder, "10.83.0.1/24"]);
  await until("it holds", () => existsSync(join(folder, "run/holder")));
  return folder;
}

async function until(what: string, condition: () => boolean): Promise<void> {
  for (const end = Date.now() + 120_000; !condition(); await delay(50))
    if (Date.now() > end) throw new Error(`not within two minutes: ${what}`);
}

const page = ["python3", "-m", "http.server", "--bind", "10.83.0.1", "8000"];
const get = (address: string) => spawnSync("curl", ["-s", "-o", "/dev/null", "--max-time", "30", `http://${address}/`]).status;

test("a port of a machine answers on this computer's loopback, and no interface of it is here", async () => {
  const ports = await choosePorts([8000], new Set());
  const folder = await begin({ web: page }, ports);
  try {
    await until("the page answers", () => get(ports[8000] ?? "") === 0);
    assert.not.match(execFileSync("ip", ["-brief", "address"]).toString(), /10\.83\.0\.1\//);
  } finally {
    await end(folder);
  }
});

test("what is in the machines' network is reached from here by a way of its own, for as long as that is open", async () => {
  const folder = await begin({ web: page });
  const target = vmTarget({ ...projectAt(folder), machines: dirname(folder) }, silent);
  const open = () => target.wayInto?.(basename(folder), "10.83.0.1:8000");
  try {
    const way = await open();
    assert.ok(way);
    const got = () => spawnSync("curl", ["-s", "-o", "/dev/null", "--max-time", "20", "--unix-socket", way.socket, "http://web/"]).status;
    await until("the page answers", () => got() === 0);
    await way.close();
    assert.not.ok(existsSync(way.socket));
  } finally {
    await end(folder);
  }
  assert.is(await open(), undefined);
});

test("when the last machine is off, nothing is left; each one's exit code is kept", async () => {
  const folder = await begin({ one: ["sh", "-c", "exit 3"], two: ["true"] });
  await until("it has ended", () => holderOf(folder) === undefined);
  assert.equal(
    ["one", "two"].map((name) => readFileSync(join(folder, name, "run/exit"), "utf8").trim() !== "0"),
    [true, false],
  );
  await end(folder);
});

test("a machine that says it rebooted is run again, as often as it says so", async () => {
  const said = '{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}';
  const program = 'read asked; echo "$asked" >>runs; [ "$(wc -l <runs)" -ge 3 ] || echo "$0"';
  const folder = await begin({ one: ["sh", "-c", program, said] });
  await until("it has ended", () => holderOf(folder) === undefined);
  assert.is(readFileSync(join(folder, "one/runs"), "utf8"), '{"execute": "qmp_capabilities"}\n'.repeat(3));
  assert.is(readFileSync(join(folder, "one/run/exit"), "utf8").trim(), "0");
  await end(folder);
});

test("whoever undoes it needs the holder's file alone, and takes every process along", async () => {
  const ports = await choosePorts([8000], new Set());
  // Another run of this test may be at it beside this one.
  const seconds = String(987_000_000 + process.pid);
  const folder = await begin({ web: ["sleep", seconds] }, ports);
  await until("the machine runs", () => spawnSync("pgrep", ["-f", `sleep ${seconds}`]).status === 0);
  await end(folder);
  assert.is(spawnSync("pgrep", ["-f", `sleep ${seconds}`]).status, 1);
  assert.is(spawnSync("pgrep", ["-f", `listen=${ports[8000]}`]).status, 1);
  assert.is(existsSync(folder), false);
});

/** By the ledger, as a killed launch is undone. */
async function end(folder: string): Promise<void> {
  const entries = mkdtempSync("/var/tmp/ingot-ledger-");
  const ledger = ledgerAt(entries);
  const entry = ledger.begin("machines/x", "machines of x");
  ledger.add(entry, { kind: "folder", path: folder, own: true });
  ledger.add(entry, { kind: "holder", file: join(folder, "run/holder") });
  await ledger.undo(entry);
  rmSync(entries, { recursive: true });
}

test.run();
