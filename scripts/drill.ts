// ingot drill: the stack made anew from its backups, beside itself, proven and timed.
import { parseArgs } from "node:util";
import { findStack } from "../cloud-init/model.ts";
import type { StackPlan } from "../cloud-init/plan.ts";
import { Cancelled } from "../lib/cancel.ts";
import { RefusedError, UsageError } from "../lib/diagnostics.ts";
import { short } from "../lib/digest.ts";
import { durationExpected, secondsIn } from "../lib/duration.ts";
import { lock } from "../lib/lock.ts";
import { besideOf } from "../lib/paths.ts";
import { during } from "../lib/progress.ts";
import { failures, gather, type HostOutcome, prepare } from "../stacks/launch.ts";
import { containerTarget } from "../stacks/local/container.ts";
import { backUp, backupSettings, wholeOnes } from "../stacks/recovery/backups.ts";
import {
  askDrill,
  beginDrill,
  besideInput,
  bucketsOf,
  type Drill,
  type DrilledHost,
  type DrillPhase,
  endDrill,
  type Gates,
  holdExpiry,
  type InBucket,
  type Mounted,
  missed,
  mountRepositories,
  mustHaveRoom,
  openGates,
  type Proof,
  type Repository,
  remember,
  repositoryFor,
  round,
  rpoOf,
  rtoOf,
  secretsToRead,
} from "../stacks/recovery/drill.ts";
import { imagesOf, unfinished } from "../stacks/recovery/rebuild.ts";
import type { Machine, Target } from "../stacks/target.ts";
import { type Io, table } from "./command.ts";
import { activated, machineOf, notUp, targetOf, verifyAll } from "./machines.ts";
import { load, only } from "./stack.ts";

export const help = `Makes a stack anew from its backups alone, beside itself: from the same file, image and secrets, in a network that nothing leaves, reading
production's repositories, which nobody can write to, or its buckets. It is proven (timeline, every page and index, rows as they were counted, repositories, every
check of the stack), written to, backed up to a disk of its own, timed, and taken away again. Production goes on meanwhile,
on containers or on vm (\`--on vm\`); the drill's machines are containers.

  ingot drill <stack> [--max-rto <duration>] [--max-rpo <duration>]

--max-rto 10m, --max-rpo 60s: exit code 1 when it took longer until every check held, or when what was restored was older (of PostgreSQL; of
directories on hosts without). What was found is kept: \`ingot backups\` and \`ingot status\` show the last drill. A drill that is stopped
or killed leaves nothing: the next command undoes it.`;

export async function main(args: string[], io: Io): Promise<number> {
  const options = { "max-rto": { type: "string" }, "max-rpo": { type: "string" } } as const;
  const { positionals, values } = parseArgs({ args, allowPositionals: true, options });
  const usage = "ingot drill <stack> [--max-rto <duration>] [--max-rpo <duration>]";
  const given = only(positionals, "stack", usage);
  const most = (name: "max-rto" | "max-rpo"): number | undefined => {
    const text = values[name];
    const seconds = text === undefined ? undefined : secondsIn(text);
    if (text !== undefined && seconds === undefined) throw new UsageError(`--${name} ${text} is no ${durationExpected.slice(2)}`, usage);
    return seconds;
  };
  const max = { rto: most("max-rto"), rpo: most("max-rpo") };
  if (io.on === "aws")
    throw new RefusedError("there are no drills on aws yet", "a stack of this computer is drilled: `--on container`, `--on vm`");
  const { plan } = load(given, io);
  if (!plan.hosts.some(backupSettings))
    throw new RefusedError(
      `${plan.stack} has no \`backup:\`, so there is nothing to make it from`,
      "docs/resources/backup.md says what to write",
    );
  const buckets = bucketsOf(plan);
  const production = await targetOf(io, given);
  const elsewhere = (await production.find(plan.stack)).length ? undefined : notUp(io, plan.stack);
  if (elsewhere?.elsewhere) throw new RefusedError(elsewhere.message, elsewhere.hint);
  // Whoever rebuilds looks after the disks that a drill reads.
  const lease = await lock(`rebuild ${io.project.folder} ${plan.stack}`, `drill ${plan.stack}`);
  try {
    const begun = plan.hosts.find((h) => unfinished(io.project, plan.stack, h.host));
    if (begun)
      throw new RefusedError(
        `a rebuild of ${plan.stack}/${begun.host} was begun and has not ended`,
        `ingot rebuild ${plan.stack}/${begun.host}`,
      );
    await mustHaveRoom(io.project, production, plan);
    const drill = await drilled(given, plan, buckets, production, io);
    drill.wrong.push(...(drill.ok ? missed(drill, max) : []));
    drill.ok = !drill.wrong.length;
    remember(io.project, drill);
    io.print(io.json ? JSON.stringify(drill, null, 2) : text(drill));
    return drill.ok ? 0 : 1;
  } finally {
    lease.release();
  }
}

