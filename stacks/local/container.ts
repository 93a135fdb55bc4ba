// The `container` target: machines on this computer, made by systemd-nspawn. What is made is in the ledger before it is made;
// what must be root is in the scripts beside this file, one call for a machine.
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import type { StackPlan } from "../../cloud-init/plan.ts";
import { sharedFolder } from "../../cloud-init/resources/export.ts";
import { sleep } from "../../lib/cancel.ts";
import { RefusedError } from "../../lib/diagnostics.ts";
import { type Entry, type Ledger, ledgerAt, startOf, type Thing } from "../../lib/ledger.ts";
import { type Project, toolFolder } from "../../lib/paths.ts";
import { during, type Progress } from "../../lib/progress.ts";
import { asRoot, type RunResult, run, tryRun } from "../../lib/run.ts";
import { activationLimit, type HostInput, type Machine, type Target, type TargetEvent } from "../target.ts";
import { addressPlan } from "./address.ts";
import { groupThings, inGroup, manager } from "./cgroup.ts";
import { connectTo, enter, lookSeconds } from "./connection.ts";
import {
  addArtifacts,
  cloudInitErrors,
  consoleTail,
  containersOf,
  exitCodeOf,
  leaderOf,
  type MachineRecord,
  machineFacts,
  machineFolder,
  readRecord,
  records,
  writeFacts,
  writeMachine,
  writeRecord,
} from "./machine.ts";
import { entryId, linkName, machineName, macOf, networkName } from "./names.ts";
import { nspawnArguments } from "./nspawn.ts";
import { type Report, reportOf } from "./report.ts";
import { localSecrets } from "./secrets.ts";
import {
  alone,
  end,
  endOne,
  forwardLines,
  hold,
  keptAsLaunched,
  launch,
  launchBeside,
  mark,
  needPrograms,
  needVolumes,
  recordOf,
  refuseWithout,
  startedText,
} from "./stack.ts";
import { ensureShared, ensureVolume, localDisks, volumeFile } from "./volume.ts";
import { namespaceOf, wayInto } from "./way.ts";

export interface ContainerOptions {
  /** Seconds from its start within which a machine must have begun to activate. @default 180 */
  bootSeconds?: number;
  /** Seconds that an orderly power-off may take before the machine is killed: containers alone have ten. @default 15 */
  stopSeconds?: number;
}

/** One machine that `up` makes. */
interface Launch {
  input: HostInput;
  record: MachineRecord;
  folder: string;
  /** Volume name → its file. */
  disks: Map<string, string>;
}

const script = (name: string): string => join(toolFolder, "stacks/local", name);

