// Builders for JSON Schema that carry the TypeScript type of what they describe. What they give is plain data: no command
// loads a schema library; ajv compiles the validators at build time (scripts/build.mjs). Keywords of our own begin with `x-`.
import { type Diagnostic, diagnostic, nearest } from "./diagnostics.ts";
import type { Path, YamlFile } from "./yaml.ts";

declare const type: unique symbol;
/** A JSON Schema (draft 7) that describes a `T`. */
export interface Schema<T = unknown> {
  readonly [type]?: T;
  readonly type?: string;
  readonly title?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly examples?: readonly unknown[];
  readonly properties?: Record<string, Schema>;
  readonly required?: readonly string[];
  readonly additionalProperties?: Schema | false;
  readonly propertyNames?: Schema;
  readonly items?: Schema;
  readonly anyOf?: readonly Schema[];
  readonly enum?: readonly unknown[];
  readonly pattern?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minLength?: number;
  readonly minItems?: number;
  readonly minProperties?: number;
  /** The value names a resource of this kind. `order: false`: without waiting for it. */
  readonly "x-ref"?: { kind: string; order: boolean; or?: readonly string[] };
  /** The value may come from elsewhere: see value(). Nested: a map or list of any depth, whose leaves may. */
  readonly "x-value"?: true | "nested";
  /** A text that does not begin with `/` names an output: `kind/name.output`; or a resource, whose output of this name is meant. */
  readonly "x-output"?: true | string;
  /** Keys that an object has not, and that somebody may look for: what there is in their place. */
  readonly "x-instead"?: Record<string, string>;
  /** What the text is, said when it does not match `pattern`. */
  readonly "x-expected"?: string;
}

export type Infer<S> = S extends Schema<infer T> ? T : never;

type Describe = { description?: string; examples?: readonly unknown[] };
/** Marks a property that may be left out. */
interface Optional<T> {
  readonly optional: Schema<T>;
}
type Property = Schema | Optional<unknown>;
type OptionalKeys<P> = { [K in keyof P]: P[K] extends Optional<unknown> ? K : never }[keyof P];
type ObjectOf<P> = { [K in Exclude<keyof P, OptionalKeys<P>>]: Infer<P[K]> } & {
  [K in OptionalKeys<P>]?: P[K] extends Optional<infer T> ? T : never;
};
type Simplify<T> = { [K in keyof T]: T[K] };

export function optional<T>(schema: Schema<T>): Optional<T> {
  return { optional: schema };
}

/** A property with a default: it may be left out in YAML and is always there in the code. */
export function withDefault<T>(schema: Schema<T>, value: NoInfer<T>): Schema<T> {
  return { ...schema, default: value };
}

export function object<P extends Record<string, Property>>(properties: P, more: Describe = {}): Schema<Simplify<ObjectOf<P>>> {
  const entries = Object.entries(properties).map(([k, p]) => [k, "optional" in p ? p.optional : p] as const);
  const required = Object.entries(properties)
    .filter(([, p]) => !("optional" in p) && !("default" in p))
    .map(([k]) => k);
  return { type: "object", properties: Object.fromEntries(entries), required, additionalProperties: false, ...more };
}

export function map<T>(
  value: Schema<T>,
  names: Schema<string> = text(),
  more: Describe & { minProperties?: number } = {},
): Schema<Record<string, T>> {
  return { type: "object", additionalProperties: value, propertyNames: names, ...more };
}

export function list<T>(items: Schema<T>, more: Describe & { minItems?: number } = {}): Schema<T[]> {
  return { type: "array", items, ...more };
}

export function text(more: Describe & { pattern?: string; minLength?: number; expected?: string } = {}): Schema<string> {
  const { expected, ...rest } = more;
  return { type: "string", ...rest, ...(expected && { "x-expected": expected }) };
}

export function integer(more: Describe & { minimum?: number; maximum?: number } = {}): Schema<number> {
  return { type: "integer", ...more };
}

export function number(more: Describe & { minimum?: number; maximum?: number } = {}): Schema<number> {
  return { type: "number", ...more };
}

export function flag(more: Describe = {}): Schema<boolean> {
  return { type: "boolean", ...more };
}

