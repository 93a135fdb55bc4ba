// One machine's folder, `.ingot/machines/<stack>/<host>/`, and what is in it:
//   machine.json  what was launched (the caller's file)
//   seed/         cloud-init's NoCloud seed          facts/       facts.json, secrets/ (root, 0600)
//   artifacts/    by sha256                          report/      what the machine's activator reports
//   upper, work, root, lower                         the overlay over the image
//   containers/   what its containers are made of, when it runs any and has no volume for them
//   run/          what supervise.sh says: leader, exit, result.json
//   console.log   what the machine wrote on its console
import { constants, copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { isBelow } from "../../cloud-init/kind.ts";
import type { MachineFacts, SharedFolder } from "../../cloud-init/plan.ts";
import type { Firmware } from "../../images/disk-boots.ts";
import { canonicalJson } from "../../lib/digest.ts";
import { startOf } from "../../lib/ledger.ts";
import { besideOf, type Project } from "../../lib/paths.ts";
import type { HostInput, Machine } from "../target.ts";
import type { Acceleration } from "./qemu.ts";

/** What is known of a machine from its launch. */
export interface MachineRecord extends Omit<Machine, "state"> {
  /** Its name on this computer (names.ts). */
  name: string;
  network: string;
  /** Which of this computer's targets made it. @default "container" */
  target?: "vm";
  /** How a machine of the vm target runs. */
  vm?: { acceleration: Acceleration; firmware: Firmware };
  /** It was launched with the rights that containers of its own need. */
  containers?: Containers;
  /** Exported directories that it has, its own and others'. */
  shared?: SharedFolder[];
  /** Who launches it beside machines that run already. */
  maker?: { pid: number; start: string };
  /** As HostInput has it. */
  repositories?: Record<string, string>;
  /** How its first activation ended; undefined while it runs, and when there was none. */
  activated?: "done" | "failed";
}

/** Where a machine keeps its containers: on a volume, or in its own folder on this computer, since an overlay cannot lie on an overlay. */
export interface Containers {
  folder: string;
  on: "volume" | "machine";
}

export const containersOf = ({ containers: folder, volumes }: HostInput["plan"]): Containers | undefined =>
  folder === undefined ? undefined : { folder, on: volumes.some((v) => isBelow(folder, v.mount)) ? "volume" : "machine" };

/** PID 1 of a running machine, as this computer sees it. */
export interface Leader {
  pid: number;
  start: string;
}

export const machineFolder = (project: Project, stack: string, host: string): string => join(project.machines, stack, host);

export const machineFacts = (host: HostInput["plan"], instance: string, address: string): MachineFacts => ({
  instance,
  target: "container",
  address,
  volumes: Object.fromEntries(host.volumes.map((v) => [v.name, `ingot-${v.name}`])),
  secrets: "/run/ingot/facts/secrets",
});

/** Writes what the machine will find. The folder must not be there yet; start.sh gives seed and facts to root. */
export function writeMachine(folder: string, record: MachineRecord, input: HostInput): void {
  for (const part of ["seed", "artifacts"]) mkdirSync(join(folder, part), { recursive: true });
  const seed: Record<string, string | Uint8Array> = {
    "user-data": input.userData.bytes,
    "meta-data": `${JSON.stringify({ "instance-id": record.instance, "local-hostname": input.plan.hostname })}\n`,
    // The address is in the namespace before the machine starts: cloud-init must neither configure nor probe anything.
    "network-config": "config: disabled\n",
  };
  for (const [file, content] of Object.entries(seed)) writeFileSync(join(folder, "seed", file), content, { mode: 0o644 });
  const facts = machineFacts(input.plan, record.instance, record.address);
  writeFacts(join(folder, "facts"), { ...facts, ...(input.restore && { restore: input.restore }) }, input.secrets);
  addArtifacts(folder, input);
  writeFileSync(join(folder, "console.log"), "");
  writeRecord(folder, record);
}

/** Facts and secrets as files below `folder`, for root to take over. */
export function writeFacts(folder: string, facts: MachineFacts, secrets: Record<string, string>): void {
  mkdirSync(join(folder, "secrets"), { recursive: true, mode: 0o700 });
  writeFileSync(join(folder, "facts.json"), `${canonicalJson(facts)}\n`, { mode: 0o600 });
  for (const [name, value] of Object.entries(secrets)) {
    const file = join(folder, "secrets", name);
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    writeFileSync(file, value, { mode: 0o600 });
  }
}

/** Makes the plan's artifacts visible to the machine: copies, because an image's archive is its maker's to write to again. */
export function addArtifacts(folder: string, input: HostInput): void {
  for (const { sha256, path } of input.plan.artifacts) {
    const file = join(folder, "artifacts", sha256);
    if (existsSync(file)) continue;
    const temporary = join(folder, `.artifact-${sha256}`);
    copyFileSync(path, temporary, constants.COPYFILE_FICLONE);
    renameSync(temporary, file);
  }
}

export function writeRecord(folder: string, record: MachineRecord): void {
  const temporary = join(folder, `.machine.json.${process.pid}`);
  writeFileSync(temporary, `${JSON.stringify(record, null, 1)}\n`);
  renameSync(temporary, join(folder, "machine.json"));
}

export function readRecord(folder: string): MachineRecord | undefined {
  const text = readIfThere(join(folder, "machine.json"));
  return text === undefined ? undefined : (JSON.parse(text) as MachineRecord);
}

/** Machines that have a folder, of one stack or of all. */
export function records(project: Project, stack?: string): { folder: string; record: MachineRecord }[] {
  const stacks = stack === undefined ? list(project.machines) : [stack];
  return stacks.flatMap((s) =>
    list(join(project.machines, s)).flatMap((host) => {
      const folder = machineFolder(project, s, host);
      const record = readRecord(folder);
      return record ? [{ folder, record }] : [];
    }),
  );
}

/** Digests of the images that machines stand on, those of drills too. */
export const imagesInUse = (project: Project): Set<string> =>
  new Set(
    [project, ...list(join(project.state, "drills")).map((stack) => besideOf(project, stack))]
      .flatMap((p) => records(p))
      .map(({ record }) => record.imageDigest),
  );

/** PID 1 of the machine, when it lives. */
export function leaderOf(folder: string): Leader | undefined {
  const [pid, start] = readIfThere(join(folder, "run/leader"))?.trim().split(" ") ?? [];
  if (pid === undefined || start === undefined || startOf(Number(pid)) !== start) return undefined;
  return { pid: Number(pid), start };
}

/** The process whose end is the end of all machines of a stack of the vm target, while it lives; `folder`: the stack's. */
export function holderOf(folder: string): number | undefined {
  const [pid, start] = readIfThere(join(folder, "run/holder"))?.trim().split(" ") ?? [];
  return pid !== undefined && start !== undefined && startOf(Number(pid)) === start ? Number(pid) : undefined;
}

/** nspawn's exit code (QEMU's, of the vm target), once the machine is off for good. */
export function exitCodeOf(folder: string): number | undefined {
  const text = readIfThere(join(folder, "run/exit"));
  return text === undefined ? undefined : Number(text);
}

/** What cloud-init says is wrong, once it is done: undefined before. Source: /run/cloud-init/result.json of cloud-init 22.4. */
export function cloudInitErrors(folder: string): string[] | undefined {
  const text = readIfThere(join(folder, "run/result.json"));
  if (text === undefined) return undefined;
  try {
    const result = JSON.parse(text) as { v1?: { errors?: unknown } };
    return Array.isArray(result.v1?.errors) ? result.v1.errors.map(String) : [];
  } catch {
    return ["its result.json is no JSON"];
  }
}

/** The console's last lines, without what moves cursors and sets colours. */
export function consoleTail(folder: string, lines = 30): string {
  const text = readIfThere(join(folder, "console.log")) ?? "";
  const plain = stripVTControlCharacters(text.slice(-65536)).replaceAll("\r", "");
  return plain.trimEnd().split("\n").slice(-lines).join("\n");
}

export function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

const list = (folder: string): string[] => (existsSync(folder) ? readdirSync(folder).sort() : []);
