// A lost host back from its backups: phases that are written down before they begin, so that a run that ends in the middle is gone on with, each
// proven before the next. scripts/rebuild.ts launches and verifies, as `up` does.
//
//   hold     what depends on it on the stack's other hosts, which run on, rests
//   fence    the old machine is off, and proven to be
//   source   its volumes, where they are healthy; copies of them, where they are in another zone; else what of them is lost is put aside, and comes
//            from the backups
//   launch   the same image, the same secrets; the first boot restores
//   follow   what rested runs again
//   backup   a full one at once: the new timeline has none
//   verify   every check
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { HostPlan, Restore, StackPlan, VolumePlan } from "../../cloud-init/plan.ts";
import { logRoom } from "../../cloud-init/resources/postgresql.ts";
import { RefusedError } from "../../lib/diagnostics.ts";
import type { Project } from "../../lib/paths.ts";
import { during, type Progress } from "../../lib/progress.ts";
import type { Disks, Health, Machine, OneHost, Picture, Target } from "../target.ts";
import { age, type BackupSettings, backupSettings, mebibytes, nearest } from "./backups.ts";
import { type Dependents, holdBack, letFollow, running } from "./dependents.ts";
import { chosenOf, knownBackups, notThere } from "./past.ts";

export const phases = ["hold", "fence", "source", "launch", "follow", "backup", "verify"] as const;
export type Phase = (typeof phases)[number];

/** What is written down of a rebuild. */
export interface Rebuild {
  stack: string;
  host: string;
  /** ISO 8601; restores as it was then. */
  at?: string;
  /** Restores as it was in that backup. */
  backup?: string;
  began: string;
  /** Recipe → digest of the image that the stack's machines had. Empty when nothing is known of them any more. */
  images: Record<string, string>;
  /** Where the old machine answered on this computer. */
  forwards?: Machine["forwards"];
  /** When another past was chosen after this one's was not to be had, ISO 8601; disks that were put aside for the one before. */
  chosen?: string;
  aside?: string[];
  /** What rests on other hosts. */
  held?: Dependents[];
  source?: Source;
  /** Where names in DNS lead now, in words. */
  named?: string[];
  /** Those that were begun, in their order; ISO 8601. */
  phases: { phase: Phase; began: string; ended?: string }[];
}

/** Where the new machine's data is from, by volume. */
export interface Source {
  /** The old disks. */
  attached: string[];
  /** New disks, filled from the backups; where the old ones are now, those that were there. */
  restored: { volume: string; because: string; aside?: string }[];
  /** New disks, made from pictures of the old ones (EC2's snapshots): of now, where those are in another zone; else the last that were taken
   * beside the backups. */
  pictured: { volume: string; because: string; aside?: string; snapshot: string; taken: string }[];
  /** New disks that stay empty: nothing of them is backed up. */
  empty: { volume: string; because: string; aside?: string }[];
}

/** Recipe → digest of the image that a stack's machines have. */
export const imagesOf = ({ hosts }: StackPlan, machines: Machine[]): Rebuild["images"] =>
  Object.fromEntries(hosts.flatMap((h) => machines.filter((m) => m.host === h.host).map((m) => [h.image.name, m.imageDigest] as const)));

const fileOf = (project: Project, stack: string, host: string): string => join(project.state, "recovery", `${stack}.${host}.json`);

/** One that was begun and did not end. */
export function unfinished(project: Project, stack: string, host: string): Rebuild | undefined {
  const file = fileOf(project, stack, host);
  return existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as Rebuild) : undefined;
}

function write(project: Project, rebuild: Rebuild): void {
  const file = fileOf(project, rebuild.stack, rebuild.host);
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  writeFileSync(`${file}.new`, `${JSON.stringify(rebuild, null, 1)}\n`);
  renameSync(`${file}.new`, file);
}

/** Its end: nothing is to be gone on with. */
export const forget = (project: Project, { stack, host }: Rebuild): void => rmSync(fileOf(project, stack, host), { force: true });

/** Whether it may still choose another past: its new machine is not up yet. */
export const mayChoose = ({ phases }: Rebuild): boolean => !phases.some((p) => p.phase === "launch" && p.ended);

