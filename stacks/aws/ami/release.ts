// One release for many places: recipes × accounts × regions, each copied with its own key, and named by its channel. All that can be known is
// looked at before anything is begun; each place goes on by itself, and what is there is found by its digest, so that the next run does what is
// left. For `ingot image release`.
import type { Promised } from "../../../images/booted.ts";
import type { ReleasePlace } from "../../../images/release.ts";
import { Cancelled } from "../../../lib/cancel.ts";
import { RefusedError } from "../../../lib/diagnostics.ts";
import type { Progress } from "../../../lib/progress.ts";
import { type Aws, awsOf, type Credentials } from "../api.ts";
import { call } from "../errors.ts";
import { names } from "../shape.ts";
import type { Ami } from "./ami.ts";
import { point } from "./channel.ts";
import { type CopyEncryption, copyAmi } from "./copy.ts";
import { enabledRegions } from "./regions.ts";
import { canBeShared, shareAmi } from "./share.ts";
import { passedAt, type SmokeSettings, smokeBoot } from "./smoke.ts";

/** One AMI in one account and region. */
export interface Cell {
  recipe: string;
  digest: string;
  account: string;
  region: string;
  /** ami-…; undefined while it is not there. */
  ami?: string;
  /** Where it was made: nothing is copied. */
  state: "source" | "there" | "copied" | "would be copied" | "refused" | "failed" | "not tried";
  /** The channel, and what became of it. */
  channel?: string;
  seconds: number;
  /** Why it was refused, or failed; and what to do. */
  error?: string;
  hint?: string;
}

interface Place extends ReleasePlace {
  aws: Aws;
}

const atOnce = 8;

/**
 * Looks at everything, and when nothing speaks against it and the mode is `do`, does it.
 * @param source the account and region that the AMIs are in
 * @param promised of an AMI's digest: what it must be, for a smoke boot
 */
export async function release(
  source: Aws,
  amis: Ami[],
  wanted: ReleasePlace[],
  promised: (ami: Ami) => Promised,
  smoke: SmokeSettings,
  mode: "do" | "plan",
  progress: Progress,
): Promise<Cell[]> {
  const places = await placesOf(source, wanted);
  const planned = await inTurn(
    amis.flatMap((ami) => places.map((place) => ({ ami, place }))),
    ({ ami, place }) => plan(source, ami, place, promised, progress),
  );
  if (mode === "plan") return planned;
  if (planned.some((c) => c.state === "refused")) return planned.map((c) => (c.state === "refused" ? c : { ...c, state: "not tried" }));
  const failed = new Map<string, Error>();
  for (const ami of amis) {
    try {
      const copied = planned.filter((c) => c.digest === ami.digest && c.state === "would be copied").map((c) => c.account);
      await prepare(source, ami, wanted, copied, promised, smoke, progress);
    } catch (error) {
      failed.set(ami.id, known(error));
    }
  }
  return inTurn(
    amis.flatMap((ami) => places.map((place) => ({ ami, place }))),
    async ({ ami, place }): Promise<Cell> => {
      const broken = failed.get(ami.id);
      return broken ? { ...begun(ami, place), state: "failed", ...words(broken) } : bring(source, ami, place, progress);
    },
  );
}

type Reached = Place | { place: ReleasePlace; error: Error };

/** Clients for each place: of the caller's own account, or of the role that is assumed. */
async function placesOf(source: Aws, wanted: ReleasePlace[]): Promise<Reached[]> {
  const own = await source.account();
  const roles = new Map<string, Promise<Credentials | undefined>>();
  const enabled = new Map<string, Promise<void>>();
  return Promise.all(
    wanted.map(async (place): Promise<Reached> => {
      try {
        const key = `${place.account} ${place.role ?? ""}`;
        if (!roles.has(key)) roles.set(key, assume(source, own, place));
        const aws = await awsOf(place.region, await roles.get(key));
        const at = `${key} ${place.region}`;
        // Asked where every account may ask: a region that is not enabled refuses the question, too.
        if (!enabled.has(at))
          enabled.set(
            at,
            awsOf(source.region, await roles.get(key)).then((there) => enabledRegions(there, [place.region])),
          );
        await enabled.get(at);
        return { ...place, aws };
      } catch (error) {
        return { place, error: known(error) };
      }
    }),
  );
}

async function assume(source: Aws, own: string, { account, role }: ReleasePlace): Promise<Credentials | undefined> {
  if (role === undefined) {
    if (account === own) return undefined;
    throw new RefusedError(
      `no role is given for the account ${account}, and these credentials are of ${own}`,
      `write \`role:\` for it: one that trusts ${await source.caller()}`,
    );
  }
  const { AssumeRoleCommand } = await import("@aws-sdk/client-sts");
  const sts = await source.sts();
  const partition = (await source.caller()).split(":")[1] ?? "aws";
  const RoleArn = role.startsWith("arn:") ? role : `arn:${partition}:iam::${account}:role/${role}`;
  if (RoleArn.split(":")[4] !== account)
    throw new RefusedError(`the role ${role} is not one of the account ${account}`, "name a role of that account");
  const ask: Credentials = async () => {
    const { Credentials: given } = await call(`assume the role ${RoleArn}`, () =>
      sts.send(new AssumeRoleCommand({ RoleArn, RoleSessionName: "ingot-image-release" })),
    );
    return {
      accessKeyId: given?.AccessKeyId ?? "",
      secretAccessKey: given?.SecretAccessKey ?? "",
      ...(given?.SessionToken !== undefined && { sessionToken: given.SessionToken }),
      ...(given?.Expiration && { expiration: given.Expiration }),
    };
  };
  // Once now, so that what is refused is said beforehand.
  await ask();
  return ask;
}