/** What makes a drill end before its last phase; `wrong` has why. */
class Failed extends Error {}

async function drilled(given: string, foreseen: StackPlan, buckets: InBucket[], production: Target, io: Io): Promise<Drill> {
  const { project, progress } = io;
  const { stack } = foreseen;
  const running = await production.find(stack);
  const drill: Drill = {
    stack,
    began: new Date().toISOString(),
    phases: [],
    rto_seconds: null,
    rpo_seconds: null,
    repository: {},
    hosts: [],
    checks: { passed: 0, failed: [] },
    ok: false,
    wrong: [],
  };
  const beside: Io = { ...io, project: besideOf(project, stack) };
  const keys = new Set(buckets.flatMap(({ bucket }) => [bucket.access_key, bucket.secret_key].flatMap((name) => name ?? [])));
  const target: Target = { ...containerTarget(beside.project, progress), secrets: secretsToRead(production.secrets, keys) };
  const phase = async <T>(name: DrillPhase, work: () => Promise<T>): Promise<T> => {
    const began = performance.now();
    const result = await work();
    drill.phases.push({ phase: name, seconds: round((performance.now() - began) / 1000) });
    return result;
  };
  const entry = beginDrill(project, stack);
  let gates: Gates | undefined;
  let letExpire = async (): Promise<void> => {};
  try {
    let mounted: Mounted[] = [];
    await phase("repository", () =>
      during(progress, "look into production's repositories", async () => {
        letExpire = await holdExpiry(project, foreseen);
        gates = await openGates(project, production, buckets, stack);
        mounted = [...(await mountRepositories(project, production, running, foreseen)), ...gates.mounted];
        for (const { host, how } of mounted) drill.repository[host] = how;
      }),
    );
    const pinned = imagesOf(foreseen, running);
    const prepared = await phase("image", () =>
      prepare(project, findStack(project, given), target, progress, { pinned, meant: () => true }),
    );
    const { plan } = prepared;
    const outcomes = await phase("launch", () =>
      gather(
        `first boot of ${stack}, beside production`,
        plan.hosts,
        target.up(
          plan,
          prepared.hosts.map((h) => besideInput(h, plan, mounted)),
        ),
        progress,
      ),
    );
    drill.hosts = prepared.hosts.map((h) => ({
      host: h.plan.host,
      image: h.image.digest,
      generation: h.plan.generation.digest,
      production: sameAs(
        running.find((m) => m.host === h.plan.host),
        h.image.digest,
        h.plan.generation.digest,
      ),
      steps: restoring(outcomes.find((o) => o.host === h.plan.host)),
      backups: {},
    }));
    if (!activated(outcomes)) {
      // The machine, where the whole log is, is about to go.
      for (const f of failures(plan.hosts, outcomes))
        drill.wrong.push(
          `${f.range.file}:${f.range.start.line}: ${f.message}\n${(f.hint ?? "").replace(/\n[^\n]*ingot logs .*$/, "")}`.trim(),
        );
      throw new Failed();
    }
    await onHosts(drill, plan, target, beside, phase, mounted, gates);
    await phase("checks", async () => {
      const results = await verifyAll(plan, target, beside, 60);
      const failed = results.filter((r) => !r.ok);
      drill.checks = { passed: results.length - failed.length, failed: failed.map((r) => `${r.host}: ${r.id}: ${r.message}`) };
      drill.wrong.push(...drill.checks.failed.map((f) => `check ${f}`));
    });
  } catch (error) {
    if (error instanceof Cancelled || !(error instanceof Error)) throw error;
    if (!(error instanceof Failed))
      drill.wrong.push(error instanceof RefusedError && error.hint ? `${error.message} (${error.hint})` : error.message);
  } finally {
    await phase("end", () =>
      during(progress, `take away the drill of ${stack}`, () =>
        endDrill(project, entry, stack).finally(() => Promise.all([letExpire(), gates?.close()])),
      ),
    );
  }
  drill.rto_seconds = rtoOf(drill);
  drill.rpo_seconds = rpoOf(drill.hosts);
  drill.ok = !drill.wrong.length;
  return drill;
}

type Phase = <T>(name: DrillPhase, work: () => Promise<T>) => Promise<T>;

