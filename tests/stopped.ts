// A run of tests or of a bench that is stopped (Ctrl-C, SIGTERM) takes away what it has made before it ends: machines, servers, namespaces, folders.
import { constants } from "node:os";

type End = (signal: NodeJS.Signals) => unknown;

const ends = new Set<End>();
let [listening, stopping] = [false, false];

/** Whether this process is on its way out: what it begins now would stay. */
export const isStopping = (): boolean => stopping;

/** @param end takes something away; may be waited for @returns for what has gone before */
export function whenStopped(end: End): () => void {
  ends.add(end);
  if (!listening) {
    listening = true;
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => void stop(signal));
  }
  return () => void ends.delete(end);
}

async function stop(signal: NodeJS.Signals): Promise<void> {
  if (stopping) return;
  stopping = true;
  for (const outcome of await Promise.allSettled([...ends].map(async (end) => end(signal))))
    if (outcome.status === "rejected") console.error(outcome.reason);
  process.exit(128 + constants.signals[signal]);
}
