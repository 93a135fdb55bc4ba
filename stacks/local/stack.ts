// What both targets of this computer do with the machines of a stack as a whole: one run at a time, everything in the ledger before it is made,
// undone when it does not come to be; and what a running machine cannot become.
import { randomBytes } from "node:crypto";
import { existsSync, readdirSync, rmdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import type { HostPlan } from "../../cloud-init/plan.ts";
import { MissingError, RefusedError } from "../../lib/diagnostics.ts";
import { canonicalJson } from "../../lib/digest.ts";
import { type Entry, type Ledger, ledgerAt, type Thing, undoThings } from "../../lib/ledger.ts";
import { type Lock, lock, lockWhenFree } from "../../lib/lock.ts";
import { besideOf, type Project } from "../../lib/paths.ts";
import { during, type Progress } from "../../lib/progress.ts";
import { run } from "../../lib/run.ts";
import type { HostInput, Machine, TargetEvent } from "../target.ts";
import { choosePorts, forwardable } from "./forward.ts";
import { holderOf, leaderOf, type MachineRecord, records } from "./machine.ts";
import { entryId, machineName, networkName } from "./names.ts";
import { endCopies } from "./vm-disk.ts";

const markPrefix = ".making-";
/** In the stack's folder while this process makes its machines (hold.sh). */
export const mark = `${markPrefix}${randomBytes(6).toString("hex")}`;

const lockName = (project: Project, stack: string): string => `machines ${networkName(project, stack)}`;

/** Does something with a stack while no other run does. @throws RefusedError when one is at it */
export async function alone<T>(project: Project, stack: string, what: string, work: () => Promise<T>): Promise<T> {
  const held = await lock(lockName(project, stack), `${what} ${stack}`);
  try {
    return await work();
  } finally {
    held.release();
  }
}

/** As a target's hold(). */
export const hold = (project: Project, progress: Progress, stack: string, what: string): Promise<Lock> =>
  lockWhenFree(lockName(project, stack), what, (holder) => progress.say(`  waiting for ${holder}`));

/** Makes a stack's machines, kept once `make` is through; whatever stops it, all is undone. */
export async function* launch(
  project: Project,
  ledger: Ledger,
  stack: string,
  make: (entry: Entry) => AsyncGenerator<TargetEvent>,
): AsyncGenerator<TargetEvent> {
  const held = await lock(lockName(project, stack), `up ${stack}`);
  let entry: Entry | undefined;
  try {
    await makeRoom(project, ledger, stack);
    entry = ledger.begin(entryId(stack), `machines of ${stack}`);
    yield* make(entry);
    ledger.keep(entry);
    entry = undefined;
  } finally {
    try {
      if (entry) await undo(project, ledger, entry, stack);
    } finally {
      held.release();
    }
  }
}

/**
 * Makes one machine of a stack whose others run; its own must have been ended. A run that is killed leaves a machine that is the stack's, as its
 * entry in the ledger says, and that ends as they do.
 * @throws RefusedError when the stack is not up
 */
export async function* launchBeside(
  project: Project,
  ledger: Ledger,
  stack: string,
  make: (entry: Entry) => AsyncGenerator<TargetEvent>,
): AsyncGenerator<TargetEvent> {
  const held = await lock(lockName(project, stack), `up ${stack}`);
  try {
    const entry = ledger.find(entryId(stack));
    if (entry?.state !== "kept") throw new RefusedError(`${stack} is not up`, `ingot up ${stack}`);
    yield* make(entry);
  } finally {
    held.release();
  }
}

/** Ends one machine of a stack and takes away what is left of it; the others run on. */
export const endOne = (
  project: Project,
  progress: Progress,
  stack: string,
  host: string,
  powerOff: () => Promise<void>,
  things: Thing[],
): Promise<void> =>
  alone(project, stack, "down", () =>
    during(progress, `power off ${stack}/${host}`, async () => {
      await powerOff();
      await scriptsOver(join(project.machines, stack));
      await undoThings(things);
    }),
  );

/** As a target's down(). */
export const end = (project: Project, ledger: Ledger, progress: Progress, stack: string, powerOff: () => Promise<void>): Promise<void> =>
  alone(project, stack, "down", async () => {
    const entry = ledger.find(entryId(stack));
    if (!entry) return;
    await during(progress, `power off ${stack}`, async () => {
      await powerOff();
      await undo(project, ledger, entry, stack);
    });
  });

/** Refuses when a machine of the stack lives; takes away what is left of one that does not. */
async function makeRoom(project: Project, ledger: Ledger, stack: string): Promise<void> {
  const entry = ledger.find(entryId(stack));
  const living = records(project, stack).filter(({ folder, record }) =>
    record.target === "vm" ? holderOf(dirname(folder)) : leaderOf(folder),
  );
  if (entry?.state === "kept" && living.length)
    throw new RefusedError(
      `${stack} is up already (${living.map(({ record }) => record.host).join(", ")})`,
      `ingot apply ${stack} changes it where it is; ingot down ${stack} ends it`,
    );
  if (entry) await undo(project, ledger, entry, stack);
}

/** Undoes what runs that were killed had begun; every command calls it first. Says what it found. */
export async function undoAbandoned(project: Project, progress: Progress): Promise<void> {
  const ledger = ledgerAt(project.ledger);
  for (const { id, what } of ledger.abandoned()) {
    const stack = /^machines\/(.*)$/.exec(id)?.[1];
    const drill = drillIn(id);
    const name = stack === undefined ? `undo ${project.folder} ${id}` : lockName(project, stack);
    const held = await lockWhenFree(name, `undo ${what}`, () => {});
    try {
      const entry = ledger.abandoned().find((e) => e.id === id);
      if (!entry) continue; // another run has done it meanwhile
      await during(progress, `undo what a run that was killed had begun: ${what}`, () =>
        stack !== undefined
          ? undo(project, ledger, entry, stack)
          : drill !== undefined
            ? undoDrill(project, ledger, entry, drill)
            : ledger.undo(entry),
      );
    } finally {
      held.release();
    }
  }
}

/** Name of the ledger's entry for a drill, and the stack in it. */
export const drillId = (stack: string): string => `drill/${stack}`;
const drillIn = (id: string): string | undefined => /^drill\/(.*)$/.exec(id)?.[1];

/** Ends a drill's machines at once, and removes all that it made. The entry is the project's; what its machines are is in their own ledger. */
export async function undoDrill(project: Project, ledger: Ledger, entry: Entry, stack: string): Promise<void> {
  const beside = besideOf(project, stack);
  await scriptsOver(dirname(beside.machines));
  const machines = ledgerAt(beside.ledger);
  const own = machines.find(entryId(stack));
  if (own) await undo(beside, machines, own, stack);
  await endCopies(project, stack);
  await ledger.undo(entry);
  removeIfEmpty(dirname(dirname(beside.machines)));
}

/** Undoes the entry of a stack. */
async function undo(project: Project, ledger: Ledger, entry: Entry, stack: string): Promise<void> {
  await scriptsOver(join(project.machines, stack));
  await ledger.undo(entry);
  removeEmpty(project, stack);
}

/** The scripts that a killed run may have left at work in a folder have ended (hold.sh). */
async function scriptsOver(folder: string): Promise<void> {
  if (!existsSync(folder)) return;
  for (const file of readdirSync(folder).filter((f) => f.startsWith(markPrefix))) rmSync(join(folder, file));
  await run(["flock", "--exclusive", "--timeout", "60", folder, "true"], { evenWhenCancelled: true });
}

/** The folders that held machines, once they hold none. */
function removeEmpty(project: Project, stack: string): void {
  for (const folder of [join(project.machines, stack), project.machines]) removeIfEmpty(folder);
}

function removeIfEmpty(folder: string): void {
  try {
    rmdirSync(folder);
  } catch {
    // others are in it, or it is gone
  }
}

/** @param needed what must be there, a program or a file, and its Debian package @throws MissingError naming the packages */
export function needPrograms(target: string, needed: [file: string, pkg: string][]): void {
  const folders = [...(process.env.PATH ?? "").split(":"), "/usr/sbin", "/sbin"];
  const missing = needed.filter(([file]) => !(file.startsWith("/") ? existsSync(file) : folders.some((f) => existsSync(join(f, file)))));
  if (!missing.length) return;
  const packages = [...new Set(missing.map(([, pkg]) => pkg))].join(" ");
  throw new MissingError(`the ${target} target needs ${missing.map(([file]) => file).join(", ")}`, `sudo apt-get install ${packages}`);
}

/** What is written down of a machine that is to be launched. @param taken ports of this computer that others of the stack have; its own come in */
export const recordOf = async (
  project: Project,
  stack: string,
  { plan, image }: HostInput,
  address: string,
  taken: Set<number>,
): Promise<MachineRecord> => ({
  stack,
  host: plan.host,
  instance: `${stack}-${plan.host}-${randomBytes(4).toString("hex")}`,
  imageDigest: image.digest,
  generation: plan.generation.digest,
  address,
  forwards: await choosePorts(forwardable(plan.ports), taken),
  volumes: plan.volumes.map((v) => v.name),
  ...(plan.limits && { limits: plan.limits }),
  began: new Date().toISOString(),
  name: machineName(project, stack, plan.host),
  network: networkName(project, stack),
});

/** A line for each port of this computer that leads to a machine: "127.0.0.1:8080<TAB>10.83.0.10:80". */
export const forwardLines = (machines: MachineRecord[]): string =>
  machines.flatMap(({ forwards, address }) => Object.entries(forwards).map(([port, here]) => `${here}\t${address}:${port}\n`)).join("");

/** @param how "by UEFI, …" */
export function startedText({ address, forwards }: MachineRecord, began: number, how = ""): string {
  const ports = Object.entries(forwards).map(([port, here]) => `${port} at ${here}`);
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  return `started at ${address} in ${seconds} s${how && ` by ${how}`}${ports.length ? ` (${ports.join(", ")})` : ""}`;
}

/** @throws RefusedError when a running machine lacks what only a launch gives it */
export function refuseWithout({ stack, host }: HostPlan, what: string): never {
  throw new RefusedError(
    `${stack}/${host} was launched without ${what}`,
    `\`ingot down ${stack}\`, then \`ingot up ${stack}\`: data and secrets stay`,
  );
}

/** @throws RefusedError for a volume that the machine was launched without */
export function needVolumes(plan: HostPlan, machine: Machine): void {
  const lacking = plan.volumes.filter((v) => !machine.volumes.includes(v.name));
  if (lacking.length) refuseWithout(plan, `the volume ${lacking.map((v) => v.name).join(", ")}, and a running machine gets no new disk`);
}

/** What of a plan a running machine keeps as it is, in words. @param image digest of the recipe's image */
export function keptAsLaunched(plan: HostPlan, machine: Machine, image: string | undefined): string[] {
  const again = "`ingot down` and `ingot up`";
  const ports = plan.ports.filter((p) => p.from === "world" && p.protocol === "tcp" && !(p.port in machine.forwards));
  return [
    ...(ports.length
      ? [`port ${ports.map((p) => p.port).join(", ")} answers on the machine, but on this computer only after ${again}`]
      : []),
    ...(canonicalJson(plan.limits ?? {}) === canonicalJson(machine.limits ?? {})
      ? []
      : [`${plan.host} keeps the limits that it was launched with until ${again}`]),
    ...(machine.imageDigest === image ? [] : [`${plan.host} runs another image than the recipe's now: it stays with it until ${again}`]),
  ];
}
