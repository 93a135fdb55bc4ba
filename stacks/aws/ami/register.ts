// A snapshot becomes an AMI: what EC2 is told of it, how a second registration ends up at the first, and the waiting for it. Called by make.ts.
// Source: Amazon EC2 API Reference, RegisterImage; Amazon EC2 User Guide, "Boot modes".
import type { BootModeValues } from "@aws-sdk/client-ec2";
import type { Firmware } from "../../../images/disk-boots.ts";
import { sleep } from "../../../lib/cancel.ts";
import { RefusedError } from "../../../lib/diagnostics.ts";
import { short } from "../../../lib/digest.ts";
import { during, type Progress } from "../../../lib/progress.ts";
import type { Aws } from "../api.ts";
import { call, codeOf } from "../errors.ts";
import { type Ami, type AmiImage, amiName, amiOf, amiTags, imageCalled, reasonOf, rootDevice, tagList } from "./ami.ts";

export interface Registration {
  image: AmiImage;
  /** Whole. */
  snapshot: string;
  /** Debian's name of it. */
  architecture: string;
  /** By which firmware this very disk has come up. */
  boots: Firmware[];
  /** Of names.tags.run. */
  run: string;
}

/**
 * What the AMI says of how it boots. By both: only when both were seen. Otherwise nothing, with which EC2 boots Intel and AMD machines by
 * BIOS, as the disk can by its making; arm64 has UEFI alone.
 */
export function bootModeOf(architecture: string, boots: Firmware[]): BootModeValues | undefined {
  if (architecture === "arm64") return "uefi";
  return boots.includes("uefi") && boots.includes("bios") ? "uefi-preferred" : undefined;
}

/** Registers the AMI, or finds the one that has its name already; gives its id. @throws RefusedError */
export async function registerAmi(aws: Aws, { image, snapshot, architecture, boots, run }: Registration): Promise<string> {
  const { RegisterImageCommand } = await import("@aws-sdk/client-ec2");
  const ec2 = await aws.ec2();
  const BootMode = bootModeOf(architecture, boots);
  for (let again = false; ; again = true) {
    try {
      const { ImageId } = await ec2.send(
        new RegisterImageCommand({
          Name: amiName(image),
          Description: `Ingot: ${image.name} ${short(image.digest)}`,
          Architecture: architecture === "arm64" ? "arm64" : "x86_64",
          VirtualizationType: "hvm",
          EnaSupport: true,
          ImdsSupport: "v2.0",
          ...(BootMode && { BootMode }),
          RootDeviceName: rootDevice,
          // How large and whether encrypted is the snapshot's.
          BlockDeviceMappings: [{ DeviceName: rootDevice, Ebs: { SnapshotId: snapshot, VolumeType: "gp3", DeleteOnTermination: true } }],
          // The call takes tags of the image alone; the snapshot had its own when it was begun.
          TagSpecifications: [{ ResourceType: "image", Tags: tagList(amiTags(image, "direct", run)) }],
        }),
      );
      if (ImageId) return ImageId;
      throw new RefusedError("could not register the AMI: EC2 gave no id");
    } catch (error) {
      if (codeOf(error) !== "InvalidAMIName.Duplicate") return call("register the AMI", () => Promise.reject(error));
      const there = await namedAmi(aws, amiName(image));
      if (there && there.state !== "failed") return there.id;
      if (!there || again) return call("register the AMI", () => Promise.reject(error));
      await deregister(aws, there.id);
    }
  }
}

async function namedAmi(aws: Aws, name: string): Promise<Ami | undefined> {
  const { DescribeImagesCommand } = await import("@aws-sdk/client-ec2");
  const ec2 = await aws.ec2();
  const Filters = [{ Name: "name", Values: [name] }];
  const { Images = [] } = await call(`look for the AMI ${name}`, () => ec2.send(new DescribeImagesCommand({ Owners: ["self"], Filters })));
  return Images[0] && amiOf(Images[0], aws.region);
}

/** Its snapshots stay. What is not there any more is fine. */
export async function deregister(aws: Aws, id: string): Promise<void> {
  const { DeregisterImageCommand } = await import("@aws-sdk/client-ec2");
  const ec2 = await aws.ec2();
  try {
    await ec2.send(new DeregisterImageCommand({ ImageId: id }));
  } catch (error) {
    if (!/^InvalidAMIID\.(Unavailable|NotFound)$/.test(codeOf(error))) await call(`deregister ${id}`, () => Promise.reject(error));
  }
}

const unknownSeconds = 300;

/**
 * Waits until the AMI can be launched, and sees to its tags: by them it is found again, and what only resembles EC2 may have overlooked
 * them at its registration.
 * @throws RefusedError when it failed or is gone; Cancelled
 */
export async function untilAvailable(aws: Aws, id: string, tags: Record<string, string>, progress: Progress): Promise<Ami> {
  const { CreateTagsCommand } = await import("@aws-sdk/client-ec2");
  const ec2 = await aws.ec2();
  return during(progress, `wait until ${id} is available`, async () => {
    const began = performance.now();
    for (let i = 0; ; i++) {
      const image = await imageCalled(aws, id);
      // What was just registered is not known everywhere at once.
      if (!image && performance.now() - began > unknownSeconds * 1000)
        throw new RefusedError(`there is no AMI ${id} in ${aws.region} any more`, "the same command registers it anew");
      const ami = image && amiOf(image, aws.region);
      if (ami?.state === "available") {
        const missing = Object.fromEntries(Object.entries(tags).filter(([key]) => !(key in ami.tags)));
        if (!Object.keys(missing).length) return ami;
        await call(`tag ${id}`, () => ec2.send(new CreateTagsCommand({ Resources: [id], Tags: tagList(missing) })));
        return { ...amiOf({ ...image, Tags: tagList({ ...ami.tags, ...missing }) }, aws.region) };
      }
      if (image && ami?.state !== "pending")
        throw new RefusedError(`${id} is ${ami?.state}${reasonOf(image)}`, "the same command registers it anew");
      await sleep(Math.min(0.5 * 1.5 ** i, 10));
    }
  });
}
