// ingot explain: a stack's variables, or one value of it, and where they come from.
import { parseArgs } from "node:util";
import type { StackModel } from "../cloud-init/model.ts";
import type { Variable } from "../cloud-init/variables.ts";
import { nearest, type Range, RefusedError, UsageError } from "../lib/diagnostics.ts";
import { valueAt } from "../lib/schema.ts";
import type { Path } from "../lib/yaml.ts";
import { type Io, table } from "./command.ts";
import { load, splitName } from "./stack.ts";

export const help = `Says where values come from: each variable of a stack with its value and where that was said, or one value of the file.

  ingot explain <stack> [--env <environment>] [--set <variable>=<value>]
  ingot explain <stack>[/<host>] <key>[.<key> …]

  ingot explain inloop --env staging
  ingot explain inloop/web domain
  ingot explain inloop/web applications.inloop.env.ALLOWED_HOSTS`;

const placed = (origin: Range | undefined): string =>
  origin ? `${origin.file}:${origin.start.line}:${origin.start.column}` : "the command line";
const shown = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value));

export async function main(args: string[], io: Io): Promise<number> {
  const { positionals } = parseArgs({ args, allowPositionals: true, options: {} });
  const [given, keys, extra] = positionals;
  if (given === undefined || extra !== undefined)
    throw new UsageError("what of which stack?", "ingot explain <stack>[/<host>] [<key>.<key>]");
  const { stack, host } = splitName(given);
  const { model } = load(stack, io);
  return keys === undefined && host === undefined ? all(model, io) : one(model, host, keys ?? "", io);
}

function all(model: StackModel, io: Io): number {
  const rows = model.variables.map((v) => ({ ...v, from: placed(v.origin), uses: v.uses.map((path) => path.join(".")) }));
  if (io.json) io.print(JSON.stringify({ stack: model.name, variables: rows.map(({ origin: _, ...row }) => row) }, null, 2));
  else if (!rows.length) io.print(`${model.name} has no variables`);
  else
    for (const row of rows)
      io.print(
        [
          `${row.name} = ${shown(row.value)}`,
          ...(row.description ? [`  ${row.description}`] : []),
          `  from ${row.from}`,
          ...row.uses.map((use) => `  used at ${use}`),
        ].join("\n"),
      );
  return 0;
}

function one(model: StackModel, host: string | undefined, keys: string, io: Io): number {
  const path: Path = host === undefined ? [] : ["hosts", host];
  for (let rest = keys; rest !== ""; ) {
    const there = (valueAt(model.yaml.value, path) ?? {}) as Record<string, unknown>;
    // A key may have dots in it: the longest that is there is meant.
    const key = Object.keys(there)
      .filter((k) => rest === k || rest.startsWith(`${k}.`))
      .sort((a, b) => b.length - a.length)[0];
    if (key === undefined) {
      const near = nearest(rest, Object.keys(there));
      throw new RefusedError(
        `${model.yaml.file} says nothing of ${[...path, rest].join(".")}`,
        near
          ? `did you mean \`${near}\`?`
          : Object.keys(there).length
            ? `there are: ${Object.keys(there).join(", ")}`
            : "there is nothing below it",
      );
    }
    path.push(Array.isArray(there) ? Number(key) : key);
    rest = rest.slice(key.length + 1);
  }
  const within = (v: Variable) => v.uses.filter((use) => path.every((part, i) => use[i] === part));
  const variables = model.variables.filter((v) => within(v).length);
  const value = withValues(valueAt(model.yaml.value, path), variables);
  const places = variables.map((v) => ({ variable: v.name, value: v.value, from: placed(v.origin) }));
  const from = placed(model.yaml.rangeOf(path));
  if (io.json) io.print(JSON.stringify({ stack: model.name, path, value, from, variables: places }, null, 2));
  else {
    io.print(`${path.join(".")} = ${shown(value)}\n  from ${from}`);
    if (places.length) io.print(table(places.map((p) => ["  ", `its variable ${p.variable}`, shown(p.value), `from ${p.from}`])));
  }
  return 0;
}

/** A part of the file as it is once its variables are put in. */
function withValues(value: unknown, variables: Variable[]): unknown {
  if (Array.isArray(value)) return value.map((v) => withValues(v, variables));
  if (!value || typeof value !== "object") return value;
  const keys = Object.keys(value);
  if (keys.length === 1 && keys[0] === "var") return variables.find((v) => v.name === (value as { var: unknown }).var)?.value;
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, withValues(v, variables)]));
}
