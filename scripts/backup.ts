// ingot backup: backups of a stack's hosts, now.
import { parseArgs } from "node:util";
import { RefusedError } from "../lib/diagnostics.ts";
import { during } from "../lib/progress.ts";
import { backUp, backupSettings, type Made } from "../stacks/recovery/backups.ts";
import { type Io, size } from "./command.ts";
import { machineOf, targetOf } from "./machines.ts";
import { hostOf, load, only, splitName } from "./stack.ts";

export const help = `Makes backups of what a stack's hosts hold, now: of those that have \`backup:\`. What they do by their timers goes on beside it.

  ingot backup <stack>[/<host>] [--full]

PostgreSQL is copied as far as it changed since the last full backup; --full copies all of it. Then the rows of the tables that \`backup:\`
names are counted and summed, against which a restore is held. Directories are copied as far as they changed.`;

export async function main(args: string[], io: Io): Promise<number> {
  const { positionals, values } = parseArgs({ args, allowPositionals: true, options: { full: { type: "boolean" } } });
  const { stack: given, host: one } = splitName(only(positionals, "stack", "ingot backup <stack>[/<host>]"));
  const { plan } = load(given, io);
  const hosts = (one === undefined ? plan.hosts : [hostOf(plan, one)]).filter((h) => backupSettings(h));
  if (!hosts.length) throw new RefusedError(`${given} has no \`backup:\``, "docs/resources/backup.md says what to write");
  const target = await targetOf(io, given);
  const made: (Made & { host: string })[] = [];
  for (const host of hosts) {
    const machine = await machineOf(io, target, plan.stack, host.host);
    const { times } = backupSettings(host) ?? { times: {} };
    const wanted = Object.keys(times).filter((what) => what !== (values.full ? "differential" : "full"));
    for (const what of wanted)
      made.push({
        host: host.host,
        ...(await during(io.progress, `${what} backup of ${plan.stack}/${host.host}`, () =>
          backUp(machine, target.connect(machine), what),
        )),
      });
  }
  if (io.json) io.print(JSON.stringify(made, null, 2));
  else for (const m of made) io.print(`${plan.stack}/${m.host}: ${describe(m)}`);
  return 0;
}

function describe({ what, label, rows, id, files, bytes }: Made): string {
  if (label === undefined) return `${what}: ${id}, ${files} files, ${size(bytes ?? 0)}`;
  const counted = Object.entries(rows ?? {}).map(([table, r]) => `${table} ${r.rows} rows`);
  return `${what}: ${label}${counted.length ? `, ${counted.join(", ")}` : ""}`;
}
