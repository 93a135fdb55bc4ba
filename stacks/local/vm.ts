// The `vm` target: machines on this computer, made by QEMU from the image's own bootable disk, with a kernel of their own. Nothing of it needs
// root but the making of the disk: network, ports and machines are in namespaces of the caller's (vm-start.sh).
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { diskOf } from "../../images/disk.ts";
import { type Firmware, firmwares, noteBoot } from "../../images/disk-boots.ts";
import { sleep } from "../../lib/cancel.ts";
import { RefusedError, UsageError } from "../../lib/diagnostics.ts";
import { sha256 } from "../../lib/digest.ts";
import { type Entry, type Ledger, ledgerAt } from "../../lib/ledger.ts";
import { type Project, toolFolder } from "../../lib/paths.ts";
import { during, type Progress } from "../../lib/progress.ts";
import { run, tryRun } from "../../lib/run.ts";
import { activationLimit, type HostInput, type Machine, type Target, type TargetEvent } from "../target.ts";
import { addressPlan } from "./address.ts";
import {
  consoleTail,
  exitCodeOf,
  holderOf,
  type MachineRecord,
  machineFolder,
  readIfThere,
  records,
  writeFacts,
  writeRecord,
} from "./machine.ts";
import { entryId, macOf } from "./names.ts";
import { type Acceleration, accelerationOf, ovmf, qemu, qemuArguments } from "./qemu.ts";
import { localSecrets } from "./secrets.ts";
import { alone, end, forwardLines, hold, keptAsLaunched, launch, mark, needPrograms, needVolumes, recordOf, startedText } from "./stack.ts";
import { connectToVm, firstReport, insideOf, patience, ports, untilUp } from "./vm-connection.ts";
import { ensureVolume, localDisks, volumeFile } from "./volume.ts";
import { wayInto } from "./way.ts";

export interface VmOptions {
  /** @default "uefi" */
  firmware?: Firmware;
  /** Seconds from its start within which a machine must have begun to activate. @default 240 under KVM, 900 without */
  bootSeconds?: number;
  /** Seconds that an orderly power-off may take before the machine is killed. @default 90 */
  stopSeconds?: number;
}

/** The disk of a machine's root, in bytes, where the image's is not larger: sparse, and its file system grows to it at first boot. */
const rootSize = 16 * 2 ** 30;
/** Bytes, where the host has no `limits:`. */
const usualMemory = 2 * 2 ** 30;

interface Launch {
  input: HostInput;
  record: MachineRecord;
  folder: string;
  tap: string;
}

const script = (name: string): string => join(toolFolder, "stacks/local", name);

