// The one way to run other programs, on zx. Everything that must be root goes through asRoot().
import { constants } from "node:os";
import { StringDecoder } from "node:string_decoder";
import { $ } from "zx/core";
import { cancelled, onCancel } from "./cancel.ts";
import { MissingError } from "./diagnostics.ts";

export interface RunOptions {
  /** Written to standard input; without it standard input is /dev/null. */
  input?: string;
  cwd?: string;
  /** Added to this process's environment. */
  env?: Record<string, string>;
  /** Called for each line as it comes, of both streams. */
  onLine?: (line: string) => void;
  /** Ended with SIGTERM (5 s later SIGKILL) after so many seconds. */
  timeoutSeconds?: number;
  /** Clean-up work goes on although the user has cancelled. */
  evenWhenCancelled?: true;
  /**
   * Standard input stays open until we stop or die, or until the signal comes, and its end is how the program hears of it: for a program of
   * root's that ends itself then, because we may not signal it.
   */
  leash?: true | AbortSignal;
  /**
   * A program that ends in order when it is asked once, however long that takes: it gets one SIGINT, alone and in a process group of its
   * own, so that a terminal's Ctrl-C does not reach it as well, and is never killed.
   */
  gentle?: true;
  /** Standard streams are the caller's own (an interactive `exec`). */
  interactive?: true;
}

export interface RunResult {
  /** Exit code; 128 + signal's number when ended by a signal, 124 by its time limit (as timeout(1) has it). */
  code: number;
  stdout: string;
  stderr: string;
  seconds: number;
}

/** A program that ended with another code than 0. */
export class RunError extends Error {
  constructor(
    readonly argv: string[],
    readonly result: RunResult,
  ) {
    const tail = (result.stderr.trim() || result.stdout.trim()).split("\n").slice(-15).join("\n");
    super(`${argv[0]} ended with exit code ${result.code}${tail ? `:\n${tail}` : ""}`);
    this.name = "RunError";
  }
}

/** Runs a program to its end. @throws RunError when its exit code is not 0, Cancelled when the user stopped it. */
export async function run(argv: string[], options: RunOptions = {}): Promise<RunResult> {
  const result = await tryRun(argv, options);
  if (result.code !== 0) throw new RunError(argv, result);
  return result;
}

/** As run(), but an exit code other than 0 is a result. @throws MissingError when there is no such program */
export async function tryRun(argv: string[], options: RunOptions = {}): Promise<RunResult> {
  if (!options.evenWhenCancelled) cancelled();
  const began = performance.now();
  const child = $({
    quiet: true,
    nothrow: true,
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    input: options.input,
    stdio: options.interactive ? "inherit" : [options.input === undefined && !options.leash ? "ignore" : "pipe", "pipe", "pipe"],
    prefix: "exec ",
    postfix: "",
    detached: options.gentle === true,
  })`${argv}`;
  // An empty input is an input: the program must see its end.
  if (options.input === "") child.stdin.end();
  let killing: NodeJS.Timeout | undefined;
  const stop = () => {
    if (options.leash) return void child.stdin.end();
    if (options.gentle) return void (child.pid && process.kill(child.pid, "SIGINT"));
    void child.kill("SIGTERM").catch(() => {});
    killing = setTimeout(() => void child.kill("SIGKILL").catch(() => {}), 5000);
  };
  const forget = options.evenWhenCancelled ? () => {} : onCancel(stop);
  if (options.leash instanceof AbortSignal) options.leash.addEventListener("abort", stop, { once: true });
  let late = false;
  const timeUp = () => {
    late = true;
    stop();
  };
  const timer = options.timeoutSeconds === undefined ? undefined : setTimeout(timeUp, options.timeoutSeconds * 1000);
  const { onLine } = options;
  // zx turns each chunk into text by itself, which breaks characters that lie across two of them.
  const [stdout, stderr] = options.interactive ? [] : [child.stdout, child.stderr].map(bytesOf);
  const rests = onLine && !options.interactive ? [child.stdout, child.stderr].map((stream) => linesOf(stream, onLine)) : [];
  try {
    const output = await child;
    for (const rest of rests) rest();
    if (!options.evenWhenCancelled) cancelled();
    // The words of the shell that was to become the program; a program that says so of another is left alone.
    if (output.exitCode === 127 && output.stderr.includes(`exec: ${argv[0]}: not found`))
      throw new MissingError(`${argv[0]} is not installed`, "npm start");
    return {
      // A shell whose last program we ended may say 0.
      code: late ? 124 : (output.exitCode ?? 128 + (output.signal ? (constants.signals[output.signal] ?? 0) : 0)),
      stdout: stdout?.() ?? "",
      stderr: stderr?.() ?? "",
      seconds: (performance.now() - began) / 1000,
    };
  } finally {
    clearTimeout(timer);
    clearTimeout(killing);
    forget();
  }
}

/** The function given says all that a stream has given so far. */
function bytesOf(stream: NodeJS.ReadableStream): () => string {
  const chunks: Buffer[] = [];
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  return () => Buffer.concat(chunks).toString("utf8");
}

/** Calls `onLine` for every line of a stream; the function given says what is left at its end. */
function linesOf(stream: NodeJS.ReadableStream, onLine: (line: string) => void): () => void {
  const decoder = new StringDecoder();
  let rest = "";
  stream.on("data", (chunk: Buffer) => {
    const lines = (rest + decoder.write(chunk)).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) onLine(line);
  });
  return () => {
    if (rest) onLine(rest);
  };
}

/** The same command as root: as it is when we are root, else through sudo, which keeps nothing of our environment. */
export function asRoot(argv: string[]): string[] {
  return process.getuid?.() === 0 ? argv : ["sudo", "--non-interactive", "--", ...argv];
}