/** One that goes on with another past: all but its hold is done again. What it put aside stays there; what it began to restore is put aside, too. */
export function choosing({ at: _, backup: __, source, aside = [], ...rebuild }: Rebuild, past: Restore): Rebuild {
  const volumes = [...(source?.restored ?? []), ...(source?.pictured ?? []), ...(source?.empty ?? [])];
  return {
    ...rebuild,
    ...past,
    chosen: new Date().toISOString(),
    aside: [...aside, ...volumes.flatMap((v) => v.aside ?? [])],
    phases: rebuild.phases.filter((p) => p.phase === "hold"),
  };
}

/** Does a phase that has not ended yet, and writes down before and after. */
export async function phase(project: Project, rebuild: Rebuild, name: Phase, work: () => Promise<void>): Promise<void> {
  const known = rebuild.phases.find((p) => p.phase === name);
  if (known?.ended) return;
  const entry: Rebuild["phases"][number] = known ?? { phase: name, began: new Date().toISOString() };
  if (!known) rebuild.phases.push(entry);
  write(project, rebuild);
  await work();
  entry.ended = new Date().toISOString();
  write(project, rebuild);
}

/** The past that is asked for, in words: "at 2026-…", "in the backup …"; undefined: as late as can be. */
const pastOf = ({ at, backup }: Restore): string | undefined =>
  backup !== undefined ? `in the backup ${backup}` : at !== undefined ? `at ${at}` : undefined;

/** The options that ask for it. */
export const asked = ({ at, backup }: Restore): string =>
  backup !== undefined ? ` --backup ${backup}` : at !== undefined ? ` --at ${at}` : "";

/** @throws RefusedError when the host has no backups */
export function settingsFor(plan: HostPlan): BackupSettings {
  const settings = backupSettings(plan);
  if (settings) return settings;
  throw new RefusedError(
    `${plan.stack}/${plan.host} has no \`backup:\`: there is nothing to rebuild it from`,
    `where its volumes are healthy, \`ingot down ${plan.stack}\` and \`ingot up ${plan.stack}\` launch it anew with its data`,
  );
}

/** The host's volume with the repositories, where they are on this host. */
const repositoryOf = (plan: HostPlan, { on, s3, to }: BackupSettings): VolumePlan | undefined => (on || s3 ? undefined : nearest(plan, to));

/** Why the host with the backups cannot give them; undefined: it can, or can once it is launched beside this one. */
async function storeLost(
  target: Target,
  stack: StackPlan,
  { to }: BackupSettings,
  name: string,
): Promise<{ because: string; hint: string } | undefined> {
  const machines = await target.find(stack.stack);
  const machine = machines.find((m) => m.host === name);
  if (machine?.state === "running") return undefined;
  const hint = `ingot doctor ${stack.stack}`;
  // It comes with the others.
  if (machines.some((m) => m.state === "running"))
    return { because: `its machine ${machine ? `is ${machine.state}` : "is not there"}`, hint };
  const store = stack.hosts.find((h) => h.host === name);
  const volume = store && nearest(store, to);
  if (!volume) return { because: "it has no volume for them", hint };
  const health = await target.disks.health(store, volume.name);
  if (health === "healthy") return undefined;
  if (typeof health === "object" && "elsewhere" in health)
    return {
      because: `its volume ${volume.name} is in ${health.elsewhere}, and the host is to be in another zone`,
      hint: `write the \`zone:\` of ${name} as it was`,
    };
  return {
    because: `its volume ${volume.name} is ${health === "missing" ? "empty" : "broken"}`,
    hint: `bring ${target.disks.where(store, volume.name)} back, or a copy of it`,
  };
}

/** What is in the backups: paths; and what of it is on a volume. */
const held = ({ directories, postgresql }: BackupSettings): string[] => [...directories, ...(postgresql ? [postgresql.data] : [])];
/** What is on no volume. */
const homelessOf = (plan: HostPlan, settings: BackupSettings): string[] => held(settings).filter((path) => !nearest(plan, path));
const heldOn = (plan: HostPlan, settings: BackupSettings, volume: VolumePlan): string[] =>
  held(settings).filter((path) => nearest(plan, path)?.name === volume.name);