export function vmTarget(project: Project, progress: Progress, options: VmOptions = {}): Target {
  const { firmware = firmwareAsked(), stopSeconds = 90 } = options;
  const ledger = ledgerAt(project.ledger);
  const own = (stack?: string) => records(project, stack).filter(({ record }) => record.target === "vm");

  return {
    name: "vm",
    secrets: localSecrets(project),
    spills: false,
    disks: localDisks(project),

    async *up(stack, hosts) {
      needPrograms("vm", programs(firmware));
      const disks = new Map<string, string>();
      for (const { image } of hosts)
        if (!disks.has(image.digest)) disks.set(image.digest, (await diskOf(project, image, "raw", { progress })).path);
      const [first] = hosts;
      if (!first) return;
      const { acceleration, why } = await accelerationOf(project, join(first.image.root, "vmlinuz"));
      const bootSeconds = options.bootSeconds ?? (acceleration === "kvm" ? 240 : 900);
      yield* launch(project, ledger, stack.stack, async function* (entry) {
        const { operator, prefix, machines } = addressPlan(
          hosts.map((h) => h.plan),
          stack.network,
        );
        const launches = await prepare(project, ledger, entry, stack.stack, hosts, machines, { acceleration, firmware });
        for (const { input, record, folder, tap } of launches)
          await makeMachine(project, input, record, folder, tap, disks.get(input.image.digest) ?? "", prefix);
        const began = performance.now();
        await start(project, stack.stack, `${operator}/${prefix}`);
        for (const { record } of launches) {
          const by = acceleration === "kvm" ? "KVM" : `TCG, many times slower than a real machine: ${why}`;
          yield { event: "machine", host: record.host, text: startedText(record, began, `${firmware.toUpperCase()}, ${by}`) };
        }
        const digestsOf = new Map(launches.map(({ input, record }) => [record.host, input.image.digest]));
        for await (const event of watch(launches, bootSeconds)) {
          // Whatever becomes of its steps: it has booted.
          if (event.event === "activated") noteBoot(disks.get(digestsOf.get(event.host) ?? "") ?? "", firmware);
          yield event;
        }
      });
    },

    down: (stack) => end(project, ledger, progress, stack, () => powerOff(own(stack), stopSeconds)),

    find: async (stack) => own(stack).map(({ folder, record }) => machineOf(ledger, folder, record)),

    connect: (machine) => connectToVm(project, machine),

    async wayInto(stack, place) {
      const inside = insideOf(join(project.machines, stack));
      return inside === undefined ? undefined : wayInto(`/proc/${inside}/ns/net`, place);
    },

    async abandon(stack) {
      await this.down(stack);
    },

    stop: (stack) =>
      alone(project, stack, "stop", async () => {
        await powerOff(own(stack), stopSeconds);
        await untilOver(join(project.machines, stack));
      }),

    start: (stack) =>
      alone(project, stack, "start", async () => {
        const machines = own(stack);
        if (holderOf(join(project.machines, stack))) return;
        await during(progress, `start ${stack}`, async () => {
          await start(project, stack, readFileSync(join(project.machines, stack, "run/address"), "utf8").trim());
          for (const { folder, record } of machines)
            await untilUp(connectToVm(project, machineOf(ledger, folder, record)), `${stack}/${record.host}`, options.bootSeconds ?? 900);
        });
      }),

    hold: (stack, what) => hold(project, progress, stack, what),

    async refresh(stack, hosts) {
      for (const input of hosts) {
        const folder = machineFolder(project, stack.stack, input.plan.host);
        const found = own(stack.stack).find(({ record }) => record.host === input.plan.host);
        if (!found) throw new RefusedError(`${stack.stack}/${input.plan.host} is not up`, `ingot up ${stack.stack} --on vm`);
        for (const volume of input.plan.volumes) ensureVolume(project, stack.stack, input.plan.host, volume);
        const connection = connectToVm(project, machineOf(ledger, found.folder, found.record));
        const staging = join(folder, "facts");
        try {
          writeFacts(staging, factsOf(found.record, input), input.secrets);
          await connection.copy(staging, "/run/ingot/facts");
          await makeFacts(folder);
        } finally {
          rmSync(staging, { recursive: true, force: true });
        }
        writeRecord(folder, { ...found.record, shared: input.plan.shared });
        for (const { sha256: sum, path } of input.plan.artifacts) {
          if ((await connection.exec(["test", "-e", `/run/ingot/artifacts/${sum}`])).code === 0) continue;
          // As on EC2: /run has no room for it, and fetch.py takes it away once it has been unpacked.
          await connection.copy(path, `/var/lib/ingot/artifacts/${sum}`);
          await connection.exec(["ln", "--symbolic", "--force", `/var/lib/ingot/artifacts/${sum}`, `/run/ingot/artifacts/${sum}`]);
        }
      }
    },

    beyondApply(plan, machine, image) {
      needVolumes(plan, machine);
      return keptAsLaunched(plan, machine, image);
    },
  };
}

/** `INGOT_FIRMWARE=bios`: what EC2's older instance types have. */
function firmwareAsked(): Firmware {
  const asked = process.env.INGOT_FIRMWARE || "uefi";
  const firmware = firmwares.find((f) => f === asked);
  if (!firmware) throw new UsageError(`there is no firmware \`${asked}\``, `INGOT_FIRMWARE=${firmwares.join(", or INGOT_FIRMWARE=")}`);
  return firmware;
}

