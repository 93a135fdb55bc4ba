// AMIs that nobody uses any more go, with their snapshots. choose() decides and touches nothing; removeAmi() does it. For
// `ingot image prune --on aws`.
import type { Progress } from "../../../lib/progress.ts";
import type { Aws } from "../api.ts";
import { call } from "../errors.ts";
import type { Ami } from "./ami.ts";
import { amiWords } from "./channel.ts";
import { deregister } from "./register.ts";
import { removeSnapshot, tagSnapshots } from "./snapshot.ts";
import type { Uses } from "./uses.ts";

export interface Fate {
  ami: Ami;
  /** Why it stays, in words; empty: it goes. */
  kept: string[];
}

/**
 * What becomes of each AMI of the region.
 * @param named only these are to go (their ids), whether they are among the newest and shared or not; "unused": all that nobody uses
 * @param shared id → with whom
 * @param keep so many of each recipe stay in any case: the newest that can be booted
 */
export function choose(amis: Ami[], named: string[] | "unused", uses: Uses, shared: Map<string, string>, keep: number): Fate[] {
  const byAge = [...amis].sort((a, b) => (a.created === b.created ? (a.id < b.id ? 1 : -1) : a.created < b.created ? 1 : -1));
  const count = new Map<string, number>();
  return byAge.map((ami) => {
    const nth = count.get(ami.recipe) ?? 0;
    if (ami.state === "available") count.set(ami.recipe, nth + 1);
    const users = uses.get(ami.id) ?? [];
    const kept = users.filter((u) => u.how === "uses" || named === "unused").map((u) => u.words);
    if (ami.state === "pending") kept.push("it is being made");
    if (named !== "unused") {
      if (!named.includes(ami.id)) kept.push("it is not named");
      return { ami, kept };
    }
    if (ami.state === "available" && nth < keep)
      kept.push(`it is among the ${keep} newest of ${ami.recipe || "those without a recipe's tag"}`);
    const others = shared.get(ami.id);
    if (others !== undefined) kept.push(`it is shared with ${others}, and what they do with it cannot be seen: name it to remove it`);
    return { ami, kept };
  });
}

/**
 * Deregisters an AMI and deletes the snapshots that no other one has. First come the snapshots' tags: by them `gc` finds what a kill in
 * the middle leaves. What is gone already is passed by. Gives the snapshots that are gone.
 */
export async function removeAmi(aws: Aws, ami: Ami, progress: Progress): Promise<string[]> {
  const there = await tagSnapshots(aws, ami);
  await deregister(aws, ami.id);
  const used = await snapshotsOfAmis(aws);
  const gone: string[] = [];
  for (const id of there) {
    if (used.has(id)) {
      progress.say(`  ${id} stays: another AMI is made of it`);
      continue;
    }
    await removeSnapshot(aws, id);
    gone.push(id);
  }
  progress.say(`  removed ${amiWords(ami)}${gone.length ? ` and ${gone.join(", ")}` : ""}`);
  return gone;
}

/** Snapshots that some AMI of this account and region is made of, Ingot's or not. */
async function snapshotsOfAmis(aws: Aws): Promise<Set<string>> {
  const { paginateDescribeImages } = await import("@aws-sdk/client-ec2");
  const used = new Set<string>();
  await call("look for AMIs with the same snapshots", async () => {
    const client = await aws.ec2();
    for await (const { Images = [] } of paginateDescribeImages(
      { client },
      { Owners: ["self"], IncludeDeprecated: true, IncludeDisabled: true },
    ))
      for (const { BlockDeviceMappings = [] } of Images)
        for (const { Ebs } of BlockDeviceMappings) if (Ebs?.SnapshotId) used.add(Ebs.SnapshotId);
  });
  return used;
}
