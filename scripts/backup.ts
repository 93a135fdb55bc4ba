// ingot backup: backups of a stack's hosts, now.
import { parseArgs } from "node:util";
import { during } from "../lib/progress.ts";
import { backUp, type Made } from "../stacks/recovery/backups.ts";
import { backedUp } from "./backups.ts";
import { type Io, size } from "./command.ts";
import { machineOf } from "./machines.ts";
import { only } from "./stack.ts";

export const help = `Makes backups of what a stack's hosts hold, now: of those that have \`backup:\`. What they do by their timers goes on beside it.

  ingot backup <stack>[/<host>] [--full]

PostgreSQL is copied as far as it changed since the last full backup; --full copies all of it. Then the rows of the tables that \`backup:\`
names are counted and summed, against which a restore is held. Directories are copied as far as they changed.`;

export async function main(args: string[], io: Io): Promise<number> {
  const { positionals, values } = parseArgs({ args, allowPositionals: true, options: { full: { type: "boolean" } } });
  const { plan, target, hosts } = await backedUp(only(positionals, "stack", "ingot backup <stack>[/<host>]"), io);
  const made: (Made & { host: string })[] = [];
  for (const { host, settings } of hosts) {
    const machine = await machineOf(io, target, plan.stack, host.host);
    const wanted = Object.keys(settings.times).filter((what) => !["incremental", values.full ? "differential" : "full"].includes(what));
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
