// Channels: SSM parameters that say which AMI of a recipe is `candidate` and which is `stable`, for stacks to follow. SSM itself keeps who
// changed one and when; its description says which image it was and how it came there. Used by scripts/image-aws.ts, prune.ts, release.ts,
// and by images.ts for `aws: { image: { channel: stable } }`.
import { sleep } from "../../../lib/cancel.ts";
import { RefusedError } from "../../../lib/diagnostics.ts";
import { short } from "../../../lib/digest.ts";
import type { Aws } from "../api.ts";
import { call, codeOf, isMissing } from "../errors.ts";
import { names } from "../shape.ts";
import { type Ami, findAmis } from "./ami.ts";

export const channels = ["candidate", "stable"] as const;
export type Channel = (typeof channels)[number];
export const isChannel = (name: string): name is Channel => (channels as readonly string[]).includes(name);

/** One value that a channel had. */
export interface ChannelEntry {
  /** SSM's number of it, from 1. */
  version: number;
  ami: string;
  /** Of the image, where Ingot wrote it. */
  digest?: string;
  /** The ARN that wrote it. */
  who: string;
  /** ISO 8601. */
  when: string;
  /** "promoted", "rolled back to version 3", or "set by other means". */
  how: string;
  current: boolean;
}

/** The parameter's name that a stack's `channel:` means: one of a recipe's channels by its short name, any other as it stands. */
export const parameterOf = (channel: string, recipe: string): string => (isChannel(channel) ? names.channel(recipe, channel) : channel);

/** The id of the AMI that a channel's parameter holds; undefined when there is no such channel in the region. */
export async function readChannel(aws: Aws, parameter: string): Promise<string | undefined> {
  const { GetParameterCommand } = await import("@aws-sdk/client-ssm");
  const ssm = await aws.ssm();
  try {
    return (await ssm.send(new GetParameterCommand({ Name: parameter }))).Parameter?.Value;
  } catch (error) {
    if (isMissing(error)) return undefined;
    return call(`read the channel ${parameter}`, () => Promise.reject(error));
  }
}

/** The recipes' channels of the region: [recipe, channel, AMI]. */
export async function channelsIn(aws: Aws): Promise<{ recipe: string; channel: Channel; ami: string }[]> {
  const { paginateGetParametersByPath } = await import("@aws-sdk/client-ssm");
  const found: { recipe: string; channel: Channel; ami: string }[] = [];
  await call("look for channels", async () => {
    const client = await aws.ssm();
    for await (const { Parameters = [] } of paginateGetParametersByPath({ client }, { Path: names.channels, Recursive: true }))
      for (const { Name = "", Value = "" } of Parameters) {
        const [recipe = "", channel = ""] = Name.slice(names.channels.length).split("/");
        // A stack that is called `images` has its facts and secrets here, too.
        if (isChannel(channel)) found.push({ recipe, channel, ami: Value });
      }
  });
  return found.sort((a, b) => (`${a.recipe}/${a.channel}` < `${b.recipe}/${b.channel}` ? -1 : 1));
}

/** What the channel was, the newest first: SSM keeps the last 100. Empty when there is no such channel. */
export async function historyOf(aws: Aws, recipe: string, channel: Channel): Promise<ChannelEntry[]> {
  const { paginateGetParameterHistory } = await import("@aws-sdk/client-ssm");
  const entries: ChannelEntry[] = [];
  try {
    const client = await aws.ssm();
    for await (const { Parameters = [] } of paginateGetParameterHistory({ client }, { Name: names.channel(recipe, channel) }))
      for (const { Version = 0, Value = "", Description = "", LastModifiedUser, LastModifiedDate } of Parameters) {
        const said = descriptionOf(Description, Value);
        entries.push({
          version: Version,
          ami: Value,
          ...(said.digest !== undefined && { digest: said.digest }),
          who: LastModifiedUser && LastModifiedUser !== "N/A" ? LastModifiedUser : (said.who ?? "unknown"),
          when: LastModifiedDate?.toISOString() ?? "",
          how: said.how,
          current: false,
        });
      }
  } catch (error) {
    if (isMissing(error)) return [];
    return call(`read the history of ${recipe}/${channel}`, () => Promise.reject(error));
  }
  entries.sort((a, b) => b.version - a.version);
  return entries.map((e, i) => ({ ...e, current: i === 0 }));
}

/** "debian-12 <digest> (ami-…): promoted by arn:…": for people in the console, and read back by historyOf(). At most 1024 characters. */
const describe = ({ recipe, digest, id }: Ami, how: string, who: string): string =>
  `${recipe} ${digest} (${id}): ${how} by ${who}`.slice(0, 1024);

function descriptionOf(text: string, ami: string): { digest?: string; how: string; who?: string } {
  const [, digest, of, how = "", who] = / ([0-9a-f]+) \((ami-[0-9a-f]+)\): (.+?) by (arn:\S+)$/.exec(text) ?? [];
  // A parameter that is overwritten by hand keeps the description it had, which is then of another AMI.
  return of === ami ? { digest, how, who } : { how: "set by other means" };
}

/**
 * Where a rollback would go from here, in its order: each other AMI that the channel held before. Rolled back once, the next one goes
 * further back, and not forth again.
 */
