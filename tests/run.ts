// Runs the test files that the build put into dist/tests, each as a process of its own, and closes with `N passed, N failed`.
// `--unit`: only those that need neither root nor a machine (all but *.e2e.test.js). Other arguments: parts of file names.
// End-to-end tests begin when their image is baked, and the others run beside them; *.root.e2e.test.js run as root, by sudo when we are not.
import { spawn } from "node:child_process";
import { readdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join, relative } from "node:path";
import { toolFolder } from "../lib/paths.ts";

const args = process.argv.slice(2);
const folder = join(toolFolder, "dist/tests");
const files = readdirSync(folder, { recursive: true, encoding: "utf8" })
  .filter((f) => f.endsWith(".test.js"))
  .map((f) => join(folder, f))
  .sort();
const named = args.filter((a) => !a.startsWith("--"));
const wanted = files.filter((f) => (named.length ? named.some((n) => f.includes(n)) : true));
/** The longest first, in this order, so that none of them is left alone at the end. */
const longest = [
  "e2e/kano-konnect",
  "e2e/inloop",
  "e2e/live",
  "e2e/patchwork",
  "e2e/kinds",
  "e2e/processes",
  "e2e/deploy",
  "e2e/docker",
  "ec2/packer.root",
  "images/bake",
  "e2e/backup-store",
  "e2e/failure",
  "images/bake-layers",
  "e2e/mail",
];
const rank = (file: string): number => {
  const at = longest.indexOf(relative(folder, file).replace(/\.e2e\.test\.js$/, ""));
  return at < 0 ? longest.length : at;
};
const endToEnd = wanted.filter((f) => f.endsWith(".e2e.test.js")).sort((a, b) => rank(a) - rank(b));
const unit = wanted.filter((f) => !f.endsWith(".e2e.test.js"));

interface Outcome {
  passed: number;
  failed: number;
}

/** One file. uvu says `Total: N` and `Passed: N`; a file that says nothing of the kind has failed as a whole. */
async function runFile(file: string): Promise<Outcome> {
  const name = relative(folder, file).replace(/\.js$/, "");
  const began = performance.now();
  const argv = [process.execPath, "--enable-source-maps", file];
  const [program = "", ...rest] = file.includes(".root.") ? (await import("../lib/run.ts")).asRoot(argv) : argv;
  const child = spawn(program, rest, {
    cwd: toolFolder,
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, FORCE_COLOR: "0" },
  });
  let output = "";
  // One whose tests are over and that goes on has left something open: it has a minute more, and a last one to take it away.
  let over: NodeJS.Timeout | undefined;
  const ended = () => {
    output += "\nits tests are over, and the process is not: something is open still\n";
    child.kill("SIGTERM");
    over = setTimeout(() => child.kill("SIGKILL"), 60_000);
  };
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (chunk: Buffer) => {
      output += chunk.toString();
      if (/^ {2}Duration: /m.test(output)) over ??= setTimeout(ended, 60_000);
    });
  running.add(child);
  return new Promise((resolve) => {
    child.on("close", (code) => {
      running.delete(child);
      clearTimeout(over);
      const total = Number(/^\s*Total:\s+(\d+)/m.exec(output)?.[1] ?? 0);
      const passed = Number(/^\s*Passed:\s+(\d+)/m.exec(output)?.[1] ?? 0);
      const skipped = Number(/^\s*Skipped:\s+(\d+)/m.exec(output)?.[1] ?? 0);
      const nothing = total === 0 && !(skipped && code === 0);
      const failed = nothing || (code !== 0 && total === passed) ? total - passed + 1 : total - passed;
      console.log(
        `${failed ? "FAILED" : "ok    "} ${name}: ${passed} of ${total} (${((performance.now() - began) / 1000).toFixed(1)} s)${skipped ? `, ${skipped} skipped` : ""}`,
      );
      if (failed) console.log(output.replace(/^/gm, "    "));
      resolve({ passed, failed });
    });
  });
}

const running = new Set<ReturnType<typeof spawn>>();
let stopped = false;
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    stopped = true;
    for (const child of running) child.kill(signal);
  });
}

const outcomes: Outcome[] = [];
/** One file of the queue after the other; several may take from the same queue. */
async function work(queue: string[]): Promise<void> {
  for (let file = queue.shift(); file && !stopped; file = queue.shift()) outcomes.push(await runFile(file));
}

/** Whether debian-12 was baked, or is there. */
function bake(): Promise<boolean> {
  const child = spawn(process.execPath, [join(toolFolder, "dist/ingot.js"), "bake", "debian-12"], { cwd: toolFolder, stdio: "inherit" });
  running.add(child);
  return new Promise((resolve) => {
    child.on("close", (code) => {
      running.delete(child);
      resolve(code === 0);
    });
  });
}

if (args.includes("--unit") || !endToEnd.length) await Promise.all(Array.from({ length: availableParallelism() }, () => work(unit)));
else {
  // Machines wait more than they work, and so do the tests of AWS's calls: four files at a time keep two processors busy. More would be too
  // many machines for the kernel's usual limit of 128 inotify instances, of which each has seven or eight.
  const baked = bake();
  const machines = async () => {
    if (await baked) await work(endToEnd);
  };
  await Promise.all([work(unit).then(machines), ...Array.from({ length: Math.min(3, availableParallelism() + 1) }, machines)]);
  if (!(await baked) && !stopped) outcomes.push({ passed: 0, failed: 1 });
}
const passed = outcomes.reduce((n, o) => n + o.passed, 0);
const failed = outcomes.reduce((n, o) => n + o.failed, 0);
console.log(`\n${passed} passed, ${failed} failed`);
if (stopped) process.exitCode = 130;
else if (failed || !passed) process.exitCode = 1;
