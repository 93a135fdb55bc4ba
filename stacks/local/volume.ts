// Data volumes: a sparse file each, which outlives machines. On the machine it is /dev/disk/by-id/ingot-<name>.
import { closeSync, existsSync, ftruncateSync, mkdirSync, openSync, statSync } from "node:fs";
import { join } from "node:path";
import type { VolumePlan } from "../../cloud-init/plan.ts";
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
