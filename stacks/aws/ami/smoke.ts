// A smoke boot: an instance of an AMI that says on its console what it is, is held against what the image promises, and goes. Needs neither a
// role nor an open port nor a way out. The AMI's tag says when it passed; `stable` wants it. For channel promotion and release.ts.
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Booted, brokenOnBoot, type Promised, reportIn } from "../../../images/booted.ts";
import { sleep } from "../../../lib/cancel.ts";
import { RefusedError } from "../../../lib/diagnostics.ts";
import { short } from "../../../lib/digest.ts";
import { toolFolder } from "../../../lib/paths.ts";
import type { Progress } from "../../../lib/progress.ts";
import type { Aws } from "../api.ts";
import { bucketOf, ensureBucket } from "../bucket.ts";
import { call, codeOf } from "../errors.ts";
import { lockAmi } from "../lock.ts";
import { consoleOf } from "../report.ts";
import { names } from "../shape.ts";
import { type Ami, findAmis, tagList } from "./ami.ts";
import { amiWords } from "./channel.ts";

export interface SmokeSettings {
  /** An instance type of the AMI's architecture. @default t3.micro, t4g.micro */
  type?: string;
  /** Where there is no default VPC. */
  subnet?: string;
  /** The project's bucket. @default the account's own */
  bucket?: string;
}

export interface Smoked {
  ami: string;
  /** ISO 8601. */
  passed: string;
  /** undefined: it had passed before. */
  instance?: string;
  seconds: number;
}

/** Seconds from launch to the report; EC2 shows a console some seconds late. */
const patience = (): number => Number(process.env.INGOT_SMOKE_SECONDS ?? 900);
const lookSeconds = (): number => Number(process.env.INGOT_LOOK_SECONDS ?? 5);

/** When an instance of it was last seen to be right; undefined: none was. */
export const passedAt = (ami: Pick<Ami, "tags">): string | undefined => ami.tags[names.tags.smoke];

/**
 * Boots the AMI once, unless that was done before.
 * @throws RefusedError with what is not true, or the end of the console of one that said nothing
 */
export async function smokeBoot(aws: Aws, ami: Ami, promised: Promised, settings: SmokeSettings, progress: Progress): Promise<Smoked> {
  const began = performance.now();
  const seconds = () => (performance.now() - began) / 1000;
  const bucket = await bucketOf(aws, settings.bucket);
  await ensureBucket(aws, bucket);
  // Two at once would pay for two instances; and by it `gc` knows that somebody is here.
  const lock = await lockAmi(aws, bucket, { name: ami.recipe, digest: ami.digest }, "smoke boot", progress.say);
  const task = progress.start(`smoke boot of ${ami.recipe} ${short(ami.digest)}`);
  let instance: string | undefined;
  try {
    const [now] = (await findAmis(aws, { digest: ami.digest })).filter((a) => a.id === ami.id);
    const before = now && passedAt(now);
    if (before !== undefined) {
      task.done("it has passed already");
      return { ami: ami.id, passed: before, seconds: seconds() };
    }
    instance = await launch(aws, ami, settings);
    task.note(instance);
    const booted = await reportOf(aws, ami, instance);
    const broken = brokenOnBoot(promised, booted);
    if (broken.length)
      throw new RefusedError(
        `${amiWords(ami)} boots, and is not what it was baked to be: ${broken.join("; ")}`,
        "bake it anew: it stays as it is, and is not promoted",
      );
    const passed = new Date().toISOString();
    const { CreateTagsCommand } = await import("@aws-sdk/client-ec2");
    const ec2 = await aws.ec2();
    await call(`tag ${ami.id}`, () =>
      ec2.send(new CreateTagsCommand({ Resources: [ami.id], Tags: tagList({ [names.tags.smoke]: passed }) })),
    );
    task.done(`${instance} is right`);
    return { ami: ami.id, passed, instance, seconds: seconds() };
  } catch (error) {
    task.failed();
    throw error;
  } finally {
    try {
      if (instance !== undefined) await terminate(aws, instance);
    } finally {
      await lock.release();
    }
  }
}

