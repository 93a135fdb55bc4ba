// Which AMI a host boots: the one that is tagged with the recipe's digest, one that a channel names, or one by its id.
import type { AwsHostDeclaration } from "../../cloud-init/aws.ts";
import { RefusedError } from "../../lib/diagnostics.ts";
import { short } from "../../lib/digest.ts";
import { type Ami, amiOf as amiFrom, findAmis, imageCalled } from "./ami/ami.ts";
import { parameterOf, readChannel } from "./ami/channel.ts";
import type { Aws } from "./api.ts";
import type { AwsImage } from "./shape.ts";

/** The recipe's image has no AMI yet. */
export class NoAmi extends RefusedError {}

/** @throws NoAmi, RefusedError when it cannot be booted */
export async function amiOf(aws: Aws, how: AwsHostDeclaration["image"], recipe: { name: string; digest?: string }): Promise<AwsImage> {
  if (how === "recipe") return byDigest(aws, recipe);
  if ("ami" in how) return byId(aws, how.ami, `\`image: { ami: ${how.ami} }\``);
  const parameter = parameterOf(how.channel, recipe.name);
  const id = await readChannel(aws, parameter);
  if (id === undefined)
    throw new RefusedError(
      `there is no channel ${how.channel}${parameter === how.channel ? "" : ` of ${recipe.name}`} in ${aws.region}`,
      parameter === how.channel
        ? `\`aws ssm put-parameter --name ${parameter} --type String --value ami-…\` makes it`
        : `make it: \`ingot image promote ${recipe.name} ${how.channel} --on aws\``,
    );
  if (!/^ami-[0-9a-f]+$/.test(id)) throw new RefusedError(`the channel ${parameter} holds no AMI's id but \`${id}\``);
  return byId(aws, id, `the channel ${parameter}`);
}

async function byDigest(aws: Aws, { name, digest }: { name: string; digest?: string }): Promise<AwsImage> {
  if (digest === undefined)
    throw new RefusedError(`the recipe ${name} is not locked, so no AMI can be its image`, `ingot image lock ${name}`);
  const found = await findAmis(aws, { digest });
  const usable = found.find((ami) => ami.state === "available");
  if (usable) return { ...bootable(usable), recipe: name };
  const [pending] = found;
  if (pending)
    throw new RefusedError(
      `the AMI of ${name} ${short(digest)}, ${pending.id}, is ${pending.state} in ${aws.region}`,
      "wait until it is available",
    );
  throw new NoAmi(
    `the image ${name} ${short(digest)} has no AMI in ${aws.region}`,
    `make it: \`ingot bake ${name} --on aws\`; or name another: \`aws: { image: { ami: … } }\``,
  );
}

async function byId(aws: Aws, id: string, from: string): Promise<AwsImage> {
  const image = await imageCalled(aws, id);
  if (!image)
    throw new RefusedError(
      `${from}: there is no such AMI in ${aws.region}`,
      "an AMI belongs to one region, and to the accounts that it is shared with",
    );
  if (image.State === "available") return bootable(amiFrom(image, aws.region));
  throw new RefusedError(`${from}: the AMI is ${image.State} in ${aws.region}`);
}

/** What of an AMI a stack's shape keeps. */
const bootable = ({ id, digest, architecture, rootDevice }: Ami): AwsImage => ({ id, digest, architecture, rootDevice });
