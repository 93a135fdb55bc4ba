// Makes the AMI of a recipe's image, unless the account has it: by Packer, or directly of the disk that was made here. One run at a time makes
// the AMI of a digest; who comes second waits and finds it. Called by `ingot bake --on aws` (scripts/bake.ts).
import { randomUUID } from "node:crypto";
import { imageDigest } from "../../../images/digest.ts";
import { bootsOf } from "../../../images/disk-boots.ts";
import { loadRecipe } from "../../../images/recipe.ts";
import { Cancelled } from "../../../lib/cancel.ts";
import { RefusedError } from "../../../lib/diagnostics.ts";
import { short } from "../../../lib/digest.ts";
import type { Project } from "../../../lib/paths.ts";
import type { Progress } from "../../../lib/progress.ts";
import type { Aws } from "../api.ts";
import { ensureBucket } from "../bucket.ts";
import { lockAmi } from "../lock.ts";
import { type Ami, type AmiWay, amiTags, findAmis } from "./ami.ts";
import { type Encryption, journalPath, removeJournal } from "./journal.ts";
import { enabledKey, notAsAsked } from "./key.ts";
import type { Builder } from "./packer.ts";
import { deregister, registerAmi, untilAvailable } from "./register.ts";
import { type Uploaded, uploadDisk } from "./upload.ts";

export interface MakeOptions {
  way: AmiWay;
  /** Of the account and region (bucketOf). */
  bucket: string;
  encryption: Encryption;
  /** By Packer: what its instance is like. */
  builder?: Builder;
  /** Fail rather than lock anew. */
  locked?: true;
  progress: Progress;
}

export interface MadeAmi {
  ami: Ami;
  /** Whether this run made it. */
  made: boolean;
  seconds: number;
  /** Of one that was made directly by this run. */
  upload?: Uploaded;
}

/** @throws RefusedError, MissingError, Cancelled */
export async function makeAmi(project: Project, aws: Aws, name: string, wanted: MakeOptions): Promise<MadeAmi> {
  const began = performance.now();
  const { bucket, progress, encryption } = wanted;
  // The EBS direct APIs know no aliases.
  const options = typeof encryption === "object" ? { ...wanted, encryption: { key: await enabledKey(aws, encryption.key) } } : wanted;
  for (;;) {
    const digest = await digestOf(project, name, options);
    const image = { name, digest };
    const there = await found(aws, image, options);
    if (there) return { ami: there, made: false, seconds: (performance.now() - began) / 1000 };
    await ensureBucket(aws, bucket);
    const lock = await lockAmi(aws, bucket, image, `bake ${options.way === "direct" ? "--direct" : "by Packer"}`, progress.say);
    try {
      const meanwhile = await found(aws, image, options);
      if (meanwhile) return { ami: meanwhile, made: false, seconds: (performance.now() - began) / 1000 };
      const made = options.way === "direct" ? await direct(project, aws, image, options) : await byPacker(project, aws, image, options);
      if (made) return { ...made, made: true, seconds: (performance.now() - began) / 1000 };
      // A package was gone, and the recipe was locked anew: it is another image now.
    } finally {
      await lock.release();
    }
  }
}

/** The digest of the recipe's image; the recipe is locked when it is not. */
async function digestOf(project: Project, name: string, { locked, progress }: MakeOptions): Promise<string> {
  const recipe = loadRecipe(project, name);
  const digest = imageDigest(project, recipe);
  if (digest !== undefined) return digest;
  if (locked) throw new RefusedError(`the recipe ${name} is not locked`, `ingot image lock ${name}`);
  const { lockRecipe } = await import("../../../images/archive.ts");
  await lockRecipe(project, recipe, progress);
  const made = imageDigest(project, loadRecipe(project, name));
  if (made === undefined) throw new RefusedError(`the recipe ${name} could not be locked`);
  return made;
}

/** The AMI of this image that the account has, waited for where it is on its way. One that failed is taken out of the way. */
async function found(aws: Aws, image: { name: string; digest: string }, { encryption, progress }: MakeOptions): Promise<Ami | undefined> {
  const all = await findAmis(aws, { digest: image.digest });
  for (const ami of all.filter((a) => a.state === "failed" || a.state === "error" || a.state === "invalid")) {
    progress.say(`${ami.id} of ${image.name} ${short(image.digest)} has ${ami.state}: it is made anew`);
    await deregister(aws, ami.id);
  }
  const usable = all.find((a) => a.state === "available") ?? all.find((a) => a.state === "pending");
  if (!usable) return undefined;
  const ami = usable.state === "available" ? usable : await untilAvailable(aws, usable.id, {}, progress);
  if (encryption !== "account") {
    const wrong = await notAsAsked(aws, ami, encryption === "default" ? undefined : encryption.key);
    if (wrong !== undefined)
      throw new RefusedError(
        `the AMI of ${image.name} ${short(image.digest)} is there, ${ami.id}, ${wrong}`,
        `remove it first: \`ingot image prune ${ami.id} --yes --on aws\`; another region can have a copy with another key: \`ingot image copy\``,
      );
  }
  if (ami.way === "packer") await (await import("./packer.ts")).requireTokens(aws, ami.id);
  return ami;
}

type Made = Pick<MadeAmi, "ami" | "upload">;

async function direct(
  project: Project,
  aws: Aws,
  image: { name: string; digest: string },
  options: MakeOptions,
): Promise<Made | undefined> {
  const { bucket, encryption, locked, progress } = options;
  const { makeDisk } = await import("../../../images/disk.ts");
  const disk = await makeDisk(project, image.name, "raw", { locked, progress });
  if (disk.image.digest !== image.digest) return undefined;
  const upload = await uploadDisk({ project, aws, bucket, image, disk: disk.path, encryption, progress }).catch((error: unknown) => {
    if (error instanceof Cancelled)
      error.left = "what EC2 has taken is kept for a day: the same command goes on with the rest, `ingot gc --on aws --yes` removes it";
    throw error;
  });
  const id = await registerAmi(aws, {
    image,
    snapshot: upload.snapshot,
    architecture: disk.image.manifest.architecture,
    boots: bootsOf(disk.path),
    run: upload.run,
  });
  const ami = await untilAvailable(aws, id, amiTags(image, "direct", upload.run), progress);
  removeJournal(journalPath(project, { region: aws.region, digest: image.digest, encryption }));
  return { ami, upload };
}

async function byPacker(project: Project, aws: Aws, { name }: { name: string }, options: MakeOptions): Promise<Made> {
  const { encryption, builder, progress } = options;
  const { packAmi } = await import("./packer.ts");
  const encrypted = encryption === "account" ? undefined : encryption === "default" ? {} : encryption;
  return { ami: await packAmi({ project, name, aws, run: randomUUID(), encrypted, builder, progress }) };
}
