// What every command is given, and what several of them share. A command is a file here with `help` and `main`.
import type { Project } from "../lib/paths.ts";
import type { Progress } from "../lib/progress.ts";

export interface Io {
  json: boolean;
  /** `--on`: where machines are. */
  on: "container" | "vm" | "aws";
  project: Project;
  progress: Progress;
  /** Writes a line of the result to standard output. */
  print(text: string): void;
}

export interface Command {
  /** One line of what it does, then usage, options and examples. */
  help: string;
  /** Gives the exit code. */
  main(args: string[], io: Io): Promise<number>;
}

/** What a person says of a launch on EC2 that would take something away. */
export interface Choices {
  /** Hosts to make anew although they hold data. */
  replace?: string[];
  /** `host/volume`: data volumes that may go. */
  deleteVolumes?: string[];
}
export const guardOptions = {
  replace: { type: "string", multiple: true },
  "yes-delete-volume": { type: "string", multiple: true },
} as const;
export const choicesOf = (values: { replace?: string[]; "yes-delete-volume"?: string[] }): Choices => ({
  replace: values.replace,
  deleteVolumes: values["yes-delete-volume"],
});

/** A table without lines: columns as wide as their widest cell. */
export function table(rows: string[][]): string {
  const widths = rows.reduce<number[]>((w, row) => row.map((cell, i) => Math.max(w[i] ?? 0, cell.length)), []);
  return rows
    .map((row) =>
      row
        .map((cell, i) => (i === row.length - 1 ? cell : cell.padEnd(widths[i] ?? 0)))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

export const seconds = (n: number): string => `${n.toFixed(1)} s`;

/** 12,345,678 bytes → "11.8 MiB". */
export function size(bytes: number): string {
  for (const [unit, n] of [
    ["GiB", 2 ** 30],
    ["MiB", 2 ** 20],
    ["KiB", 2 ** 10],
  ] as const)
    if (bytes >= n) return `${(bytes / n).toFixed(1)} ${unit}`;
  return `${bytes} bytes`;
}
