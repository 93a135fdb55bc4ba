// ingot releases: which releases of applications are on running machines.
import { parseArgs } from "node:util";
import { nearest, RefusedError } from "../lib/diagnostics.ts";
import { type ReleaseThere, releasesOn } from "../stacks/launch.ts";
import { type Io, size, table } from "./command.ts";
import { targetOf } from "./machines.ts";
import { machinesOf } from "./rollback.ts";
import { only, splitName } from "./stack.ts";

export const help = `Says which releases of applications are on running machines: which is live, which one \`ingot rollback\` would make live again, when each went
live (or was unpacked, if it never did), its size, and what it was made from. The last three are kept, and with them always the live one and the
one before it.

  ingot releases <stack>[/<application>]`;

export async function main(args: string[], io: Io): Promise<number> {
  const { positionals } = parseArgs({ args, allowPositionals: true, options: {} });
  const { stack: given, host: name } = splitName(only(positionals, "stack", "ingot releases <stack>[/<application>]"));
  const target = await targetOf(io, given);
  const machines = await machinesOf(given, undefined, target, io);
  const [{ stack }] = machines;
  const all = await Promise.all(machines.map(async (m) => ({ host: m.host, releases: await releasesOn(m, target.connect(m)) })));
  const names = [...new Set(all.flatMap(({ releases }) => releases.map((r) => r.application)))];
  if (name !== undefined && !names.includes(name)) {
    const near = nearest(name, names);
    throw new RefusedError(
      `there is no release of \`${name}\` on ${stack}`,
      near ? `did you mean \`${stack}/${near}\`?` : names.length ? `there are: ${names.join(", ")}` : undefined,
    );
  }
  const found = all.map(({ host, releases }) => ({ host, releases: releases.filter((r) => name === undefined || r.application === name) }));
  if (io.json) io.print(JSON.stringify({ stack, hosts: found }, null, 2));
  else
    io.print(
      table(
        found.flatMap(({ host, releases }) =>
          releases
            .toSorted((a, b) => a.application.localeCompare(b.application) || b.at.localeCompare(a.at))
            .map((r) => [`${stack}/${host}`, r.application, r.release, stateOf(r), r.at, size(r.bytes), r.source]),
        ),
      ),
    );
  return 0;
}

const stateOf = (r: ReleaseThere): string => (r.live ? "live" : r.rollback ? "rollback" : "");