/** The stack's other machines that run on, where the target can leave them; those that have failed are launched anew with the host. */
export async function beside(target: Target, { stack, host }: Pick<Rebuild, "stack" | "host">): Promise<Machine[]> {
  if (!target.one) return [];
  const others = (await target.find(stack)).filter((m) => m.host !== host && m.state !== "stopped");
  return others.every((m) => m.state === "running") ? others : [];
}

/** By which the host alone is ended and launched; undefined: only with the whole stack. */
export const apart = async (target: Target, rebuild: Pick<Rebuild, "stack" | "host">): Promise<OneHost | undefined> =>
  target.one && (target.one.alone || (await beside(target, rebuild)).length > 0) ? target.one : undefined;

/** What depends on the host rests, on those of the others that run. */
export async function hold(project: Project, target: Target, rebuild: Rebuild, dependents: Dependents[]): Promise<void> {
  const machines = await beside(target, rebuild);
  const there = dependents.flatMap((one) => {
    const machine = machines.find((m) => m.host === one.host);
    return machine ? [{ one, connection: target.connect(machine) }] : [];
  });
  // Written down before it is stopped: nothing says afterwards what has run.
  rebuild.held ??= await Promise.all(there.map(({ one, connection }) => running(connection, one)));
  write(project, rebuild);
  for (const { one, connection } of there) {
    const held = rebuild.held.find((h) => h.host === one.host);
    if (held) await holdBack(connection, held);
  }
}

/** What rested runs again. */
export async function follow(target: Target, rebuild: Rebuild): Promise<void> {
  const machines = await target.find(rebuild.stack);
  for (const held of rebuild.held ?? []) {
    const machine = machines.find((m) => m.host === held.host && m.state !== "stopped");
    if (machine) await letFollow(target.connect(machine), held);
  }
}

/** Powers the old machine off, with those that cannot be left running. @throws RefusedError when that cannot be proven: two machines must not
 * archive into one repository */
export async function fence(target: Target, rebuild: Rebuild): Promise<void> {
  const { stack, host } = rebuild;
  const one = await apart(target, rebuild);
  if (one) await one.end(stack, host);
  else await target.down(stack);
  const left = (await target.find(stack)).filter((m) => m.state !== "stopped" && (m.host === host || !one));
  if (left.length)
    throw new RefusedError(
      `${stack}/${host} is not proven to be off: ${left.map((m) => `${m.host} is ${m.state}`).join(", ")}`,
      `end it yourself, then \`ingot status ${stack}\` must show none`,
    );
}

/** A host may go into another zone where its stack's network lets it, while the stack's other hosts stay. @throws RefusedError */
export async function mustBeMovable({ disks }: Target, stack: StackPlan, plan: HostPlan): Promise<void> {
  if (!disks.zones) return;
  for (const host of stack.hosts)
    for (const volume of host.volumes) {
      const health = await disks.health(host, volume.name);
      if (typeof health !== "object" || !("elsewhere" in health)) continue;
      if (host.host !== plan.host)
        throw new RefusedError(
          `the stack's file has ${host.host} in another zone as well: its volume ${volume.name} is in ${health.elsewhere}, and a rebuild of ${plan.host} leaves it there`,
          `one host after the other: write the \`zone:\` of ${host.host} as it was until ${plan.host} is back. Nothing was changed`,
        );
      disks.zones.mayMove(stack, plan);
    }
}

interface Looked {
  volume: VolumePlan;
  health: Health;
}

/** A volume that is not to be attached. */
interface Fresh {
  volume: VolumePlan;
  because: string;
  /** Of it as it is now. */
  copy?: Picture;
}

/**
 * Looks at the host's disks, which nobody uses now, and says what the new machine's are to be. Those that are in another zone are copied; nothing
 * is put aside yet.
 * @throws RefusedError when the repository itself is lost
 */
