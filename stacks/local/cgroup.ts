// How processes of a machine are kept together on this computer. Where systemd is PID 1, a unit does it; elsewhere enter.sh makes
// a group below the caller's own in every hierarchy that is mounted.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Thing } from "../../lib/ledger.ts";
import { toolFolder } from "../../lib/paths.ts";

export type Manager = "systemd" | "none";

/** Who keeps processes here. Source: sd_booted(3). */
export const manager = (): Manager => (existsSync("/run/systemd/system") ? "systemd" : "none");

/** Whether a machine's control groups are its own to write to without more: of the second version they are. Source: cgroups(7). */
export const delegated = (): boolean => existsSync("/sys/fs/cgroup/cgroup.controllers");

/** The command that runs `argv` in the group `name`: started by systemd's units themselves, or by enter.sh. */
export function inGroup(name: string, argv: string[]): string[] {
  return manager() === "systemd" ? argv : ["sh", join(toolFolder, "stacks/local/enter.sh"), name, ...argv];
}

/** What the ledger must know before the group `name` is made. @param units what systemd calls the services that are in it */
export function groupThings(name: string, units: string[]): Thing[] {
  const names =
    manager() === "systemd"
      ? units.map((unit) => `system.slice/${unit}.service`)
      : groupPaths(name, readFileSync("/proc/self/cgroup", "utf8"));
  return [...new Set(names)].map((path) => ({ kind: "cgroup", name: path }));
}

/** The group's path in each hierarchy, without a leading slash. Source: proc(5), /proc/pid/cgroup. */
export function groupPaths(name: string, own: string): string[] {
  return own
    .split("\n")
    .filter((line) => line)
    .map((line) => join(line.slice(line.indexOf(":", line.indexOf(":") + 1) + 1), name).slice(1));
}
