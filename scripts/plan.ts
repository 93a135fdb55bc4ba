// ingot plan: what a stack becomes, the same for every target; with --on aws what a launch would do to what is there.
import { parseArgs } from "node:util";
import type { StackModel } from "../cloud-init/model.ts";
import type { StackPlan } from "../cloud-init/plan.ts";
import { short } from "../lib/digest.ts";
import { type Choices, choicesOf, guardOptions, type Io, size, table } from "./command.ts";
import { load, only } from "./stack.ts";

export const help = `Says what a stack becomes: for each host its image, steps in order, files, secrets, volumes, ports and checks.

  ingot plan <stack>
  ingot plan <stack> --on aws [--replace <host>] [--yes-delete-volume <host>/<volume>]

Nothing is changed, and no secret's value is read. --json gives the whole plan as data. With --on aws Terraform plans, and what would
happen to each host and its data is said in words; exit code 1 when something of it is refused.`;

export async function main(args: string[], io: Io): Promise<number> {
  const { positionals, values } = parseArgs({ args, allowPositionals: true, options: guardOptions });
  const given = only(positionals, "stack", "ingot plan <stack>");
  const { plan, model } = load(given, io);
  if (io.on === "aws") return foreseen(given, plan, model, choicesOf(values), io);
  if (io.json) {
    io.print(JSON.stringify(plan, null, 2));
    return 0;
  }
  for (const host of plan.hosts) {
    const { generation } = host;
    const section = (title: string, rows: string[][]) => rows.length && io.print(`\n${title}\n${table(rows.map((r) => ["  ", ...r]))}`);
    io.print(
      `${plan.stack}/${host.host}: ${host.fqdn}, image ${host.image.name} ${host.image.digest ? short(host.image.digest) : "(not locked yet)"}, generation ${short(generation.digest)}`,
    );
    section(
      "steps",
      generation.steps.map((s) => [s.id, s.action, s.after.length ? `after ${s.after.join(", ")}` : "at once"]),
    );
    section(
      "files",
      generation.files.map((f) => [f.path, f.mode, f.resource]),
    );
    section(
      "releases",
      host.artifacts.map((a) => [a.resource, a.id, /^0+$/.test(a.sha256) ? "not built yet" : `sha256 ${short(a.sha256)}`]),
    );
    section(
      "secrets",
      host.secrets.map((s) => [s.name, s.generate ? `generated (${s.generate})` : "given by you"]),
    );
    section(
      "limits",
      [
        [host.limits?.cpus, "cpus"],
        [host.limits?.memory && size(host.limits.memory), "memory"],
      ].flatMap(([v, what]) => (v ? [[`${what}`, `${v}`]] : [])),
    );
    section(
      "volumes",
      host.volumes.map((v) => [v.name, v.mount, size(v.size)]),
    );
    section(
      "ports",
      host.ports.map((p) => [`${p.port}/${p.protocol}`, `from ${[p.from].flat().join(", ")}`, p.resource]),
    );
    section(
      "checks",
      [...generation.checks, ...host.checks].map((c) => [c.id, c.check, c.seen]),
    );
  }
  return 0;
}

async function foreseen(given: string, plan: StackPlan, model: StackModel, choices: Choices, io: Io): Promise<number> {
  const [{ foresee }, { settingsOf }, { say }] = await Promise.all([
    import("../stacks/aws/target.ts"),
    import("../stacks/aws/settings.ts"),
    import("../stacks/aws/guard.ts"),
  ]);
  const agents = model.hosts.filter((h) => "amazon-ssm-agent" in h.image.packages).map((h) => h.name);
  const verdict = await foresee(io.project, io.progress, settingsOf(io.project, given), plan, agents, choices);
  io.print(io.json ? JSON.stringify(verdict, null, 2) : say(verdict));
  return verdict.refused.length ? 1 : 0;
}
