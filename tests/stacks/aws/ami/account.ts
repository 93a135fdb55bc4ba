// What the tests of AMIs share: an account in moto with AMIs as the ways to make one leave them, a project, and the command's own main().
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  CreateSnapshotCommand,
  CreateTagsCommand,
  CreateVolumeCommand,
  DeleteVolumeCommand,
  ModifyImageAttributeCommand,
  RegisterImageCommand,
} from "@aws-sdk/client-ec2";
import * as assert from "uvu/assert";
import { imageDigest } from "../../../../images/digest.ts";
import { loadRecipe } from "../../../../images/recipe.ts";
import { RefusedError } from "../../../../lib/diagnostics.ts";
import { projectAt, toolFolder } from "../../../../lib/paths.ts";
import { type Progress, silent } from "../../../../lib/progress.ts";
import { main } from "../../../../scripts/image.ts";
import { amiName, amiTags, tagList } from "../../../../stacks/aws/ami/ami.ts";
import type { Aws } from "../../../../stacks/aws/api.ts";
import { looks, recorder } from "../../../faults.ts";

/** A digest that begins with this. */
export const digestOf = (beginning: string): string => beginning.padEnd(64, "0");

let runs = 0;

/** An AMI as Ingot registers it: a snapshot with its tags, and the image with the same. Gives ids. */
export async function registerAmi(
  aws: Aws,
  image: { name: string; digest: string },
  more: { kmsKey?: string; tags?: Record<string, string>; snapshot?: string; bareSnapshot?: true } = {},
): Promise<{ ami: string; snapshot: string }> {
  const ec2 = await aws.ec2();
  const tags = tagList({ ...amiTags(image, "direct", `run-${++runs}`), ...more.tags });
  const snapshot = more.snapshot ?? (await makeSnapshot(aws, more.bareSnapshot ? [] : tags, more.kmsKey));
  const { ImageId = "" } = await ec2.send(
    new RegisterImageCommand({
      Name: amiName(image),
      Architecture: "x86_64",
      RootDeviceName: "/dev/xvda",
      VirtualizationType: "hvm",
      EnaSupport: true,
      BlockDeviceMappings: [{ DeviceName: "/dev/xvda", Ebs: { SnapshotId: snapshot, VolumeType: "gp3" } }],
      TagSpecifications: [{ ResourceType: "image", Tags: tags }],
    }),
  );
  return { ami: ImageId, snapshot };
}

async function makeSnapshot(aws: Aws, tags: { Key: string; Value: string }[], kmsKey: string | undefined): Promise<string> {
  const ec2 = await aws.ec2();
  const { VolumeId = "" } = await ec2.send(
    new CreateVolumeCommand({
      AvailabilityZone: `${aws.region}a`,
      Size: 4,
      ...(kmsKey !== undefined && { Encrypted: true, KmsKeyId: kmsKey }),
    }),
  );
  const { SnapshotId = "" } = await ec2.send(new CreateSnapshotCommand({ VolumeId }));
  if (tags.length) await ec2.send(new CreateTagsCommand({ Resources: [SnapshotId], Tags: tags }));
  await ec2.send(new DeleteVolumeCommand({ VolumeId }));
  return SnapshotId;
}

/** Lets an account boot an AMI, by other means than ours. */
export async function letBoot(aws: Aws, ami: string, account: string): Promise<void> {
  const ec2 = await aws.ec2();
  await ec2.send(
    new ModifyImageAttributeCommand({ ImageId: ami, Attribute: "launchPermission", LaunchPermission: { Add: [{ UserId: account }] } }),
  );
}

export const refused = async (work: Promise<unknown>): Promise<RefusedError> => {
  const error = await work.then(
    () => undefined,
    (e: unknown) => e,
  );
  assert.instance(error, RefusedError, String(error));
  return error as RefusedError;
};

export interface Said {
  code: number;
  /** Standard output. */
  out: string;
  /** What was said beside it. */
  notes: string[];
}

/** A project with Ingot's own recipes and stacks of its own, and `ingot image` in it. */
export class TestProject {
  readonly folder = mkdtempSync(join(tmpdir(), "ingot-ami-"));
  readonly project = projectAt(this.folder);

  constructor() {
    mkdirSync(join(this.folder, "stacks"));
    symlinkSync(join(toolFolder, "images"), join(this.folder, "images"));
  }

  /** Of the recipe as it stands now. */
  digest(recipe: string): string {
    return imageDigest(this.project, loadRecipe(this.project, recipe)) ?? "";
  }

  stack(name: string, text: string): void {
    writeFileSync(join(this.folder, "stacks", `${name}.yaml`), text);
  }

  async image(...args: string[]): Promise<Said> {
    const out: string[] = [];
    const notes: string[] = [];
    const progress: Progress = { ...silent, say: (text) => void notes.push(text) };
    const json = args.includes("--json");
    const io = { json, on: "aws" as const, project: this.project, progress, print: (text: string) => void out.push(text) };
    const code = await main(
      args.filter((a) => a !== "--json"),
      io,
    );
    return { code, out: out.join("\n"), notes };
  }

  async json<T>(...args: string[]): Promise<T> {
    const { code, out } = await this.image(...args, "--json");
    assert.is(code, 0, out);
    return JSON.parse(out) as T;
  }

  remove(): void {
    rmSync(this.folder, { recursive: true });
  }
}

/** The calls that `work` makes, with clients that are made in it. */
export async function callsOf<T>(endpoint: string, work: () => Promise<T>): Promise<{ result: T; calls: string[] }> {
  const proxy = await recorder(endpoint);
  process.env.AWS_ENDPOINT_URL = proxy.endpoint;
  try {
    return { result: await work(), calls: proxy.calls };
  } finally {
    process.env.AWS_ENDPOINT_URL = endpoint;
    proxy.stop();
  }
}

/** Holds that `work` makes no call that changes something. */
export async function changesNothing<T>(endpoint: string, work: () => Promise<T>): Promise<T> {
  const { result, calls } = await callsOf(endpoint, work);
  assert.ok(calls.length > 0);
  assert.equal(
    calls.filter((c) => !looks(c)),
    [],
  );
  return result;
}