export function containerTarget(project: Project, progress: Progress, options: ContainerOptions = {}): Target {
  const { bootSeconds = 180, stopSeconds = 15 } = options;
  const ledger = ledgerAt(project.ledger);
  const own = (stack?: string) => records(project, stack).filter(({ record }) => record.target !== "vm");

  return {
    name: "container",
    secrets: localSecrets(project),
    spills: false,

    async *up(stack, hosts) {
      needPrograms("container", programs);
      yield* launch(project, ledger, stack.stack, async function* (entry) {
        const launches = await prepare(project, ledger, entry, stack, hosts);
        const began = performance.now();
        const lacks = await start(project, stack, launches);
        for (const [i, { record }] of launches.entries())
          for (const text of [startedText(record, began), ...(lacks[i] ?? []), ...sharedTexts(record, hosts)])
            yield { event: "machine", host: record.host, text };
        yield* watch(launches, bootSeconds);
      });
    },

    down: (stack) => end(project, ledger, progress, stack, () => powerOff(records(project, stack), stopSeconds)),

    find: async (stack) => own(stack).map(({ folder, record }) => machineOf(ledger, folder, record)),

    connect: (machine) => connectTo(project, machine),

    wayInto: (stack, place) => wayInto(namespaceOf(project, stack), place),

    async abandon(stack) {
      await this.down(stack);
    },

    disks: localDisks(project),
    one: {
      alone: false,
      async end(stack, host) {
        const folder = machineFolder(project, stack, host);
        const name = machineName(project, stack, host);
        // Where its group is depends on who launched it.
        const isOwn = (thing: Thing) => thing.kind === "cgroup" && [name, `${name}.service`].includes(basename(thing.name));
        const groups = ledger.find(entryId(stack))?.things.filter(isOwn) ?? [];
        const things = [...standsOn({ folder, name, disks: disksOf(project, stack, host) }), ...groups];
        await endOne(project, progress, stack, host, () => powerOff([{ folder }], stopSeconds), things);
      },
      async *launch(stack, hosts, host, forwards) {
        needPrograms("container", programs);
        const input = hosts.find((h) => h.plan.host === host);
        if (!input) return;
        yield* launchBeside(project, ledger, stack.stack, async function* (entry) {
          const { launched, index, prefix } = await prepareOne(project, ledger, entry, stack, input, forwards);
          const began = performance.now();
          const place = { network: networkName(project, stack.stack), prefix };
          const answers = Object.entries(launched.record.forwards).filter(([port, here]) => forwards[Number(port)] !== here);
          const lines = forwardLines([{ ...launched.record, forwards: Object.fromEntries(answers) }]);
          const [lacks = []] = await startAll(project, stack.stack, [{ ...launched, index }], place, lines);
          for (const text of [startedText(launched.record, began), ...lacks]) yield { event: "machine", host: launched.record.host, text };
          yield* watch([launched], bootSeconds);
        });
      },
    },

    stop: (stack) => alone(project, stack, "stop", () => powerOff(records(project, stack), stopSeconds)),

    start: (stack) =>
      alone(project, stack, "start", async () => {
        const off = records(project, stack).filter(({ folder }) => !leaderOf(folder));
        await during(progress, `start ${stack}`, async () => {
          await Promise.all(off.map(({ folder, record }) => startAgain(project, folder, record)));
          for (const { folder, record } of off) await untilUp(folder, record, bootSeconds);
        });
      }),

    hold: (stack, what) => hold(project, progress, stack, what),

    async refresh(stack, hosts) {
      for (const input of hosts) {
        const folder = machineFolder(project, stack.stack, input.plan.host);
        const record = readRecord(folder);
        if (!record) throw new RefusedError(`${stack.stack}/${input.plan.host} is not up`, `ingot up ${stack.stack}`);
        addArtifacts(folder, input);
        writeFacts(join(folder, "staging"), machineFacts(input.plan, record.instance, record.address), input.secrets);
        const volumes = input.plan.volumes.map((v) => ensureVolume(project, stack.stack, input.plan.host, v));
        await run(asRoot(["sh", script("refresh.sh"), folder, ...volumes]));
      }
    },

    beyondApply(plan, machine, image) {
      const wanted = containersOf(plan);
      const launched = readRecord(machineFolder(project, plan.stack, plan.host));
      if (wanted && (launched?.containers?.folder !== wanted.folder || launched.containers.on !== wanted.on))
        refuseWithout(plan, `what containers in ${wanted.folder} need`);
      needVolumes(plan, machine);
      const shared = launched?.shared ?? [];
      const unshared = (plan.shared ?? []).filter((s) => !shared.some((there) => there.host === s.host && there.export === s.export));
      if (unshared.length)
        refuseWithout(
          plan,
          `the export ${unshared.map((s) => `${s.host}:export/${s.export}`).join(", ")}, and a running machine gets no new folder`,
        );
      return keptAsLaunched(plan, machine, image);
    },
  };
}

const programs: [string, string][] = [
  ["systemd-nspawn", "systemd-container"],
  ["systemd-socket-activate", "systemd"],
  ["ip", "iproute2"],
  ["nsenter", "util-linux"],
  ["flock", "util-linux"],
  ["losetup", "mount"],
];

/** Decides names, addresses and ports, writes the ledger, and then the machines' folders. Nothing here needs root. */
async function prepare(
  project: Project,
  ledger: Ledger,
  entry: Entry,
  { stack, network: own }: StackPlan,
  hosts: HostInput[],
): Promise<Launch[]> {
  const addresses = addressPlan(
    hosts.map((h) => h.plan),
    own,
  );
  const network = networkName(project, stack);
  const taken = new Set<number>();
  const launches: Launch[] = [];
  for (const input of hosts)
    launches.push(
      launchOf(project, stack, input, await recordOf(project, stack, input, addresses.machines.get(input.plan.host) ?? "", taken)),
    );
  mkdirSync(join(project.machines, stack), { recursive: true });
  for (const { folder, disks, record } of launches)
    for (const thing of standsOn({ folder, name: record.name, disks: [...disks.values()] })) ledger.add(entry, thing);
  ledger.add(entry, { kind: "netns", name: network });
  for (const thing of groupThings(network, forwardUnits(network, launches))) ledger.add(entry, thing);
  for (const { record } of launches) for (const thing of groupThings(record.name, [record.name])) ledger.add(entry, thing);

  writeFileSync(join(project.machines, stack, mark), "");
  for (const launch of launches) makeFolder(project, launch);
  return launches;
}

