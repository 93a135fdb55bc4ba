// What a machine's activator reports: report/steps.jsonl, one JSON line for each step as it ends, the activation's own line last.
// The machine writes the file, so nothing in it is believed before it is looked at.
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { join } from "node:path";
import type { ActivationEvent, StepEvent, StepOutcome, TargetEvent } from "../target.ts";

const outcomes: readonly string[] = ["changed", "unchanged", "failed", "timeout", "not-run"] satisfies StepOutcome[];
/** Bytes of one report that are read; a machine cannot fill our memory. */
const limit = 16 * 1024 * 1024;

export interface Report {
  /** Whether there is a report: an activation has begun. */
  readonly begun: boolean;
  /** Events that came since the last call. A report that was begun anew is read from its start. */
  read(): TargetEvent[];
}

export function reportOf(folder: string, host: string): Report {
  let offset = 0;
  let inode = 0;
  let rest = Buffer.alloc(0);
  let begun = false;
  return {
    get begun() {
      return begun;
    },
    read() {
      // O_NOFOLLOW: a link that the machine made would be followed on this computer.
      const file = open(join(folder, "report/steps.jsonl"));
      if (file === undefined) return [];
      try {
        const stat = fstatSync(file);
        if (!stat.isFile()) return [];
        begun = true;
        if (stat.ino !== inode || stat.size < offset) [offset, inode, rest] = [0, stat.ino, Buffer.alloc(0)];
        const size = Math.min(stat.size, limit) - offset;
        if (size <= 0) return [];
        const chunk = Buffer.alloc(size);
        offset += readSync(file, chunk, 0, size, offset);
        const text = Buffer.concat([rest, chunk]);
        const end = text.lastIndexOf(0x0a) + 1;
        rest = text.subarray(end);
        return text
          .subarray(0, end)
          .toString("utf8")
          .split("\n")
          .flatMap((line) => parseLine(host, line) ?? []);
      } finally {
        closeSync(file);
      }
    },
  };
}

function open(path: string): number | undefined {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch {
    return undefined;
  }
}

/** One line of a report; undefined for what is none. */
export function parseLine(host: string, line: string): TargetEvent | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (!value || typeof value !== "object") return undefined;
  const { step, outcome, seconds, log, generation } = value as Record<string, unknown>;
  if (typeof outcome !== "string" || typeof seconds !== "number") return undefined;
  if (typeof step === "string" && outcomes.includes(outcome)) {
    const event: StepEvent = { step, outcome: outcome as StepOutcome, seconds, ...(typeof log === "string" ? { log } : {}) };
    return { event: "step", host, step: event };
  }
  if (typeof generation === "string" && (outcome === "done" || outcome === "failed")) {
    const { written, removed, error } = value as Record<string, unknown>;
    const count = (n: unknown) => (typeof n === "number" ? n : 0);
    const activation: ActivationEvent = {
      generation,
      outcome,
      seconds,
      written: count(written),
      removed: count(removed),
      ...(typeof error === "string" ? { error } : {}),
    };
    return { event: "activated", host, activation };
  }
  return undefined;
}