/** Proves what was restored, writes to it, and backs it up to the drill's own disk. */
async function onHosts(
  drill: Drill,
  plan: StackPlan,
  target: Target,
  io: Io,
  phase: Phase,
  mounted: Mounted[],
  gates: Gates | undefined,
): Promise<void> {
  const hosts: { own: DrilledHost; machine: Machine; repository: Repository | undefined; times: string[] }[] = [];
  for (const host of plan.hosts) {
    const settings = backupSettings(host);
    const own = drill.hosts.find((h) => h.host === host.host);
    if (!settings || !own) continue;
    const machine = await machineOf(io, target, plan.stack, host.host);
    hosts.push({ own, machine, repository: repositoryFor(plan, host), times: wholeOnes(settings) });
  }
  const each = (title: string, work: (host: (typeof hosts)[number]) => Promise<string[]>) =>
    during(io.progress, title, async () => {
      const found = await Promise.all(hosts.map(async (h) => (await work(h)).map((w) => `${h.own.host}: ${w}`)));
      drill.wrong.push(...found.flat());
    });
  const ask = <T>(machine: Machine, ...words: string[]) => askDrill<T>(machine, target.connect(machine), words);
  await phase("prove", () =>
    each("prove what was restored", async ({ own, machine, repository }) => {
      const from = mounted.find((m) => m.host === repository?.keeper.host && m.volume === repository.volume.name);
      const moment = from?.moments?.[own.host];
      own.proof = await ask<Proof>(machine, "prove", ...(moment === undefined ? [] : [String(moment)]));
      return own.proof.wrong;
    }),
  );
  await phase("write", () => each("write", async ({ machine }) => (await ask<{ wrong: string[] }>(machine, "write")).wrong));
  await phase("backup", () =>
    each("back up to a disk of the drill's own", async ({ own, machine, repository, times }) => {
      for (const what of times) {
        const { label, id } = await backUp(machine, target.connect(machine), what);
        own.backups[what] = label ?? id ?? "";
      }
      const labels = Object.values(own.backups).flatMap((l) => l.split(", "));
      if (!repository) return (await gates?.misplaced(own.host, labels)) ?? [];
      const keeper = await machineOf(io, target, plan.stack, repository.keeper.host);
      return (await ask<{ wrong: string[] }>(keeper, "scratch", repository.to, repository.over, ...labels)).wrong;
    }),
  );
}

const sameAs = (machine: Machine | undefined, image: string, generation: string): DrilledHost["production"] =>
  machine ? (machine.imageDigest === image && machine.generation === generation ? "same" : "other") : "unknown";

/** Those of a first boot that bring data back. */
const restoring = (outcome: HostOutcome | undefined): DrilledHost["steps"] =>
  (outcome?.steps ?? [])
    .filter((s) => s.step === "backup:restore" || s.step === "postgresql")
    .map(({ step, seconds }) => ({ step, seconds }));

/** A drill's report for people. */
export function text(drill: Drill): string {
  const lines = [
    table(drill.phases.map((p) => ["  ", p.phase, `${p.seconds.toFixed(1)} s`])),
    ...drill.hosts.flatMap((h) => [
      `${drill.stack}/${h.host}: image ${short(h.image)}, generation ${short(h.generation)}${production[h.production]}`,
      ...(h.steps.length ? [`  ${h.steps.map((s) => `${s.step} ${s.seconds.toFixed(1)} s`).join(", ")}`] : []),
      ...(h.proof ? proofLines(h.proof) : []),
      ...(Object.keys(h.backups).length
        ? [
            `  backed up to a disk of its own: ${Object.entries(h.backups)
              .map(([what, l]) => `${what} ${l}`)
              .join(", ")}`,
          ]
        : []),
    ]),
    `checks: ${drill.checks.passed} of ${drill.checks.passed + drill.checks.failed.length} passed`,
    ...drill.wrong.map((w) => `WRONG ${w}`),
    drill.ok
      ? `${drill.stack} can be made anew: RTO ${drill.rto_seconds} s, RPO ${drill.rpo_seconds ?? "not known"}${drill.rpo_seconds === null ? "" : " s"}`
      : `the drill of ${drill.stack} FAILED`,
  ];
  return lines.join("\n");
}

const production: Record<DrilledHost["production"], string> = {
  same: ", as production's",
  other: "; production runs another, the stack's file or its image has changed since",
  unknown: "; production does not run",
};

function proofLines({ postgresql: p, directories: d }: Proof): string[] {
  const rows = p && typeof p.rows === "object" ? Object.entries(p.rows).map(([name, r]) => `${name} ${r.rows}`) : [];
  return [
    ...(p
      ? [
          `  PostgreSQL: from the backup ${p.backup} and its log, on timeline ${p.timeline}; ${p.age_seconds ?? "an unknown number of"} s older than the moment of its restore`,
          `  amcheck: ${p.amcheck.relations} tables and indexes, ${p.amcheck.pages} pages, in ${p.amcheck.seconds} s; pgbackrest verify in ${p.verify_seconds} s`,
          ...(rows.length ? [`  rows, counted at the same point as then: the same (${rows.join(", ")})`] : []),
        ]
      : []),
    ...(d ? [`  directories: ${d.paths.join(", ")} from the copy ${d.copy}, ${d.age_seconds} s old`] : []),
  ];
}
