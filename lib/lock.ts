// One at a time. A lock is a listening socket in Linux's abstract namespace: the kernel frees it when its holder
// dies, however it dies, so that there is nothing stale to clean up (unix(7), "Abstract sockets").
import { connect, createServer } from "node:net";
import { sleep } from "./cancel.ts";
import { RefusedError } from "./diagnostics.ts";
import { sha256, short } from "./digest.ts";

export interface Lock {
  release(): void;
}

/** Takes the lock `name` for `what` (said to whoever comes second), or throws RefusedError naming the holder. */
export async function lock(name: string, what: string): Promise<Lock> {
  const taken = await tryLock(name, what);
  if (taken) return taken;
  const holder = await holderOf(name);
  throw new RefusedError(`${holder ?? "another run"} is at it already`, "wait for it to end, or stop it, and try again");
}

/** As lock(), but waits for the holder; `waiting` is called once with its name. */
export const lockWhenFree = (name: string, what: string, waiting: (holder: string) => void): Promise<Lock> =>
  lockOneWhenFree([name], what, waiting);

/** Takes whichever of these locks is free first; `waiting` is called once with the name of the first one's holder. */
export async function lockOneWhenFree(names: string[], what: string, waiting: (holder: string) => void): Promise<Lock> {
  for (let first = true; ; first = false) {
    for (const name of names) {
      const taken = await tryLock(name, what);
      if (taken) return taken;
    }
    if (first) waiting((await holderOf(names[0] ?? "")) ?? "another run");
    await sleep(0.2);
  }
}

const address = (name: string): string => `\0ingot-${short(sha256(name))}`;

/** The same; undefined where somebody has it. */
export function tryLock(name: string, what: string): Promise<Lock | undefined> {
  const server = createServer((socket) => socket.on("error", () => {}).end(`${what} (process ${process.pid})`));
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => (error.code === "EADDRINUSE" ? resolve(undefined) : reject(error)));
    server.listen({ path: address(name) }, () => {
      server.unref();
      resolve({ release: () => void server.close() });
    });
  });
}

function holderOf(name: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    let text = "";
    connect({ path: address(name) })
      .on("data", (chunk) => (text += chunk.toString()))
      .on("error", () => resolve(undefined))
      .on("close", () => resolve(text || undefined))
      // It says so when it comes to it: on a busy computer, or in the middle of long work of its own, later.
      .setTimeout(10_000, () => resolve(undefined));
  });
}
