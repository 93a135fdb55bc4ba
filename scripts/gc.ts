// ingot gc: what interrupted runs left behind goes.
import { parseArgs } from "node:util";
import { ledgerAt } from "../lib/ledger.ts";
import { guardOptions, type Io, table } from "./command.ts";
import { mend } from "./machines.ts";

export const help = `Undoes what an interrupted run left behind, by the ledger that was written before anything was made: mounts, namespaces, processes,
half-made images. Running machines stay. Every other command does the same before it begins.

  ingot gc
  ingot gc --on aws [--yes] [--yes-delete-volume <volume id>]

On EC2 it shows what would go: what bears Ingot's tags and belongs to no stack, what runs left that made AMIs (snapshots without an AMI,
AMIs that failed, builder instances with their keys and groups), and what is in the bucket that a run began and never ended. A snapshot
that an upload from this computer can go on with is shown as well, and says so.
What somebody works on now is left alone. --yes removes it; a data volume goes only when it is named.`;

export async function main(args: string[], io: Io): Promise<number> {
  const options = { yes: { type: "boolean" }, "yes-delete-volume": guardOptions["yes-delete-volume"] } as const;
  const { values } = parseArgs({ args, options });
  if (io.on === "aws") return onAws(values.yes ? "remove" : "show", values["yes-delete-volume"] ?? [], io);
  const left = ledgerAt(io.project.ledger).abandoned();
  await mend(io);
  if (io.json) io.print(JSON.stringify({ undone: left.map((e) => ({ what: e.what, began: e.began, things: e.things.length })) }, null, 2));
  else io.print(left.length ? left.map((e) => `undone: ${e.what}, begun ${e.began}`).join("\n") : "nothing was left behind");
  return 0;
}

async function onAws(how: "show" | "remove", volumes: string[], io: Io): Promise<number> {
  const [{ resumable }, { awsOf }, { bucketOf }, { leftovers, removeLeftovers }, { settingsOf }] = await Promise.all([
    import("../stacks/aws/ami/journal.ts"),
    import("../stacks/aws/api.ts"),
    import("../stacks/aws/bucket.ts"),
    import("../stacks/aws/gc.ts"),
    import("../stacks/aws/settings.ts"),
  ]);
  const settings = settingsOf(io.project, undefined);
  const aws = await awsOf(settings.region);
  const bucket = await bucketOf(aws, settings.bucket);
  const found = await leftovers(aws, bucket, resumable(io.project, aws.region));
  const gone = how === "remove" ? await removeLeftovers(aws, bucket, found, volumes, io.progress) : [];
  if (io.json) io.print(JSON.stringify({ found, removed: gone }, null, 2));
  else if (!found.length) io.print("nothing was left behind");
  else {
    io.print(
      table(found.map((l) => ["  ", gone.includes(l) ? "removed" : l.data ? "has data" : "left", l.kind, l.name, l.stack ?? "", l.why])),
    );
    if (how === "show") io.print("\nremove them: ingot gc --on aws --yes");
  }
  return 0;
}
