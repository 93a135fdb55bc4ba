// Instances of a stack as EC2 has them: looked for by their tags, given power and robbed of it. Called by the target and by a rebuild's fencing.
import type { InstanceStateName } from "@aws-sdk/client-ec2";
import { sleep } from "../../lib/cancel.ts";
import { during, type Progress } from "../../lib/progress.ts";
import type { Aws } from "./api.ts";
import { call } from "./errors.ts";
import { names } from "./shape.ts";

/** An instance as EC2 has it now. */
export interface Instance {
  id: string;
  host: string;
  state: string;
  address: string;
  began: string;
  /** ARN of its instance profile. */
  profile?: string;
}

/** Seconds between two looks at a host's report. */
export const lookSeconds = (): number => Number(process.env.INGOT_LOOK_SECONDS ?? 2);

/** In words of EC2's: those of machines that are there or on their way. */
const there: readonly InstanceStateName[] = ["pending", "running", "stopping", "stopped"];
/** Those of machines that may still write somewhere, and of stopped ones. */
export const notGone: readonly InstanceStateName[] = [...there, "shutting-down"];

/** The stack's instances that are there or on their way. @param states others that are asked for */
export async function instancesOf(aws: Aws, stack: string, states: readonly InstanceStateName[] = there): Promise<Instance[]> {
  const { DescribeInstancesCommand } = await import("@aws-sdk/client-ec2");
  const ec2 = await aws.ec2();
  const found: Instance[] = [];
  let token: string | undefined;
  do {
    const page = await call("look for the stack's instances", () =>
      ec2.send(
        new DescribeInstancesCommand({
          Filters: [
            { Name: `tag:${names.tags.stack}`, Values: [stack] },
            { Name: "instance-state-name", Values: [...states] },
          ],
          NextToken: token,
        }),
      ),
    );
    for (const i of (page.Reservations ?? []).flatMap((r) => r.Instances ?? [])) {
      found.push({
        id: i.InstanceId ?? "",
        host: i.Tags?.find((t) => t.Key === names.tags.host)?.Value ?? "",
        state: i.State?.Name ?? "",
        address: i.PublicIpAddress ?? i.PrivateIpAddress ?? "",
        began: i.LaunchTime?.toISOString() ?? "",
        ...(i.IamInstanceProfile?.Arn !== undefined && { profile: i.IamInstanceProfile.Arn }),
      });
    }
    token = page.NextToken;
  } while (token);
  return found.sort((a, b) => (a.id < b.id ? -1 : 1));
}

export async function power(aws: Aws, instances: Instance[], what: "start" | "stop", progress: Progress): Promise<void> {
  const { StartInstancesCommand, StopInstancesCommand } = await import("@aws-sdk/client-ec2");
  const ec2 = await aws.ec2();
  const goal = what === "stop" ? "stopped" : "running";
  const InstanceIds = instances.filter((i) => i.state !== goal).map((i) => i.id);
  if (!InstanceIds.length) return;
  await during(progress, `${what} ${InstanceIds.join(", ")}`, async (task) => {
    await call(`${what} instances`, async () =>
      what === "stop" ? ec2.send(new StopInstancesCommand({ InstanceIds })) : ec2.send(new StartInstancesCommand({ InstanceIds })),
    );
    for (;;) {
      const states = [...(await statesOf(aws, InstanceIds)).values()];
      task.note([...new Set(states)].join(", "));
      if (states.every((s) => s === goal)) return;
      await sleep(lookSeconds());
    }
  });
}

/** What EC2 says of each, by id. */
export async function statesOf(aws: Aws, ids: string[]): Promise<Map<string, string>> {
  const { DescribeInstancesCommand } = await import("@aws-sdk/client-ec2");
  const ec2 = await aws.ec2();
  const page = await call("look at instances", () => ec2.send(new DescribeInstancesCommand({ InstanceIds: ids })));
  return new Map((page.Reservations ?? []).flatMap((r) => r.Instances ?? []).map((i) => [i.InstanceId ?? "", i.State?.Name ?? ""]));
}

/** Hosts with data are protected from termination; who says `down` or `--replace` means it. */
export async function allowTermination(aws: Aws, stack: string, hosts?: string[]): Promise<void> {
  const { ModifyInstanceAttributeCommand } = await import("@aws-sdk/client-ec2");
  const ec2 = await aws.ec2();
  for (const { id, host } of await instancesOf(aws, stack)) {
    if (hosts && !hosts.includes(host)) continue;
    await call("lift the protection from termination", () =>
      ec2.send(new ModifyInstanceAttributeCommand({ InstanceId: id, DisableApiTermination: { Value: false } })),
    );
  }
}

/** The Elastic IP of a host, whether a machine has it now or not. */
export async function elasticOf(aws: Aws, stack: string, host: string): Promise<string | undefined> {
  const { DescribeAddressesCommand } = await import("@aws-sdk/client-ec2");
  const ec2 = await aws.ec2();
  const Filters = Object.entries({ [names.tags.stack]: stack, [names.tags.host]: host }).map(([tag, of]) => ({
    Name: `tag:${tag}`,
    Values: [of],
  }));
  const { Addresses = [] } = await call("look for the host's address", () => ec2.send(new DescribeAddressesCommand({ Filters })));
  return Addresses[0]?.PublicIp;
}