export async function chooseSource(
  target: Target,
  stack: StackPlan,
  plan: HostPlan,
  rebuild: Rebuild,
  progress: Progress,
): Promise<Source> {
  const { disks } = target;
  const settings = settingsFor(plan);
  const lostStore = settings.on && (await storeLost(target, stack, settings, settings.on.host));
  if (lostStore)
    throw new RefusedError(
      `the backups of ${plan.stack}/${plan.host} are on ${settings.on?.host}, and ${lostStore.because}`,
      lostStore.hint,
    );
  const looked: Looked[] = [];
  for (const volume of plan.volumes)
    looked.push({ volume, health: await during(progress, `look at volume ${volume.name}`, () => disks.health(plan, volume.name)) });
  const judged = await Promise.all(looked.map((one) => freshOf(disks, plan, one, rebuild)));
  const fresh = judged.flatMap((f) => f ?? []);
  const repository = repositoryOf(plan, settings);
  for (const one of looked) if (one.volume.name === repository?.name) await mustHoldBackups(disks, plan, one, fresh);
  const cluster = settings.postgresql && nearest(plan, settings.postgresql.data);
  const restores = settings.postgresql !== undefined && (!cluster || fresh.some((f) => f.volume.name === cluster.name && !f.copy));
  if (restores || pastOf(rebuild) !== undefined) await mustBePossible(target, stack, plan, rebuild, cluster);
  const attached = plan.volumes.map((v) => v.name).filter((name) => !fresh.some((f) => f.volume.name === name));
  const source: Source = { attached, restored: [], pictured: [], empty: [] };
  const homeless = homelessOf(plan, settings);
  if (homeless.length) source.restored.push({ volume: machinesOwn, because: `${homeless.join(", ")} went with it` });
  for (const { volume, because, copy } of fresh) {
    const one = { volume: volume.name, because };
    if (copy) source.pictured.push({ ...one, snapshot: copy.id, taken: copy.taken });
    else if (heldOn(plan, settings, volume).length) source.restored.push(one);
    else {
      const picture = await disks.snapshot?.(plan, volume.name);
      const what = volume.name === repository?.name ? "it holds the backups" : "nothing of it is backed up";
      if (picture)
        source.pictured.push({
          volume: volume.name,
          because: `${because}, and ${what}; what was written to it in the ${age(since(picture))} after that is lost`,
          snapshot: picture.id,
          taken: picture.taken,
        });
      else source.empty.push({ volume: volume.name, because: `${because}, and ${what}` });
    }
  }
  return source;
}

/** undefined: the volume is attached as it is. */
async function freshOf(disks: Disks, plan: HostPlan, { volume, health }: Looked, rebuild: Rebuild): Promise<Fresh | undefined> {
  const settings = settingsFor(plan);
  const past = pastOf(rebuild);
  if (typeof health === "object" && !("elsewhere" in health)) return { volume, because: `it is broken: ${health.broken}` };
  if (past !== undefined && volume.name !== repositoryOf(plan, settings)?.name && heldOn(plan, settings, volume).length)
    return { volume, because: health === "missing" ? "there is nothing on it" : `as it was ${past}` };
  if (health === "healthy") return undefined;
  if (health !== "missing") return copied(disks, plan, volume, health, rebuild);
  // One that this rebuild has put aside before, when another past was asked for.
  const copy = await disks.copy?.(plan, volume.name, rebuild.began);
  return copy && "id" in copy ? { volume, because: "it was in another zone", copy } : { volume, because: "there is nothing on it" };
}

/** Of the volume with the backups. @throws RefusedError when it is lost, and there is nothing to make it from */
async function mustHoldBackups(disks: Disks, plan: HostPlan, { volume, health }: Looked, fresh: Fresh[]): Promise<void> {
  const lost = fresh.find((f) => f.volume.name === volume.name && !f.copy);
  // A broken disk in the host's own zone may be mended by people, and then holds more than its last picture.
  if (!lost || (typeof health === "object" && "elsewhere" in health && (await disks.snapshot?.(plan, volume.name)) !== undefined)) return;
  throw new RefusedError(
    `the volume ${volume.name}, with the backups of ${plan.stack}/${plan.host}, is lost: ${lost.because}`,
    `bring ${disks.where(plan, volume.name)} back, or a copy of it; without backups \`ingot up ${plan.stack}\` begins with what the other volumes hold`,
  );
}

/** What of the machine is on no volume, among what is restored. */
const machinesOwn = "the machine's own disk";

