// Disks of running machines of the `vm` target, which only their QEMU can read: copied by it while they go on (vm-disk.py). For a drill.
import { statSync } from "node:fs";
import { dirname, join } from "node:path";
import { RefusedError } from "../../lib/diagnostics.ts";
import { type Project, toolFolder } from "../../lib/paths.ts";
import { run, tryRun } from "../../lib/run.ts";
import { exitCodeOf, holderOf, type MachineRecord, machineFolder, readIfThere, readRecord, records } from "./machine.ts";
import { volumeFile } from "./volume.ts";

const command = (folder: string, ...words: string[]): string[] => [
  "python3",
  join(toolFolder, "stacks/local/vm-disk.py"),
  folder,
  ...words,
];

/** A machine of the vm target, while it runs. */
export interface RunningVm {
  folder: string;
  record: MachineRecord;
}

export function runningVm(project: Project, stack: string, host: string): RunningVm | undefined {
  const folder = machineFolder(project, stack, host);
  const record = readRecord(folder);
  const runs = record?.target === "vm" && holderOf(dirname(folder)) !== undefined && exitCodeOf(folder) === undefined;
  return runs ? { folder, record } : undefined;
}

/** Bytes that a copy of a running machine's disk takes. @throws RefusedError where there can be none */
export function copySize(project: Project, { folder, record: { stack, host, volumes } }: RunningVm, volume: string): number {
  if (!readIfThere(join(folder, "run/argv"))?.includes("path=qmp,"))
    throw new RefusedError(
      `${stack}/${host} was launched by an older Ingot, and its disk cannot be copied while it runs`,
      `\`ingot down ${stack} --on vm\`, then \`ingot up ${stack} --on vm\`: data and secrets stay`,
    );
  if (!volumes.includes(volume))
    throw new RefusedError(`${stack}/${host} was launched without the volume ${volume}`, `ingot down ${stack} --on vm, then up`);
  return (statSync(volumeFile(project, stack, host, volume), { throwIfNoEntry: false })?.blocks ?? 0) * 512;
}

/**
 * Copies a running machine's disk as it is at one moment, the last of the copying; it is given up when we die, or are stopped.
 *
 * Nothing is frozen for it, so nothing can stay frozen: the file system in the copy is what a power failure at that moment would leave. Its
 * journal is brought in there (repository.sh), and pgBackRest and restic, made for power failures, sync what they write before they count on it.
 * @param file which must not be there
 * @param held runs what makes things of whoever asks (hold.sh)
 * @throws RefusedError where there is no room for it, or the machine has gone
 */
export async function copyDisk(
  { folder, record }: RunningVm,
  volume: string,
  file: string,
  held: (argv: string[]) => string[],
): Promise<void> {
  // As qemuArguments() calls them.
  const node = `volume${record.volumes.indexOf(volume)}`;
  const { code, stderr } = await tryRun(held(command(folder, "copy", node, file)), { leash: true });
  if (code !== 0)
    throw new RefusedError(
      `the disk ${volume} of ${record.stack}/${record.host} could not be copied: ${stderr.trim().replace(/^vm-disk: /, "")}`,
    );
}

/** Ends what copies a stack's disks although whoever asked for it has been killed. */
export async function endCopies(project: Project, stack: string): Promise<void> {
  for (const { folder, record } of records(project, stack))
    if (runningVm(project, stack, record.host)) await run(command(folder, "end"), { evenWhenCancelled: true });
}
