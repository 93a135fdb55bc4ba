// Which regions the account may use: one that is not enabled refuses every call, in words that say nothing of it. For copy and release.
import { nearest, RefusedError } from "../../../lib/diagnostics.ts";
import type { Aws } from "../api.ts";
import { call } from "../errors.ts";

/** @throws RefusedError for a region that there is not, or that the account has not enabled */
export async function enabledRegions(aws: Aws, wanted: string[]): Promise<void> {
  const { DescribeRegionsCommand } = await import("@aws-sdk/client-ec2");
  const ec2 = await aws.ec2();
  const { Regions = [] } = await call("ask which regions there are", () => ec2.send(new DescribeRegionsCommand({ AllRegions: true })));
  const states = new Map(Regions.map((r) => [r.RegionName ?? "", r.OptInStatus ?? ""]));
  for (const region of wanted) {
    const state = states.get(region);
    if (state === undefined) {
      const near = nearest(region, states.keys());
      throw new RefusedError(
        `there is no region ${region}`,
        near ? `did you mean \`${near}\`?` : "`aws ec2 describe-regions --all-regions` lists them",
      );
    }
    if (state === "not-opted-in")
      throw new RefusedError(
        `the region ${region} is not enabled for the account ${await aws.account()}`,
        `\`aws account enable-region --region-name ${region}\` enables it, within minutes or hours`,
      );
  }
}
