// Ctrl-C, SIGTERM and SIGHUP: long work asks cancelled() between its steps, run() ends its programs, `finally` blocks clean up.
const listeners = new Set<() => void>();
let reason: NodeJS.Signals | undefined;

/** The user (or a signal) stopped this run. Exit code 130, as shells have it for SIGINT; 143 for SIGTERM. */
export class Cancelled extends Error {
  /** What is not as it was before, in words, where that is not undone. */
  left?: string;
  constructor(readonly signal: NodeJS.Signals) {
    super("stopped");
    this.name = "Cancelled";
  }
}

/** Called once by scripts/ingot.ts. A second signal changes nothing: the clean-up is under way. */
export function listenForSignals(): void {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => {
      if (reason) return;
      reason = signal;
      for (const listener of [...listeners]) listener();
    });
  }
}

/** @throws Cancelled once the user has stopped this run */
export function cancelled(): void {
  if (reason) throw new Cancelled(reason);
}

/** Calls `listener` when the user stops this run; gives the function that forgets it. */
export function onCancel(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Waits; ends early with Cancelled. */
export async function sleep(seconds: number): Promise<void> {
  cancelled();
  await new Promise<void>((resolve) => {
    const done = () => {
      clearTimeout(timer);
      forget();
      resolve();
    };
    const timer = setTimeout(done, seconds * 1000);
    const forget = onCancel(done);
  });
  cancelled();
}
