// The one way to run programs: what comes back, what is said when it fails, and that nothing is left running.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import * as assert from "uvu/assert";
import { Cancelled, cancelled, listenForSignals, sleep } from "../../lib/cancel.ts";
import { MissingError } from "../../lib/diagnostics.ts";
import { asRoot, RunError, run, tryRun } from "../../lib/run.ts";
import { suite } from "../suite.ts";
import { alive, part, start, until } from "./processes.ts";

/** What a cancelled run says: the name of the error. */
const nameOf = (error: unknown): string => (error instanceof Cancelled ? `Cancelled ${error.signal}` : String(error));

if (part === "sleep") {
  listenForSignals();
  const said = await run(["sh", "-c", "echo $$; exec sleep 100"], { onLine: (line) => console.log(line) }).then(() => "ended", nameOf);
  console.log(said);
  console.log(await run(["true"]).then(() => "ran", nameOf));
  console.log(await run(["echo", "clean-up"], { evenWhenCancelled: true }).then((r) => r.stdout.trim(), nameOf));
} else if (part === "leash") {
  listenForSignals();
  // As a program of root's, which we may not signal: it ends when its standard input does.
  await run(["sh", "-c", "echo $$; trap '' TERM; read line; echo heard"], { leash: true, onLine: (line) => console.log(line) }).then(
    () => {},
    (e: unknown) => console.log(nameOf(e)),
  );
} else if (part === "gentle") {
  listenForSignals();
  // Longer than the five seconds after which another program is killed; a second signal would end it at once.
  const script = "trap 'trap - INT TERM; sleep 6; echo ended in order; exit 0' INT; echo begun; while :; do sleep 0.1; done";
  await run(["sh", "-c", script], { gentle: true, onLine: (line) => console.log(line) }).then(
    () => {},
    (e: unknown) => console.log(nameOf(e)),
  );
} else if (part === "wait") {
  listenForSignals();
  console.log("waiting");
  console.log(await sleep(100).then(() => "slept", nameOf));
} else {
  const test = suite("run");
  const failure = async <T extends Error>(work: Promise<unknown>, type: new (...args: never[]) => T): Promise<T> => {
    const error = await work.then(
      () => undefined,
      (e: unknown) => e,
    );
    assert.instance(error, type);
    return error as T;
  };

  test("standard output, standard error and exit code come back, with the seconds", async () => {
    const result = await tryRun(["sh", "-c", "echo out; echo err >&2; exit 3"]);
    assert.equal([result.code, result.stdout, result.stderr], [3, "out\n", "err\n"]);
    assert.ok(result.seconds > 0 && result.seconds < 60);
  });

  test("another exit code than 0 is an error with the program's last words", async () => {
    const error = await failure(run(["sh", "-c", "seq 40 >&2; exit 7"]), RunError);
    assert.is(error.result.code, 7);
    assert.match(error.message, /^sh ended with exit code 7:\n26\n/);
    assert.match(error.message, /\n40$/);
    assert.match((await failure(run(["sh", "-c", "echo on stdout; exit 1"]), RunError)).message, /on stdout/);
  });

  test("words are passed as they are: no shell expands them", async () => {
    const words = ["a b", "$HOME", "*", "'", '"', ";", "&&", "`id`", "", "é", "-n", "a\nb", "\\", "~", "{a,b}"];
    const { stdout } = await run(["printf", "%s\\0", ...words]);
    assert.equal(stdout.split("\0").slice(0, -1), words);
  });

  test("input is its standard input; without it there is nothing to read", async () => {
    assert.is((await run(["cat"], { input: "a\nb" })).stdout, "a\nb");
    assert.is((await run(["cat"], { input: "" })).stdout, "");
    assert.is((await run(["cat"])).stdout, "");
  });

  test("a folder to run in, and variables beside our own", async () => {
    const folder = mkdtempSync(`${tmpdir()}/ingot-run-`);
    const { stdout } = await run(["sh", "-c", 'pwd; echo "$A"; test -n "$PATH" && echo path'], { cwd: folder, env: { A: "b c" } });
    assert.equal(stdout.trimEnd().split("\n"), [folder, "b c", "path"]);
    rmSync(folder, { recursive: true });
  });

  test("each line as it comes, of both streams, and all of it at the end", async () => {
    const folder = mkdtempSync(`${tmpdir()}/ingot-run-`);
    const seen: string[] = [];
    // It says the next one when the one before has come.
    const script = "echo one; until [ -e one ]; do sleep 0.05; done; echo two >&2; until [ -e two ]; do sleep 0.05; done; printf three";
    const result = await run(["sh", "-c", script], {
      cwd: folder,
      onLine: (line) => {
        seen.push(line);
        writeFileSync(`${folder}/${line}`, "");
      },
    });
    assert.equal(seen, ["one", "two", "three"]);
    assert.is(result.stdout, "one\nthree");
    assert.is(result.stderr, "two\n");
    rmSync(folder, { recursive: true });
  });

  test("a program that is not installed is said to be missing, with what mends it", async () => {
    const error = await failure(run(["ingot-no-such-program", "x"]), MissingError);
    assert.is(error.message, "ingot-no-such-program is not installed");
    assert.is(error.mend, "npm start");
  });

  test("exit code 127 of a program that is there is the program's own", async () => {
    assert.is((await tryRun(["sh", "-c", "exit 127"])).code, 127);
  });

  test("after its time it is ended, and what it had started too", async () => {
    const result = await tryRun(["sh", "-c", "echo $$; sleep 100 & wait"], { timeoutSeconds: 3 });
    assert.is(result.code, 124, "also when it ends well once its own program is killed");
    assert.ok(await until(() => !alive(Number(result.stdout))));
  });

  test("ended by a signal is no success", async () => {
    assert.is.not((await tryRun(["sh", "-c", "kill -9 $$"])).code, 0);
    const error = await failure(run(["sh", "-c", "kill -TERM $$"]), RunError);
    assert.is(error.result.code, 143);
  });

  test("much output is no trouble", async () => {
    const { stdout } = await run(["head", "-c", "5000000", "/dev/zero"]);
    assert.is(stdout.length, 5_000_000);
  });

  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    test(`${signal} to us ends the program, nothing new begins, and clean-up still runs`, async () => {
      const us = start(import.meta.url, "sleep");
      const pid = Number(await us.line());
      assert.ok(alive(pid));
      us.child.kill(signal);
      assert.is(await us.line(), `Cancelled ${signal}`);
      assert.is(await us.line(), `Cancelled ${signal}`);
      assert.is(await us.line(), "clean-up");
      assert.ok(await until(() => !alive(pid)));
      us.child.kill("SIGKILL");
    });
  }

  test("a program on a leash is told by the end of its input, not by a signal", async () => {
    const us = start(import.meta.url, "leash");
    const pid = Number(await us.line());
    us.child.kill("SIGTERM");
    assert.is(await us.line(), "heard");
    assert.is(await us.line(), "Cancelled SIGTERM");
    assert.ok(await until(() => !alive(pid)));
    await us.end();
  });

  test("a program on a leash ends when we are killed", async () => {
    const us = start(import.meta.url, "leash");
    const pid = Number(await us.line());
    us.child.kill("SIGKILL");
    assert.ok(await until(() => !alive(pid)));
  });

  test("a gentle program is asked once and waited for, however long it takes", async () => {
    const us = start(import.meta.url, "gentle");
    assert.is(await us.line(), "begun");
    us.child.kill("SIGTERM");
    assert.is(await us.line(), "ended in order");
    assert.is(await us.line(), "Cancelled SIGTERM");
    await us.end();
  });

  test("characters that lie across two pieces of a program's output stay whole", async () => {
    const { stdout } = await run(["sh", "-c", "printf '\\303'; sleep 0.2; printf '\\251'"]);
    assert.is(stdout, "é");
  });

  test("waiting ends early too", async () => {
    const us = start(import.meta.url, "wait");
    assert.is(await us.line(), "waiting");
    us.child.kill("SIGINT");
    assert.is(await us.line(), "Cancelled SIGINT");
    assert.is(await us.end(), 0);
  });

  test("nobody has stopped this run", () => cancelled());

  test("as root: through sudo unless we are root, and never asking for a password", () => {
    assert.equal(asRoot(["id"]), process.getuid?.() === 0 ? ["id"] : ["sudo", "--non-interactive", "--", "id"]);
  });

  test.run();
}
