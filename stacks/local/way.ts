// Ways between this computer and the network of a stack, which nothing leaves by itself: for one address, and for as long as this process lives.
import { existsSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sleep } from "../../lib/cancel.ts";
import { type Project, toolFolder } from "../../lib/paths.ts";
import { asRoot, tryRun } from "../../lib/run.ts";
import type { Way } from "../target.ts";
import { networkName } from "./names.ts";

/** Of a stack's network of the container target. */
export const namespaceOf = (project: Project, stack: string): string => `/run/netns/${networkName(project, stack)}`;

/** As a target's wayInto(). @param network the file of its namespace */
export async function wayInto(network: string, place: string): Promise<Way | undefined> {
  if (!existsSync(network)) return undefined;
  const socket = aloneInFolder();
  const close = opened("in", network, place, socket);
  for (let n = 0; n < 250 && !existsSync(socket); n++) await sleep(0.02);
  return { socket, close };
}

/**
 * From an address of a stack's network, once both are there, to a socket of this computer.
 * @param listen makes the socket
 */
export async function wayOut(project: Project, stack: string, place: string, listen: (socket: string) => Promise<void>): Promise<Way> {
  const socket = aloneInFolder();
  await listen(socket);
  return { socket, close: opened("out", namespaceOf(project, stack), place, socket) };
}

/** Its name is short: it has at most 107 characters (unix(7)). */
const aloneInFolder = (): string => join(mkdtempSync(join(tmpdir(), "ingot-way-")), "socket");

/** Opens one; the function given closes it. */
function opened(direction: "in" | "out", network: string, place: string, socket: string): () => Promise<void> {
  const leash = new AbortController();
  const argv = ["sh", join(toolFolder, "stacks/local/way.sh"), direction, network, place, socket];
  const ended = tryRun(asRoot(argv), { leash: leash.signal, evenWhenCancelled: true });
  return async () => {
    leash.abort();
    await ended;
  };
}