export function before(history: ChannelEntry[]): ChannelEntry[] {
  const [now] = history;
  if (!now) return [];
  const at = Number(/^rolled back to version (\d+)$/.exec(now.how)?.[1] ?? now.version);
  const seen = new Set([now.ami]);
  return history.filter((e) => e.version < at && !/^rolled back/.test(e.how) && !seen.has(e.ami) && seen.add(e.ami));
}

export interface Pointed {
  recipe: string;
  channel: Channel;
  ami: string;
  digest: string;
  /** What it held before. */
  from?: string;
  /** `already`: it held this AMI. */
  outcome: "already" | "pointed" | "would be pointed";
  /** SSM's number of the new value. */
  version?: number;
}

/**
 * Makes the channel name this AMI.
 * @param how "promoted", or "rolled back to version 3"
 * @param mode `plan` changes nothing
 * @throws RefusedError when the AMI is not one to be booted, or AWS does not take it
 */
export async function point(aws: Aws, ami: Ami, channel: Channel, how: string, mode: "do" | "plan"): Promise<Pointed> {
  bootable(ami, channel);
  const Name = names.channel(ami.recipe, channel);
  const from = await readChannel(aws, Name);
  const result = { recipe: ami.recipe, channel, ami: ami.id, digest: ami.digest, ...(from !== undefined && { from }) };
  if (from === ami.id) return { ...result, outcome: "already" };
  if (mode === "plan") return { ...result, outcome: "would be pointed" };
  const sdk = await import("@aws-sdk/client-ssm");
  const ssm = await aws.ssm();
  const value = {
    Name,
    Value: ami.id,
    Type: "String",
    // SSM itself then asks EC2 whether there is such an AMI. Source: Systems Manager User Guide, "Native parameter support for AMI IDs".
    DataType: "aws:ec2:image",
    Description: describe(ami, how, await aws.caller()),
  } as const;
  const tags = [names.tags.recipe, ami.recipe] as const;
  const made = await call(`point ${ami.recipe}/${channel} at ${ami.id}`, async () => {
    // Tags cannot be given together with Overwrite.
    const command =
      from === undefined
        ? new sdk.PutParameterCommand({ ...value, Tags: [{ Key: tags[0], Value: tags[1] }] })
        : new sdk.PutParameterCommand({ ...value, Overwrite: true });
    try {
      return await ssm.send(command);
    } catch (error) {
      // Somebody made it at the same time; or it was made, and the answer was lost.
      if (codeOf(error) !== "ParameterAlreadyExists") throw error;
      if ((await readChannel(aws, Name)) === ami.id) return { Version: undefined };
      return ssm.send(new sdk.PutParameterCommand({ ...value, Overwrite: true }));
    }
  });
  // With this data type SSM answers before it has looked at the AMI, and drops what it does not like.
  for (let i = 0; (await readChannel(aws, Name)) !== ami.id; i++) {
    if (i === 10)
      throw new RefusedError(
        `${ami.recipe}/${channel} is not ${ami.id} after 10 s: SSM did not take it, or somebody else moved the channel at the same time`,
        `ingot image history ${ami.recipe} ${channel} --on aws`,
      );
    await sleep(1);
  }
  return { ...result, outcome: "pointed", ...(made.Version !== undefined && { version: made.Version }) };
}

function bootable(ami: Ami, channel: Channel): void {
  if (!ami.recipe || !ami.digest)
    throw new RefusedError(
      `${ami.id} has no tag that says which recipe it is of`,
      `\`aws ec2 create-tags --resources ${ami.id} --tags Key=${names.tags.recipe},Value=<recipe>\``,
    );
  if (ami.state !== "available")
    throw new RefusedError(
      `${ami.id} is ${ami.state}: nobody could boot what ${ami.recipe}/${channel} names`,
      "wait until it is available",
    );
}

/**
 * Makes the channel name again what it named before, leaving out AMIs that are gone.
 * @throws RefusedError when there is nothing before
 */
export async function rollback(
  aws: Aws,
  recipe: string,
  channel: Channel,
  mode: "do" | "plan",
): Promise<Pointed & { skipped: ChannelEntry[] }> {
  const history = await historyOf(aws, recipe, channel);
  if (!history.length)
    throw new RefusedError(
      `there is no channel ${recipe}/${channel} in ${aws.region}`,
      `ingot image promote ${recipe} ${channel} --on aws makes it`,
    );
  const there = new Map((await findAmis(aws)).map((ami) => [ami.id, ami]));
  const earlier = before(history);
  const target = earlier.find((e) => there.get(e.ami)?.state === "available");
  const ami = target && there.get(target.ami);
  if (!target || !ami)
    throw new RefusedError(
      earlier.length
        ? `every AMI that ${recipe}/${channel} held before is gone: ${earlier.map((e) => e.ami).join(", ")}`
        : `${recipe}/${channel} has held nothing before ${history[0]?.ami}`,
      `ingot image promote <image> ${channel} --on aws points it elsewhere`,
    );
  const skipped = earlier.slice(0, earlier.indexOf(target));
  const pointed = await point(aws, { ...ami, recipe }, channel, `rolled back to version ${target.version}`, mode);
  return { ...pointed, skipped };
}

/** "debian-12 0123456789ab (ami-…)", for people. */
export const amiWords = ({ recipe, digest, id }: Pick<Ami, "recipe" | "digest" | "id">): string =>
  `${recipe || "an image"} ${short(digest)} (${id})`;
