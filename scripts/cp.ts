// ingot cp: files to a machine, or from it.
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { RefusedError, UsageError } from "../lib/diagnostics.ts";
import type { Io } from "./command.ts";
import { machineOf, targetOf } from "./machines.ts";
import { splitName } from "./stack.ts";

export const help = `Copies a file or a folder to a machine, where it is root's, or from a machine into a folder of this computer.

  ingot cp <path> <stack>[/<host>]:<path>
  ingot cp <stack>[/<host>]:<path> <folder>

  ingot cp notes.txt inloop/web:/root/notes.txt
  ingot cp inloop:/var/log/nginx .`;

const usage = "ingot cp <path> <stack>[/<host>]:<path>, or ingot cp <stack>[/<host>]:<path> <folder>";

export async function main(args: string[], io: Io): Promise<number> {
  const [from, to, extra] = args;
  if (from === undefined || to === undefined || extra !== undefined) throw new UsageError("copy what, to where?", usage);
  const source = remote(from);
  const goal = remote(to);
  if (Boolean(source) === Boolean(goal)) throw new UsageError("one of the two is on a machine: `<stack>/<host>:<path>`", usage);
  const { machine, path } = (source ?? goal) as Remote;
  const given = splitName(machine);
  const target = await targetOf(io, given.stack);
  const connection = target.connect(await machineOf(io, target, given.stack, given.host));
  if (source) {
    if (!existsSync(to)) throw new RefusedError(`there is no folder ${to}`);
    await connection.fetch(path, resolve(to));
  } else {
    if (!existsSync(from)) throw new RefusedError(`there is no ${from}`);
    await connection.copy(resolve(from), path);
  }
  if (io.json) io.print(JSON.stringify({ from, to }, null, 2));
  return 0;
}

interface Remote {
  machine: string;
  path: string;
}

/** `inloop/web:/etc/hosts`: an absolute path on a machine. A path of this computer begins with `/` or `.`, or has no `:/`. */
function remote(given: string): Remote | undefined {
  const match = /^([^/.][^:]*):(\/.*)$/.exec(given);
  return match?.[1] !== undefined && match[2] !== undefined ? { machine: match[1], path: match[2] } : undefined;
}
