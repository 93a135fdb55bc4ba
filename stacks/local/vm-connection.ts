// Into a running machine of the `vm` target: through its virtio-serial ports (vm-exec.py), so that neither its network nor its firewall nor
// its ssh matters.
import { join } from "node:path";
import { sleep } from "../../lib/cancel.ts";
import { RefusedError } from "../../lib/diagnostics.ts";
import { type Project, toolFolder } from "../../lib/paths.ts";
import { type RunResult, run, tryRun } from "../../lib/run.ts";
import type { Connection, ExecOptions, ExecResult, Machine, TargetEvent } from "../target.ts";
import { exitCodeOf, holderOf, machineFolder, readIfThere, readRecord, writeRecord } from "./machine.ts";
import { parseLine } from "./report.ts";

/** How many commands run in a machine at once. */
export const ports = 6;
/** How many times longer than elsewhere work may take without KVM. */
export const patience = 10;
/** Seconds that a machine which is up may take to answer. */
const answerSeconds = 60;
/** Seconds that a reboot may take until systemd says that it has started everything. */
const rebootSeconds = 900;

const script = (name: string): string => join(toolFolder, "stacks/local", name);

/** Runs `argv` in the machine of a folder. @param seconds that somebody in it may take to answer */
const command = (folder: string, argv: string[], seconds: number, options: string[] = []): string[] => [
  "python3",
  script("vm-exec.py"),
  folder,
  String(seconds),
  ...options,
  "--",
  ...argv,
];

/** For as long as its standard input is open, or `argv` runs. */
export const commandIn = (folder: string, argv: string[]): string[] => command(folder, argv, answerSeconds);

/** PID 1 of the stack's namespaces, as this computer sees it. */
export function insideOf(folder: string): number | undefined {
  const holder = holderOf(folder);
  const children = holder === undefined ? undefined : readIfThere(`/proc/${holder}/task/${holder}/children`);
  const child = Number(children?.trim().split(" ")[0]);
  return child || undefined;
}

/** Events of a machine's report, as long as its activator says more; ends without `activated` when there will be none. */
async function* report(folder: string, host: string, options: string[], seconds: number, limit: number): AsyncGenerator<TargetEvent> {
  const events: TargetEvent[] = [];
  let over = false;
  const follow = command(folder, ["/usr/lib/ingot/follow.py", ...options], seconds);
  const ended = tryRun(follow, {
    timeoutSeconds: limit,
    onLine: (line) => {
      const event = parseLine(host, line);
      if (event) events.push(event);
    },
  }).finally(() => (over = true));
  // Told by whoever awaits it below.
  ended.catch(() => {});
  while (!over || events.length) {
    for (let event = events.shift(); event; event = events.shift()) yield event;
    if (!over) await sleep(0.05);
  }
  await ended;
}

export const firstReport = (folder: string, host: string, seconds: number, limit: number): AsyncGenerator<TargetEvent> =>
  report(folder, host, [], seconds, limit);

export function connectToVm(project: Project, machine: Machine): Connection {
  const id = `${machine.stack}/${machine.host}`;
  const folder = machineFolder(project, machine.stack, machine.host);
  const stackFolder = join(project.machines, machine.stack);
  const told = (result: RunResult): ExecResult => {
    const [, said] = /^vm-exec: (.*)$/m.exec(result.stderr) ?? [];
    if (result.code === 255 && said !== undefined)
      throw new RefusedError(
        `${id}: ${said}`,
        `\`ingot start ${machine.stack} --on vm\` powers it on; its console: ingot logs ${id} --console --on vm`,
      );
    const { code, stdout, stderr } = result;
    return { code, stdout, stderr };
  };
  const slow = () => (readRecord(folder)?.vm?.acceleration === "tcg" ? patience : 1);
  const exec = async (argv: string[], options: ExecOptions = {}): Promise<ExecResult> => {
    if (exitCodeOf(folder) !== undefined || holderOf(stackFolder) === undefined)
      throw new RefusedError(`${id} is powered off`, `\`ingot start ${machine.stack} --on vm\` powers it on`);
    const terminal = options.interactive && process.stdin.isTTY && process.stdout.isTTY ? ["--terminal"] : [];
    const seconds = (options.timeoutSeconds ?? 0) * slow();
    const limited = seconds ? ["timeout", "--kill-after=5", String(seconds)] : [];
    const { input, interactive } = options;
    return told(await tryRun(command(folder, [...limited, ...argv], answerSeconds, terminal), { input: input || undefined, interactive }));
  };
  const boot = async (): Promise<string> =>
    (await exec(["cat", "/proc/sys/kernel/random/boot_id"], { timeoutSeconds: 60 }).catch(() => ({ stdout: "" }))).stdout.trim();
  return {
    exec,
    async copy(from, to) {
      await run(["sh", script("vm-copy.sh"), from, to, ...command(folder, [], answerSeconds)]);
    },
    async fetch(from, to) {
      await run(["sh", script("vm-fetch.sh"), from, to, ...command(folder, [], answerSeconds)]);
    },
    console: async () => readIfThere(join(folder, "console.log")) ?? "",
    async reboot() {
      const before = await boot();
      await exec(["systemctl", "reboot"], { timeoutSeconds: 60 }).catch(() => {}); // the machine goes away below it
      await untilUp({ exec }, id, rebootSeconds, before);
    },
    async beside(argv, options = {}) {
      const inside = insideOf(stackFolder);
      if (inside === undefined) throw new RefusedError(`${id} is powered off`, `\`ingot start ${machine.stack} --on vm\` powers it on`);
      const own = process.getuid?.() === 0 ? [] : ["--user", "--preserve-credentials"];
      const entered = ["nsenter", `--target=${inside}`, ...own, "--net", "--", ...argv];
      const { code, stdout, stderr } = await tryRun(entered, {
        input: options.input || undefined,
        interactive: options.interactive,
        timeoutSeconds: options.timeoutSeconds && options.timeoutSeconds * slow(),
        // Checks from outside (check.py) wait as long as those from inside.
        env: { INGOT_PATIENCE: String(slow()) },
      });
      return { code, stdout, stderr };
    },
    async *follow() {
      for await (const event of report(folder, machine.host, ["--again"], answerSeconds, 24 * 3600)) {
        if (event.event === "activated" && event.activation.outcome === "done") {
          const record = readRecord(folder);
          if (record) writeRecord(folder, { ...record, generation: event.activation.generation, activated: "done" });
        }
        yield event;
      }
    },
  };
}

/** Waits until systemd says that it has started everything, in another boot than `before`. @throws RefusedError after `seconds` */
export async function untilUp({ exec }: Pick<Connection, "exec">, id: string, seconds: number, before = ""): Promise<void> {
  for (const end = performance.now() + seconds * 1000; performance.now() < end; await sleep(1)) {
    try {
      const now = (await exec(["cat", "/proc/sys/kernel/random/boot_id"], { timeoutSeconds: 60 })).stdout.trim();
      if (now === before || now === "") continue;
      const state = await exec(["systemctl", "is-system-running", "--wait"], { timeoutSeconds: seconds });
      if (["running", "degraded"].includes(state.stdout.trim())) return;
    } catch (error) {
      if (!(error instanceof RefusedError)) throw error;
    }
  }
  throw new RefusedError(`${id} was not up within ${seconds} s`, `its console: ingot logs ${id} --console --on vm`);
}
