// Data that outlives machines: volumes, a sparse file each, on the machine /dev/disk/by-id/ingot-<name>; and exported directories, a folder
// each, which the machines of all hosts of an export have at /run/ingot/shared.
import { closeSync, existsSync, ftruncateSync, mkdirSync, openSync, renameSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import type { SharedFolder, VolumePlan } from "../../cloud-init/plan.ts";
import { RefusedError } from "../../lib/diagnostics.ts";
import type { Project } from "../../lib/paths.ts";
import { tryRun } from "../../lib/run.ts";
import type { Disks, Health } from "../target.ts";

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

/** Whether the disk of a volume that no machine uses has a file system that can be mounted; what its journal holds is brought in. */
async function healthOf(file: string): Promise<Health> {
  if (!existsSync(file)) return "missing";
  const { stdout: type } = await tryRun(["blkid", "-p", "-o", "value", "-s", "TYPE", file]);
  if (!type.trim()) return "missing";
  if (type.trim() === "xfs") {
    const { code, stderr } = await tryRun(["xfs_repair", "-n", file]);
    // 2: its journal is to be brought in, which mounting does.
    return code === 0 || code === 2 ? "healthy" : { broken: stderr.trim() };
  }
  const { code, stdout, stderr } = await tryRun(["e2fsck", "-p", file]);
  return code <= 1 ? "healthy" : { broken: `${stdout}\n${stderr}`.trim().split("\n").slice(-3).join("\n") };
}

/** What it says of an ext4 file system that is not mounted; undefined: nothing. */
async function debugfs(file: string, request: string): Promise<string | undefined> {
  const { code, stdout } = await tryRun(["debugfs", "-R", request, file]);
  return code === 0 && stdout ? stdout : undefined;
}

/** The volumes of this computer's machines. */
export const localDisks = (project: Project): Disks => ({
  health: ({ stack, host }, volume) => healthOf(volumeFile(project, stack, host, volume)),
  where: ({ stack, host }, volume) => volumeFile(project, stack, host, volume),
  files: {
    read: ({ stack, host }, volume, path) => debugfs(volumeFile(project, stack, host, volume), `cat ${path}`),
    // "/inode/mode/uid/gid/name/size/" (debugfs(8), ls -p)
    async list({ stack, host }, volume, path) {
      const lines = (await debugfs(volumeFile(project, stack, host, volume), `ls -p ${path}`))?.split("\n") ?? [];
      return lines.flatMap((line) => line.split("/")[5] ?? []).filter((name) => name !== "." && name !== "..");
    },
    async written({ stack, host }, volume, path) {
      const said = await debugfs(volumeFile(project, stack, host, volume), `stat ${path}`);
      const [, hex] = /^ *mtime: 0x([0-9a-f]+)/m.exec(said ?? "") ?? [];
      return hex === undefined ? undefined : Number.parseInt(hex, 16);
    },
  },
  async setAside({ stack, host }, volume, when) {
    const file = volumeFile(project, stack, host, volume);
    if (!existsSync(file)) return undefined;
    const aside = `${file}.${when.replace(/[^0-9TZ]/g, "")}.aside`;
    renameSync(file, aside);
    return aside;
  },
});