export function choice<const T extends string>(values: readonly T[], more: Describe = {}): Schema<T> {
  return { type: "string", enum: values, ...more };
}

export function either<A extends Schema[]>(schemas: [...A], more: Describe = {}): Schema<Infer<A[number]>> {
  return { anyOf: schemas, ...more };
}

/** The bare name of a resource of `kind` on the same host, or `kind/name`; one of the kinds in `or` by `kind/name` alone. */
export function ref(kind: string, more: Describe & { order?: false; or?: readonly string[] } = {}): Schema<string> {
  const { order = true, or, ...rest } = more;
  return { type: "string", minLength: 1, "x-ref": { kind, order, ...(or && { or }) }, ...rest };
}

/** What ajv makes of an object that nobody declared: its properties' defaults. Of schemas that demand nothing. */
export function defaultsOf<T>(schema: Schema<T>): T {
  return Object.fromEntries(Object.entries(schema.properties ?? {}).flatMap(([k, s]) => ("default" in s ? [[k, s.default]] : []))) as T;
}

/** What an error calls the value that was expected. */
export function expected(schema: Schema): string {
  if (schema["x-expected"]) return schema["x-expected"];
  if (schema.enum) return `one of ${schema.enum.map((v) => `\`${String(v)}\``).join(", ")}`;
  if (schema["x-ref"]) return `the name of a ${[schema["x-ref"].kind, ...(schema["x-ref"].or ?? [])].join(" or ")}`;
  if (schema.anyOf) return [...new Set(schema.anyOf.map(expected))].join(", or ");
  switch (schema.type) {
    case "string":
      return "a text";
    case "integer":
      return "a whole number";
    case "number":
      return "a number";
    case "boolean":
      return "`true` or `false`";
    case "array":
      return `a list (of ${schema.items ? expected(schema.items) : "values"})`;
    case "object": {
      const keys = schema.required?.length ? schema.required : Object.keys(schema.properties ?? {});
      return keys.length ? `\`{ ${keys.slice(0, 4).join(", ")}${keys.length > 4 ? ", …" : ""} }\`` : "a map";
    }
    default:
      return "a value";
  }
}

/** What ajv's compiled validators report; only what we use of it. */
export interface AjvError {
  instancePath: string;
  schemaPath: string;
  keyword: string;
  params: Record<string, unknown>;
  message?: string;
  propertyName?: string;
}
export type Validator = ((data: unknown) => boolean) & { errors?: AjvError[] | null };

/**
 * Validates a parsed file against `schema` with its compiled validator; fills in defaults. Codes ING11xx.
 * @param unknown paths whose value nobody knows (what is wrong there has been said)
 */
export function validate(yaml: YamlFile, value: unknown, schema: Schema, validator: Validator, unknown: Path[] = []): Diagnostic[] {
  if (validator(value)) return [];
  const found = new Map<string, Diagnostic>();
  const errors = validator.errors ?? [];
  const alternatives = errors.filter((e) => e.keyword === "anyOf");
  for (const error of errors) {
    const path = pathOf(error.instancePath, value);
    if (unknown.some((u) => u.every((part, i) => path[i] === part))) continue;
    // Errors inside the branches of an `anyOf` are said once, as what was expected, unless a branch fits the value's form.
    const around = alternatives.find((a) => a !== error && insideOf(error, a));
    if (around && !deeper(error, around) && !fits(error, around, schema, value)) continue;
    if (
      error.keyword === "anyOf" &&
      errors.some((e) => e !== error && insideOf(e, error) && (deeper(e, error) || fits(e, error, schema, value)))
    )
      continue;
    if (error.keyword === "propertyNames") continue;
    const d = explain(error, path, yaml, value, schema);
    const key = `${d.code} ${d.range.start.offset} ${d.message}`;
    if (!found.has(key)) found.set(key, d);
  }
  return [...found.values()];
}

/** Where the value that `validator` has just been given is wrong; of a name that cannot be, the path that it ends. */
export const wrongPaths = (validator: Validator, value: unknown): Path[] =>
  (validator.errors ?? []).map((e) => [...pathOf(e.instancePath, value), ...(e.propertyName === undefined ? [] : [e.propertyName])]);