/** The same for one machine beside those that run. */
async function prepareOne(
  project: Project,
  ledger: Ledger,
  entry: Entry,
  { stack, network: own, hosts }: StackPlan,
  input: HostInput,
  forwards: Machine["forwards"],
): Promise<{ launched: Launch; index: number; prefix: number }> {
  const { machines, prefix } = addressPlan(hosts, own);
  const network = networkName(project, stack);
  const index = hosts.findIndex((h) => h.host === input.plan.host);
  const others = records(project, stack).flatMap(({ record }) => Object.values(record.forwards));
  const taken = new Set([...others, ...Object.values(forwards)].map((here) => Number(here.split(":").at(-1))));
  const made = await recordOf(project, stack, input, machines.get(input.plan.host) ?? "", taken);
  const kept = Object.entries(forwards).filter(([port]) => Number(port) in made.forwards);
  const record = {
    ...made,
    forwards: { ...made.forwards, ...Object.fromEntries(kept) },
    maker: { pid: process.pid, start: startOf(process.pid) ?? "" },
  };
  const launched = launchOf(project, stack, input, record);
  const things = [
    ...standsOn({ folder: launched.folder, name: record.name, disks: [...launched.disks.values()] }),
    ...groupThings(record.name, [record.name]),
    ...groupThings(network, forwardUnits(network, [launched])),
  ];
  // Most are there already, from the machine whose place it takes.
  const known = new Set(entry.things.map((thing) => JSON.stringify(thing)));
  for (const thing of things) if (!known.has(JSON.stringify(thing))) ledger.add(entry, thing);
  writeFileSync(join(project.machines, stack, mark), "");
  makeFolder(project, launched);
  return { launched, index, prefix };
}

/** @throws RefusedError when its image is not there */
function launchOf(project: Project, stack: string, input: HostInput, decided: MachineRecord): Launch {
  const { plan, image } = input;
  if (!existsSync(image.root))
    throw new RefusedError(`the image of ${stack}/${plan.host} is not in the store (${image.root})`, `ingot bake ${image.name}`);
  const containers = containersOf(plan);
  const record: MachineRecord = {
    ...decided,
    ...(containers && { containers }),
    ...(plan.shared && { shared: plan.shared }),
    ...(input.repositories && { repositories: input.repositories }),
  };
  const disks = new Map(plan.volumes.map((v) => [v.name, volumeFile(project, stack, plan.host, v.name)]));
  return { input, record, folder: machineFolder(project, stack, plan.host), disks };
}

function makeFolder(project: Project, { input, folder, record }: Launch): void {
  for (const volume of input.plan.volumes) ensureVolume(project, record.stack, record.host, volume);
  mkdirSync(folder, { recursive: true });
  writeMachine(folder, record, input);
}

interface Made {
  folder: string;
  /** The machine's name on this computer. */
  name: string;
  /** Files. */
  disks: string[];
}

/** What a machine stands on. Things are undone from the end: its processes (groupThings) first. */
const standsOn = ({ folder, name, disks }: Made): Thing[] => [
  { kind: "folder", path: folder },
  ...disks.map((file): Thing => ({ kind: "loop", file })),
  { kind: "mount", path: join(folder, "root") },
  { kind: "folder", path: `/run/systemd/nspawn/propagate/${name}` },
  { kind: "netns", name },
];

/** Every disk that a host has had. */
function disksOf(project: Project, stack: string, host: string): string[] {
  const folder = dirname(volumeFile(project, stack, host, "any"));
  return existsSync(folder) ? readdirSync(folder).flatMap((f) => (f.endsWith(".img") ? [join(folder, f)] : [])) : [];
}

/** The units that forward.sh starts where systemd is PID 1. */
const forwardUnits = (network: string, launches: Launch[]): string[] =>
  launches.flatMap(({ record }) => Object.values(record.forwards).map((here) => `${network}-${here.split(":")[1]}`));

/** @returns what each machine must do without on this computer, in words */
async function start(project: Project, { stack, network: addresses }: StackPlan, launches: Launch[]): Promise<string[][]> {
  const network = networkName(project, stack);
  const { operator, prefix } = addressPlan(
    launches.map((l) => l.input.plan),
    addresses,
  );
  await run(held(project, stack)(["sh", script("network.sh"), network, `${operator}/${prefix}`]));
  const numbered = launches.map((launch, index) => ({ ...launch, index }));
  return startAll(project, stack, numbered, { network, prefix }, forwardLines(launches.map((l) => l.record)));
}

