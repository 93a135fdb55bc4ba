// Many users at once, by wrk: bounded in connections and in requests of each, and in time by whoever ends it.
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { toolFolder } from "../../lib/paths.ts";
import { asRoot } from "../../lib/run.ts";

/** Seconds that a load lasts at least: `npm run test:long` makes it a minute. */
export const loadSeconds = process.env.INGOT_TEST_LONG ? 60 : 10;

/**
 * @param folder for the file of names
 * @param url its host's name is taken for this computer
 * @param work is done meanwhile; the load ends with it
 * @returns how many requests were answered
 * @throws when one was lost, or answered otherwise than by 2xx or 3xx
 */
export async function underLoad(folder: string, url: string, work: () => Promise<void>): Promise<number> {
  const hosts = join(folder, "hosts");
  writeFileSync(hosts, `127.0.0.1 localhost ${new URL(url).hostname}\n`);
  // Of what one does before the next click, a tenth of a second is left: what they are served by has processors of its own, elsewhere.
  const pace = join(folder, "pace.lua");
  writeFileSync(pace, "function delay() return 100 end\n");
  // A request may wait for a program that is being restarted; none may wait for longer than a person would.
  const wrk = ["--threads", "2", "--connections", "8", "--timeout", "30s", "--duration", "600s", "--script", pace, url];
  const [program = "", ...args] = asRoot(["unshare", "--mount", "sh", join(toolFolder, "tests/e2e/load.sh"), hosts, ...wrk]);
  const child = spawn(program, args, { stdio: ["pipe", "pipe", "inherit"] });
  let said = "";
  child.stdout.on("data", (chunk: Buffer) => (said += chunk.toString()));
  const ended = new Promise<void>((resolve) => child.on("close", () => resolve()));
  const began = performance.now();
  try {
    await work();
    const left = loadSeconds * 1000 - (performance.now() - began);
    if (left > 0) await new Promise((resolve) => setTimeout(resolve, left));
  } finally {
    child.stdin.end();
    await ended;
  }
  const count = /(\d+) requests in /.exec(said)?.[1];
  assert.ok(count !== undefined, said);
  // wrk names neither when there are none.
  assert.not.match(said, /Socket errors|Non-2xx/);
  return Number(count);
}
