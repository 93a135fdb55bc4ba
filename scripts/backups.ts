// ingot backups: which backups there are, up to when a restore would reach, and what is late.
import { parseArgs } from "node:util";
import { RefusedError } from "../lib/diagnostics.ts";
import { age, type Backups, backupSettings, backupsOn } from "../stacks/recovery/backups.ts";
import { type Drill, drillsOf, drillText, lateDrill } from "../stacks/recovery/drill.ts";
import { type Io, size, table } from "./command.ts";
import { machineOf, targetOf } from "./machines.ts";
import { hostOf, load, only, splitName } from "./stack.ts";

export const help = `Says which backups of a stack's hosts there are, how old and large they are, and what a lost disk would cost now (RPO).

  ingot backups <stack>[/<host>]

The last drill is said, too. Exit code 1 when a backup is late or broken, a drill is late (\`backup: { drill: { every: 30d } }\`), or a host that has \`backup:\` cannot be asked.`;

export async function main(args: string[], io: Io): Promise<number> {
  const { positionals } = parseArgs({ args, allowPositionals: true, options: {} });
  const { plan, target, hosts } = await backedUp(only(positionals, "stack", "ingot backups <stack>[/<host>]"), io);
  const found: (Backups & { host: string; drill: Drill | null })[] = [];
  const drills = drillsOf(io.project, plan.stack);
  for (const { host, settings } of hosts) {
    const machine = await machineOf(io, target, plan.stack, host.host);
    const own = await backupsOn(machine, target.connect(machine));
    found.push({ host: host.host, ...own, drill: drills.at(-1) ?? null, late: [...own.late, ...lateDrill(drills, settings)] });
  }
  if (io.json) io.print(JSON.stringify(found, null, 2));
  else {
    for (const backups of found) say(`${plan.stack}/${backups.host}`, backups, io);
    io.print(`${plan.stack}: ${drillText(drills)}`);
  }
  return found.some((b) => b.late.length) ? 1 : 0;
}

/** The hosts of a stack, or the one, that have `backup:`. @throws RefusedError when none has */
export async function backedUp(said: string, io: Io) {
  const { stack: given, host: one } = splitName(said);
  const { plan } = load(given, io);
  const hosts = (one === undefined ? plan.hosts : [hostOf(plan, one)]).flatMap((host) => {
    const settings = backupSettings(host);
    return settings ? [{ host, settings }] : [];
  });
  if (!hosts.length) throw new RefusedError(`${given} has no \`backup:\``, "docs/resources/backup.md says what to write");
  return { plan, target: await targetOf(io, given), hosts };
}

function say(host: string, { postgresql, directories, archive, late }: Backups, io: Io): void {
  const now = Date.now() / 1000;
  io.print(
    table([
      ["backup", "of", "age", "holds", "takes"],
      ...postgresql.map((b) => [b.label, `PostgreSQL, ${b.type}`, age(now - b.ended), size(b.bytes), size(b.stored)]),
      ...directories.slice(-5).map((d) => [d.id, d.of === "directories" ? d.paths.join(", ") : d.of, age(now - d.at), "", ""]),
    ]),
  );
  if (directories.length > 5) io.print(`and ${directories.length - 5} older ones of directories`);
  if (archive)
    io.print(
      archive.rpo_seconds === null
        ? `${host}: nothing of PostgreSQL's log is archived yet`
        : `${host}: a lost disk would cost what PostgreSQL committed in the last ${age(archive.rpo_seconds)}`,
    );
  for (const line of late) io.print(`LATE ${host}: ${line}`);
}
