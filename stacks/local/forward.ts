// Ports of machines on this computer's loopback: which ones, and whether they are free.
import { createServer } from "node:net";
import type { Port } from "../../cloud-init/plan.ts";
import { tryLock } from "../../lib/lock.ts";

const wellKnown: Record<number, number> = { 22: 2222, 80: 8080, 443: 8443 };

/** The first port to try for a port of a machine: 8443 for 443, 8080 for 80, 2222 for 22, others 20000 higher where there is room. */
export const preferredPort = (port: number): number => wellKnown[port] ?? (port + 20000 <= 65535 ? port + 20000 : port);

/** Which ports of a host are to be had on the loopback. UDP is not: systemd's socket proxy is for streams. */
export const forwardable = (ports: Port[]): number[] => [
  ...new Set(ports.filter((p) => p.from === "world" && p.protocol === "tcp").map((p) => p.port)),
];

/** Ports on the loopback, one for each of `ports`: the preferred one, or the next that `free` says yes to; never one of `taken`. */
export async function choosePorts(
  ports: number[],
  taken: Set<number>,
  free: (port: number) => Promise<boolean> = isFree,
): Promise<Record<number, string>> {
  const chosen: Record<number, string> = {};
  for (const port of ports) {
    let candidate = preferredPort(port);
    while (taken.has(candidate) || !(await free(candidate))) {
      candidate++;
      if (candidate > 65535) throw new RangeError(`no free port on the loopback for ${port}`);
    }
    taken.add(candidate);
    chosen[port] = `127.0.0.1:${candidate}`;
  }
  return chosen;
}

/** Those that this process has said yes to. Two launches at once, of projects that know nothing of each other, do not get the same one. */
const ours = new Set<number>();

/** Whether nobody listens at this port of 127.0.0.1, nor is another launch about to; if so it is this process's for as long as it lives. */
async function isFree(port: number): Promise<boolean> {
  const lock = ours.has(port) ? undefined : await tryLock(`port ${port}`, "a launch");
  if (!lock && !ours.has(port)) return false;
  const free = await canListen(port);
  if (free) ours.add(port);
  else lock?.release();
  return free;
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ host: "127.0.0.1", port, exclusive: true }, () => server.close(() => resolve(true)));
  });
}