/** True for an error in a branch of this `anyOf`, about the same value or one in it. */
const insideOf = (error: AjvError, anyOf: AjvError): boolean =>
  error.schemaPath.startsWith(`${anyOf.schemaPath}/`) && `${error.instancePath}/`.startsWith(`${anyOf.instancePath}/`);
const deeper = (error: AjvError, than: AjvError): boolean => error.instancePath.length > than.instancePath.length;

/** True for a wrong or missing key of the one object branch, when an object was given. */
function fits(error: AjvError, around: AjvError, schema: Schema, root: unknown): boolean {
  if (!["additionalProperties", "required"].includes(error.keyword)) return false;
  const value = valueAt(root, pathOf(around.instancePath, root));
  if (!value || typeof value !== "object" || Array.isArray(value)) return false;
  const branches = (schemaAt(schema, around.schemaPath) as readonly Schema[] | undefined) ?? [];
  const keys = Object.keys(value);
  const score = (s: Schema) => keys.filter((k) => k in (s.properties ?? {})).length;
  const objects = branches.filter((b) => b.type === "object" && b.properties);
  const best = objects.sort((a, b) => score(b) - score(a))[0];
  if (!best || (objects.length > 1 && score(best) === 0)) return false;
  return error.schemaPath.startsWith(`${around.schemaPath}/${branches.indexOf(best)}/`);
}

