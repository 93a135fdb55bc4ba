// ingot doctor: what is dead, who depends on it, and what to type next.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type StackModel, stackNames } from "../cloud-init/model.ts";
import type { HostPlan } from "../cloud-init/plan.ts";
import { InputError } from "../lib/diagnostics.ts";
import { toolFolder } from "../lib/paths.ts";
import { backupSettings } from "../stacks/recovery/backups.ts";
import { afterStores, type Examined, type Finding, findingsOf, unreachable } from "../stacks/recovery/doctor.ts";
import type { Machine, Target } from "../stacks/target.ts";
import { verifyHost } from "../stacks/verify.ts";
import type { Io } from "./command.ts";
import { targetOf } from "./machines.ts";
import { load } from "./stack.ts";

export const help = `Says what is wrong with a stack, or with all that are up: what is dead, why, who depends on it, and what to type next. Causes come
before what follows from them.

  ingot doctor [stack]

It looks at machines, failed units, every check of the stack (ownership and modes first), disks, memory, certificates, backups, and at the ends of the logs
of nginx, PostgreSQL, supervisor, uWSGI and others. Nothing is changed. Exit code 1 when something is dead or wrong.`;

export async function main(args: string[], io: Io): Promise<number> {
  const { positionals } = parseArgs({ args, allowPositionals: true, options: {} });
  const [given] = positionals;
  const target = await targetOf(io, given);
  const all = await target.find();
  const stacks = given === undefined ? stackNames(io.project).filter((name) => all.some((m) => m.stack === name)) : [given];
  const found: (Finding & { stack: string })[] = [];
  for (const name of stacks) {
    const { plan, model } = load(name, io);
    const machines = all.filter((m) => m.stack === plan.stack);
    const examined = await Promise.all(plan.hosts.map((host) => examine(host, model, machines, target, io)));
    found.push(...afterStores(examined.flat(), plan).map((f) => ({ stack: plan.stack, ...f })));
  }
  if (io.json) io.print(JSON.stringify(found, null, 2));
  else if (!stacks.length) io.print("nothing is up; `ingot doctor <stack>` looks at one");
  else if (!found.length) io.print(`${stacks.join(", ")}: nothing is wrong`);
  else for (const finding of found) say(finding, io);
  return found.some((f) => f.severity !== "soon") ? 1 : 0;
}

async function examine(host: HostPlan, model: StackModel, machines: Machine[], target: Target, io: Io): Promise<Finding[]> {
  const machine = machines.find((m) => m.host === host.host);
  const backedUp = backupSettings(host) !== undefined;
  if (!machine) return [unreachable(host, undefined, "is not there", [], backedUp)];
  if (machine.state === "stopped") return [unreachable(host, machine, "is off", [], backedUp)];
  const connection = target.connect(machine);
  const program = readFileSync(join(toolFolder, "stacks/recovery/doctor.py"), "utf8");
  const asked = await connection.exec(["python3", "-"], { input: program, timeoutSeconds: 120 }).catch((error: Error) => ({
    code: 1,
    stdout: "",
    stderr: error.message,
  }));
  if (asked.code !== 0) {
    const console = await connection.console().catch(() => "");
    return [
      unreachable(host, machine, `does not answer: ${asked.stderr.trim().split("\n").pop()}`, console.trimEnd().split("\n"), backedUp),
    ];
  }
  const checks = await verifyHost(host, machine, connection, target.secrets).catch((error: unknown) => {
    if (error instanceof InputError) throw error;
    io.progress.say(`  the checks of ${host.stack}/${host.host} could not be run: ${(error as Error).message}`);
    return [];
  });
  const needs = model.hosts.find((h) => h.name === host.host)?.after ?? new Map<string, Set<string>>();
  return findingsOf(host, needs, JSON.parse(asked.stdout) as Examined, checks);
}

function say({ stack, host, severity, resource, what, needed, because, log, next }: Finding & { stack: string }, io: Io): void {
  const list = (names: string[]): string =>
    names.length > 8 ? `${names.slice(0, 8).join(", ")} and ${names.length - 8} more` : names.join(", ");
  io.print(`${severity.toUpperCase().padEnd(5)} ${stack}/${host}${resource === undefined ? "" : ` ${resource}`}: ${what}`);
  if (because.length) io.print(`      likely because of: ${list(because)}`);
  if (needed.length) io.print(`      needed by: ${list(needed)}`);
  for (const line of log.slice(-8)) io.print(`      | ${line}`);
  for (const line of next) io.print(`      > ${line}`);
}