const programs = (firmware: Firmware): [string, string][] => [
  [qemu, "qemu-system-x86"],
  ["qemu-img", "qemu-utils"],
  ["mke2fs", "e2fsprogs"],
  ["ip", "iproute2"],
  ["unshare", "util-linux"],
  ["systemd-socket-activate", "systemd"],
  ...(firmware === "uefi" ? ([[ovmf.code, "ovmf"]] as [string, string][]) : []),
];

/** Decides names, addresses and ports, and writes the ledger before anything is made. */
async function prepare(
  project: Project,
  ledger: Ledger,
  entry: Entry,
  stack: string,
  hosts: HostInput[],
  addresses: Map<string, string>,
  how: { acceleration: Acceleration; firmware: Firmware },
): Promise<Launch[]> {
  const taken = new Set<number>();
  const launches: Launch[] = [];
  for (const [i, input] of hosts.entries()) {
    const { plan } = input;
    const made = await recordOf(project, stack, input, addresses.get(plan.host) ?? "", taken);
    const record: MachineRecord = { ...made, target: "vm", vm: how, ...(plan.shared && { shared: plan.shared }) };
    launches.push({ input, record, folder: machineFolder(project, stack, plan.host), tap: `tap${i}` });
  }
  const folder = join(project.machines, stack);
  mkdirSync(folder, { recursive: true });
  for (const launch of launches) ledger.add(entry, { kind: "folder", path: launch.folder, own: true });
  ledger.add(entry, { kind: "folder", path: join(folder, "run"), own: true });
  ledger.add(entry, { kind: "holder", file: join(folder, "run/holder") });
  writeFileSync(join(folder, mark), "");
  mkdirSync(join(folder, "run"));
  writeFileSync(join(folder, "run/machines"), launches.map((l) => `${l.record.host}\t${l.tap}\n`).join(""));
  writeFileSync(join(folder, "run/forwards"), forwardLines(launches.map((l) => l.record)));
  return launches;
}

/** The serial of a volume's disk: as EC2's are, which the image's udev rule knows; a disk's serial has at most 20 characters (NVMe). */
const serialOf = (volume: string): string => `vol${sha256(volume).slice(0, 17)}`;

const factsOf = (record: MachineRecord, { plan }: HostInput) => ({
  instance: record.instance,
  target: "vm" as const,
  address: record.address,
  volumes: Object.fromEntries(plan.volumes.map((v) => [v.name, serialOf(v.name)])),
  secrets: "/run/ingot/facts/secrets",
  ...(record.vm?.acceleration === "tcg" && { patience }),
});