async function launch(aws: Aws, ami: Ami, { type, subnet }: SmokeSettings): Promise<string> {
  const { RunInstancesCommand } = await import("@aws-sdk/client-ec2");
  const ec2 = await aws.ec2();
  const run = randomUUID();
  const tags = tagList({
    Name: `smoke boot of ${ami.recipe} ${short(ami.digest)}`,
    [names.tags.image]: ami.digest,
    [names.tags.recipe]: ami.recipe,
    [names.tags.run]: run,
  });
  const InstanceType = type ?? (ami.architecture === "arm64" ? "t4g.micro" : "t3.micro");
  const what = `launch an instance of ${amiWords(ami)}`;
  try {
    const { Instances = [] } = await ec2.send(
      new RunInstancesCommand({
        ImageId: ami.id,
        InstanceType: InstanceType as "t3.micro",
        MinCount: 1,
        MaxCount: 1,
        ClientToken: run,
        UserData: readFileSync(join(toolFolder, "stacks/aws/ami/smoke.sh")).toString("base64"),
        // It powers itself off when nobody comes back for it.
        InstanceInitiatedShutdownBehavior: "terminate",
        MetadataOptions: { HttpTokens: "required", HttpEndpoint: "enabled", HttpPutResponseHopLimit: 1 },
        ...(subnet !== undefined && { SubnetId: subnet }),
        TagSpecifications: [
          { ResourceType: "instance", Tags: tags },
          { ResourceType: "volume", Tags: tags },
        ],
      }),
    );
    return Instances[0]?.InstanceId ?? "";
  } catch (error) {
    if (!/^(VPCIdNotSpecified|MissingInput|DefaultVpcDoesNotExist)$/.test(codeOf(error))) return call(what, () => Promise.reject(error));
    throw new RefusedError(
      `could not ${what}: there is no default VPC in ${aws.region}`,
      "name a subnet, which needs no way out: --subnet subnet-…",
    );
  }
}

/** Waits for what the machine says of itself. */
async function reportOf(aws: Aws, ami: Ami, instance: string): Promise<Booted> {
  const { DescribeInstancesCommand } = await import("@aws-sdk/client-ec2");
  const ec2 = await aws.ec2();
  const end = performance.now() + patience() * 1000;
  let console = "";
  for (;;) {
    await sleep(lookSeconds());
    console = (await consoleOf(aws, instance)) || console;
    const report = reportIn(console);
    if (report) return report;
    const { Reservations = [] } = await call(`look at ${instance}`, () =>
      ec2.send(new DescribeInstancesCommand({ InstanceIds: [instance] })),
    );
    const found = Reservations.flatMap((r) => r.Instances ?? [])[0];
    const state = found?.State?.Name ?? "gone";
    const over = performance.now() > end;
    if ((state === "pending" || state === "running") && !over) continue;
    throw new RefusedError(
      over
        ? `${instance} of ${amiWords(ami)} said nothing of itself in ${patience()} s`
        : `${instance} of ${amiWords(ami)} is ${state}${found?.StateReason?.Message ? `: ${found.StateReason.Message}` : ""}`,
      `the end of its console:\n${endOf(console)}`,
    );
  }
}

/** For a person: the last lines without the report's own. */
const endOf = (console: string): string =>
  console
    .split(/\r?\n/)
    .filter((l) => l.trim() !== "" && !l.includes("ingot-smoke "))
    .slice(-20)
    .map((l) => `    ${l}`)
    .join("\n") || "    nothing";

async function terminate(aws: Aws, instance: string): Promise<void> {
  const { TerminateInstancesCommand } = await import("@aws-sdk/client-ec2");
  const ec2 = await aws.ec2();
  await call(`terminate ${instance}`, () => ec2.send(new TerminateInstancesCommand({ InstanceIds: [instance] })));
}
