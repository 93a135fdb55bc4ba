// ingot rebuild: a lost host back, with its data.
import { parseArgs } from "node:util";
import { findStack } from "../cloud-init/model.ts";
import { RefusedError, UsageError } from "../lib/diagnostics.ts";
import { lock } from "../lib/lock.ts";
import { during } from "../lib/progress.ts";
import { gather, prepare } from "../stacks/launch.ts";
import { backUp, wholeOnes } from "../stacks/recovery/backups.ts";
import { dependentsOf } from "../stacks/recovery/dependents.ts";
import { mustBeThere } from "../stacks/recovery/past.ts";
import {
  apart,
  asked,
  chooseSource,
  choosing,
  fence,
  follow,
  foreseen,
  forget,
  hold,
  imagesOf,
  mayChoose,
  mustBeMovable,
  phase,
  type phases,
  putAside,
  type Rebuild,
  settingsFor,
  unfinished,
} from "../stacks/recovery/rebuild.ts";
import { type Io, table } from "./command.ts";
import { activated, machineOf, sayFailures, targetOf, verifyAll } from "./machines.ts";
import { hostOf, load, only, splitName } from "./stack.ts";

export const help = `Brings a lost host back: the old machine is powered off and proven to be off; volumes that are healthy are attached, what is lost comes
from the backups (\`backup:\` of the host); the new machine has the image and the secrets of the old one; it is backed up at once, and verified.
On EC2 also into another zone: the host's new \`zone:\` first, and copies of its volumes are made there.
The stack's other machines run on (on \`container\` and EC2). What depends on the host there rests meanwhile: its services are stopped, its sites answer 503.

  ingot rebuild <stack>[/<host>] [--at <time> | --backup <name>] [--dry-run]

--at 2026-11-24T10:30:00Z: as it was then, also where nothing is lost. --backup 20261124-030000F: as it was in that backup, by the names that \`ingot backups\`
lists. Disks that are not used any more are put aside, never deleted.
What is not there is refused before anything is changed, with what there is; where only the new machine can know, the same rebuild goes on with another --at or --backup.
--dry-run: says what would be done and what would be lost. On \`vm\`, and where another host has failed, all hosts are launched anew, with their data.
A rebuild that is stopped is gone on with by the same command.`;

export async function main(args: string[], io: Io): Promise<number> {
  const options = { at: { type: "string" }, backup: { type: "string" }, "dry-run": { type: "boolean" } } as const;
  const { positionals, values } = parseArgs({ args, allowPositionals: true, options });
  const usage = "ingot rebuild <stack>[/<host>] [--at <time> | --backup <name>] [--dry-run]";
  const { stack: given, host: one } = splitName(only(positionals, "host", usage));
  if (values.at !== undefined && values.backup !== undefined) throw new UsageError("a backup has its time: --at or --backup", usage);
  const past = {
    ...(values.at !== undefined && { at: instant(values.at, usage) }),
    ...(values.backup !== undefined && { backup: values.backup }),
  };
  const { plan, model } = load(given, io);
  const host = hostOf(plan, one);
  const settings = settingsFor(host);
  const target = await targetOf(io, given);
  const before = unfinished(io.project, plan.stack, host.host);
  if (asked(past) && (!before || (asked(before) !== asked(past) && mayChoose(before))))
    await mustBeThere(target, plan, host, settings, past);
  if (!before || mayChoose(before)) await mustBeMovable(target, plan, host);
  if (values["dry-run"]) {
    const lines = await foreseen(target, plan, host, past, dependentsOf(model, plan, host.host));
    io.print(io.json ? JSON.stringify({ stack: plan.stack, host: host.host, would: lines }, null, 2) : lines.join("\n"));
    return 0;
  }
  const lease = await lock(`rebuild ${io.project.folder} ${plan.stack}`, `rebuild ${plan.stack}/${host.host}`);
  try {
    const begun = unfinished(io.project, plan.stack, host.host);
    const another = begun !== undefined && asked(begun) !== asked(past);
    if (another && !(asked(past) && mayChoose(begun)))
      throw new RefusedError(
        `a rebuild of ${plan.stack}/${host.host}${asked(begun)} was begun ${begun.began} and has not ended`,
        `go on with it: ingot rebuild ${plan.stack}/${host.host}${asked(begun)}${mayChoose(begun) ? "; or choose another past by --at or --backup (--at of just now is the latest)" : ""}`,
      );
    if (begun) io.progress.say(`going on with the rebuild that was begun ${begun.began}${another ? `, now${asked(past)}` : ""}`);
    const machines = begun ? [] : await target.find(plan.stack);
    const old = machines.find((m) => m.host === host.host);
    const rebuild: Rebuild = (another ? choosing(begun, past) : begun) ?? {
      stack: plan.stack,
      host: host.host,
      ...past,
      began: new Date().toISOString(),
      images: imagesOf(plan, machines),
      ...(old && { forwards: old.forwards }),
      phases: [],
    };
    try {
      return await run(given, rebuild, io);
    } catch (error) {
      // It had no machine to power off, nobody rests for it, and no disk was chosen: there is nothing to go on with.
      if (!begun && !old && !rebuild.held?.length && !rebuild.source) forget(io.project, rebuild);
      throw error;
    }
  } finally {
    lease.release();
  }
}