function explain(error: AjvError, path: Path, yaml: YamlFile, root: unknown, schema: Schema): Diagnostic {
  const where = nameOf(path);
  const value = valueAt(root, path);
  const { start, end } = yaml.rangeOf(path);
  // As it stands in the file (`0750`, not 750), unless a variable or an alias stands there.
  const source = yaml.text.slice(start.offset, end.offset);
  const written = /^[{*&!]/.test(source) ? undefined : source;
  const parent = (schemaAt(schema, error.schemaPath.slice(0, error.schemaPath.lastIndexOf("/"))) as Schema | undefined) ?? {};
  switch (error.keyword) {
    case "additionalProperties": {
      const key = String(error.params.additionalProperty);
      const known = Object.keys(parent.properties ?? {});
      const near = nearest(key, known);
      const range = yaml.keyRangeOf([...path, key]);
      return diagnostic("ING1101", range, `unknown key \`${key}\`${where ? ` in ${where}` : ""}`, {
        hint: parent["x-instead"]?.[key] ?? (near ? `did you mean \`${near}\`?` : `known here: ${known.join(", ")}`),
        ...(near && !parent["x-instead"]?.[key] && { fix: { range, text: near } }),
      });
    }
    case "required": {
      const key = String(error.params.missingProperty);
      const of = parent.properties?.[key];
      return diagnostic(
        "ING1102",
        path.length ? yaml.keyRangeOf(path) : yaml.rangeOf(path),
        `${where || "the file"} lacks the key \`${key}\``,
        {
          hint: of ? `add \`${key}:\` with ${expected(of)}${of.description ? `: ${of.description}` : ""}` : undefined,
        },
      );
    }
    case "pattern":
    case "minLength": {
      const name = error.params.propertyName ?? undefined;
      if (name !== undefined || error.schemaPath.includes("/propertyNames/")) return badName(error, path, yaml, parent);
      return diagnostic("ING1104", yaml.rangeOf(path), `${where} must be ${expected(parent)}, not ${shown(value)}`);
    }
    case "enum": {
      const near = typeof value === "string" ? nearest(value, (parent.enum ?? []).map(String)) : undefined;
      return diagnostic("ING1104", yaml.rangeOf(path), `${where} must be ${expected(parent)}, not ${shown(value)}`, {
        hint: near && `did you mean \`${near}\`?`,
      });
    }
    case "minimum":
    case "maximum":
      return diagnostic(
        "ING1104",
        yaml.rangeOf(path),
        `${where} must be ${error.keyword === "minimum" ? "at least" : "at most"} ${String(error.params.limit)}, not ${shown(value)}`,
      );
    case "minProperties":
      return diagnostic("ING1104", yaml.keyRangeOf(path), `${where} is empty: it must have at least ${String(error.params.limit)} entry`);
    case "minItems":
      return diagnostic("ING1104", yaml.rangeOf(path), `${where} must have at least ${String(error.params.limit)} entry`);
    default: {
      const range = value === null ? yaml.keyRangeOf(path) : yaml.rangeOf(path);
      return diagnostic("ING1103", range, `${where || "the file"} must be ${expected(parent)}, not ${shown(value, written)}`, {
        hint: typeHint(parent, value, written),
      });
    }
  }
}

function badName(error: AjvError, path: Path, yaml: YamlFile, schema: Schema): Diagnostic {
  const name = String(error.propertyName ?? path.at(-1) ?? "");
  return diagnostic(
    "ING1105",
    yaml.keyRangeOf([...path, name]),
    `\`${name}\` cannot be a name in ${nameOf(path)}: it must be ${expected(schema)}`,
  );
}

/** @param written the value as it stands in the file, when it does */
function typeHint(schema: Schema, value: unknown, written: string | undefined): string | undefined {
  const { type } = schema;
  if (type === "string" && (typeof value === "number" || typeof value === "boolean"))
    return written !== undefined && new RegExp(schema.pattern ?? "").test(written) ? `quote it: "${written}"` : undefined;
  if (typeof value === "string") {
    if (type === "boolean" && /^(yes|no|on|off)$/i.test(value))
      return `YAML 1.2 has no \`${value}\`: write ${/^(yes|on)$/i.test(value) ? "true" : "false"}`;
    if ((type === "boolean" && /^(true|false)$/.test(value)) || (type === "integer" && /^-?[0-9]+$/.test(value)))
      return `write it without quotes: ${value}`;
    if (type === "array") return `a list of one is written [${value}]`;
  }
  if (type !== "object") return undefined;
  if (Array.isArray(value)) return "entries of a map are written `name: …`, without `-` or `[]`";
  if (schema.required?.length) return `it needs at least: ${schema.required.map((k) => `\`${k}:\``).join(", ")}`;
  if (schema.properties) return "write `{}` when there is nothing to say about it";
  return value === null && schema.minProperties === undefined ? "remove the key, or write what belongs below it" : undefined;
}

/** `hosts.web.users.inloop` for people; a name with dots or slashes is put in quotes. */
export function nameOf(path: Path): string {
  return path
    .map((p) => (typeof p === "number" ? `[${p}]` : /^[\w-]+$/.test(p) ? `.${p}` : `.${JSON.stringify(p)}`))
    .join("")
    .replace(/^\./, "");
}

function shown(value: unknown, written?: string): string {
  if (value === null || value === undefined) return "empty";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") {
    const keys = Object.keys(value);
    return `\`{ ${keys.slice(0, 4).join(", ")}${keys.length > 4 ? ", …" : ""} }\``.replace("{  }", "{}");
  }
  if (typeof value !== "string") return `\`${written ?? String(value)}\``;
  return `the text \`${value.length > 40 ? `${value.slice(0, 40)}…` : value}\``;
}

const decoded = (part: string): string => part.replaceAll("~1", "/").replaceAll("~0", "~");

function pathOf(pointer: string, root: unknown): Path {
  let value = root;
  return pointer
    .split("/")
    .slice(1)
    .map((raw) => {
      const part: string | number = Array.isArray(value) ? Number(raw) : decoded(raw);
      value = (value as Record<string | number, unknown> | undefined)?.[part];
      return part;
    });
}

export function valueAt(root: unknown, path: Path): unknown {
  return path.reduce<unknown>((v, part) => (v && typeof v === "object" ? (v as Record<string | number, unknown>)[part] : undefined), root);
}

function schemaAt(schema: Schema, schemaPath: string): unknown {
  return schemaPath
    .replace(/^[^#]*#/, "")
    .split("/")
    .slice(1)
    .reduce<unknown>(
      (s, part) => (s && typeof s === "object" ? (s as Record<string, unknown>)[decodeURIComponent(decoded(part))] : undefined),
      schema,
    );
}
