// What is wrong with somebody's YAML, said so that they can mend it. Every room makes diagnostics;
// scripts/ prints them, for people (a code frame) or as JSON.

/** A place in a source file. Lines and columns count from 1, offsets (UTF-16 units) from 0; `end` is exclusive. */
export interface Range {
  file: string;
  start: Position;
  end: Position;
}
export interface Position {
  line: number;
  column: number;
  offset: number;
}

export interface Related {
  message: string;
  range: Range;
}

/** Replaces the text of `range` by `text`; shown as the hint's mend, and read by editors from `--json`. */
export interface Edit {
  range: Range;
  text: string;
}

export type Severity = "error" | "warning";

/** `code` is stable across versions (`ING` and four digits); docs/errors.md lists them all. */
export interface Diagnostic {
  code: string;
  severity: Severity;
  message: string;
  range: Range;
  related: Related[];
  hint?: string;
  fix?: Edit;
}

export type DiagnosticExtras = Partial<Pick<Diagnostic, "severity" | "related" | "hint" | "fix">>;

export function diagnostic(code: string, range: Range, message: string, extras: DiagnosticExtras = {}): Diagnostic {
  return { code, severity: "error", message, range, related: [], ...extras };
}

/** Thrown when input is wrong: carries every diagnostic of the run, not only the first. Exit code 2. */
export class InputError extends Error {
  constructor(
    readonly diagnostics: Diagnostic[],
    readonly sources: Map<string, string> = new Map(),
  ) {
    super(diagnostics.map((d) => `${d.range.file}:${d.range.start.line}:${d.range.start.column}: ${d.message}`).join("\n"));
    this.name = "InputError";
  }
}

/** Thrown when this computer lacks something; `mend` is the command that installs it. Exit code 3. */
export class MissingError extends Error {
  constructor(
    message: string,
    readonly mend: string,
  ) {
    super(message);
    this.name = "MissingError";
  }
}

/** Thrown when the thing asked for failed or was refused, with what to do about it. Exit code 1. */
export class RefusedError extends Error {
  constructor(
    message: string,
    readonly hint?: string,
  ) {
    super(message);
    this.name = "RefusedError";
  }
}

/** Thrown when a command was called in a way that it does not know; `usage` says how. Exit code 2. */
export class UsageError extends Error {
  constructor(
    message: string,
    readonly usage: string,
  ) {
    super(message);
    this.name = "UsageError";
  }
}

/** The nearest of `names` to `name` by edit distance (Damerau, adjacent swaps count once), if any is near enough. */
export function nearest(name: string, names: Iterable<string>): string | undefined {
  let best: string | undefined;
  let least = Math.max(1, Math.floor(name.length / 3)) + 1;
  for (const candidate of names) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (distance < least) [best, least] = [candidate, distance];
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let previous: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let cost = Math.min(at(row, j) + 1, at(next, j - 1) + 1, at(row, j - 1) + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) cost = Math.min(cost, at(previous, j - 2) + 1);
      next.push(cost);
    }
    [previous, row] = [row, next];
  }
  return at(row, b.length);
}

const at = (row: number[], i: number): number => row[i] ?? 0;

/** A diagnostic for people: where, what, the offending lines with a caret under the value, and what to do. */
export function format(d: Diagnostic, sources: Map<string, string>, colour = false): string {
  const paint = (code: string, text: string) => (colour ? `\u001b[${code}m${text}\u001b[0m` : text);
  const { file, start } = d.range;
  const lines = [
    `${paint("1", `${file}:${start.line}:${start.column}`)} ${paint(d.severity === "error" ? "31;1" : "33;1", d.severity)} ${d.code}: ${d.message}`,
    ...frame(d.range, sources.get(file), paint),
  ];
  for (const r of d.related) {
    lines.push(
      `  ${r.range.file}:${r.range.start.line}:${r.range.start.column}: ${r.message}`,
      ...frame(r.range, sources.get(r.range.file), paint),
    );
  }
  if (d.hint) lines.push(`  ${paint("36", "hint:")} ${d.hint}`);
  return lines.join("\n");
}

function frame(range: Range, source: string | undefined, paint: (code: string, text: string) => string): string[] {
  if (source === undefined) return [];
  const text = source.split(/\r?\n/);
  const line = text[range.start.line - 1];
  if (!line?.trim()) return [];
  const width = String(range.start.line).length;
  const shown = (n: number, content: string) => `  ${paint("2", `${String(n).padStart(width)} |`)} ${content.replaceAll("\t", " ")}`;
  const length =
    range.end.line === range.start.line ? range.end.column - range.start.column : line.trimEnd().length - range.start.column + 1;
  const caret = `  ${" ".repeat(width)} ${paint("2", "|")} ${" ".repeat(range.start.column - 1)}${paint("31", "^".repeat(Math.max(1, length)))}`;
  const before = text[range.start.line - 2];
  const context = before?.trim() ? [shown(range.start.line - 1, before)] : [];
  return [...context, shown(range.start.line, line), caret];
}