/** Everything in a machine's folder. */
async function makeMachine(
  project: Project,
  input: HostInput,
  record: MachineRecord,
  folder: string,
  tap: string,
  disk: string,
  prefix: number,
): Promise<void> {
  const { plan } = input;
  mkdirSync(join(folder, "seed"), { recursive: true });
  mkdirSync(join(folder, "run"));
  const mac = macOf(record.name);
  const seed: Record<string, string | Uint8Array> = {
    "user-data": input.userData.bytes,
    "meta-data": `${JSON.stringify({ "instance-id": record.instance, "local-hostname": plan.hostname })}\n`,
    "network-config": `${JSON.stringify({
      version: 1,
      config: [{ type: "physical", name: "eth0", mac_address: mac, subnets: [{ type: "static", address: `${record.address}/${prefix}` }] }],
    })}\n`,
  };
  for (const [file, content] of Object.entries(seed)) writeFileSync(join(folder, "seed", file), content);
  const restore = input.restore && { restore: input.restore };
  writeFacts(join(folder, "facts"), { ...factsOf(record, input), ...restore }, input.secrets);
  await makeFacts(folder);
  rmSync(join(folder, "facts"), { recursive: true });
  if (plan.artifacts.length) await makeArtifacts(folder, plan.artifacts);
  writeFileSync(join(folder, "console.log"), "");
  for (let i = 0; i < ports; i++) writeFileSync(join(folder, `port${i}.lock`), "");
  const size = String(Math.max(rootSize, statSync(disk).size));
  await run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", disk, "-F", "raw", join(folder, "root.qcow2"), size]);
  if (record.vm?.firmware === "uefi") writeFileSync(join(folder, "variables.fd"), readFileSync(ovmf.variables));
  for (const volume of plan.volumes) ensureVolume(project, record.stack, record.host, volume);
  const argv = qemuArguments({
    name: record.name,
    acceleration: record.vm?.acceleration ?? "tcg",
    firmware: record.vm?.firmware ?? "uefi",
    memory: record.limits?.memory ?? usualMemory,
    cpus: Math.max(1, Math.ceil(record.limits?.cpus ?? (record.vm?.acceleration === "kvm" ? 2 : 1))),
    network: { tap, mac },
    volumes: plan.volumes.map((v) => ({ file: volumeFile(project, record.stack, record.host, v.name), serial: serialOf(v.name) })),
    seed: "seed",
    facts: "facts.img",
    ...(plan.artifacts.length ? { artifacts: "artifacts.img" as const } : {}),
    ports,
  });
  writeFileSync(join(folder, "run/argv"), [qemu, ...argv].map((word) => `${word}\0`).join(""));
  writeRecord(folder, record);
}

/** A disk of what only this machine is told, of the folder facts/; read by cloud-init/host/facts.py. Written over, the running machine finds
 * it at its next boot. */
async function makeFacts(folder: string): Promise<void> {
  const file = join(folder, "facts.img");
  closeSync(openSync(file, "a", 0o600));
  await fileSystem(file, join(folder, "facts"), 16 * 2 ** 20);
}

/** A disk of the artifacts, by their sha256. */
async function makeArtifacts(folder: string, artifacts: HostInput["plan"]["artifacts"]): Promise<void> {
  const staging = join(folder, "artifacts");
  mkdirSync(staging);
  for (const { sha256: sum, path } of artifacts) await run(["cp", "--reflink=auto", path, join(staging, sum)]);
  const { stdout } = await run(["du", "--summarize", "--block-size=1M", staging]);
  const file = join(folder, "artifacts.img");
  writeFileSync(file, "");
  await fileSystem(file, staging, (Number(stdout.split("\t")[0]) * 1.1 + 32) * 2 ** 20);
  rmSync(staging, { recursive: true });
}

/** An ext4 file system in a file, root's own whoever makes it. */
async function fileSystem(file: string, from: string, bytes: number): Promise<void> {
  const settings = ["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-E", "root_owner=0:0", "-d", from];
  const path = ["/usr/local/sbin", "/usr/sbin", "/sbin", process.env.PATH ?? ""].join(":");
  await run(["mke2fs", ...settings, file, `${Math.ceil(bytes / 1024)}k`], { env: { PATH: path } });
}

async function start(project: Project, stack: string, address: string): Promise<void> {
  const folder = join(project.machines, stack);
  for (const { folder: machine } of records(project, stack))
    for (const file of ["run/exit", "port0"]) rmSync(join(machine, file), { force: true });
  rmSync(join(folder, "run/holder"), { force: true });
  writeFileSync(join(folder, "run/address"), `${address}\n`);
  writeFileSync(join(folder, mark), "");
  await run(["sh", script("hold.sh"), folder, mark, "sh", script("vm-start.sh"), folder, address]);
  const running = (machine: string) => existsSync(join(machine, "port0")) || exitCodeOf(machine) !== undefined;
  for (const end = performance.now() + 20_000; !records(project, stack).every((m) => running(m.folder)); await sleep(0.1))
    if (performance.now() > end || (existsSync(join(folder, "run/holder")) && holderOf(folder) === undefined))
      throw new RefusedError(`the machines of ${stack} could not be started:\n${readIfThere(join(folder, "run/log"))?.trim()}`);
}

