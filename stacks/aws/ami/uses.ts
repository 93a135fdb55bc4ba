// Who uses an AMI: instances, launch templates, Auto Scaling groups, channels, stacks that were launched, stacks that are declared. For prune.ts
// and `ingot image show --on aws`.
import type { Aws } from "../api.ts";
import { call } from "../errors.ts";
import { readInventory, stacksIn } from "../inventory.ts";
import type { DeclaredImage } from "../settings.ts";
import type { Ami } from "./ami.ts";
import { before, channelsIn, historyOf, parameterOf, readChannel } from "./channel.ts";
import { sharedWith } from "./share.ts";

/** What a person's project knows of images, and where its stacks keep their inventories. */
export interface Known {
  declared: DeclaredImage[];
  /** Recipe → digest as it stands now; those that are locked. */
  digests: Map<string, string>;
  buckets: string[];
}

export interface Use {
  /** Who: "instance i-…". */
  words: string;
  /** `could`: nobody does, and somebody might; an AMI that is named goes all the same. */
  how: "uses" | "could";
}
/** By AMI's id. Ids that are nobody's AMI of ours are in it, too. */
export type Uses = Map<string, Use[]>;

export async function usesOf(aws: Aws, amis: Ami[], known: Known): Promise<Uses> {
  const uses: Uses = new Map();
  const found = await Promise.all([
    instances(aws),
    launchTemplates(aws),
    launchConfigurations(aws),
    channels(aws),
    inventories(aws, known.buckets),
    declarations(aws, amis, known),
  ]);
  for (const [ami, words, how = "uses"] of found.flat()) {
    const said = uses.get(ami) ?? [];
    if (!said.some((u) => u.words === words)) said.push({ words, how });
    uses.set(ami, said);
  }
  return uses;
}

type Found = [ami: string, words: string, how?: Use["how"]][];

async function instances(aws: Aws): Promise<Found> {
  const { paginateDescribeInstances } = await import("@aws-sdk/client-ec2");
  const found: Found = [];
  await call("look for instances", async () => {
    const client = await aws.ec2();
    const Filters = [{ Name: "instance-state-name", Values: ["pending", "running", "stopping", "stopped"] }];
    for await (const { Reservations = [] } of paginateDescribeInstances({ client }, { Filters }))
      for (const { InstanceId, ImageId = "", Tags } of Reservations.flatMap((r) => r.Instances ?? [])) {
        const name = Tags?.find((t) => t.Key === "Name")?.Value;
        found.push([ImageId, `instance ${InstanceId}${name ? ` (${name})` : ""}`]);
      }
  });
  return found;
}

/** Every version: somebody may name any of them, though most launch the default or the latest one. */
async function launchTemplates(aws: Aws): Promise<Found> {
  const { paginateDescribeLaunchTemplates, paginateDescribeLaunchTemplateVersions } = await import("@aws-sdk/client-ec2");
  const client = await aws.ec2();
  const groups = await autoScalingGroups(aws);
  const found: Found = [];
  await call("look for launch templates", async () => {
    for await (const { LaunchTemplates = [] } of paginateDescribeLaunchTemplates({ client }, {}))
      for (const { LaunchTemplateId = "", LaunchTemplateName: name = "", LatestVersionNumber } of LaunchTemplates)
        for await (const page of paginateDescribeLaunchTemplateVersions({ client }, { LaunchTemplateId }))
          for (const { VersionNumber, DefaultVersion, LaunchTemplateData } of page.LaunchTemplateVersions ?? []) {
            const image = LaunchTemplateData?.ImageId;
            const [, parameter] = /^resolve:ssm:([^:]+)/.exec(image ?? "") ?? [];
            const ami = parameter === undefined ? image : await readChannel(aws, parameter);
            if (!ami) continue;
            const latest = VersionNumber === LatestVersionNumber;
            const as = [...(DefaultVersion ? ["$Default"] : []), ...(latest ? ["$Latest"] : []), String(VersionNumber)];
            const words = `launch template ${name}, version ${VersionNumber}`;
            found.push([ami, words, DefaultVersion || latest ? "uses" : "could"]);
            for (const group of groups)
              if (group.templates.some((t) => t.id === LaunchTemplateId && as.includes(t.version)))
                found.push([ami, `Auto Scaling group ${group.name}, by ${words}`]);
          }
  });
  return found;
}

interface Group {
  name: string;
  /** lt-…, and which version: a number, "$Default" or "$Latest". */
  templates: { id: string; version: string }[];
  configuration?: string;
}