/** Runs what makes things of a stack (hold.sh). */
const held =
  (project: Project, stack: string) =>
  (argv: string[]): string[] =>
    asRoot(["sh", script("hold.sh"), join(project.machines, stack), mark, ...argv]);

/** Starts machines in a network that is there. @param forwards as forwardLines gives them @returns as start() */
async function startAll(
  project: Project,
  stack: string,
  launches: (Launch & { index: number })[],
  { network, prefix }: { network: string; prefix: number },
  forwards: string,
): Promise<string[][]> {
  const jobs = launches.map(({ input, record, folder, disks, index }) => {
    const place = {
      NETWORK: network,
      LINK: linkName(index),
      MAC: macOf(record.name),
      ADDRESS: `${record.address}/${prefix}`,
      LOWER: input.image.root,
    };
    return startMachine(project, held(project, stack), record, folder, input.plan.hostname, disks, place);
  });
  if (forwards) {
    const command = ["env", `MANAGER=${manager()}`, "sh", script("forward.sh"), network];
    jobs.push(run(held(project, stack)(inGroup(network, command)), { input: forwards }));
  }
  // All must have ended before anything is undone.
  const failed = (await Promise.allSettled(jobs)).find((r) => r.status === "rejected");
  if (failed) throw failed.reason;
  const said = await Promise.all(jobs.slice(0, launches.length));
  return said.map(({ stdout }) => stdout.split("\n").filter((line) => line));
}

/** What start.sh is told of a machine that is made; one that was stopped has it already. */
interface Place {
  NETWORK: string;
  LINK: string;
  MAC: string;
  ADDRESS: string;
  LOWER: string;
}

function startMachine(
  project: Project,
  how: (argv: string[]) => string[],
  record: MachineRecord,
  folder: string,
  hostname: string,
  disks: Map<string, string>,
  place: Place | undefined,
): Promise<RunResult> {
  const { cpus, memory = "" } = record.limits ?? {};
  const limits = { MEMORY: memory, PERCENT: cpus === undefined ? "" : Math.round(cpus * 100) };
  const containers = { CONTAINERS: record.containers ? "yes" : "" };
  const settings = { NAME: record.name, FOLDER: folder, MANAGER: manager(), ...limits, ...containers, ...place };
  const shared = (record.shared ?? []).map((s) => ({ from: ensureShared(project, record.stack, s), to: sharedFolder(s.host, s.export) }));
  const { name, containers: own, repositories } = record;
  const nspawn = nspawnArguments({ name, hostname, folder, containers: own, shared, repositories });
  const command = ["env", ...Object.entries(settings).map(([k, v]) => `${k}=${v}`), "sh", script("start.sh"), ...nspawn];
  const lines = [...disks].map(([name, file]) => `${name}\t${file}\n`).join("");
  return run(how(inGroup(record.name, command)), { input: lines || undefined }); // zx leaves the input open that is ""
}

function startAgain(project: Project, folder: string, record: MachineRecord): Promise<RunResult> {
  const disks = new Map(record.volumes.map((v) => [v, volumeFile(project, record.stack, record.host, v)]));
  return startMachine(project, asRoot, record, folder, record.host, disks, undefined);
}

async function powerOff(machines: { folder: string }[], seconds: number): Promise<void> {
  const pids = machines.flatMap(({ folder }) => leaderOf(folder) ?? []).map((l) => String(l.pid));
  if (pids.length) await run(asRoot(["sh", script("stop.sh"), String(seconds), ...pids]), { evenWhenCancelled: true });
}

/** Waits until systemd says that it has started everything. @throws RefusedError after `seconds` */
async function untilUp(folder: string, record: MachineRecord, seconds: number): Promise<void> {
  for (const end = performance.now() + seconds * 1000; performance.now() < end; await sleep(0.1)) {
    const leader = leaderOf(folder);
    if (!leader) continue;
    const asked = await tryRun(asRoot(enter(leader, ["systemctl", "is-system-running", "--wait"], seconds)));
    if (["running", "degraded"].includes(asked.stdout.trim())) return;
  }
  throw new RefusedError(`${record.stack}/${record.host} was not up after ${seconds} s`, `the end of its console:\n${consoleTail(folder)}`);
}

/** Of a host that exports something: what stands for it here. */
const sharedTexts = (record: MachineRecord, hosts: HostInput[]): string[] =>
  (record.shared ?? []).flatMap((own) => {
    if (own.host !== record.host) return [];
    const has = ({ plan }: HostInput) => plan.shared?.some((s) => s.host === own.host && s.export === own.export);
    const names = hosts.filter(has).map((h) => h.plan.host);
    return [`no NFS in containers: the export ${own.export} is one folder of this computer, mounted by ${names.join(", ")}`];
  });

