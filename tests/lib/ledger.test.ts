// What was begun is written down before it is made, and found by whoever comes after a crash.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { ledgerAt, startOf } from "../../lib/ledger.ts";
import { suite } from "../suite.ts";
import { part, start } from "./processes.ts";

const [, , , given = ""] = process.argv;

if (part === "begin") {
  const ledger = ledgerAt(given);
  const entry = ledger.begin("bake-debian-12", "bake of debian-12");
  ledger.add(entry, { kind: "folder", path: join(given, "half") });
  const kept = ledger.begin("machine/inloop/web", "machine inloop/web");
  ledger.keep(kept);
  console.log("begun");
  setInterval(() => {}, 1000);
} else {
  const test = suite<{ folder: string }>("ledger");
  test.before.each((context) => {
    context.folder = join(mkdtempSync(join(tmpdir(), "ingot-ledger-")), "ledger");
  });
  test.after.each(({ folder }) => rmSync(join(folder, ".."), { recursive: true }));

  test("there is none before the first is begun", ({ folder }) => {
    assert.equal(ledgerAt(folder).all(), []);
    assert.equal(ledgerAt(folder).abandoned(), []);
    assert.is(ledgerAt(folder).find("x"), undefined);
  });

  test("what is begun is on disk at once, with all that was added, for any other reader", ({ folder }) => {
    const ledger = ledgerAt(folder);
    const entry = ledger.begin("a", "bake of a");
    assert.is(ledgerAt(folder).find("a")?.state, "begun");
    ledger.add(entry, { kind: "mount", path: "/mnt/a" });
    ledger.add(entry, { kind: "process", pid: 1, start: "1" });
    const read = ledgerAt(folder).find("a");
    assert.equal(read, entry);
    assert.equal(
      read?.things.map((t) => t.kind),
      ["mount", "process"],
    );
    assert.is(read?.owner.pid, process.pid);
    assert.match(read?.began ?? "", /^\d{4}-\d\d-\d\dT/);
  });

  test("what is kept stays until it is closed", ({ folder }) => {
    const ledger = ledgerAt(folder);
    const entry = ledger.begin("a", "machine a");
    ledger.keep(entry);
    assert.is(ledger.find("a")?.state, "kept");
    ledger.close(entry);
    assert.is(ledger.find("a"), undefined);
    ledger.close(entry);
  });

  test("an id may hold slashes, and is one file", ({ folder }) => {
    const ledger = ledgerAt(folder);
    ledger.begin("machine/inloop/web", "machine inloop/web");
    assert.equal(readdirSync(folder), ["machine.inloop.web.json"]);
    assert.is(ledger.find("machine/inloop/web")?.id, "machine/inloop/web");
  });

  test("whoever is still at it has abandoned nothing", ({ folder }) => {
    const ledger = ledgerAt(folder);
    ledger.begin("a", "bake of a");
    assert.equal(ledger.abandoned(), []);
  });

  test("after kill -9 of its maker what was begun is abandoned, and what was kept is not", async ({ folder }) => {
    const maker = start(import.meta.url, "begin", [folder]);
    assert.is(await maker.line(), "begun");
    const ledger = ledgerAt(folder);
    assert.equal(ledger.abandoned(), []);
    maker.child.kill("SIGKILL");
    await maker.end();
    assert.equal(
      ledger.abandoned().map((e) => e.what),
      ["bake of debian-12"],
    );
    assert.equal(
      ledger
        .all()
        .map((e) => [e.what, e.state])
        .sort(),
      [
        ["bake of debian-12", "begun"],
        ["machine inloop/web", "kept"],
      ],
    );
  });

  test("a number that another process has by now is not its maker", ({ folder }) => {
    const ledger = ledgerAt(folder);
    const entry = ledger.begin("a", "bake of a");
    entry.owner = { pid: process.pid, start: "1" };
    ledger.add(entry, { kind: "netns", name: "x" });
    assert.equal(
      ledger.abandoned().map((e) => e.id),
      ["a"],
    );
  });

  test("a file that was being written when its writer died is no entry", ({ folder }) => {
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "a.json.123.tmp"), '{"id":');
    assert.equal(ledgerAt(folder).all(), []);
  });

  test("undoing an entry without things only forgets it", async ({ folder }) => {
    const ledger = ledgerAt(folder);
    await ledger.undo(ledger.begin("a", "bake of a"));
    assert.equal(ledger.all(), []);
  });

  test("undoing removes what was made, also when half of it was never there, and twice", async ({ folder }) => {
    if (process.getuid?.() !== 0) return; // undo.sh works as root: the end-to-end tests of each room do it
    const ledger = ledgerAt(folder);
    const entry = ledger.begin("a", "bake of a");
    const made = join(folder, "made here");
    for (const path of [made, join(folder, "never")]) ledger.add(entry, { kind: "folder", path });
    mkdirSync(join(made, "deep"), { recursive: true });
    await ledger.undo(entry);
    assert.not.ok(existsSync(made));
    assert.equal(ledger.all(), []);
    await ledger.undo(entry);
  });

  test("undoing a folder detaches what is attached of its files", async ({ folder }) => {
    if (process.getuid?.() !== 0 || !existsSync("/dev/loop-control")) return;
    const ledger = ledgerAt(folder);
    const entry = ledger.begin("a", "bake of a");
    const made = join(folder, "made here");
    ledger.add(entry, { kind: "folder", path: made });
    mkdirSync(made);
    writeFileSync(join(made, "disk"), "");
    truncateSync(join(made, "disk"), 2 ** 20);
    const device = execFileSync("losetup", ["--find", "--show", join(made, "disk")], { encoding: "utf8" }).trim();
    await ledger.undo(entry);
    assert.not.match(execFileSync("losetup", ["--list", "--noheadings", "--output", "BACK-FILE"], { encoding: "utf8" }), made);
    assert.not.ok(existsSync(made), device);
  });

  test("a disk whose file is gone is detached all the same", async ({ folder }) => {
    if (process.getuid?.() !== 0 || !existsSync("/dev/loop-control")) return;
    const ledger = ledgerAt(folder);
    const entry = ledger.begin("a", "machine a/b");
    const file = join(folder, "a disk.img");
    ledger.add(entry, { kind: "loop", file });
    writeFileSync(file, "");
    truncateSync(file, 2 ** 20);
    execFileSync("losetup", ["--find", file]);
    rmSync(file);
    await ledger.undo(entry);
    assert.not.match(execFileSync("losetup", ["--list", "--noheadings", "--output", "BACK-FILE"], { encoding: "utf8" }), file);
  });

  test("a process is known by its number and when it began", () => {
    assert.match(startOf(process.pid) ?? "", /^\d+$/);
    assert.is(startOf(process.pid), startOf(process.pid));
    assert.is(startOf(2 ** 30), undefined);
  });

  test.run();
}
