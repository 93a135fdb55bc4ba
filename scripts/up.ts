// ingot up: launch a stack, wait for its first boot, verify it.
import { parseArgs } from "node:util";
import { findStack } from "../cloud-init/model.ts";
import { Cancelled } from "../lib/cancel.ts";
import { gather, type HostOutcome, type Prepared, prepare } from "../stacks/launch.ts";
import type { Machine, Target } from "../stacks/target.ts";
import type { CheckResult } from "../stacks/verify.ts";
import { type Choices, choicesOf, guardOptions, type Io } from "./command.ts";
import { activated, criticalPath, sayFailures, stepTable, targetOf, urls, verifyAll } from "./machines.ts";
import { only } from "./stack.ts";

export const help = `Launches every host of a stack, waits for its first boot and verifies it.

  ingot up <stack> [--rm] [--on aws [--replace <host>] [--yes-delete-volume <host>/<volume>]]

What is not baked is baked, releases that are not built are built. When a step or a check fails, the exit code is 1 and the machine
stays for you to look at (\`ingot exec\`, \`ingot logs\`); --rm ends it instead. Ctrl-C undoes what was begun.

With --on aws the hosts are EC2 instances, made by Terraform; a stack that is up is changed where that is safe. What would replace or
delete something that holds data is refused until it is named: \`ingot plan <stack> --on aws\` says beforehand what would happen.

  ingot up inloop
  ingot up inloop --on aws --replace web`;

export interface Up {
  prepared: Prepared;
  outcomes: HostOutcome[];
  checks: CheckResult[];
  machines: Machine[];
  ok: boolean;
  /** Seconds from the launch to the end of the first boot, and of the checks. */
  seconds: { boot: number; checks: number };
}

/** The whole of `up`, for `ingot start` too. */
export async function up(given: string, remove: "keep" | "remove", io: Io, choices: Choices = {}): Promise<Up> {
  const file = findStack(io.project, given);
  const target = await targetOf(io, given, choices);
  const prepared = await prepare(io.project, file, target, io.progress);
  const { plan } = prepared;
  try {
    const result = await launch(prepared, target, io);
    if (!result.ok && remove === "remove") await target.down(plan.stack);
    return result;
  } catch (error) {
    // Stopped while it was being verified: to the user it is still this launch that was stopped.
    if (error instanceof Cancelled) await target.abandon(plan.stack);
    throw error;
  }
}

async function launch(prepared: Prepared, target: Target, io: Io): Promise<Up> {
  const { plan, model } = prepared;
  const began = performance.now();
  const outcomes = await gather(`first boot of ${plan.stack}`, plan.hosts, target.up(plan, prepared.hosts), io.progress);
  const booted = performance.now();
  const seconds = { boot: (booted - began) / 1000, checks: 0 };
  const machines = await target.find(plan.stack);
  const result: Up = { prepared, outcomes, checks: [], machines, ok: activated(outcomes), seconds };
  if (result.ok) {
    result.checks = await verifyAll(plan, target, io);
    seconds.checks = (performance.now() - booted) / 1000;
    result.ok = result.checks.every((c) => c.ok);
  } else if (!io.json) sayFailures(model, plan, outcomes);
  return result;
}

export async function main(args: string[], io: Io): Promise<number> {
  const { positionals, values } = parseArgs({ args, allowPositionals: true, options: { rm: { type: "boolean" }, ...guardOptions } });
  const result = await up(only(positionals, "stack", "ingot up <stack>"), values.rm ? "remove" : "keep", io, choicesOf(values));
  const { plan } = result.prepared;
  if (io.json) {
    io.print(
      JSON.stringify(
        {
          stack: plan.stack,
          ok: result.ok,
          seconds: result.seconds,
          baked: result.prepared.baked.map((b) => ({ image: b.image.name, digest: b.image.digest, seconds: b.seconds })),
          built: result.prepared.built,
          hosts: result.outcomes,
          critical_path: pathsOf(result),
          checks: result.checks,
          machines: result.machines,
        },
        null,
        2,
      ),
    );
  } else if (result.ok) io.print(summary(result));
  else if (activated(result.outcomes))
    io.print(`\n${plan.stack} is up, but ${result.checks.filter((c) => !c.ok).length} of ${result.checks.length} checks failed`);
  if (!result.ok && !io.json && !values.rm)
    console.error(
      `\nThe machine is left for you to look at: ingot exec ${plan.stack}${plan.hosts.length > 1 ? "/<host>" : ""} -- <command>; end it: ingot down ${plan.stack}`,
    );
  return result.ok ? 0 : 1;
}

const pathsOf = ({ prepared: { plan }, outcomes }: Up): Record<string, { step: string; seconds: number }[]> =>
  Object.fromEntries(
    plan.hosts.flatMap((host) => {
      const outcome = outcomes.find((o) => o.host === host.host);
      return outcome ? [[host.host, criticalPath(host, outcome)]] : [];
    }),
  );

/** `critical path: postgresql 1.2 s → role/shop 0.2 s → …`; what takes no time is left out. */
function pathLines(result: Up): string[] {
  const paths = Object.entries(pathsOf(result));
  return paths.map(([host, path]) => {
    const shown = path.filter((p) => p.seconds >= 0.1).map((p) => `${p.step} ${p.seconds.toFixed(1)} s`);
    const total = path.reduce((n, p) => n + p.seconds, 0);
    return `critical path${paths.length > 1 ? ` of ${host}` : ""}, ${total.toFixed(1)} s: ${shown.join(" → ")}`;
  });
}

/** What a person wants to know of a launch that went well. */
export function summary(result: Up): string {
  const {
    prepared: { plan },
    outcomes,
    checks,
    machines,
    seconds,
  } = result;
  const lines = [
    `\nfirst boot: ${seconds.boot.toFixed(1)} s`,
    stepTable(outcomes),
    "",
    ...pathLines(result),
    `\nchecks: ${checks.length} of ${checks.length} passed in ${seconds.checks.toFixed(1)} s`,
  ];
  for (const host of plan.hosts) {
    const machine = machines.find((m) => m.host === host.host);
    for (const url of machine ? urls(host, machine) : [])
      lines.push(`\n${plan.stack}/${host.host} answers at ${url}${url.startsWith("https:") ? " (its certificate is self-signed)" : ""}`);
  }
  lines.push(
    `\nnext:  ingot status ${plan.stack}   ingot verify ${plan.stack}   ingot exec ${plan.stack} -- bash   ingot logs ${plan.stack}   ingot down ${plan.stack}`,
  );
  return lines.join("\n");
}
