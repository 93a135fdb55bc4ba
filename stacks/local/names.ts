// What a machine's things are called on this computer. Namespaces, cgroups and machine names are global to it, so each carries
// a hash of the project's folder and the stack: several projects with a stack of the same name do not collide.
import { createHash } from "node:crypto";
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

/** Name of the ledger's entry for a stack's machines. */
export const entryId = (stack: string): string => `machines/${stack}`;

const hash = (text: string): string => createHash("sha256").update(text).digest("hex").slice(0, 6);
