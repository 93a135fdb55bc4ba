// ingot exec: a command on a machine, as root, by argument list.
import { UsageError } from "../lib/diagnostics.ts";
import type { Io } from "./command.ts";
import { machineOf, targetOf } from "./machines.ts";
import { splitName, stackName } from "./stack.ts";

export const help = `Runs a command on a machine as root. Arguments go there as they are; no shell reads them.

  ingot exec <stack>[/<host>] -- <command…>

The exit code is the command's. On a terminal it gets a terminal; otherwise standard input goes to it when it is not empty.

  ingot exec inloop/web -- psql --username postgres
  ingot exec inloop -- bash`;

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
  const interactive = process.stdin.isTTY && process.stdout.isTTY && !io.json;
  const result = await connection.exec(argv, interactive ? { interactive: true } : { input: await piped() });
  if (io.json) io.print(JSON.stringify(result, null, 2));
  else {
    process.stdout.write(result.stdout);
    process.stderr.write(result.stderr);
  }
  return result.code;
}

/** What is on standard input, when something is; a terminal that we do not hand on counts as empty. */
async function piped(): Promise<string | undefined> {
  if (process.stdin.isTTY) return undefined;
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  return chunks.length ? Buffer.concat(chunks).toString("utf8") : undefined;
}
