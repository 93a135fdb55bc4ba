// Into a running machine, and to where one sees it as its stack's network does.
import { join } from "node:path";
import { sleep } from "../../lib/cancel.ts";
import { RefusedError } from "../../lib/diagnostics.ts";
import { type Project, toolFolder } from "../../lib/paths.ts";
import { asRoot, run, tryRun } from "../../lib/run.ts";
import type { Connection, ExecOptions, ExecResult, Machine } from "../target.ts";
import { type Leader, leaderOf, machineFolder, readIfThere } from "./machine.ts";
import { networkName } from "./names.ts";
import { reportOf } from "./report.ts";

const script = (name: string): string => join(toolFolder, "stacks/local", name);
/** Seconds between two looks at a machine's report. */
export const lookSeconds = 0.05;
/** Seconds that a reboot may take until systemd says that it has started everything. */
const rebootSeconds = 180;

export function connectTo(project: Project, machine: Machine): Connection {
  const folder = machineFolder(project, machine.stack, machine.host);
  const leader = (): Leader => {
    const found = leaderOf(folder);
    if (found) return found;
    throw new RefusedError(`${machine.stack}/${machine.host} is powered off`, `\`ingot start ${machine.stack}\` powers it on`);
  };
  const exec = async (argv: string[], options: ExecOptions = {}): Promise<ExecResult> => {
    const pty = options.interactive && process.stdin.isTTY && process.stdout.isTTY;
    const command = pty ? [...ptyCommand, ...argv.map(literal)] : argv;
    return result(await tryRun(asRoot(enter(leader(), command, options.timeoutSeconds)), streams(options)));
  };
  return {
    exec,
    async copy(from, to) {
      await run(asRoot(["sh", script("copy.sh"), String(leader().pid), from, to]));
    },
    async fetch(from, to) {
      const caller = [process.getuid?.() ?? 0, process.getgid?.() ?? 0].map(String);
      await run(asRoot(["sh", script("fetch.sh"), String(leader().pid), from, to, ...caller]));
    },
    console: async () => readIfThere(join(folder, "console.log")) ?? "",
    async reboot() {
      const before = leader();
      await exec(["systemctl", "reboot"], { timeoutSeconds: 30 }); // its exit code tells nothing: the machine goes away below it
      const end = performance.now() + rebootSeconds * 1000;
      for (let now = leaderOf(folder); !now || now.start === before.start; now = leaderOf(folder)) {
        if (performance.now() > end) throw new RefusedError(`${machine.host} did not come back within ${rebootSeconds} s`);
        await sleep(lookSeconds);
      }
      for (;;) {
        const state = await exec(["systemctl", "is-system-running", "--wait"], { timeoutSeconds: rebootSeconds });
        if (["running", "degraded"].includes(state.stdout.trim())) return;
        if (performance.now() > end) throw new RefusedError(`${machine.host} was not up ${rebootSeconds} s after its reboot`);
        await sleep(0.1); // systemd does not answer yet
      }
    },
    async beside(argv, options = {}) {
      const { getuid, getgid } = process;
      const caller = getuid?.() ? ["setpriv", `--reuid=${getuid()}`, `--regid=${getgid?.()}`, "--init-groups", "--"] : [];
      const network = networkName(project, machine.stack);
      const command = [...within(options.timeoutSeconds), "nsenter", `--net=/run/netns/${network}`, "--", ...caller, ...argv];
      return result(await tryRun(asRoot(command), streams(options)));
    },
    async *follow() {
      const report = reportOf(folder, machine.host);
      for (let alive = true; ; await sleep(lookSeconds)) {
        for (const event of report.read()) {
          yield event;
          if (event.event === "activated") return;
        }
        if (!alive) return;
        alive = leaderOf(folder) !== undefined; // one more look after its end
      }
    },
  };
}

/** The command that runs `argv` in the machine of `leader`. */
export const enter = (leader: Leader, argv: string[], timeoutSeconds?: number): string[] => [
  "env",
  `TERM=${process.env.TERM ?? "dumb"}`,
  ...within(timeoutSeconds),
  "sh",
  script("exec.sh"),
  String(leader.pid),
  ...argv,
];

/** A terminal of the machine's own, so that job control, window size and /dev/tty are right. */
const ptyCommand = ["systemd-run", "--pty", "--quiet", "--collect", "--wait", "--service-type=exec", "--"];
/** systemd expands $NAME in a unit's command line (systemd.service(5), "Command lines"). */
const literal = (argument: string): string => argument.replaceAll("$", "$$$$");

/** Root's timeout(1) ends what takes too long, with exit code 124: we may not signal what is root's. */
const within = (seconds: number | undefined): string[] =>
  seconds === undefined ? [] : ["timeout", "--foreground", "--kill-after=5", String(seconds)];

/** zx leaves an input open that is "": without one it is /dev/null. */
const streams = ({ input, interactive }: ExecOptions): ExecOptions => ({ input: input || undefined, interactive });

const result = ({ code, stdout, stderr }: ExecResult): ExecResult => ({ code, stdout, stderr });
