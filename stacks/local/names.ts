// What a machine's things are called on this computer. Namespaces, cgroups and machine names are global to it, so each carries
// a hash of the project's folder and the stack: several projects with a stack of the same name do not collide.
import { sha256 } from "../../lib/digest.ts";
import type { Project } from "../../lib/paths.ts";

/** Name of the stack's network namespace, and the prefix of all its names: 12 characters. */
export function networkName(project: Project, stack: string): string {
  return `ingot-${hash([project.folder, stack, ...(project.beside ? [project.beside] : [])].join("\0"))}`;
}

/** Name of a machine: of its namespace, its cgroup, and what systemd-nspawn calls it. A host name that is too long is cut and hashed,
 * since systemd takes machine names of at most 64 characters (machine names are host names, hostname_is_valid). */
export function machineName(project: Project, stack: string, host: string): string {
  const plain = /^[a-z0-9][a-z0-9-]*$/.test(host) && !host.endsWith("-") && host.length <= 40;
  return `${networkName(project, stack)}-${plain ? host : `${host.replace(/[^a-z0-9]+/g, "").slice(0, 30)}${hash(host)}`}`;
}

/** Name of the machine's cable at the bridge; unique in the stack's namespace. Interfaces have at most 15 characters. */
export const linkName = (index: number): string => `machine${index}`;

/** Hardware address of a machine, by its name: whoever is launched in another's place is found at once by those who have just spoken with that
 * one, where their kernels would ask for the old one's for half a minute. "52:54:00" is QEMU's own. */
export const macOf = (name: string): string => `52:54:00:${sha256(name).slice(0, 6).match(/../g)?.join(":")}`;

/** Name of the ledger's entry for a stack's machines. */
export const entryId = (stack: string): string => `machines/${stack}`;

const hash = (text: string): string => sha256(text).slice(0, 6);
