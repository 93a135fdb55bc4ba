// The host's own calls of AWS, in Python's standard library: signatures as AWS publishes them, the metadata service, secrets and artifacts
// against moto, and what is said when something is refused.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CreateBucketCommand, GetObjectCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { CreateSecretCommand, SecretsManagerClient } from "@aws-sdk/client-secrets-manager";
import { PutParameterCommand, SSMClient } from "@aws-sdk/client-ssm";
import * as assert from "uvu/assert";
import { sha256 } from "../../../lib/digest.ts";
import { toolFolder } from "../../../lib/paths.ts";
import { startMetadata } from "../../ec2/metadata.ts";
import { type Moto, motoProgram, startMoto } from "../../moto.ts";
import { suite } from "../../suite.ts";

const test = suite("host aws");
const one = motoProgram() ? test : test.skip;
const host = join(toolFolder, "cloud-init/host");
let moto: Moto | undefined;
let metadata: Awaited<ReturnType<typeof startMetadata>>;
let role: string | undefined = "web";

test.before(async () => {
  if (motoProgram()) moto = await startMoto();
  metadata = await startMetadata("127.0.0.1", 0, (address) => ({
    instance: "i-0123",
    address,
    region: "eu-central-1",
    tags: { "ingot:stack": "shop", "ingot:host": "web" },
    role,
    credentials: { AccessKeyId: "ROLE", SecretAccessKey: "not to be said", Token: "token" },
  }));
});
test.after(async () => {
  await moto?.stop();
  await metadata.stop();
});

/** Runs Python with the host's modules; `endpoint` instead of moto's. */
async function python(code: string, endpoint = moto?.endpoint ?? ""): Promise<{ code: number; stdout: string; stderr: string }> {
  const child = spawn(
    "python3",
    ["-B", "-c", `import sys\nsys.path.insert(0, ${JSON.stringify(host)})\nimport json, aws, facts, fetch\n${code}`],
    {
      env: { PATH: process.env.PATH, AWS_ENDPOINT_URL: endpoint, AWS_EC2_METADATA_SERVICE_ENDPOINT: metadata.url },
    },
  );
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  return new Promise((resolve) =>
    child.on("close", (status) => resolve({ code: status ?? 1, stdout: stdout.trim(), stderr: stderr.trim() })),
  );
}
async function says(code: string, endpoint?: string): Promise<string> {
  const result = await python(code, endpoint);
  assert.is(result.code, 0, result.stderr);
  return result.stdout;
}

