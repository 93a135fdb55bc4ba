// ingot status: which machines there are, and how they are.
import { parseArgs } from "node:util";
import { short } from "../lib/digest.ts";
import { type Io, table } from "./command.ts";
import { targetOf } from "./machines.ts";
import { only, stackName } from "./stack.ts";

export const help = `Says which machines there are: state, image, generation, address, and where their ports answer on this computer.

  ingot status [stack]

With a stack that is not up the exit code is 1.`;

export async function main(args: string[], io: Io): Promise<number> {
  const { positionals } = parseArgs({ args, allowPositionals: true, options: {} });
  const given = positionals.length ? only(positionals, "stack", "ingot status [stack]") : undefined;
  const all = await (await targetOf(io, given)).find();
  const stack =
    given === undefined
      ? undefined
      : stackName(
          given,
          all.map((m) => m.stack),
          io,
        );
  const machines = all.filter((m) => stack === undefined || m.stack === stack);
  if (io.json) io.print(JSON.stringify(machines, null, 2));
  else if (!machines.length)
    io.print(stack ? `${stack} is not up; launch it: ingot up ${stack}` : "nothing is up; launch a stack: ingot up <stack>");
  else {
    io.print(
      table([
        ["machine", "state", "image", "generation", "address", "since", "on this computer"],
        ...machines.map((m) => [
          `${m.stack}/${m.host}${machines.filter((o) => o.stack === m.stack && o.host === m.host).length > 1 ? ` ${m.instance}` : ""}`,
          m.state,
          short(m.imageDigest),
          short(m.generation),
          m.address,
          m.began,
          Object.entries(m.forwards)
            .map(([port, at]) => `${port} at ${at}`)
            .join(", "),
        ]),
      ]),
    );
  }
  return stack && !machines.length ? 1 : 0;
}