async function run(given: string, rebuild: Rebuild, io: Io): Promise<number> {
  const { project, progress } = io;
  const target = await targetOf(io, given);
  const step = (name: (typeof phases)[number], work: () => Promise<void>) => phase(project, rebuild, name, work);
  await step("hold", async () => {
    const { plan, model } = load(given, io);
    const dependents = dependentsOf(model, plan, rebuild.host);
    if (dependents.length) await during(progress, "let what depends on it rest", () => hold(project, target, rebuild, dependents));
  });
  await step("fence", () => fence(target, rebuild));
  await step("source", async () => {
    const { plan } = load(given, io);
    const host = hostOf(plan, rebuild.host);
    rebuild.source ??= await chooseSource(target, plan, host, rebuild, progress);
    for (const line of described(rebuild)) progress.say(`  ${line}`);
    await putAside(project, target, host, rebuild);
  });
  await step("launch", async () => {
    const one = await apart(target, rebuild);
    // What an earlier run of this rebuild may have launched half.
    if (one) await one.end(rebuild.stack, rebuild.host);
    else await target.down(rebuild.stack);
    const prepared = await prepare(project, findStack(project, given), target, progress, { pinned: rebuild.images, meant: () => true });
    const restore = {
      ...(rebuild.at !== undefined && { at: rebuild.at }),
      ...(rebuild.backup !== undefined && { backup: rebuild.backup }),
    };
    const wanted = rebuild.source?.restored.length;
    const snapshots = Object.fromEntries((rebuild.source?.pictured ?? []).map((p) => [p.volume, p.snapshot]));
    const hosts = prepared.hosts.map((h) => (h.plan.host === rebuild.host ? { ...h, snapshots, ...(wanted && { restore }) } : h));
    const own = hosts.filter((h) => h.plan.host === rebuild.host);
    const outcomes = one
      ? await gather(
          `first boot of ${rebuild.stack}/${rebuild.host}`,
          own.map((h) => h.plan),
          one.launch(prepared.plan, hosts, rebuild.host, rebuild.forwards ?? {}),
          progress,
        )
      : await gather(`first boot of ${rebuild.stack}`, prepared.plan.hosts, target.up(prepared.plan, hosts), progress);
    if (activated(outcomes)) return;
    sayFailures(prepared.model, prepared.plan, outcomes);
    const again = `ingot rebuild ${rebuild.stack}/${rebuild.host}${asked(rebuild)}`;
    const other = wanted ? "; or, from another past, by another --at or --backup" : "";
    throw new RefusedError(`${rebuild.stack}/${rebuild.host} did not come up`, `mend what is said above, then go on: ${again}${other}`);
  });
  await step("follow", async () => {
    if (rebuild.held?.length) await during(progress, "let what rested run again", () => follow(target, rebuild));
  });
  await step("backup", async () => {
    const { plan } = load(given, io);
    const machine = await machineOf(io, target, rebuild.stack, rebuild.host);
    for (const what of wholeOnes(settingsFor(hostOf(plan, rebuild.host))))
      await during(progress, `${what} backup`, () => backUp(machine, target.connect(machine), what));
  });
  await step("verify", async () => {
    const results = await verifyAll(load(given, io).plan, target, io, 60);
    const failed = results.filter((r) => !r.ok).length;
    if (failed) throw new RefusedError(`${failed} of ${results.length} checks fail on the new machine`, "they are said above");
    progress.say(`  ${results.length} of ${results.length} checks passed`);
    rebuild.named = results.flatMap((r) =>
      r.check === "dns" && r.host === rebuild.host ? `${r.id.replace("dns/", "")}: ${r.message}` : [],
    );
    for (const line of rebuild.named) progress.say(`  ${line}`);
  });
  const restored = await restoredOn(rebuild, target, io);
  forget(project, rebuild);
  if (io.json) io.print(JSON.stringify({ ...rebuild, restored, seconds: secondsOf(rebuild) }, null, 2));
  else {
    io.print(table([...secondsOf(rebuild)].map(({ phase: name, seconds }) => ["  ", name, `${seconds.toFixed(1)} s`])));
    for (const line of [...described(rebuild), ...sayRestored(restored)]) io.print(`  ${line}`);
    const total = (Date.now() - Date.parse(rebuild.began)) / 1000;
    io.print(`${rebuild.stack}/${rebuild.host} is back after ${total.toFixed(1)} s`);
  }
  return 0;
}

