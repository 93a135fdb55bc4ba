// ingot ssh: a shell on a machine.
import { UsageError } from "../lib/diagnostics.ts";
import type { Io } from "./command.ts";
import { main as exec } from "./exec.ts";

export const help = `Opens a root shell on a machine: on EC2 through ssh, whose host key is known beforehand because Ingot made it, on this computer
straight into the machine.

  ingot ssh <stack>[/<host>] [-- <command…>]

  ingot ssh inloop/web --on aws`;

export async function main(args: string[], io: Io): Promise<number> {
  const end = args.indexOf("--");
  const [name, ...extra] = end < 0 ? args : args.slice(0, end);
  if (name === undefined || extra.length) throw new UsageError("which machine?", "ingot ssh <stack>[/<host>] [-- <command…>]");
  const command = end < 0 ? [] : args.slice(end + 1);
  return exec([name, "--", ...(command.length ? command : ["bash", "--login"])], io);
}
