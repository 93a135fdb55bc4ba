// What AWS refuses, in words: each kind of failure as AWS writes it, through the real clients, and the calls that are tried again.
import { createServer, type Server } from "node:http";
import { DescribeInstancesCommand, EC2Client } from "@aws-sdk/client-ec2";
import { PutParameterCommand } from "@aws-sdk/client-ssm";
import * as assert from "uvu/assert";
import { RefusedError } from "../../../../lib/diagnostics.ts";
import { awsOf } from "../../../../stacks/aws/api.ts";
import { call, codeOf, explain } from "../../../../stacks/aws/errors.ts";
import { suite } from "../../../suite.ts";

const test = suite("aws errors");
let server: Server;
let answers: { status: number; body: string; type?: string }[] = [];
let asked = 0;
let endpoint: string;

test.before(async () => {
  server = createServer((request, response) => {
    request.resume();
    request.on("end", () => {
      const answer = answers[Math.min(asked++, answers.length - 1)];
      response.writeHead(answer?.status ?? 500, { "content-type": answer?.type ?? "text/xml" });
      response.end(answer?.body);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  endpoint = `http://127.0.0.1:${address && typeof address === "object" ? address.port : 0}`;
  Object.assign(process.env, {
    AWS_ENDPOINT_URL: endpoint,
    AWS_REGION: "eu-central-1",
    AWS_ACCESS_KEY_ID: "test",
    AWS_SECRET_ACCESS_KEY: "test",
    AWS_EC2_METADATA_DISABLED: "true",
  });
});
test.after(() => {
  server.closeAllConnections();
  server.close();
});
test.before.each(() => {
  asked = 0;
});

/** An error as EC2's query API writes it. */
const ec2Error = (code: string, message: string, status = 400) => ({
  status,
  body: `<?xml version="1.0"?><Response><Errors><Error><Code>${code}</Code><Message>${message}</Message></Error></Errors><RequestID>r-1</RequestID></Response>`,
});
const fine = {
  status: 200,
  body: '<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><reservationSet/></DescribeInstancesResponse>',
};

async function refusalOf(...given: typeof answers): Promise<RefusedError> {
  answers = given;
  const client = new EC2Client({ maxAttempts: 2, retryMode: "standard", endpoint });
  const error = await call("look for instances", () => client.send(new DescribeInstancesCommand({}))).then(
    () => undefined,
    (e: unknown) => e,
  );
  assert.instance(error, RefusedError, String(error));
  return error as RefusedError;
}

const table: [string, ReturnType<typeof ec2Error>, RegExp, RegExp][] = [
  [
    "a missing permission names action and resource",
    ec2Error(
      "UnauthorizedOperation",
      "User: arn:aws:iam::123456789012:user/ops is not authorized to perform: ec2:RunInstances on resource: arn:aws:ec2:eu-central-1:123456789012:instance/* because no identity-based policy allows it",
      403,
    ),
    /user\/ops may not do ec2:RunInstances on arn:aws:ec2:eu-central-1:123456789012:instance\/\*/,
    /docs\/aws\.md/,
  ],
  [
    "an encoded refusal says how to read it",
    ec2Error("UnauthorizedOperation", "You are not authorized to perform this operation. Encoded authorization failure message: abc", 403),
    /may not/,
    /decode-authorization-message/,
  ],
  ["an expired token", ec2Error("RequestExpired", "Request has expired."), /credentials have expired/, /aws sso login/],
  [
    "unknown credentials",
    ec2Error("AuthFailure", "AWS was not able to validate the provided access credentials", 401),
    /does not know these credentials in this region/,
    /region enabled/,
  ],
  [
    "a wrong clock",
    ec2Error("SignatureDoesNotMatch", "Signature not yet current: 20261124T100000Z is still later than 20261124T090000Z", 403),
    /clock is wrong/,
    /timedatectl/,
  ],
  [
    "a wrong key",
    ec2Error("SignatureDoesNotMatch", "The request signature we calculated does not match", 403),
    /secret access key/,
    /AWS_SECRET_ACCESS_KEY/,
  ],
  [
    "a quota",
    ec2Error("VcpuLimitExceeded", "You have requested more vCPU capacity than your current vCPU limit of 0 allows"),
    /vCPU limit/,
    /Service Quotas/,
  ],
  [
    "no capacity",
    ec2Error("InsufficientInstanceCapacity", "We currently do not have sufficient t3.small capacity in eu-central-1a", 500),
    /sufficient t3\.small/,
    /another `zone:` or `type:`/,
  ],
  ["throttled for ever", ec2Error("RequestLimitExceeded", "Request limit exceeded.", 503), /asks too much/, /wait some minutes/],
  ["AWS is unwell", ec2Error("InternalError", "An internal error has occurred", 500), /AWS failed/, /health\.aws/],
  [
    "a region that is not enabled",
    ec2Error("OptInRequired", "You are not subscribed to this service", 401),
    /not subscribed/,
    /another region/,
  ],
];
for (const [name, answer, message, hint] of table) {
  test(name, async () => {
    const error = await refusalOf(answer);
    assert.match(error.message, /^could not look for instances: /);
    assert.match(error.message, message);
    assert.match(error.hint ?? "", hint);
  });
}

test("a call that fails once is tried again, and nobody hears of it", async () => {
  answers = [ec2Error("InternalError", "once", 500), fine];
  const client = new EC2Client({ maxAttempts: 3, endpoint });
  assert.equal((await call("look", () => client.send(new DescribeInstancesCommand({})))).Reservations, []);
  assert.is(asked, 2);
});

test("clients of ours give up after six tries and not before", async () => {
  answers = [{ status: 500, body: '{"__type":"InternalServerError","message":"no"}', type: "application/x-amz-json-1.1" }];
  const ssm = await (await awsOf("eu-central-1")).ssm();
  await call("write", () => ssm.send(new PutParameterCommand({ Name: "/a", Value: "b" }))).then(
    () => assert.unreachable(),
    (e: unknown) => assert.match(String(e), /AWS failed six times/),
  );
  assert.is(asked, 6);
});

test("no network is said as such", async () => {
  const client = new EC2Client({ maxAttempts: 1, endpoint: "http://127.0.0.1:1" });
  const error = await call("look", () => client.send(new DescribeInstancesCommand({}))).then(
    () => undefined,
    (e: unknown) => e as RefusedError,
  );
  assert.match(error?.message ?? "", /AWS cannot be reached/);
});

test("no region: where to write it", async () => {
  const { AWS_REGION, AWS_DEFAULT_REGION } = process.env;
  delete process.env.AWS_REGION;
  delete process.env.AWS_DEFAULT_REGION;
  process.env.AWS_CONFIG_FILE = "/dev/null";
  try {
    await awsOf(undefined).then(
      () => assert.unreachable(),
      (e: unknown) => assert.match(String((e as RefusedError).hint), /aws: \{ region/),
    );
  } finally {
    process.env.AWS_REGION = AWS_REGION;
    if (AWS_DEFAULT_REGION !== undefined) process.env.AWS_DEFAULT_REGION = AWS_DEFAULT_REGION;
  }
});

test("a refusal keeps the code of what caused it", () => {
  const cause = Object.assign(new Error("no"), { name: "ParameterNotFound", $metadata: {} });
  assert.is(codeOf(explain(cause, "read")), "ParameterNotFound");
});

test.run();
