// A project of the test's own: the repository's recipes, stacks and applications in a temporary folder, with its own .ingot/.
// Images, .debs and releases are the repository's, so that nothing is baked or fetched twice.
import { type ChildProcess, spawn } from "node:child_process";
import {
  closeSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { constants } from "node:os";
import { join, resolve } from "node:path";
import * as assert from "uvu/assert";
import { projectAt, toolFolder } from "../../lib/paths.ts";
import { connectTo } from "../../stacks/local/connection.ts";
import { leaderOf, records } from "../../stacks/local/machine.ts";
import { isStopping, whenStopped } from "../stopped.ts";

export interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

/** A command that runs. */
export interface Begun {
  child: ChildProcess;
  ended: Promise<Outcome>;
  /** Once standard error has something like it. @throws when the command ends before */
  said(like: RegExp): Promise<void>;
  /** Once it has a handler for the signal. Before that Node ends it without a word, and it has begun nothing. */
  listens(signal: NodeJS.Signals): Promise<void>;
}

export interface TestProject {
  folder: string;
  /** Runs the built `ingot` in the project, as a user would. */
  ingot(args: string[], input?: string): Promise<Outcome>;
  /** The same, not waited for. */
  begin(args: string[]): Begun;
  /** Runs a shell script on a machine, as `ingot exec` does; the script is an argument, its input comes on standard input. */
  on(machine: string, script: string, input?: string): Promise<Outcome>;
  /** The same, which must succeed; gives what it prints. */
  must(machine: string, script: string): Promise<string>;
  /** By psql as postgres, which must succeed; gives what it prints, unaligned. */
  sql(machine: string, database: string, text: string): Promise<string>;
  json(args: string[]): Promise<unknown>;
  /** Replaces in a file of the project's; throws when nothing in it is like that. @param file from the project's folder */
  edit(file: string, from: string | RegExp, to: string): void;
  /** Ends every machine and removes the folder; throws when something of it is left on this computer, and then the folder stays. */
  remove(): Promise<void>;
  /** Mounts, processes and namespaces that have the project's folder or its names in them. */
  left(): string[];
  /** A machine ends as when its power goes; on the vm target its stack's others do, too. @param machine as in `on`, with its host */
  cutPower(machine: string): Promise<void>;
  /** Reboots it from within, and waits until systemd has started everything there again. */
  reboot(machine: string): Promise<void>;
  /** A volume's disk. */
  disk(machine: string, volume: string): string;
  /** Writes noise over a disk's beginning, where its file system says what it is. */
  ruin(machine: string, volume: string): void;
}

const ingot = join(toolFolder, "dist/ingot.js");

/** @param images the recipes that the test's hosts boot */
export async function testProject(images: string[] = ["debian-12"]): Promise<TestProject> {
  for (const image of images) await baked(image);
  const folder = mkdtempSync("/var/tmp/ingot-e2e-");
  for (const part of ["images", "stacks", "tests/apps"]) {
    mkdirSync(join(folder, part), { recursive: true });
    cpSync(join(toolFolder, part), join(folder, part), { recursive: true, filter: (path) => !/\.(ts|sh)$|__pycache__/.test(path) });
  }
  mkdirSync(join(folder, ".ingot"));
  for (const shared of ["images", "cache"]) symlinkSync(join(toolFolder, ".ingot", shared), join(folder, ".ingot", shared));

  const running = new Map<ChildProcess, Promise<Outcome>>();
  const start = (args: string[], input = "") => {
    const child = spawn(process.execPath, [ingot, ...args], { cwd: folder, stdio: ["pipe", "pipe", "pipe"] });
    child.stdin?.end(input);
    const ended = outcomeOf(child).finally(() => running.delete(child));
    running.set(child, ended);
    return begun(child, ended);
  };
  const begin: TestProject["begin"] = (args) => start(args);
  // A test that is being stopped begins nothing any more.
  const run: TestProject["ingot"] = (args, input) => (isStopping() ? new Promise(() => {}) : start(args, input).ended);
  const left = () => leftOf(folder);
  const end = async () => {
    const { stdout, stderr } = await start(["status", "--json"]).ended;
    const machines: unknown = JSON.parse(stdout || "[]");
    if (!Array.isArray(machines)) throw new Error(`nobody says which machines run:\n${stdout}${stderr}`);
    for (const stack of new Set(machines.map((m: { stack: string }) => m.stack))) await start(["down", stack]).ended;
    await start(["gc"]).ended;
    const remains = left();
    if (remains.length) throw new Error(`left on this computer, with ${folder}:\n${remains.join("\n")}`);
    rmSync(folder, { recursive: true, force: true });
    gone();
  };
  // Whoever is stopped may be on his way out already.
  let ended: Promise<void> | undefined;
  const remove = () => (ended ??= end());
  const stopped = async (signal: NodeJS.Signals) => {
    // Not the commands that end its machines.
    if (!ended) for (const child of running.keys()) child.kill(signal);
    await Promise.all(running.values());
    await remove();
  };
  const gone = whenStopped(stopped);
  // By this process: another of Node's for each of a test's questions would take longer than the questions.
  const on: TestProject["on"] = async (machine, script, input) => {
    const [stack = "", host] = machine.split("/");
    const own = projectAt(folder);
    const there = records(own, stack).filter(({ record }) => host === undefined || record.host === host);
    const [at] = there;
    // The command says what is wrong, and knows the other target.
    if (isStopping() || at?.record.target === "vm" || there.length !== 1 || !at || !leaderOf(at.folder))
      return run(["exec", machine, "--", "sh", "-c", script], input);
    const began = performance.now();
    const outcome = await connectTo(own, { ...at.record, state: "running" }).exec(["sh", "-c", script], { input });
    sayTime(began, `on ${machine} ${script}`);
    return outcome;
  };
  const must: TestProject["must"] = async (machine, script) => {
    const { code, stdout, stderr } = await on(machine, script);
    assert.is(code, 0, `${script}\n${stdout}${stderr}`);
    return stdout.trim();
  };
  const disk: TestProject["disk"] = (machine, volume) => join(folder, ".ingot/volumes", machine, `${volume}.img`);
  return {
    folder,
    ingot: run,
    begin,
    on,
    must,
    sql: (machine, database, text) =>
      must(machine, `cd / && echo "${text}" | runuser -u postgres -- psql -XqAt -v ON_ERROR_STOP=1 ${database}`),
    async json(args) {
      const { code, stdout, stderr } = await run([...args, "--json"]);
      try {
        return JSON.parse(stdout) as unknown;
      } catch {
        throw new Error(`ingot ${args.join(" ")} gave no JSON (exit code ${code}):\n${stdout}${stderr}`);
      }
    },
    edit(file, from, to) {
      const path = resolve(folder, file);
      const text = readFileSync(path, "utf8");
      const edited = text.replace(from, () => to);
      if (edited === text) throw new Error(`nothing in ${file} is like ${from}`);
      writeFileSync(path, edited);
    },
    left,
    async reboot(machine) {
      const first = "cut -d ' ' -f 22 /proc/1/stat";
      const before = await must(machine, first);
      await on(machine, "systemctl reboot");
      // In the old boot's end nobody may answer, or say that all is well.
      await until((script) => on(machine, script).then((o) => o.stdout.trim()), first, new RegExp(`^(?!${before}$)\\d+$`));
      await until((script) => on(machine, script).then((o) => o.stdout), "systemctl is-system-running --wait", /^(running|degraded)$/m);
    },
    async cutPower(machine) {
      const own = join(folder, ".ingot/machines", machine);
      // On the vm target all of a stack's go together.
      const file = [join(own, "run/leader"), join(own, "../run/holder")].find((path) => existsSync(path)) ?? "";
      const [pid] = readFileSync(file, "utf8").split(" ");
      spawn("kill", ["-9", String(pid)]);
      for (let i = 0; i < 100 && existsSync(`/proc/${pid}`); i++) await new Promise((resolve) => setTimeout(resolve, 100));
    },
    disk,
    ruin(machine, volume) {
      const handle = openSync(disk(machine, volume), "r+");
      for (let at = 0; at < 8; at++) writeSync(handle, Buffer.alloc(1 << 20, 0x5a), 0, 1 << 20, at << 20);
      closeSync(handle);
    },
    remove,
  };
}

/** Bakes an image of the repository's unless it is there. */
async function baked(image: string): Promise<void> {
  const child = spawn(process.execPath, [ingot, "bake", image], { cwd: toolFolder, stdio: ["ignore", "pipe", "pipe"] });
  const outcome = await outcomeOf(child);
  if (outcome.code !== 0) throw new Error(`${image} could not be baked:\n${outcome.stdout}${outcome.stderr}`);
  mkdirSync(join(toolFolder, ".ingot/cache"), { recursive: true });
}

/** Until a script gives a text that is like this: five minutes at the most, since other tests run beside. */
export async function until(on: (script: string) => Promise<string>, script: string, like: RegExp): Promise<string> {
  let seen = "";
  for (const end = performance.now() + 300_000; !like.test(seen) && performance.now() < end; ) {
    if (seen) await new Promise((resolve) => setTimeout(resolve, 500));
    seen = (await on(script)) || " ";
  }
  assert.match(seen, like, `${script}\nis not like ${like} after five minutes:\n${seen}`);
  return seen;
}

function begun(child: ChildProcess, ended: Promise<Outcome>): Begun {
  let said = "";
  child.stderr?.on("data", (chunk: Buffer) => (said += chunk.toString()));
  const alive = () => child.exitCode === null && child.signalCode === null;
  const pause = () => new Promise((resolve) => setTimeout(resolve, 5));
  return {
    child,
    ended,
    async said(like) {
      for (; !like.test(said); await pause()) if (!alive()) throw new Error(`it ended before it said ${like}:\n${said}`);
    },
    async listens(signal) {
      while (alive() && !catches(child.pid, signal)) await pause();
    },
  };
}

/** Whether a process has a handler for the signal. Source: proc(5), SigCgt. */
function catches(pid: number | undefined, signal: NodeJS.Signals): boolean {
  const caught = /^SigCgt:\s*([0-9a-f]+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? "0";
  return ((BigInt(`0x${caught}`) >> BigInt(constants.signals[signal] - 1)) & 1n) === 1n;
}

function outcomeOf(child: ChildProcess): Promise<Outcome> {
  const began = performance.now();
  let stdout = "";
  let stderr = "";
  child.stdout?.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr?.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  return new Promise((resolve) =>
    child.on("close", (code, signal) => {
      sayTime(began, child.spawnargs.slice(2, 5).join(" "));
      resolve({ code: code ?? (signal ? 128 : 1), stdout, stderr });
    }),
  );
}

function sayTime(began: number, what: string): void {
  if (process.env.INGOT_TEST_TIMES)
    console.error(`${((performance.now() - began) / 1000).toFixed(1).padStart(6)} s  ${what.replace(/\s+/g, " ").slice(0, 80)}`);
}

/** What of the project's folder is mounted, attached or named in a process's arguments. */
export function leftOf(folder: string): string[] {
  const mounts = readFileSync("/proc/mounts", "utf8")
    .split("\n")
    .filter((l) => l.includes(`${folder}/`))
    .map((l) => `mounted: ${l.split(" ")[1]}`);
  return [...mounts, ...processesOf(folder), ...loopsOf(folder)];
}

function processesOf(folder: string): string[] {
  const found: string[] = [];
  for (const pid of readdirSync("/proc").filter((f) => /^\d+$/.test(f))) {
    try {
      const argv = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim();
      if (argv.includes(`${folder}/`) && Number(pid) !== process.pid) found.push(`process ${pid}: ${argv}`);
    } catch {
      // It ended meanwhile.
    }
  }
  return found;
}

/** Loop devices over the project's disks. Source: backing_file in sysfs. */
function loopsOf(folder: string): string[] {
  return readdirSync("/sys/block")
    .filter((d) => d.startsWith("loop"))
    .flatMap((d) => {
      try {
        const file = readFileSync(`/sys/block/${d}/loop/backing_file`, "utf8").trim();
        return file.startsWith(`${folder}/`) ? [`${d}: ${file}`] : [];
      } catch {
        return [];
      }
    });
}
