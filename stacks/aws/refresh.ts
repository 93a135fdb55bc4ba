// A fleet's machines are made anew one after the other by EC2 Auto Scaling, which Terraform begins and does not wait for.
// Source: Amazon EC2 Auto Scaling User Guide, "Use an instance refresh to update instances in an Auto Scaling group".
import type { InstanceRefresh } from "@aws-sdk/client-auto-scaling";
import { sleep } from "../../lib/cancel.ts";
import { RefusedError } from "../../lib/diagnostics.ts";
import { during, type Progress } from "../../lib/progress.ts";
import type { Aws } from "./api.ts";
import { call } from "./errors.ts";
import { names } from "./shape.ts";

const lookSeconds = () => Number(process.env.INGOT_LOOK_SECONDS ?? 5);
const over = /^(Successful|Failed|Cancelled|RollbackFailed|RollbackSuccessful)$/;

/**
 * Waits until the refresh that a fleet is in has ended; at once when it is in none.
 * @throws RefusedError when it has failed, or was called back because machines did not become well
 */
export async function untilRefreshed(aws: Aws, stack: string, host: string, progress: Progress): Promise<void> {
  const { DescribeAutoScalingGroupsCommand, DescribeInstanceRefreshesCommand } = await import("@aws-sdk/client-auto-scaling");
  const client = await aws.autoScaling();
  const Filters = [
    { Name: `tag:${names.tags.stack}`, Values: [stack] },
    { Name: `tag:${names.tags.host}`, Values: [host] },
  ];
  const { AutoScalingGroups = [] } = await call(`look for the machines of ${host}`, () =>
    client.send(new DescribeAutoScalingGroupsCommand({ Filters })),
  );
  const AutoScalingGroupName = AutoScalingGroups[0]?.AutoScalingGroupName;
  if (AutoScalingGroupName === undefined) return;
  const last = async (): Promise<InstanceRefresh | undefined> => {
    const { InstanceRefreshes = [] } = await call(`look at the refresh of ${host}`, () =>
      client.send(new DescribeInstanceRefreshesCommand({ AutoScalingGroupName, MaxRecords: 1 })),
    );
    return InstanceRefreshes[0];
  };
  let refresh = await last();
  if (!refresh || over.test(refresh.Status ?? "")) return;
  await during(progress, `${stack}/${host}: machines made anew, one after the other`, async (task) => {
    while (refresh && !over.test(refresh.Status ?? "")) {
      const left = refresh.InstancesToUpdate ?? 0;
      task.note(`${refresh.PercentageComplete ?? 0} %, ${left} to go${refresh.StatusReason ? `; ${refresh.StatusReason}` : ""}`);
      await sleep(lookSeconds());
      refresh = await last();
    }
    if (refresh?.Status !== "Successful")
      throw new RefusedError(
        `the machines of ${stack}/${host} were not made anew: ${refresh?.Status ?? "the refresh is gone"}${refresh?.StatusReason ? `: ${refresh.StatusReason}` : ""}`,
        refresh?.Status === "RollbackSuccessful"
          ? `they are again what they were; why the new ones did not become well is in their reports: ingot logs ${stack}/${host} --console --on aws`
          : `how they are now: ingot status ${stack} --on aws`,
      );
  });
}