// Source: AWS's Signature Version 4 test suite (get-vanilla, get-vanilla-query-order-key-case, post-vanilla, get-header-value-trim), whose key is public.
const vectors: [string, string, string, string, string][] = [
  ["get-vanilla", "GET", "[]", "{}", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"],
  [
    "get-vanilla-query-order-key-case",
    "GET",
    '[["Param2","value2"],["Param1","value1"]]',
    "{}",
    "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
  ],
  ["post-vanilla", "POST", "[]", "{}", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"],
  [
    "get-header-value-trim",
    "GET",
    "[]",
    '{"My-Header1":" value1","My-Header2":" \\"a   b   c\\""}',
    "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
  ],
];
for (const [name, method, query, headers, signature] of vectors) {
  test(`requests are signed as AWS's own test suite has it: ${name}`, async () => {
    const said = await says(
      `keys = {"AccessKeyId": "AKIDEXAMPLE", "SecretAccessKey": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}
headers = {"Host": "example.amazonaws.com", "X-Amz-Date": "20150830T123600Z", **json.loads(${JSON.stringify(headers)})}
empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
print(aws.authorization(keys, "us-east-1", "service", ${JSON.stringify(method)}, "/", json.loads(${JSON.stringify(query)}), headers, empty))`,
    );
    assert.match(said, new RegExp(`Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, .*Signature=${signature}$`));
  });
}

test("the metadata service is asked with a token only", async () => {
  assert.is(await says('print(aws.Metadata().get("meta-data/instance-id"), aws.Metadata().get("meta-data/no-such-thing"))'), "i-0123 None");
  assert.is((await fetch(`${metadata.url}/latest/meta-data/instance-id`)).status, 401);
});

one("the facts come from the metadata service and from the host's parameter", async () => {
  const value = { volumes: {}, secrets: "ssm:/ingot/shop/secrets/", report: "s3://b/r/" };
  await new SSMClient({}).send(new PutParameterCommand({ Name: "/ingot/shop/web/facts", Type: "String", Value: JSON.stringify(value) }));
  assert.equal(JSON.parse(await says("print(json.dumps(facts.ask()))")), {
    ...value,
    target: "aws",
    instance: "i-0123",
    address: "127.0.0.1",
  });
});

one("secrets come from the Parameter Store and from Secrets Manager; what is not there is not made up", async () => {
  const ssm = new SSMClient({});
  for (let i = 0; i < 12; i++)
    await ssm.send(new PutParameterCommand({ Name: `/ingot/shop/secrets/web/s${i}`, Type: "SecureString", Value: `value ${i}` }));
  await new SecretsManagerClient({}).send(new CreateSecretCommand({ Name: "ingot/shop/web/s0", SecretString: "managed" }));
  const names = JSON.stringify([...Array.from({ length: 12 }, (_, i) => `web/s${i}`), "web/none"]);
  const read = (origin: string) =>
    says(`print(json.dumps({k: v.decode() for k, v in fetch.values_from(${JSON.stringify(origin)}, ${names}).items()}))`);
  assert.equal(
    JSON.parse(await read("ssm:/ingot/shop/secrets/")),
    Object.fromEntries(Array.from({ length: 12 }, (_, i) => [`web/s${i}`, `value ${i}`])),
  );
  assert.equal(JSON.parse(await read("secretsmanager:ingot/shop/")), { "web/s0": "managed" });
});

one("an artifact is what its hash says, or is not there at all", async () => {
  const s3 = new S3Client({ forcePathStyle: true });
  await s3.send(new CreateBucketCommand({ Bucket: "bucket", CreateBucketConfiguration: { LocationConstraint: "eu-central-1" } }));
  const bytes = Buffer.alloc(3 << 20, "release");
  for (const key of [sha256(bytes), "f".repeat(64)])
    await s3.send(new PutObjectCommand({ Bucket: "bucket", Key: `artifacts/${key}`, Body: bytes }));
  const folder = mkdtempSync(join(tmpdir(), "ingot-host-aws-"));
  try {
    const bring = (key: string) =>
      python(`aws.Client().download("s3://bucket/artifacts/${key}", ${JSON.stringify(folder)} + "/got", "${key}")`);
    assert.match((await bring("f".repeat(64))).stderr, /is not what its name says/);
    assert.equal(await says(`import os; print(os.listdir(${JSON.stringify(folder)}))`), "[]");
    assert.is((await bring(sha256(bytes))).code, 0);
    assert.ok(readFileSync(join(folder, "got")).equals(bytes));
    await says('aws.Client().put("s3://bucket/reports/i-1.jsonl", b"one\\\\n")');
    assert.is(
      await (await s3.send(new GetObjectCommand({ Bucket: "bucket", Key: "reports/i-1.jsonl" }))).Body?.transformToString(),
      "one\\n",
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
});

/** A server that gives these answers one after the other, the last one for ever. */
async function answering(...answers: [number, string][]): Promise<{ endpoint: string; asked: () => number; server: Server }> {
  let asked = 0;
  const server = createServer((request, response) => {
    request.resume();
    request.on("end", () => {
      const [status, body] = answers[Math.min(asked++, answers.length - 1)] ?? [500, ""];
      response.writeHead(status);
      response.end(body);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  return { endpoint: `http://127.0.0.1:${address && typeof address === "object" ? address.port : 0}`, asked: () => asked, server };
}
const parameters = 'print(json.dumps(aws.Client().parameters(["/a"])))';

test("throttled once, then fine: nobody hears of it", async () => {
  const { endpoint, asked, server } = await answering(
    [400, '{"__type":"ThrottlingException","message":"Rate exceeded"}'],
    [200, '{"Parameters":[{"Name":"/a","Value":"b"}]}'],
  );
  assert.is(await says(parameters, endpoint), '{"/a": "b"}');
  assert.is(asked(), 2);
  server.close();
});

test("what is denied is said with the call and what it was about, at once, and without a secret", async () => {
  const { endpoint, asked, server } = await answering([
    400,
    '{"__type":"AccessDeniedException","message":"User: arn:aws:sts::1:assumed-role/web is not authorized to perform: ssm:GetParameters"}',
  ]);
  const { code, stderr } = await python(parameters, endpoint);
  assert.is(code, 1);
  assert.match(stderr, /AwsError: ssm:GetParameters of \/a: AccessDeniedException .*not authorized/);
  assert.not.match(stderr, /not to be said/);
  assert.is(asked(), 1);
  server.close();
});

test("a wrong clock is named", async () => {
  const { endpoint, server } = await answering([
    403,
    '{"__type":"InvalidSignatureException","message":"Signature expired: 1 is now earlier than 2"}',
  ]);
  assert.match((await python(parameters, endpoint)).stderr, /clock right/);
  server.close();
});

test("an instance without a role says so", async () => {
  role = undefined;
  assert.match((await python(parameters, "http://127.0.0.1:1")).stderr, /no role: it was launched without an instance profile/);
  role = "web";
});

one("who may write to backups in a bucket is an object there, beside what pgBackRest and restic have", async () => {
  const s3 = `import backup_s3; s3 = {"bucket": "bucket", "prefix": "shop/db", "region": "us-east-1", "endpoint": "${moto?.endpoint}"}\n`;
  const ready = () => says(`${s3}print(json.dumps(backup_s3.ready(s3)))`);
  assert.is(await ready(), '{"full": false, "files": false, "copies": false, "holder": null}');
  const names = ["postgresql/backup/main/20261130-063337F/x", "files/snapshots/a", "files/config"];
  await says(`${s3}backup_s3.take(s3, "shop-db-1")\nfor n in ${JSON.stringify(names)}: aws.Client().put("s3://bucket/shop/db/" + n, b"x")`);
  assert.is(await ready(), '{"full": true, "files": true, "copies": true, "holder": "shop-db-1"}');
  // What is beside the prefix is somebody else's.
  assert.is(
    await says(`${s3}s3["prefix"] = "shop/d"; print(json.dumps(backup_s3.ready(s3)))`),
    '{"full": false, "files": false, "copies": false, "holder": null}',
  );
  const { code, stderr } = await python(`${s3}s3["bucket"] = "none"; backup_s3.ready(s3)`);
  assert.is(code, 1);
  assert.match(stderr, /has no bucket none: make it first/);
});

test.run();
