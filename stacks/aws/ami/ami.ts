// An AMI of Ingot's: what its tags say of it, and how it is found again. An AMI is known by the digest of its image, so the account is the
// store: nothing is written down elsewhere. Everything else in this folder makes, moves or removes what is described here.
import type { Image as Ec2Image } from "@aws-sdk/client-ec2";
import type { Aws } from "../api.ts";
import { call, codeOf } from "../errors.ts";
import { names } from "../shape.ts";

/** Device name of the root volume of every AMI that Ingot makes; Debian's own have the same. */
export const rootDevice = "/dev/xvda";

/** `direct`: its disk was made here and sent block by block. `packer`: an instance was provisioned and its disk taken. */
export type AmiWay = "direct" | "packer";

export interface Ami {
  /** ami-… */
  id: string;
  region: string;
  /** The account that owns it. */
  owner: string;
  name: string;
  recipe: string;
  /** Of the image (images/digest.ts). */
  digest: string;
  /** undefined: registered by hand, with no more than the digest's tag. */
  way: AmiWay | undefined;
  /** EC2's own word: "pending", "available", "failed", … */
  state: string;
  /** ISO 8601. */
  created: string;
  architecture: "x86_64" | "arm64";
  rootDevice: string;
  /** snap-…, of its root first. */
  snapshots: string[];
  /** Whether every snapshot is encrypted. */
  encrypted: boolean;
  /** ISO 8601: when it is no longer shown to others. */
  deprecated?: string;
  tags: Record<string, string>;
}

/** What is to be found again of an image: the digest, and the recipe's name for people. */
export interface AmiImage {
  name: string;
  digest: string;
}

/**
 * The AMI's name in EC2, unique in account and region: a second RegisterImage of the same digest is refused by EC2 itself
 * (InvalidAMIName.Duplicate). At most 128 of letters, digits and ()[] ./-'@_ (Amazon EC2 API Reference, RegisterImage).
 */
export const amiName = ({ name, digest }: AmiImage): string => `ingot/${name.slice(0, 50)}/${digest}`;

/** @param run id of the run, which `ingot gc` asks for: a random one for each AMI that is begun */
export const amiTags = ({ name, digest }: AmiImage, way: AmiWay, run: string): Record<string, string> => ({
  Name: `${name} ${digest.slice(0, 12)}`,
  [names.tags.image]: digest,
  [names.tags.recipe]: name,
  [names.tags.way]: way,
  [names.tags.run]: run,
});

export const tagList = (tags: Record<string, string>): { Key: string; Value: string }[] =>
  Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));

/** This account's AMIs of Ingot's in the client's region, the newest first. @param of only those of this digest, or of this recipe */
export async function findAmis(aws: Aws, of: { digest?: string; recipe?: string } = {}): Promise<Ami[]> {
  const { paginateDescribeImages } = await import("@aws-sdk/client-ec2");
  const Filters = [
    of.digest === undefined ? { Name: "tag-key", Values: [names.tags.image] } : { Name: `tag:${names.tags.image}`, Values: [of.digest] },
    ...(of.recipe === undefined ? [] : [{ Name: `tag:${names.tags.recipe}`, Values: [of.recipe] }]),
  ];
  const found: Ami[] = [];
  await call("look for AMIs", async () => {
    const client = await aws.ec2();
    for await (const { Images = [] } of paginateDescribeImages({ client }, { Owners: ["self"], IncludeDeprecated: true, Filters }))
      found.push(...Images.map((image) => amiOf(image, aws.region)));
  });
  return found.sort((a, b) => (a.created < b.created ? 1 : -1));
}

/** Whatever AMI has this id, Ingot's or not; undefined: there is none in the region, or none that may be seen. */
export async function imageCalled(aws: Aws, id: string): Promise<Ec2Image | undefined> {
  const { DescribeImagesCommand } = await import("@aws-sdk/client-ec2");
  const ec2 = await aws.ec2();
  try {
    return (await ec2.send(new DescribeImagesCommand({ ImageIds: [id] }))).Images?.[0];
  } catch (error) {
    if (/^InvalidAMIID/.test(codeOf(error))) return undefined;
    return call(`look at ${id}`, () => Promise.reject(error));
  }
}

/** What EC2 says of why it is in its state; empty when it says nothing. */
export const reasonOf = ({ StateReason }: Ec2Image): string => (StateReason?.Message ? `: ${StateReason.Message}` : "");

export function amiOf(image: Ec2Image, region: string): Ami {
  const tags = Object.fromEntries((image.Tags ?? []).map(({ Key = "", Value = "" }) => [Key, Value]));
  const way = tags[names.tags.way];
  const root = image.RootDeviceName ?? rootDevice;
  const disks = (image.BlockDeviceMappings ?? []).filter((d) => d.Ebs?.SnapshotId);
  const rootFirst = [...disks.filter((d) => d.DeviceName === root), ...disks.filter((d) => d.DeviceName !== root)];
  return {
    id: image.ImageId ?? "",
    region,
    owner: image.OwnerId ?? "",
    name: image.Name ?? "",
    recipe: tags[names.tags.recipe] ?? "",
    digest: tags[names.tags.image] ?? "",
    way: way === "direct" || way === "packer" ? way : undefined,
    state: image.State ?? "",
    created: image.CreationDate ?? "",
    architecture: image.Architecture === "arm64" ? "arm64" : "x86_64",
    rootDevice: root,
    snapshots: rootFirst.map((d) => d.Ebs?.SnapshotId ?? ""),
    encrypted: disks.length > 0 && disks.every((d) => d.Ebs?.Encrypted),
    ...(image.DeprecationTime && { deprecated: image.DeprecationTime }),
    tags,
  };
}