/** Events of all machines until each has activated its generation, or never will. */
async function* watch(launches: Launch[], bootSeconds: number): AsyncGenerator<TargetEvent> {
  const queue: TargetEvent[] = [];
  let waiting = launches.length;
  const watching = Promise.all(
    launches.map(async (launch) => {
      try {
        for await (const event of firstBoot(launch, bootSeconds)) queue.push(event);
      } finally {
        waiting--;
      }
    }),
  );
  // Told by whoever awaits it below; who is stopped before then has said why.
  watching.catch(() => {});
  while (waiting || queue.length) {
    for (let event = queue.shift(); event; event = queue.shift()) yield event;
    if (waiting) await sleep(0.1);
  }
  await watching;
}

async function* firstBoot({ input, record, folder }: Launch, bootSeconds: number): AsyncGenerator<TargetEvent> {
  const began = performance.now();
  const lost = (reason: string): TargetEvent => ({ event: "lost", host: record.host, reason, console: consoleTail(folder) });
  let outcome: MachineRecord["activated"] = "failed";
  try {
    for await (const event of firstReport(
      folder,
      record.host,
      bootSeconds,
      bootSeconds + activationLimit(input.plan) * (record.vm?.acceleration === "tcg" ? patience : 1),
    )) {
      yield event;
      if (event.event === "activated") {
        outcome = event.activation.outcome;
        return;
      }
    }
    const seconds = Math.round((performance.now() - began) / 1000);
    const ended = exitCodeOf(folder);
    yield lost(
      ended === undefined
        ? `it is up, and has activated nothing within ${seconds} s`
        : `the machine ended (QEMU's exit code ${ended}) before it was what it is to become: ${readIfThere(join(folder, "run/qemu.log"))?.trim()}`,
    );
  } finally {
    writeRecord(folder, { ...record, activated: outcome });
  }
}

function machineOf(ledger: Ledger, folder: string, record: MachineRecord): Machine {
  const { name: _, network: __, target: ___, vm: ____, shared: _____, activated, ...machine } = record;
  const entry = ledger.find(entryId(record.stack));
  const living = holderOf(dirname(folder)) !== undefined && exitCodeOf(folder) === undefined;
  const state = !living ? "stopped" : entry?.state === "begun" ? "starting" : activated === "done" ? "running" : "failed";
  return { ...machine, state };
}

/** Powers machines off in order; those that are still there after `seconds` are killed by whoever undoes them, or here. Who has mounted what
 * another exports goes first: with the other away, its kernel would take minutes over the unmounting. */
async function powerOff(machines: { folder: string; record: MachineRecord }[], seconds: number): Promise<void> {
  const mounts = ({ record }: { record: MachineRecord }) => record.shared?.some((s) => s.host !== record.host) ?? false;
  const off = async ({ folder }: { folder: string }) => {
    if (!holderOf(dirname(folder)) || exitCodeOf(folder) !== undefined) return;
    const asked = await tryRun(["python3", script("vm-exec.py"), folder, "20", "--", "systemctl", "poweroff"], {
      timeoutSeconds: 60,
      evenWhenCancelled: true,
    });
    // Where its answer is lost with the machine, it was asked all the same.
    if (/nobody in the machine answers/.test(asked.stderr)) return;
    for (const end = performance.now() + seconds * 1000; exitCodeOf(folder) === undefined && performance.now() < end; )
      await new Promise((resolve) => setTimeout(resolve, 100));
  };
  await Promise.all(machines.filter(mounts).map(off));
  await Promise.all(machines.filter((m) => !mounts(m)).map(off));
}

/** Once its machines are off, what holds them ends; what does not is killed. */
async function untilOver(folder: string): Promise<void> {
  for (const end = performance.now() + 5000; holderOf(folder) !== undefined && performance.now() < end; ) await sleep(0.1);
  const holder = holderOf(folder);
  if (holder !== undefined) process.kill(holder, "SIGKILL");
}
