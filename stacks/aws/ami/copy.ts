// An AMI in another region, or in an account that it is shared with: copied once, found again by its digest, encrypted on the way where a key
// is given. For `ingot image copy` and release.ts.
import { cancelled, sleep } from "../../../lib/cancel.ts";
import { RefusedError } from "../../../lib/diagnostics.ts";
import { sha256, short } from "../../../lib/digest.ts";
import type { Progress } from "../../../lib/progress.ts";
import type { Aws } from "../api.ts";
import { call, codeOf } from "../errors.ts";
import { names } from "../shape.ts";
import { type Ami, amiName, amiTags, findAmis, imageCalled, reasonOf, tagList } from "./ami.ts";
import { amiWords } from "./channel.ts";
import { type Encrypting, enabledKey, notAsAsked } from "./key.ts";
import { deregister } from "./register.ts";
import { tagSnapshots } from "./snapshot.ts";

export interface Copied {
  outcome: "copied" | "there" | "would be copied";
  /** undefined: it would be copied. */
  ami?: Ami;
  seconds: number;
}

/** `as it is`: encrypted as the source is. */
export type CopyEncryption = "as it is" | Encrypting;

/** Seconds after which a copy is given up: EC2 copies some 100 MB a second between regions, and may queue. */
const patience = 3 * 3600;
const lookSeconds = (): number => Number(process.env.INGOT_LOOK_SECONDS ?? 5);

/**
 * @param from where the AMI is; only its region is asked for
 * @param to the target's clients: another region, another account, or both
 * @param mode `plan` changes nothing
 * @throws RefusedError when it cannot be copied, or what is there is not as it was asked for
 */
export async function copyAmi(
  from: Pick<Aws, "region">,
  ami: Ami,
  to: Aws,
  encryption: CopyEncryption,
  mode: "do" | "plan",
  progress: Progress,
): Promise<Copied> {
  const began = performance.now();
  const seconds = () => (performance.now() - began) / 1000;
  if (!ami.digest || !ami.recipe) throw new RefusedError(`${ami.id} has no tags of Ingot's: its copy could not be found again`);
  if (ami.state !== "available" && mode === "do")
    throw new RefusedError(`${ami.id} is ${ami.state}: it cannot be copied`, "wait until it is available");
  const key = typeof encryption === "object" ? await enabledKey(to, encryption.key) : undefined;
  const there = await copyThere(to, ami);
  if (there) {
    const wrong = encryption === "as it is" ? undefined : await notAsAsked(to, there, key);
    if (wrong !== undefined)
      throw new RefusedError(
        `${amiWords(there)} is in ${to.region} already, ${wrong}`,
        `to have it otherwise, remove it first: ingot image prune ${there.id} --region ${to.region} --yes --on aws`,
      );
    if (there.state === "available" || mode === "plan") return { outcome: "there", ami: there, seconds: seconds() };
    return { outcome: "there", ami: await available(to, there, progress), seconds: seconds() };
  }
  if (mode === "plan") return { outcome: "would be copied", seconds: seconds() };
  const id = await begin(from, ami, to, encryption, key);
  const copy = await available(to, { ...ami, id, region: to.region, state: "pending" }, progress);
  return { outcome: "copied", ami: copy, seconds: seconds() };
}

/** That which can be used, or will be; one that failed is none. */
async function copyThere(to: Aws, { digest }: Ami): Promise<Ami | undefined> {
  const found = await findAmis(to, { digest });
  return found.find((a) => a.state === "available") ?? found.find((a) => a.state === "pending");
}

async function begin(from: Pick<Aws, "region">, ami: Ami, to: Aws, encryption: CopyEncryption, key: string | undefined): Promise<string> {
  const sdk = await import("@aws-sdk/client-ec2");
  const ec2 = await to.ec2();
  const image = { name: ami.recipe, digest: ami.digest };
  await removeFailed(to, ami);
  // What it was seen to be is true of its copy: the same bytes. Its run is the source's: the same call asked for twice must be the same.
  const tags = {
    ...amiTags(image, ami.way ?? "direct", ami.tags[names.tags.run] ?? ami.id),
    ...(ami.tags[names.tags.smoke] !== undefined && { [names.tags.smoke]: ami.tags[names.tags.smoke] ?? "" }),
  };
  if (ami.way === undefined) delete (tags as Record<string, string>)[names.tags.way];
  const what = `copy ${amiWords(ami)} to ${to.region}`;
  try {
    const { ImageId = "" } = await ec2.send(
      new sdk.CopyImageCommand({
        Name: amiName(image),
        Description: `${ami.recipe} ${ami.digest}, copied from ${ami.id} in ${from.region}`,
        SourceImageId: ami.id,
        SourceRegion: from.region,
        // The same copy, asked for again after a kill or a lost answer, is the one that was begun. At most 64 characters.
        ClientToken: sha256(["copy", await to.account(), to.region, ami.id, ami.digest, key ?? encryption].join(" ")),
        ...(encryption !== "as it is" && { Encrypted: true }),
        ...(key !== undefined && { KmsKeyId: key }),
        TagSpecifications: [
          { ResourceType: "image", Tags: tagList(tags) },
          { ResourceType: "snapshot", Tags: tagList(tags) },
        ],
      }),
    );
    return ImageId;
  } catch (error) {
    if (codeOf(error) !== "InvalidAMIName.Duplicate") return call(what, () => Promise.reject(error));
    // Somebody else was faster by a moment.
    const there = await copyThere(to, ami);
    if (there) return there.id;
    throw new RefusedError(
      `another AMI in ${to.region} has the name ${amiName(image)}, and not this image's tag ${names.tags.image}`,
      `look at it: \`aws ec2 describe-images --region ${to.region} --owners self --filters Name=name,Values=${amiName(image)}\``,
    );
  }
}

/** A copy that EC2 gave up keeps its name, which the next one needs. */
async function removeFailed(to: Aws, { digest }: Ami): Promise<void> {
  for (const { id } of (await findAmis(to, { digest })).filter((a) => a.state === "failed")) await deregister(to, id);
}

/** Waits until EC2 says "available"; its snapshots bear its tags then. */
async function available(to: Aws, ami: Ami, progress: Progress): Promise<Ami> {
  const task = progress.start(`copy ${ami.recipe} ${short(ami.digest)} to ${to.region}`);
  const end = performance.now() + patience * 1000;
  try {
    for (;;) {
      cancelled();
      const [now] = (await findAmis(to, { digest: ami.digest })).filter((a) => a.id === ami.id);
      if (now?.state === "available") {
        // CopyImage tags them itself; of a copy that was made by other means `gc` would not know whose they are.
        await tagSnapshots(to, now);
        task.done(now.id);
        return now;
      }
      if (now && now.state !== "pending") {
        const image = await imageCalled(to, now.id);
        throw new RefusedError(
          `the copy of ${amiWords(ami)} in ${to.region} is ${now.state}${image ? reasonOf(image) : ""}`,
          "the next run removes it and copies again",
        );
      }
      if (performance.now() > end)
        throw new RefusedError(`${ami.id} in ${to.region} is still not available`, "the next run goes on waiting for the same copy");
      task.note(now ? `${now.id} ${now.state}` : ami.id);
      await sleep(lookSeconds());
    }
  } catch (error) {
    task.failed();
    throw error;
  }
}
