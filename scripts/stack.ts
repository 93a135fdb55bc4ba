// What commands on a stack share: its model and plan from the file or name given.
import { readFileSync } from "node:fs";
import { compile } from "../cloud-init/compile.ts";
import { environmentFile, findStack, loadStack, type StackModel, stackNames } from "../cloud-init/model.ts";
import type { HostPlan, StackPlan } from "../cloud-init/plan.ts";
import { surroundingsOf } from "../cloud-init/surroundings.ts";
import { format, nearest, RefusedError, UsageError } from "../lib/diagnostics.ts";
import { parseYaml } from "../lib/yaml.ts";
import type { Io } from "./command.ts";

export interface Loaded {
  model: StackModel;
  plan: StackPlan;
}

/** @throws InputError, RefusedError; warnings are said on standard error */
export function load(given: string, io: Io): Loaded {
  const model = loadStack(findStack(io.project, given), surroundingsOf(io.project));
  for (const warning of model.warnings)
    io.progress.say(format(warning, new Map([[model.yaml.file, model.yaml.text]]), process.stderr.isTTY));
  return { model, plan: compile(model) };
}

/** `stack/host`, `stack`, or a path of a stack's file (with `/<host>` behind it or not). */
export function splitName(given: string): { stack: string; host?: string } {
  const match = /^(.*\.ya?ml|[^/]+)(?:\/([^/]+))?$/.exec(given);
  return match?.[1] === undefined ? { stack: given } : { stack: match[1], host: match[2] };
}

/** The one argument that a command takes. @throws UsageError */
export function only(args: string[], what: string, usage: string): string {
  const [first, second] = args;
  if (first === undefined) throw new UsageError(`which ${what}?`, usage);
  if (second !== undefined) throw new UsageError(`one ${what} at a time; \`${second}\` is too many`, usage);
  return first;
}

/**
 * The name of the stack that is given by its file or its name, whether the file is right or not: for commands on machines that are there.
 * @param up names of stacks that have machines, which may have no file any more
 * @throws RefusedError with the nearest name
 */
export function stackName(given: string, up: string[], io: Io): string {
  const { environment } = io.project.chosen ?? {};
  if (environment !== undefined) {
    const name = nameIn(environmentFile(findStack(io.project, given), environment));
    if (name !== undefined) return name;
  }
  if (/\.ya?ml$/.test(given)) {
    const name = nameIn(findStack(io.project, given));
    if (name !== undefined) return name;
    throw new RefusedError(`${given} does not say what its stack is called`, "a stack's file begins with `stack: <name>`");
  }
  const names = [...new Set([...up, ...stackNames(io.project)])];
  if (names.includes(given)) return given;
  const near = nearest(given, names);
  throw new RefusedError(
    `there is no stack \`${given}\``,
    near ? `did you mean \`${near}\`?` : names.length ? `there are: ${names.join(", ")}` : "stacks/ is empty",
  );
}

/** What a stack's or environment's file says that the stack is called. */
function nameIn(file: string): string | undefined {
  const { value } = parseYaml(file, readFileSync(file, "utf8"));
  const name = value && typeof value === "object" && "stack" in value ? value.stack : undefined;
  return typeof name === "string" ? name : undefined;
}

/** The host of a plan by its name; of a stack with one host it may be left out. */
export function hostOf(plan: StackPlan, name: string | undefined): HostPlan {
  const names = plan.hosts.map((h) => h.host);
  const host = name === undefined ? (plan.hosts.length === 1 ? plan.hosts[0] : undefined) : plan.hosts.find((h) => h.host === name);
  if (host) return host;
  const near = name === undefined ? undefined : nearest(name, names);
  throw new RefusedError(
    name === undefined ? `${plan.stack} has several hosts` : `${plan.stack} has no host \`${name}\``,
    near ? `did you mean \`${plan.stack}/${near}\`?` : `there are: ${names.join(", ")}`,
  );
}
