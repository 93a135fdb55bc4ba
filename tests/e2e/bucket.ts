// A stack whose host has its backups in a bucket (kept-s3.yaml), up, with rows and a file: the server is moto, which looks at keys (tests/s3.ts).
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { projectAt, toolFolder } from "../../lib/paths.ts";
import { networkName } from "../../stacks/local/names.ts";
import { type S3Server, startS3 } from "../s3.ts";
import type { TestProject } from "./project.ts";
import { fillShop } from "./shop.ts";

export interface TestBucket {
  /** Of a user who may do everything in S3; the stack's secrets `objects-access-key` and `objects-secret-key`. */
  keys: { access: string; secret: string };
  /** Every object, with its ETag. */
  objects(): Promise<Map<string, string>>;
  /** The server is where the stack's machines look for it, also when they are launched anew. */
  appear(): void;
  /** It is gone, also for those who are connected. */
  cut(): void;
  /** Writes down a secret of the stack. */
  keep(name: string, value: string): void;
  stop(): Promise<void>;
}

export async function keptInBucket(project: TestProject): Promise<TestBucket> {
  const server = await startS3("objects.example.org");
  try {
    return await launched(project, server);
  } catch (error) {
    await server.stop();
    throw error;
  }
}

async function launched(project: TestProject, server: S3Server): Promise<TestBucket> {
  const { S3Client, CreateBucketCommand, ListObjectsV2Command } = await import("@aws-sdk/client-s3");
  await new S3Client({ forcePathStyle: true, region: "us-east-1" }).send(new CreateBucketCommand({ Bucket: "kept-backups" }));
  const keys = await userWithKeys();
  await server.guard();
  copyFileSync(join(toolFolder, "tests/e2e/kept-s3.yaml"), join(project.folder, "stacks/kept-s3.yaml"));
  writeFileSync(join(project.folder, "stacks/objects.crt"), server.authority);
  const secrets = join(project.folder, ".ingot/secrets/kept-s3");
  mkdirSync(secrets, { recursive: true, mode: 0o700 });
  const keep: TestBucket["keep"] = (name, value) => writeFileSync(join(secrets, name), value, { mode: 0o600 });
  keep("objects-access-key", keys.access);
  keep("objects-secret-key", keys.secret);
  const appear = () => server.appear(networkName(projectAt(project.folder), "kept-s3"), "10.1.9.254", 9000);
  appear();
  const { code, stdout, stderr } = await project.ingot(["up", "kept-s3"]);
  assert.is(code, 0, stdout + stderr);
  await fillShop({ sql: (text) => project.sql("kept-s3/db", "shop", text), on: (script) => project.must("kept-s3/db", script) });
  return {
    keys,
    async objects() {
      const s3 = new S3Client({ forcePathStyle: true, credentials: { accessKeyId: keys.access, secretAccessKey: keys.secret } });
      const { Contents = [], IsTruncated } = await s3.send(new ListObjectsV2Command({ Bucket: "kept-backups" }));
      assert.not.ok(IsTruncated);
      return new Map(Contents.map((c) => [c.Key ?? "", c.ETag ?? ""] as const));
    },
    appear,
    cut: () => server.cut(),
    keep,
    stop: () => server.stop(),
  };
}

async function userWithKeys(): Promise<TestBucket["keys"]> {
  const { IAMClient, CreateUserCommand, CreateAccessKeyCommand, PutUserPolicyCommand } = await import("@aws-sdk/client-iam");
  const iam = new IAMClient({});
  const UserName = "backup";
  await iam.send(new CreateUserCommand({ UserName }));
  const policy = { Version: "2012-10-17", Statement: [{ Effect: "Allow", Action: ["s3:*"], Resource: ["*"] }] };
  await iam.send(new PutUserPolicyCommand({ UserName, PolicyName: "all", PolicyDocument: JSON.stringify(policy) }));
  const { AccessKey } = await iam.send(new CreateAccessKeyCommand({ UserName }));
  return { access: AccessKey?.AccessKeyId ?? "", secret: AccessKey?.SecretAccessKey ?? "" };
}
