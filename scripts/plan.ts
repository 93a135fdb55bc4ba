// ingot plan: what a stack becomes, the same for every target.
import { parseArgs } from "node:util";
import { short } from "../lib/digest.ts";
import { type Io, size, table } from "./command.ts";
import { load, only } from "./stack.ts";

export const help = `Says what a stack becomes: for each host its image, steps in order, files, secrets, volumes, ports and checks.

  ingot plan <stack>

Nothing is changed, and no secret's value is read. --json gives the whole plan as data.`;

export async function main(args: string[], io: Io): Promise<number> {
  const { positionals } = parseArgs({ args, allowPositionals: true, options: {} });
  const { plan } = load(only(positionals, "stack", "ingot plan <stack>"), io);
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
      "volumes",
      host.volumes.map((v) => [v.name, v.mount, size(v.size)]),
    );
    section(
      "ports",
      host.ports.map((p) => [`${p.port}/${p.protocol}`, `from ${p.from}`, p.resource]),
    );
    section(
      "checks",
      [...generation.checks, ...host.checks].map((c) => [c.id, c.check, c.seen]),
    );
  }
  return 0;
}
