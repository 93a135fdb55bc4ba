// Tests that need another process run their own file again with an argument: what to do there.
import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

/** The part that this process was started for, if it is such a one. */
export const part = process.argv[2];

/** Runs the test file `url` (import.meta.url) again, as `name`; its lines of standard output can be waited for. */
export function start(
  url: string,
  name: string,
  args: string[] = [],
): { child: ChildProcess; line(): Promise<string>; end(): Promise<number | NodeJS.Signals> } {
  const child = spawn(process.execPath, [fileURLToPath(url), name, ...args], { stdio: ["ignore", "pipe", "inherit"] });
  const lines: string[] = [];
  const waiting: ((line: string) => void)[] = [];
  let rest = "";
  child.stdout?.on("data", (chunk: Buffer) => {
    const parts = (rest + chunk.toString()).split("\n");
    rest = parts.pop() ?? "";
    for (const line of parts) (waiting.shift() ?? ((l: string) => lines.push(l)))(line);
  });
  const ended = new Promise<number | NodeJS.Signals>((resolve) => child.on("close", (code, signal) => resolve(signal ?? code ?? -1)));
  return {
    child,
    line: () => {
      const first = lines.shift();
      return first === undefined ? new Promise((resolve) => waiting.push(resolve)) : Promise.resolve(first);
    },
    end: () => ended,
  };
}

/** Whether there is such a process (a zombie is none). */
export function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

export async function until(what: () => boolean, seconds = 60): Promise<boolean> {
  for (const end = performance.now() + seconds * 1000; performance.now() < end; ) {
    if (what()) return true;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return what();
}
