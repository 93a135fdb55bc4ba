// Data that outlives machines: volumes, a sparse file each, on the machine /dev/disk/by-id/ingot-<name>; and exported directories, a folder
// each, which the machines of all hosts of an export have at /run/ingot/shared.
import { closeSync, existsSync, ftruncateSync, mkdirSync, openSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import type { SharedFolder, VolumePlan } from "../../cloud-init/plan.ts";
import { RefusedError } from "../../lib/diagnostics.ts";
import type { Project } from "../../lib/paths.ts";

export const volumeFile = (project: Project, stack: string, host: string, name: string): string =>
  join(project.volumes, stack, host, `${name}.img`);

/**
 * Makes the volume's file when it is not there, and lets it grow to the plan's size; it holds no block until it is written to.
 * @returns its path
 * @throws RefusedError when the plan is smaller than what is there: cutting it would destroy data
 */
export function ensureVolume(project: Project, stack: string, host: string, volume: VolumePlan): string {
  const file = volumeFile(project, stack, host, volume.name);
  mkdirSync(join(project.volumes, stack, host), { recursive: true, mode: 0o700 });
  const size = existsSync(file) ? statSync(file).size : 0;
  if (size > volume.size)
    throw new RefusedError(
      `volume ${volume.name} of ${stack}/${host} has ${size} bytes, and the stack asks for ${volume.size}: a volume never shrinks`,
      `give it its size again, or remove ${file} with all its data`,
    );
  const handle = openSync(file, "a", 0o600);
  try {
    if (size < volume.size) ftruncateSync(handle, volume.size);
  } finally {
    closeSync(handle);
  }
  return file;
}

/** The folder that stands for an exported directory, made when it is not there. */
export function ensureShared(project: Project, stack: string, shared: SharedFolder): string {
  const folder = join(project.volumes, stack, shared.host, `${shared.export}.export`);
  mkdirSync(dirname(folder), { recursive: true, mode: 0o700 });
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  return folder;
}