/** What the new machine says of its restore. */
interface Restored {
  postgresql?: string;
  rows?: string | { point: string; same: Record<string, { rows: number }> };
  directories?: string;
  restored?: string[];
}

async function restoredOn(rebuild: Rebuild, target: Awaited<ReturnType<typeof targetOf>>, io: Io): Promise<Restored> {
  if (!rebuild.source?.restored.length) return {};
  const machine = await machineOf(io, target, rebuild.stack, rebuild.host);
  const { stdout } = await target.connect(machine).exec(["cat", "/var/lib/ingot/restored.json"]);
  return JSON.parse(stdout) as Restored;
}

function sayRestored({ postgresql, rows, directories, restored }: Restored): string[] {
  const counted = rows && typeof rows === "object" ? Object.entries(rows.same).map(([name, r]) => `${name} ${r.rows}`) : [];
  return [
    ...(postgresql ? [`PostgreSQL: from the backup ${postgresql}, then its log`] : []),
    ...(counted.length ? [`rows, counted at the same point as then: the same (${counted.join(", ")})`] : []),
    ...(restored?.length ? [`directories: ${restored.join(", ")} from the copy ${directories}`] : []),
  ];
}

const described = ({ source, aside = [], named = [] }: Rebuild): string[] =>
  source
    ? [
        ...(source.attached.length ? [`attached: ${source.attached.join(", ")}`] : []),
        ...source.restored.map((v) => `restored: ${v.volume}, because ${v.because}${v.aside ? `; the old disk is ${v.aside}` : ""}`),
        ...source.pictured.map(
          (v) => `from ${v.snapshot}, taken ${v.taken}: ${v.volume}, because ${v.because}${v.aside ? `; the old disk is ${v.aside}` : ""}`,
        ),
        ...aside.map((disk) => `put aside before, when another past was asked for: ${disk}`),
        ...source.empty.map((v) => `empty: ${v.volume}, because ${v.because}`),
        ...named,
      ]
    : [];

const secondsOf = (rebuild: Rebuild): { phase: string; seconds: number }[] =>
  rebuild.phases.map((p) => ({ phase: p.phase, seconds: (Date.parse(p.ended ?? "") - Date.parse(p.began)) / 1000 }));

/** To the second, UTC. @throws UsageError */
function instant(text: string, usage: string): string {
  const time = Date.parse(text);
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?(\.\d+)?(Z|[+-]\d\d:\d\d)$/.test(text) || Number.isNaN(time))
    throw new UsageError(`--at ${text} is no time with its zone, such as 2026-11-24T10:30:00Z`, usage);
  if (time > Date.now()) throw new UsageError(`--at ${text} is still to come`, usage);
  return `${new Date(time).toISOString().slice(0, 19)}Z`;
}
