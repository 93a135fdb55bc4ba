// ingot gc: what interrupted runs left behind goes.
import { parseArgs } from "node:util";
import { ledgerAt } from "../lib/ledger.ts";
import type { Io } from "./command.ts";
import { mend } from "./machines.ts";

export const help = `Undoes what an interrupted run left behind, by the ledger that was written before anything was made: mounts, namespaces, processes,
half-made images. Running machines stay. Every other command does the same before it begins.

  ingot gc`;

export async function main(args: string[], io: Io): Promise<number> {
  parseArgs({ args, options: {} });
  const left = ledgerAt(io.project.ledger).abandoned();
  await mend(io);
  if (io.json) io.print(JSON.stringify({ undone: left.map((e) => ({ what: e.what, began: e.began, things: e.things.length })) }, null, 2));
  else io.print(left.length ? left.map((e) => `undone: ${e.what}, begun ${e.began}`).join("\n") : "nothing was left behind");
  return 0;
}