const isSource = (source: Aws, own: string, { account, region }: ReleasePlace): boolean => account === own && region === source.region;
const encryptionOf = ({ key }: ReleasePlace): CopyEncryption => (key === undefined ? "as it is" : { key });
const begun = (ami: Ami, reached: Reached): Omit<Cell, "state"> => {
  const { account, region, channel } = "error" in reached ? reached.place : reached;
  return { recipe: ami.recipe, digest: ami.digest, account, region, seconds: 0, ...(channel !== undefined && { channel }) };
};

/** What would become of a place. */
async function plan(source: Aws, ami: Ami, reached: Reached, promised: (ami: Ami) => Promised, progress: Progress): Promise<Cell> {
  const cell = begun(ami, reached);
  if ("error" in reached) return { ...cell, state: "refused", ...words(reached.error) };
  try {
    const own = await source.account();
    if (ami.state !== "available") throw new RefusedError(`${ami.id} is ${ami.state}`, "wait until it is available");
    if (reached.channel === "stable" && passedAt(ami) === undefined) promised(ami);
    if (isSource(source, own, reached)) return { ...cell, ami: ami.id, state: "source" };
    if (reached.account !== own)
      await canBeShared(source, ami, { accounts: [reached.account], organizations: [], units: [] }, progress.say);
    const { ami: copy, outcome } = await copyAmi(source, ami, reached.aws, encryptionOf(reached), "plan", progress);
    return copy && outcome === "there" ? { ...cell, ami: copy.id, state: "there" } : { ...cell, state: "would be copied" };
  } catch (error) {
    return { ...cell, state: "refused", ...words(known(error)) };
  }
}

/** What is done once for an AMI: it is seen to boot, and may be copied by the accounts that are to have it. @param copied those accounts */
async function prepare(
  source: Aws,
  ami: Ami,
  wanted: ReleasePlace[],
  copied: string[],
  promised: (ami: Ami) => Promised,
  smoke: SmokeSettings,
  progress: Progress,
): Promise<void> {
  if (wanted.some((p) => p.channel === "stable") && passedAt(ami) === undefined) {
    const { passed } = await smokeBoot(source, ami, promised(ami), smoke, progress);
    // Its copies say the same.
    ami.tags[names.tags.smoke] = passed;
  }
  const own = await source.account();
  const accounts = [...new Set(copied)].filter((a) => a !== own);
  if (accounts.length) await shareAmi(source, ami, { accounts, organizations: [], units: [] }, "share", "do");
}

async function bring(source: Aws, ami: Ami, reached: Reached, progress: Progress): Promise<Cell> {
  const cell = begun(ami, reached);
  if ("error" in reached) return { ...cell, state: "refused", ...words(reached.error) };
  const began = performance.now();
  const seconds = () => (performance.now() - began) / 1000;
  let there: { ami: Ami; state: Cell["state"] } | undefined;
  try {
    if (isSource(source, await source.account(), reached)) there = { ami, state: "source" };
    else {
      const { ami: copy, outcome } = await copyAmi(source, ami, reached.aws, encryptionOf(reached), "do", progress);
      if (!copy) throw new Error("a copy that was made has an id");
      there = { ami: copy, state: outcome };
    }
    const pointed = reached.channel && (await point(reached.aws, there.ami, reached.channel, "promoted", "do"));
    const channel = pointed && `${reached.channel}${pointed.outcome === "already" ? " already" : ""}`;
    return { ...cell, ami: there.ami.id, state: there.state, ...(channel && { channel }), seconds: seconds() };
  } catch (error) {
    return { ...cell, ...(there && { ami: there.ami.id }), state: "failed", seconds: seconds(), ...words(known(error)) };
  }
}

/** Whoever stopped the run has stopped all of it; and what nobody foresaw is no answer. @throws all but RefusedError */
function known(error: unknown): RefusedError {
  if (error instanceof Cancelled || !(error instanceof RefusedError)) throw error;
  return error;
}
const words = (error: Error): { error: string; hint?: string } => ({
  error: error.message,
  ...(error instanceof RefusedError && error.hint !== undefined && { hint: error.hint }),
});

/** So many at a time; results in their order. */
async function inTurn<T, R>(all: T[], work: (one: T) => Promise<R>): Promise<R[]> {
  const results: R[] = new Array(all.length);
  let next = 0;
  const worker = async () => {
    for (let i = next++; i < all.length; i = next++) results[i] = await work(all[i] as T);
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, all.length) }, worker));
  return results;
}
