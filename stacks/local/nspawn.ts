// The command line of systemd-nspawn for one machine.
import { join } from "node:path";
import { toolFolder } from "../../lib/paths.ts";
import { delegated } from "./cgroup.ts";
import type { Containers } from "./machine.ts";

export interface NspawnMachine {
  name: string;
  hostname: string;
  /** The machine's folder (machine.ts says what is in it). */
  folder: string;
  containers?: Containers;
  /** Folders of this computer that other machines have, too, and where they are in the machine. */
  shared: { from: string; to: string }[];
  /** As HostInput has it. */
  repositories?: Record<string, string>;
}

/** Where a machine of a drill sees a disk with production's repositories. */
export const repositoryThere = (volume: string): string => `/run/ingot/repository/${volume}`;

/** A path for --bind=, where a colon separates (systemd-nspawn(1)). */
const escaped = (path: string): string => path.replaceAll("\\", "\\\\").replaceAll(":", "\\:");

/** Arguments for systemd-nspawn 252 or later; start.sh puts the disks before them, whose device nodes only it knows. */
export function nspawnArguments(machine: NspawnMachine): string[] {
  const bind = (option: "bind" | "bind-ro", from: string, to: string) => `--${option}=${escaped(join(machine.folder, from))}:${to}`;
  return [
    "--quiet",
    "--settings=no", // no /etc/systemd/nspawn/*.nspawn of this computer
    `--directory=${join(machine.folder, "root")}`,
    `--machine=${machine.name}`,
    `--hostname=${machine.hostname}`,
    "--register=no", // machined may not be there, and the ledger knows the machine
    "--keep-unit",
    `--network-namespace-path=/run/netns/${machine.name}`,
    "--capability=CAP_NET_ADMIN", // its own firewall, in its own namespace; nspawn gives it with --private-network only
    "--console=read-only",
    "--link-journal=no",
    "--resolv-conf=off", // the image's own: nothing of this computer leaks in
    "--timezone=off",
    bind("bind-ro", "seed", "/var/lib/cloud/seed/nocloud"),
    bind("bind-ro", "facts", "/run/ingot/facts"),
    bind("bind-ro", "artifacts", "/run/ingot/artifacts"),
    bind("bind", "report", "/run/ingot/report"),
    ...machine.shared.map(({ from, to }) => `--bind=${escaped(from)}:${to}`),
    ...Object.entries(machine.repositories ?? {}).map(([volume, from]) => `--bind-ro=${escaped(from)}:${repositoryThere(volume)}`),
    ...(machine.containers ? [...containerArguments] : []),
    ...(machine.containers?.on === "machine" ? [bind("bind", "containers", machine.containers.folder)] : []),
    ...(machine.containers && !delegated() ? withInit : ["--boot"]),
  ];
}

/** What runc asks of the kernel beyond what systemd-nspawn allows: keys of a session of its own, and on cgroup v2 lists of devices. */
const containerArguments = ["--system-call-filter=@keyring bpf"];

/** Our own PID 1, which becomes systemd. The signal is what --boot would send for an orderly power-off. */
const withInit = [
  "--kill-signal=SIGRTMIN+3",
  `--bind-ro=${escaped(join(toolFolder, "stacks/local/init.sh"))}:/run/ingot/init`,
  "sh",
  "/run/ingot/init",
];