/** Seconds. */
const since = ({ taken }: Picture): number => (Date.now() - Date.parse(taken)) / 1000;

/** A volume that is in another zone: its copy, or why there is none. */
async function copied(
  disks: Disks,
  plan: HostPlan,
  volume: VolumePlan,
  { elsewhere, broken }: { elsewhere: string; broken?: string },
  { began }: Rebuild,
): Promise<Fresh> {
  const copy = broken === undefined ? await disks.copy?.(plan, volume.name, began) : { cannot: broken };
  if (copy && "id" in copy) return { volume, because: `it is in ${elsewhere}`, copy };
  return { volume, because: `it is in ${elsewhere}, and cannot be copied from there (${copy?.cannot ?? "this target knows no way"})` };
}

/** Puts what is not to be used again where nobody takes it for the host's; nothing is deleted. */
export async function putAside(project: Project, { disks }: Target, plan: HostPlan, rebuild: Rebuild): Promise<void> {
  const { restored = [], pictured = [], empty = [] } = rebuild.source ?? {};
  // Written down before the first of them goes: what is chosen is told from where they are.
  write(project, rebuild);
  for (const one of [...restored, ...pictured, ...empty].filter((v) => v.volume !== machinesOwn && v.aside === undefined)) {
    const name = await disks.setAside(plan, one.volume, rebuild.chosen ?? rebuild.began);
    if (name !== undefined) one.aside = name;
    write(project, rebuild);
  }
}

/** Said before anything is put aside. @param cluster the volume of PostgreSQL's data @throws RefusedError */
async function mustBePossible(
  target: Target,
  stack: StackPlan,
  plan: HostPlan,
  rebuild: Rebuild,
  cluster: VolumePlan | undefined,
): Promise<void> {
  const settings = settingsFor(plan);
  const known = await knownBackups(target, stack, plan, settings, rebuild);
  if (!known) return;
  const why = notThere(known, settings, rebuild);
  if (why) throw new RefusedError(`${plan.stack}/${plan.host}: ${why.message}`, `${why.hint}. Nothing was put aside`);
  const size = chosenOf(known, rebuild)?.bytes;
  if (cluster && size !== undefined && roomFor(size, cluster.size) > cluster.size)
    throw new RefusedError(
      `the volume ${cluster.name} of ${plan.stack}/${plan.host} would have ${mebibytes(cluster.size)}, and PostgreSQL of that backup wants ${mebibytes(roomFor(size, cluster.size))}`,
      "give it a larger `size:`, then go on by the same command; nothing was put aside",
    );
}

/** Bytes that a cluster of this size wants on such a volume, with its log while it is recovered (backup.py, room_for). */
const roomFor = (size: number, volume: number): number => Math.round(size * 1.1) + logRoom(volume);

/** What would become of a volume that is in another zone, in words. @param lost what would, could it not be copied */
async function foreseenMove(
  disks: Disks,
  plan: HostPlan,
  volume: VolumePlan,
  { elsewhere, broken }: { elsewhere: string; broken?: string },
  lost: string,
): Promise<string> {
  const picture = heldOn(plan, settingsFor(plan), volume).length ? undefined : await disks.snapshot?.(plan, volume.name);
  const otherwise = picture
    ? `it would be made from ${picture.id}, taken ${picture.taken}: what was written to it in the ${age(since(picture))} since would be lost`
    : lost;
  const there = `in ${elsewhere}, and the host is to be in another zone`;
  return broken === undefined
    ? `${there}: a snapshot is taken once the machine is off, the new one is made from it, and the old one put aside; where none can be taken, ${otherwise}`
    : `${there}, and broken (${broken}): ${otherwise}`;
}

