// ingot apply: running machines become what the stack says now, by the same generation that a first boot activates.
import { parseArgs } from "node:util";
import { UsageError } from "../lib/diagnostics.ts";
import { foreseeOn } from "../stacks/launch.ts";
import { type Change, changing, hostsOf, make, type Result, sayBack } from "./change.ts";
import { type Io, table } from "./command.ts";
import { stepTable } from "./machines.ts";
import { splitName } from "./stack.ts";

export const help = `Activates what the stack says now on its running machines: the same steps as at first boot, each done only where something differs.
Applying twice changes nothing. Where something changed, the checks are run; when a step fails, or a check that held before, the machines become
again what they were. What a migration did to a database stays.

  ingot apply <stack>[/<host>] [<resource> …] [--keep]
  ingot apply <stack>[/<host>] [<resource> …] --check [--diff]

With resources named, only these are brought, with what they need and what takes them over (a site with nginx, an application with what runs it);
all others stay as the machine has them, whatever the stack says of them now.

--check asks the machines what would change and changes nothing (Ingot's own programs on them are brought to this version first): exit code 1
when anything would. --diff shows files as they are and as they would be. A step says that it would change something when it finds work now, or
when a file that it uses would be another.

Exit code 1 when a step or a check fails. --keep leaves the machines as they are then, for you to look at; mend what is wrong and apply again: it
goes on with the rest. Two at once: the second waits for the first, and says so.

  ingot apply inloop --check --diff
  ingot apply inloop/web service/huey site/inloop`;

export async function main(args: string[], io: Io): Promise<number> {
  const options = { check: { type: "boolean" }, diff: { type: "boolean" }, keep: { type: "boolean" } } as const;
  const { positionals, values } = parseArgs({ args, allowPositionals: true, options });
  const usage = "ingot apply <stack>[/<host>] [<resource> …] [--keep | --check [--diff]]";
  const [given, ...resources] = positionals;
  if (given === undefined) throw new UsageError("which stack?", usage);
  if (values.diff && !values.check) throw new UsageError("--diff belongs to --check", usage);
  if (values.keep && values.check) throw new UsageError("--check changes nothing: there is nothing to keep", usage);
  const began = performance.now();
  const extent = {
    ...splitName(given),
    what: ["apply", given, ...resources].join(" "),
    ...(resources.length && { named: hostsOf(resources) }),
  };
  return changing(extent, io, async (change) => {
    sayParts(change, resources, io);
    if (values.check) return check(change, values.diff ? "diff" : "names", io);
    sayRefs(change, io);
    const keep = values.keep ?? false;
    const result = await make(change, io, { prove: "changed", keep });
    if (io.json) io.print(JSON.stringify({ stack: change.plan.stack, ...summary(result), hosts: result.outcomes }, null, 2));
    else if (result.ok) io.print(told(change, result, (performance.now() - began) / 1000));
    if (!result.ok) sayBack(change, result, keep, io);
    return result.ok ? 0 : 1;
  });
}

/** What comes along with the resources that were named. */
export function sayParts({ parts, plan }: Change, named: string[], io: Io): void {
  for (const [host, part] of parts) {
    const others = [...part].filter((id) => !named.includes(id));
    if (others.length) io.progress.say(`  ${plan.hosts.length > 1 ? `${host}: ` : ""}and with it: ${others.join(", ")}`);
  }
}

/** Releases that `deploy --ref` brought, and that go now. */
function sayRefs({ before, plan }: Change, io: Io): void {
  for (const { host, generation } of plan.hosts)
    for (const { id, action, args } of before.get(host)?.steps ?? []) {
      if (action !== "release" || args.asked === undefined) continue;
      const then = generation.steps.find((s) => s.id === id);
      if (then && then.args.path !== args.path)
        io.progress.say(
          `  ${host}: ${id.replace(/:release$/, "")} was deployed as ${args.asked} (${args.source}); it becomes what the stack says: ${then.args.source}`,
        );
    }
}

const summary = ({ ok, outcomes, checks, already, back }: Result) => ({
  ok,
  changed: outcomes.flatMap((o) => o.steps.filter((s) => s.outcome === "changed").map((s) => s.step)),
  files: {
    written: outcomes.reduce((n, o) => n + (o.activation?.written ?? 0), 0),
    removed: outcomes.reduce((n, o) => n + (o.activation?.removed ?? 0), 0),
  },
  checks,
  already,
  back,
});

function told({ plan: { stack } }: Change, result: Result, seconds: number): string {
  const { changed, files } = summary(result);
  const counted = (n: number, what: string, how: string) => (n ? [`${n} ${what}${n === 1 ? "" : "s"} ${how}`] : []);
  const what = [
    ...counted(changed.length, "step", "changed something"),
    ...counted(files.written, "file", "written"),
    ...counted(files.removed, "file", "removed"),
    ...counted(result.checks.length, "check", "passed"),
  ];
  const steps = result.outcomes.map((o) => ({ ...o, steps: o.steps.filter((s) => s.outcome === "changed") }));
  return `${changed.length ? `${stepTable(steps)}\n` : ""}${stack}: ${what.join(", ") || "nothing changed"} in ${seconds.toFixed(1)} s`;
}

/** Says what an apply would change. */
async function check({ plan: { stack }, hosts, machines, target }: Change, how: "diff" | "names", io: Io): Promise<number> {
  const found = await Promise.all(
    hosts.map(async (input) => {
      const machine = machines.get(input.plan.host);
      if (!machine) throw new Error(`no machine of ${input.plan.host}`);
      const { files, steps } = await foreseeOn(machine, target.connect(machine), input);
      return { host: input.plan.host, files, steps: steps.filter((s) => s.outcome !== "unchanged") };
    }),
  );
  const count = found.reduce((n, f) => n + f.files.length + f.steps.length, 0);
  if (io.json) io.print(JSON.stringify({ stack, changes: count > 0, hosts: found }, null, 2));
  else {
    for (const { host, files, steps } of found) {
      const rows = [
        ...files.map((f) => ["  ", f.change === "removed" ? "would be removed" : "would be written", f.path]),
        ...steps.map((s) => ["  ", s.outcome === "failed" ? "could not be asked" : "would change", s.step]),
      ];
      io.print(`${stack}/${host}${rows.length ? `\n${table(rows)}` : ": nothing would change"}`);
      for (const f of how === "diff" ? files : []) io.print(`\n${f.path}\n${f.diff}`);
    }
  }
  return count ? 1 : 0;
}
