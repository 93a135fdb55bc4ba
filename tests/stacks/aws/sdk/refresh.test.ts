// Waiting for a fleet's refresh. moto has none: a server answers as the API reference of EC2 Auto Scaling writes it.
import { createServer, type Server } from "node:http";
import * as assert from "uvu/assert";
import type { RefusedError } from "../../../../lib/diagnostics.ts";
import { type Progress, silent } from "../../../../lib/progress.ts";
import { awsOf } from "../../../../stacks/aws/api.ts";
import { untilRefreshed } from "../../../../stacks/aws/refresh.ts";
import { suite } from "../../../suite.ts";

const test = suite("instance refresh");
let server: Server;
/** What DescribeInstanceRefreshes says, one after the other, the last one for ever. */
let states: { Status: string; PercentageComplete?: number; InstancesToUpdate?: number; StatusReason?: string }[] = [];
let looked = 0;
let asked = "";

test.before(async () => {
  server = createServer((from, to) => {
    let body = "";
    from.on("data", (chunk) => (body += chunk));
    from.on("end", () => {
      const action = new URLSearchParams(body).get("Action") ?? "";
      if (action === "DescribeAutoScalingGroups") asked = body;
      const state = action === "DescribeInstanceRefreshes" ? states[Math.min(looked++, states.length - 1)] : undefined;
      const inner =
        action === "DescribeAutoScalingGroups"
          ? "<AutoScalingGroups><member><AutoScalingGroupName>shop-web-1</AutoScalingGroupName></member></AutoScalingGroups>"
          : `<InstanceRefreshes>${
              state
                ? `<member>${Object.entries(state)
                    .map(([k, v]) => `<${k}>${v}</${k}>`)
                    .join("")}</member>`
                : ""
            }</InstanceRefreshes>`;
      to.writeHead(200, { "content-type": "text/xml" });
      to.end(
        `<${action}Response xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/"><${action}Result>${inner}</${action}Result></${action}Response>`,
      );
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  Object.assign(process.env, {
    AWS_ENDPOINT_URL: `http://127.0.0.1:${address && typeof address === "object" ? address.port : 0}`,
    AWS_ACCESS_KEY_ID: "test",
    AWS_SECRET_ACCESS_KEY: "test",
    AWS_EC2_METADATA_DISABLED: "true",
    INGOT_LOOK_SECONDS: "0.05",
  });
});
test.after(() => {
  server.close();
  server.closeAllConnections();
});
test.before.each(() => {
  looked = 0;
});

const run = async (progress: Progress = silent) => untilRefreshed(await awsOf("eu-central-1"), "shop", "web", progress);

test("a fleet that is in no refresh, or whose last one is long over, is not waited for", async () => {
  states = [];
  await run();
  states = [{ Status: "Successful" }];
  await run();
  assert.is(looked, 2);
  assert.match(decodeURIComponent(asked), /tag:ingot:stack.*shop.*tag:ingot:host.*web/);
});

test("one that runs is followed to its end", async () => {
  states = [{ Status: "Pending" }, { Status: "InProgress", PercentageComplete: 50, InstancesToUpdate: 1 }, { Status: "Successful" }];
  const notes: string[] = [];
  const task = silent.start("");
  await run({ ...silent, start: () => ({ ...task, note: (text: string) => notes.push(text) }) } as Progress);
  assert.equal(notes, ["0 %, 0 to go", "50 %, 1 to go"]);
});

test("one that was called back is an error that says why", async () => {
  states = [
    { Status: "InProgress" },
    { Status: "RollbackInProgress" },
    { Status: "RollbackSuccessful", StatusReason: "alarm unwell is in ALARM" },
  ];
  const error = await run().then(
    () => undefined,
    (e: unknown) => e as RefusedError,
  );
  assert.match(error?.message ?? "", /shop\/web were not made anew: RollbackSuccessful: alarm unwell is in ALARM/);
  assert.match(error?.hint ?? "", /they are again what they were/);
});

test.run();
