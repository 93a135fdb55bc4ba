// Which AMI a person means: by a recipe (as that stands now), the beginning of a digest, an AMI's id, or a recipe's channel. For scripts/image-aws.ts.
import { nearest, RefusedError } from "../../../lib/diagnostics.ts";
import { short } from "../../../lib/digest.ts";
import type { Aws } from "../api.ts";
import { names } from "../shape.ts";
import { type Ami, findAmis } from "./ami.ts";
import { type Channel, channels, isChannel, readChannel } from "./channel.ts";

/** A recipe of the project, and the digest of its image as it stands now; undefined: it is not locked. */
export interface KnownRecipe {
  name: string;
  readonly digest: string | undefined;
}

/** @throws RefusedError when there is none, or it could be several */
export async function amiCalled(aws: Aws, said: string, recipes: KnownRecipe[]): Promise<Ami> {
  const all = await findAmis(aws);
  const recipe = recipes.find((r) => r.name === said);
  if (recipe) return byRecipe(aws, recipe, all);
  if (/^ami-[0-9a-f]+$/.test(said)) return byId(aws, said, said, all);
  const channel = channelSaid(said, [...recipes.map((r) => r.name), ...all.map((a) => a.recipe)]);
  if (channel) {
    const id = await readChannel(aws, names.channel(channel.recipe, channel.channel));
    if (id !== undefined) return byId(aws, id, said, all);
    throw new RefusedError(
      `there is no channel ${channel.recipe}/${channel.channel} in ${aws.region}`,
      `ingot image promote <image> ${channel.channel} --on aws makes it`,
    );
  }
  const found = /^[0-9a-f]{4,64}$/.test(said) ? all.filter((a) => a.digest.startsWith(said)) : [];
  const digests = [...new Set(found.map((a) => a.digest))];
  if (digests.length > 1)
    throw new RefusedError(
      `${digests.length} images begin with ${said} in ${aws.region}`,
      "say more of the digest: ingot image list --on aws",
    );
  const ami = newest(found);
  if (ami) return ami;
  const near = nearest(said, [...recipes.map((r) => r.name), ...all.map((a) => a.recipe)]);
  throw new RefusedError(
    `there is no AMI \`${said}\` in ${aws.region}`,
    near
      ? `did you mean \`${near}\`?`
      : "it is said by its recipe, the beginning of its digest, its id, or `<recipe>/<channel>`: ingot image list --on aws",
  );
}

/** One that can be booted before one that cannot; among those the youngest. */
const newest = (found: Ami[]): Ami | undefined => found.find((a) => a.state === "available") ?? found[0];

function byRecipe(aws: Aws, { name, digest }: KnownRecipe, all: Ami[]): Ami {
  if (digest === undefined)
    throw new RefusedError(`the recipe ${name} is not locked, so no AMI can be its image`, `ingot image lock ${name}`);
  const ami = newest(all.filter((a) => a.digest === digest));
  if (ami) return ami;
  const older = all.filter((a) => a.recipe === name);
  throw new RefusedError(
    `${name} as it is now, ${short(digest)}, has no AMI in ${aws.region}`,
    older.length
      ? `\`ingot bake ${name} --on aws\` makes it; there are of it: ${older.map((a) => short(a.digest)).join(", ")}`
      : `make it: \`ingot bake ${name} --on aws\``,
  );
}

function byId(aws: Aws, id: string, said: string, all: Ami[]): Ami {
  const ami = all.find((a) => a.id === id);
  if (ami) return ami;
  throw new RefusedError(
    `${said === id ? "" : `${said} names ${id}: `}there is no AMI of Ingot's with this id in ${aws.region}, or it is another account's`,
    "ingot image list --on aws",
  );
}

/** `debian-12/stable`, or `stable` alone where there is but one recipe. */
function channelSaid(said: string, recipes: string[]): { recipe: string; channel: Channel } | undefined {
  const [, recipe, channel = ""] = /^(?:([^/]+)\/)?([^/]+)$/.exec(said) ?? [];
  if (!isChannel(channel)) {
    if (recipe !== undefined)
      throw new RefusedError(`there is no channel \`${channel}\``, `channels are ${channels.join(" and ")}: ${recipe}/${channels[0]}`);
    return undefined;
  }
  const known = [...new Set(recipes.filter((r) => r !== ""))];
  if (recipe !== undefined) return { recipe, channel };
  const [one] = known;
  if (one !== undefined && known.length === 1) return { recipe: one, channel };
  throw new RefusedError(`${channel}: of which recipe?`, `say \`<recipe>/${channel}\`; there are: ${known.join(", ") || "none"}`);
}