async function autoScalingGroups(aws: Aws): Promise<Group[]> {
  const { paginateDescribeAutoScalingGroups } = await import("@aws-sdk/client-auto-scaling");
  const groups: Group[] = [];
  await call("look for Auto Scaling groups", async () => {
    const client = await aws.autoScaling();
    for await (const { AutoScalingGroups = [] } of paginateDescribeAutoScalingGroups({ client }, {}))
      for (const { AutoScalingGroupName: name = "", LaunchTemplate, MixedInstancesPolicy, LaunchConfigurationName } of AutoScalingGroups) {
        const mixed = MixedInstancesPolicy?.LaunchTemplate;
        const specifications = [
          LaunchTemplate,
          mixed?.LaunchTemplateSpecification,
          ...(mixed?.Overrides ?? []).map((o) => o.LaunchTemplateSpecification),
        ];
        groups.push({
          name,
          templates: specifications.flatMap((s) =>
            s?.LaunchTemplateId ? [{ id: s.LaunchTemplateId, version: s.Version ?? "$Default" }] : [],
          ),
          ...(LaunchConfigurationName !== undefined && { configuration: LaunchConfigurationName }),
        });
      }
  });
  return groups;
}

async function launchConfigurations(aws: Aws): Promise<Found> {
  const { paginateDescribeLaunchConfigurations } = await import("@aws-sdk/client-auto-scaling");
  const groups = await autoScalingGroups(aws);
  const found: Found = [];
  await call("look for launch configurations", async () => {
    const client = await aws.autoScaling();
    for await (const { LaunchConfigurations = [] } of paginateDescribeLaunchConfigurations({ client }, {}))
      for (const { LaunchConfigurationName = "", ImageId = "" } of LaunchConfigurations) {
        found.push([ImageId, `launch configuration ${LaunchConfigurationName}`]);
        for (const { name } of groups.filter((g) => g.configuration === LaunchConfigurationName))
          found.push([ImageId, `Auto Scaling group ${name}, by ${LaunchConfigurationName}`]);
      }
  });
  return found;
}

/** What they are now, and what a rollback would make of them. */
async function channels(aws: Aws): Promise<Found> {
  const found: Found = [];
  for (const { recipe, channel, ami } of await channelsIn(aws)) {
    found.push([ami, `channel ${recipe}/${channel}`]);
    const [previous] = before(await historyOf(aws, recipe, channel));
    if (previous) found.push([previous.ami, `a rollback of ${recipe}/${channel} goes to it`]);
  }
  return found;
}

async function inventories(aws: Aws, buckets: string[]): Promise<Found> {
  const found: Found = [];
  for (const bucket of buckets)
    for (const stack of await stacksIn(aws, bucket)) {
      const inventory = await readInventory(aws, bucket, stack);
      for (const { host, ami } of inventory?.hosts ?? []) found.push([ami, `${stack}/${host} was launched with it`]);
      // A stack that is down keeps the shape it had, and is launched anew with what its file says then.
      if (inventory?.hosts.length)
        for (const { host, image } of inventory.shape.hosts) found.push([image.id, `${stack}/${host} is made of it`]);
    }
  return found;
}

async function declarations(aws: Aws, amis: Ami[], { declared, digests }: Known): Promise<Found> {
  const found: Found = [];
  for (const { id, digest, recipe } of amis)
    if (digests.get(recipe) === digest) found.push([id, `it is ${recipe} as its recipe stands now`]);
  const values = new Map<string, string | undefined>();
  for (const { stack, host, recipe, image } of declared) {
    if (image === "recipe") continue; // the recipe as it stands now, above
    if ("ami" in image) found.push([image.ami, `${stack}/${host} declares it`]);
    else {
      const parameter = parameterOf(image.channel, recipe);
      if (!values.has(parameter)) values.set(parameter, await readChannel(aws, parameter));
      const ami = values.get(parameter);
      if (ami !== undefined) found.push([ami, `${stack}/${host} declares the channel ${image.channel}`]);
    }
  }
  return found;
}

/** Those that others may boot: who of them does is not to be seen from here. */
export async function sharedOf(aws: Aws, amis: Ami[]): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const ami of amis) {
    const { accounts, organizations, units, everybody } = await sharedWith(aws, ami);
    const whom = [...(everybody ? ["everybody"] : []), ...accounts, ...organizations, ...units];
    if (whom.length) found.set(ami.id, whom.join(", "));
  }
  return found;
}
