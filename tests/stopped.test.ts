// A run of tests that is stopped: what it has made is taken away first, a server and a folder here, by the process of this file run once more.
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { startMoto } from "./moto.ts";
import { whenStopped } from "./stopped.ts";
import { suite } from "./suite.ts";

const made = process.env.INGOT_TEST_STOPPED;
if (made !== undefined) {
  whenStopped(() => new Promise((resolve) => setTimeout(resolve, 200)).then(() => rmSync(made, { recursive: true })));
  const { endpoint } = await startMoto();
  process.stdout.write(`${endpoint}\n`);
  setInterval(() => {}, 1000);
} else {
  const test = suite("a run of tests that is stopped");
  for (const [signal, code] of [
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)
    test(`${signal}: its folder and its server are gone before it has ended`, async () => {
      const folder = mkdtempSync(join(tmpdir(), "ingot-stopped-"));
      const child = spawn(process.execPath, [process.argv[1] ?? ""], {
        env: { ...process.env, INGOT_TEST_STOPPED: folder },
        stdio: ["ignore", "pipe", "inherit"],
      });
      const endpoint = await firstLine(child);
      assert.is((await fetch(`${endpoint}/moto-api/data.json`)).status, 200);
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.kill(signal);
      // Whoever presses Ctrl-C twice is not faster.
      child.kill(signal);
      assert.is(await ended, code);
      assert.not.ok(existsSync(folder));
      assert.match(await fetch(endpoint).then(String, (error: Error) => String(error.cause)), /ECONNREFUSED/);
    });
  test.run();
}

/** @throws Error when it ends before it has said one */
function firstLine({ stdout }: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    stdout?.on("data", (chunk: Buffer) => {
      text += chunk.toString();
      if (text.includes("\n")) resolve(text.trim());
    });
    stdout?.on("end", () => reject(new Error("it has ended")));
  });
}