/** What would become of a volume, in words. @param off machines that would be powered off first */
async function foreseenVolume(disks: Disks, plan: HostPlan, volume: VolumePlan, wanted: Restore, off: Machine[]): Promise<string> {
  const settings = settingsFor(plan);
  const past = pastOf(wanted);
  const paths = heldOn(plan, settings, volume);
  const holds = volume.name === repositoryOf(plan, settings)?.name;
  const become = async (): Promise<string> => {
    if (past !== undefined && paths.length && !holds) return `put aside, and restored as it was ${past}`;
    const lost = holds
      ? "the rebuild would be refused, since it holds the backups"
      : paths.length
        ? `it would be restored from the backups (${paths.join(", ")})`
        : "it would be new and empty: nothing of it is backed up";
    const stays = `${holds ? "holds the backups, and is" : "healthy, and"} attached`;
    // One that a machine writes to cannot be looked at, but where it is.
    const health = disks.zones || !off.length ? await disks.health(plan, volume.name) : undefined;
    if (typeof health === "object" && "elsewhere" in health) return foreseenMove(disks, plan, volume, health, lost);
    if (off.length) return holds ? stays : `looked at once the machine is off; where it is broken ${lost}`;
    return health === "healthy" ? stays : `${health === "missing" ? "there is nothing on it" : "broken"}; ${lost}`;
  };
  return `volume ${volume.name}: ${await become()}`;
}

/** What a rebuild would do, in words, one line each. */
export async function foreseen(
  target: Target,
  stack: StackPlan,
  plan: HostPlan,
  wanted: Restore,
  dependents: Dependents[],
): Promise<string[]> {
  const past = pastOf(wanted);
  const settings = settingsFor(plan);
  const machines = await target.find(stack.stack);
  const others = await beside(target, plan);
  const resting = dependents.filter((one) => others.some((m) => m.host === one.host));
  const anew = others.length ? [] : stack.hosts.filter((h) => h.host !== plan.host).map((h) => h.host);
  const off = machines.filter((m) => m.state !== "stopped" && !others.some((o) => o.host === m.host));
  const volumes = await Promise.all(plan.volumes.map((volume) => foreseenVolume(target.disks, plan, volume, wanted, off)));
  const lostStore = settings.on && (await storeLost(target, stack, settings, settings.on.host));
  const place = settings.on ? `on ${settings.on.host}` : settings.s3 && `in ${settings.to}`;
  const known = machines.find((m) => m.host === plan.host);
  const homeless = homelessOf(plan, settings);
  return [
    ...resting.map(({ host, sites, units }) => {
      const answer = sites.length ? `${sites.map((s) => `site/${s}`).join(", ")} would answer 503` : "";
      const stopped = units.length ? `${units.join(", ")} would rest` : "";
      return `hold: on ${host}, ${[stopped, answer].filter((t) => t).join("; ")}`;
    }),
    off.length
      ? `fence: ${off.map((m) => `${m.host} is ${m.state}`).join(", ")}, and would be powered off${others.length ? `; ${others.map((m) => m.host).join(", ")} would run on` : ""}`
      : others.length
        ? `fence: it does not run; ${others.map((m) => m.host).join(", ")} would run on`
        : "fence: no machine of the stack runs",
    ...(place === undefined
      ? []
      : [
          `source: the backups ${place}, ${lostStore ? `but ${lostStore.because}: it would be refused` : "where the old machine's right to write ends"}`,
        ]),
    ...volumes,
    ...(homeless.length
      ? [`${homeless.join(", ")}: on no volume, so it goes with the machine and would be restored from the backups`]
      : []),
    `launch: from the image that it had${known ? ` (${known.imageDigest.slice(0, 12)})` : ", which nobody knows any more: the recipe's"}${anew.length ? `; ${anew.join(", ")} would be launched anew beside it, with their data` : ""}`,
    ...(known && known.generation !== plan.generation.digest
      ? ["launch: the stack's file has changed since: the new machine is what it says now"]
      : []),
    ...(target.found ? [await target.found.foreseen(plan)] : []),
    ...(settings.postgresql
      ? [
          `data: PostgreSQL ${past ? `as it was ${past}` : `up to the last piece of its log in the repository, at most ${settings.postgresql.archive_seconds} s before the end`}`,
        ]
      : []),
    ...(settings.directories.length
      ? [
          `data: directories as they were in ${wanted.backup !== undefined ? "the first copy after it" : `the last copy${past === undefined ? "" : " before that"}`} (copied ${settings.times.directories})`,
        ]
      : []),
    ...(resting.length ? [`follow: what rested on ${resting.map((h) => h.host).join(", ")} runs again`] : []),
    "backup: a full one at once",
    "verify: every check of the stack",
  ];
}
