// ingot exec: a command on a machine, as root, by argument list.
import { UsageError } from "../lib/diagnostics.ts";
import type { Io } from "./command.ts";
import { machineOf, targetOf } from "./machines.ts";
import { splitName, stackName } from "./stack.ts";

export const help = `Runs a command on a machine as root. Arguments go there as they are; no shell reads them.

  ingot exec <stack>[/<host>] -- <command…>

The exit code is the command's, and so are the standard streams: byte for byte, as they come. On a terminal it gets a terminal.
With --json they are in the result, as text.

  ingot exec inloop/web -- psql --username postgres
  ingot exec inloop -- bash
  ingot exec inloop -- runuser -u postgres -- pg_dump inloop > inloop.sql`;

export async function main(args: string[], io: Io): Promise<number> {
  const end = args.indexOf("--");
  const [name, ...extra] = end < 0 ? args : args.slice(0, end);
  const argv = end < 0 ? extra : args.slice(end + 1);
  if (name === undefined || (end >= 0 && extra.length) || !argv.length) {
    throw new UsageError("which machine, and which command?", "ingot exec <stack>[/<host>] -- <command…>");
  }
  const given = splitName(name);
  const target = await targetOf(io, given.stack);
  const all = await target.find();
  const stack = stackName(
    given.stack,
    all.map((m) => m.stack),
    io,
  );
  const connection = target.connect(await machineOf(io, target, stack, given.host));
  if (!io.json) return (await connection.exec(argv, { interactive: true })).code;
  const result = await connection.exec(argv, { input: await piped() });
  io.print(JSON.stringify(result, null, 2));
  return result.code;
}

/** What is on standard input, when something is; a terminal counts as empty. */
async function piped(): Promise<string | undefined> {
  if (process.stdin.isTTY) return undefined;
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  return chunks.length ? Buffer.concat(chunks).toString("utf8") : undefined;
}
