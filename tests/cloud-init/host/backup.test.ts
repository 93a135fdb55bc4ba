// backup.py without a host: what it does when several of it want to run. No root, no machine; its files are in a folder of the test's.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { suite } from "../../suite.ts";
import { hostFolder } from "./machine.ts";

const test = suite("backup");
const folder = mkdtempSync(join(tmpdir(), "ingot-backup-"));
const quiet = join(folder, "quiet");
const woken = join(folder, "woken");
test.after(() => rmSync(folder, { recursive: true, force: true }));

/** @param script Python; `backup` is the module, and `lock` what one holds who makes a backup */
function python(script: string): Promise<{ code: number | null; output: string }> {
  const head = `import fcntl, sys
sys.path.insert(0, ${JSON.stringify(hostFolder)})
import backup
backup.SETTINGS, backup.LOCK, backup.QUIET = (${JSON.stringify(folder)} + name for name in ("/settings.json", "/lock", "/quiet"))
lock = open(backup.LOCK, "w")
`;
  const child = spawn("/usr/bin/python3", ["-B", "-c", head + script]);
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => (output += chunk.toString()));
  return new Promise((resolve) => child.on("close", (code) => resolve({ code, output })));
}

test.before(() => {
  writeFileSync(join(folder, "settings.json"), JSON.stringify({ to: "/nowhere", directories: [], held: [], times: {} }));
  writeFileSync(quiet, `echo again >${woken}`);
});

test("a backup that has ended wakes nobody while another is at it, and has not failed for that", async () => {
  const { code, output } = await python(`fcntl.flock(lock, fcntl.LOCK_EX)\nbackup.main(["wake"])`);
  assert.is(code, 0, output);
  assert.ok(existsSync(quiet));
  assert.not.ok(existsSync(woken));
});

test("whom a backup that was killed has left quiet goes on, once", async () => {
  const { code, output } = await python(`backup.main(["wake"])\nbackup.main(["wake"])`);
  assert.is(code, 0, output);
  assert.is(readFileSync(woken, "utf8"), "again\n");
  assert.not.ok(existsSync(quiet));
});

test("of a copy there is something to make, or it says what is not there", async () => {
  const { code, output } = await python(`backup.copy("wiki", ["/no/wiki", "/no/media"])`);
  assert.is(code, 1);
  assert.match(output, /there is nothing to copy: \/no\/wiki, \/no\/media are not there/);
});

test.run();
