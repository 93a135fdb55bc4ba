// The stack's variables: declared below `vars:`, used as `{ var: name }`, set by an environment's file or on the command line.
import { type Diagnostic, diagnostic, nearest, type Range, UsageError } from "../lib/diagnostics.ts";
import { valueAt } from "../lib/schema.ts";
import { type Path, parseYaml, type YamlFile } from "../lib/yaml.ts";

/** What is given from outside the stack's file; what is said on the command line counts before what an environment says. */
export interface Overrides {
  /** `stacks/<stack>.<environment>.yaml`: `vars:`, and another name for the stack. */
  environment?: YamlFile;
  /** `--set name=value`. */
  set: Record<string, string>;
}

export interface Variable {
  name: string;
  value: unknown;
  description?: string;
  /** Where its value stands; undefined: on the command line. */
  origin?: Range;
  /** Where it is used. */
  uses: Path[];
}

type Type = "text" | "number" | "flag" | "list";
const typeOf = (value: unknown): Type | undefined =>
  Array.isArray(value) ? "list" : ({ string: "text", number: "number", boolean: "flag" } as Record<string, Type>)[typeof value];
const called: Record<Type, string> = { text: "a text", number: "a number", flag: "`true` or `false`", list: "a list" };
const isMap = (value: unknown): value is Record<string, unknown> => Boolean(value && typeof value === "object" && !Array.isArray(value));

/** `name=value` of the command line. @throws UsageError */
export function setting(given: string): [name: string, value: string] {
  const [, name, value] = /^([a-z0-9][a-z0-9_-]*)=([\s\S]*)$/.exec(given) ?? [];
  if (name === undefined || value === undefined) throw new UsageError(`\`${given}\` sets nothing`, "--set <variable>=<value>");
  return [name, value];
}

/**
 * The file's value with every `{ var: name }` replaced, and the stack's name as the environment has it.
 * @returns also the paths whose value nobody knows (what is wrong there has been said)
 * @throws UsageError for what is wrong on the command line
 */
export function withVariables(
  yaml: YamlFile,
  { environment, set }: Overrides,
  found: Diagnostic[],
): { value: unknown; unknown: Path[]; variables: Variable[] } {
  const vars = valueAt(yaml.value, ["vars"]);
  const declared = isMap(vars) ? vars : {};
  const others = environment === undefined ? {} : settingsOf(environment, found);
  for (const name of Object.keys(set)) {
    if (Object.hasOwn(declared, name)) continue;
    const near = nearest(name, Object.keys(declared));
    throw new UsageError(
      `${yaml.file} has no variable \`${name}\``,
      near
        ? `did you mean \`${near}\`?`
        : Object.keys(declared).length
          ? `there are: ${Object.keys(declared).join(", ")}`
          : "it declares none",
    );
  }
  for (const name of Object.keys(others)) {
    if (environment === undefined || Object.hasOwn(declared, name)) continue;
    const near = nearest(name, Object.keys(declared));
    found.push(
      diagnostic("ING1202", environment.keyRangeOf(["vars", name]), `${yaml.file} has no variable \`${name}\``, {
        hint: near ? `did you mean \`${near}\`?` : "declare it there, with a `default:` or a `type:`",
      }),
    );
  }
  const variables = new Map<string, Variable>();
  for (const [name, of] of Object.entries(declared)) {
    if (!isMap(of)) continue;
    const variable = variableOf(name, of, yaml, environment, others, set, found);
    if (variable) variables.set(name, variable);
  }
  const unknown: Path[] = [];
  const walk = (value: unknown, path: Path): unknown => {
    if (Array.isArray(value)) return value.map((v, i) => walk(v, [...path, i]));
    if (!isMap(value)) return value;
    const keys = Object.keys(value);
    if (keys.length === 1 && keys[0] === "var") {
      const name = value.var;
      const variable = typeof name === "string" ? variables.get(name) : undefined;
      if (variable) {
        variable.uses.push(path);
        return structuredClone(variable.value);
      }
      unknown.push(path);
      if (typeof name === "string" && isMap(declared[name]) && Object.hasOwn(declared, name)) return ""; // said where it is declared
      const near = typeof name === "string" ? nearest(name, Object.keys(declared)) : undefined;
      const range = yaml.rangeOf([...path, "var"]);
      found.push(
        typeof name !== "string"
          ? diagnostic("ING1202", range, "`var:` takes the name of a variable", { hint: "write `{ var: name }`" })
          : diagnostic("ING1202", range, `there is no variable \`${name}\``, {
              hint: near ? `did you mean \`${near}\`?` : `declare it: \`${name}: { default: … }\` below \`vars:\``,
            }),
      );
      return "";
    }
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, path.length === 0 && k === "vars" ? v : walk(v, [...path, k])]));
  };
  const value = walk(yaml.value, []);
  const name = valueAt(environment?.value, ["stack"]);
  if (isMap(value) && name !== undefined) value.stack = name;
  return { value, unknown, variables: [...variables.values()] };
}