/** Events of all machines until each has activated its generation, or never will. */
async function* watch(launches: Launch[], bootSeconds: number): AsyncGenerator<TargetEvent> {
  const began = performance.now();
  const waiting = new Map(
    launches.map((launch) => [launch, new Watched(launch, reportOf(launch.folder, launch.record.host), bootSeconds)]),
  );
  for (;;) {
    for (const [launch, watched] of waiting) {
      const events = await watched.look((performance.now() - began) / 1000);
      for (const event of events) {
        if (event.event === "activated" || event.event === "lost") {
          waiting.delete(launch);
          const { maker: _, ...record } = launch.record;
          writeRecord(launch.folder, { ...record, activated: event.event === "activated" ? event.activation.outcome : "failed" });
        }
        yield event;
      }
    }
    if (!waiting.size) return;
    await sleep(lookSeconds);
  }
}

/** One machine on its way to its first activation. */
class Watched {
  #news = 0;
  #asked = 0;
  #idle = 0;

  constructor(
    readonly launch: Launch,
    readonly report: Report,
    readonly bootSeconds: number,
  ) {}

  /** What is new `now` seconds after the start; the last event is `activated` or `lost`. */
  async look(now: number): Promise<TargetEvent[]> {
    const { folder, record } = this.launch;
    const ended = exitCodeOf(folder);
    const leader = leaderOf(folder);
    const events = this.report.read(); // read after looking whether it lives, so that its last words are not lost
    if (events.length) this.#news = now;
    const last = events.find((e) => e.event === "activated");
    if (last) return events;
    const lost = (reason: string): TargetEvent[] => [...events, { event: "lost", host: record.host, reason, console: consoleTail(folder) }];
    if (ended !== undefined) return lost(`the machine ended (systemd-nspawn's exit code ${ended}) before it was what it is to become`);
    if (!leader) return now > 20 && now > this.#news + 20 ? lost("the machine does not run, and its supervisor is gone") : events;
    const errors = cloudInitErrors(folder);
    if (!this.report.begun && now > this.bootSeconds) return lost(`nothing was activated within ${this.bootSeconds} s`);
    if (now > this.limit()) return lost(`it is not done after ${Math.round(now)} s`);
    // Once cloud-init is through, or a step is long silent: is anybody at work?
    const due = this.report.begun ? Math.max(this.#news, this.#asked) + 5 : this.#asked + 1;
    if ((errors === undefined && !this.report.begun) || now < due) return events;
    this.#asked = now;
    this.#idle = (await activatorIsIdle(leader)) ? this.#idle + 1 : 0;
    if (this.#idle < 2) return events;
    if (this.report.begun) return lost("the activator ended without saying how");
    return lost(`cloud-init is done, and no generation was activated${errors?.length ? `: ${errors.join("; ")}` : ""}`);
  }

  /** Seconds: what every step may take, one after the other, and the boot. */
  limit(): number {
    return this.bootSeconds + activationLimit(this.launch.input.plan);
  }
}

/** Whether ingot-boot.service neither runs nor is about to. */
async function activatorIsIdle(leader: { pid: number; start: string }): Promise<boolean> {
  const asked = await tryRun(asRoot(enter(leader, ["systemctl", "show", "--property=ActiveState,Job", "ingot-boot.service"], 20)));
  return asked.code === 0 && !/^ActiveState=(activating|reloading|deactivating)$/m.test(asked.stdout) && !/^Job=[1-9]/m.test(asked.stdout);
}

function machineOf(ledger: Ledger, folder: string, record: MachineRecord): Machine {
  const { name: _, network: __, activated, maker, ...machine } = record;
  const last = reportOf(folder, record.host)
    .read()
    .findLast((e) => e.event === "activated");
  const outcome = last?.activation.outcome ?? activated;
  const generation = last?.activation.outcome === "done" ? last.activation.generation : record.generation;
  return { ...machine, generation, state: state() };

  function state(): Machine["state"] {
    const entry = ledger.find(entryId(record.stack));
    const by = maker ?? (entry?.state === "begun" ? entry.owner : undefined);
    const inTheMaking = by !== undefined && startOf(by.pid) === by.start;
    if (!leaderOf(folder)) return inTheMaking && exitCodeOf(folder) === undefined ? "starting" : "stopped";
    if (outcome) return outcome === "done" ? "running" : "failed";
    return inTheMaking ? "starting" : "failed";
  }
}