/** `vars:` of an environment's file; whatever else is in it is reported. */
function settingsOf(environment: YamlFile, found: Diagnostic[]): Record<string, unknown> {
  found.push(...environment.diagnostics);
  const { value } = environment;
  if (value === null || value === undefined) return {};
  if (!isMap(value)) {
    found.push(
      diagnostic("ING1208", environment.rangeOf([]), "an environment's file has `vars:`, and `stack:` when its stack is called otherwise"),
    );
    return {};
  }
  for (const key of Object.keys(value))
    if (!["vars", "stack"].includes(key))
      found.push(
        diagnostic("ING1208", environment.keyRangeOf([key]), `unknown key \`${key}\` in an environment's file`, {
          hint: "known here: vars, stack. What differs between environments is a variable of the stack",
        }),
      );
  if (value.stack !== undefined && !(typeof value.stack === "string" && /^[a-z0-9][a-z0-9_-]*$/.test(value.stack)))
    found.push(diagnostic("ING1208", environment.rangeOf(["stack"]), "stack must be a name of lower-case letters, digits, `-` and `_`"));
  if (value.vars === undefined || value.vars === null) return {};
  if (isMap(value.vars)) return value.vars;
  found.push(diagnostic("ING1208", environment.rangeOf(["vars"]), "`vars:` is a map: name → value"));
  return {};
}

function variableOf(
  name: string,
  of: Record<string, unknown>,
  yaml: YamlFile,
  environment: YamlFile | undefined,
  others: Record<string, unknown>,
  set: Record<string, string>,
  found: Diagnostic[],
): Variable | undefined {
  const type = (of.type as Type | undefined) ?? typeOf(of.default);
  const common = { name, ...(typeof of.description === "string" && { description: of.description }), uses: [] };
  const given = set[name];
  if (given !== undefined) {
    const value = type === "text" ? given : parseYaml("--set", given).value;
    if (type !== undefined && typeOf(value) !== type)
      throw new UsageError(`${name} is ${called[type]}, and \`${given}\` is none`, `--set ${name}=…`);
    return { ...common, value };
  }
  const fits = (value: unknown, origin: Range): Variable | undefined => {
    if (type === undefined || typeOf(value) === type) return { ...common, value, origin };
    found.push(
      diagnostic("ING1207", origin, `the variable ${name} is ${called[type]}`, { hint: "a variable has the type of its default" }),
    );
    return undefined;
  };
  if (environment && Object.hasOwn(others, name)) return fits(others[name], environment.rangeOf(["vars", name]));
  if ("default" in of) return fits(of.default, yaml.rangeOf(["vars", name, "default"]));
  found.push(
    diagnostic("ING1207", yaml.keyRangeOf(["vars", name]), `the variable ${name} has no value`, {
      hint: `give it one: \`--set ${name}=…\`, an environment (\`--env <name>\`), or a \`default:\``,
    }),
  );
  return undefined;
}
