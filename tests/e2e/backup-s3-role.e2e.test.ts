// A machine whose backups are in a bucket that it may write to by its role: pgBackRest, restic and Ingot's own programs get their keys from a metadata service
// that speaks IMDSv2 alone, and the rights that Ingot gives a role on EC2 are enough for all of them. moto holds the keys to their signatures and the role
// to its policy, but for the condition of it, which moto refuses whatever it says: it is left out here (golden files have it).
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { projectAt, toolFolder } from "../../lib/paths.ts";
import { asRoot } from "../../lib/run.ts";
import { jsonOf } from "../../stacks/aws/synth.ts";
import { networkName } from "../../stacks/local/names.ts";
import type { Backups } from "../../stacks/recovery/backups.ts";
import { startMetadata } from "../ec2/metadata.ts";
import { reachable, type S3Server, startS3 } from "../s3.ts";
import { stackOfText } from "../stacks/aws/synth/fixtures.ts";
import { suite } from "../suite.ts";
import { type TestProject, testProject } from "./project.ts";

const test = suite("backups in a bucket, by a role");
const long = process.env.INGOT_TEST_LONG ? test : test.skip;
let project: TestProject;
let server: S3Server;
let folder: string;
const ends: (() => unknown)[] = [];
const policyName = "ingot";

/** What the role of kept-s3/db gets on EC2 for its backups. */
function rights(): string {
  const stack = stackOfText(`stack: kept-s3
hosts:
  db:
    image: inloop
    directories: { /srv/media: {} }
    aws: { ssh_from: [203.0.113.0/24] }
    backup: { to: { s3: { bucket: kept-backups, endpoint: "https://objects.example.org:9000" } }, directories: [/srv/media] }
`);
  const policy = String(jsonOf(stack, "all").resource?.aws_iam_role_policy?.db?.policy).replaceAll(
    /\$\{data\.aws_partition[^}]*\}/g,
    "aws",
  );
  const { Version, Statement } = JSON.parse(policy) as { Version: string; Statement: { Sid: string; Condition?: unknown }[] };
  const own = Statement.filter((s) => s.Sid.startsWith("Backups")).map(({ Condition: _, ...s }) => s);
  assert.is(own.length, 2);
  return JSON.stringify({ Version, Statement: own });
}

/** The keys of a role that may do what it says. */
async function roleWith(policy: string): Promise<{ AccessKeyId: string; SecretAccessKey: string; Token: string }> {
  const { IAMClient, CreateRoleCommand, PutRolePolicyCommand } = await import("@aws-sdk/client-iam");
  const { STSClient, AssumeRoleCommand } = await import("@aws-sdk/client-sts");
  const iam = new IAMClient({});
  const trust = {
    Version: "2012-10-17",
    Statement: [{ Effect: "Allow", Principal: { Service: "ec2.amazonaws.com" }, Action: "sts:AssumeRole" }],
  };
  const { Role } = await iam.send(new CreateRoleCommand({ RoleName: "db", AssumeRolePolicyDocument: JSON.stringify(trust) }));
  await iam.send(new PutRolePolicyCommand({ RoleName: "db", PolicyName: policyName, PolicyDocument: policy }));
  const { Credentials: c } = await new STSClient({}).send(
    new AssumeRoleCommand({ RoleArn: Role?.Arn, RoleSessionName: "i-0123456789abcdef0" }),
  );
  return { AccessKeyId: c?.AccessKeyId ?? "", SecretAccessKey: c?.SecretAccessKey ?? "", Token: c?.SessionToken ?? "" };
}

async function metadataAt(network: string, credentials: Awaited<ReturnType<typeof roleWith>>): Promise<void> {
  const instance = { instance: "i-0123456789abcdef0", address: "10.1.9.1", region: "eu-central-1", tags: {}, role: "db", credentials };
  const metadata = await startMetadata("127.0.0.1", 0, () => instance);
  const bridge = createServer((from) => {
    const to = connect(Number(new URL(metadata.url).port), "127.0.0.1");
    from.on("error", () => to.destroy());
    to.on("error", () => from.destroy());
    from.pipe(to).pipe(from);
  });
  const path = join(folder, "metadata");
  await new Promise<void>((resolve) => bridge.listen(path, resolve));
  // A machine here has no way out of its network; on EC2 the service is on it.
  const [file = "", ...route] = asRoot(["ip", "-n", `${network}-db`, "route", "replace", "169.254.169.254/32", "via", "10.1.9.254"]);
  const routing = setInterval(() => spawnSync(file, route, { stdio: "ignore" }), 200);
  ends.push(() => clearInterval(routing));
  ends.push(reachable(path, network, "169.254.169.254", 80), () => bridge.close(), metadata.stop);
}

test.before(async () => {
  if (!process.env.INGOT_TEST_LONG) return;
  project = await testProject(["inloop"]);
  folder = mkdtempSync("/var/tmp/ingot-s3-role-");
  server = await startS3("objects.example.org");
  const { S3Client, CreateBucketCommand } = await import("@aws-sdk/client-s3");
  await new S3Client({ forcePathStyle: true, region: "us-east-1" }).send(new CreateBucketCommand({ Bucket: "kept-backups" }));
  const network = networkName(projectAt(project.folder), "kept-s3");
  await metadataAt(network, await roleWith(rights()));
  await server.guard();
  copyFileSync(join(toolFolder, "tests/e2e/kept-s3.yaml"), join(project.folder, "stacks/kept-s3.yaml"));
  writeFileSync(join(project.folder, "stacks/objects.crt"), server.authority);
  project.edit("stacks/kept-s3.yaml", /\n +access_key: .*\n +secret_key: .*/, "");
  // As on EC2, where the firmware says it.
  const env = '      /etc/ingot/aws.env: { content: "AWS_EC2_METADATA_SERVICE_ENDPOINT=http://169.254.169.254\\n" }\n';
  project.edit("stacks/kept-s3.yaml", "    files:\n", `    files:\n${env}`);
  server.appear(network, "10.1.9.254", 9000);
  const { code, stdout, stderr } = await project.ingot(["up", "kept-s3"]);
  assert.is(code, 0, stdout + stderr);
});
test.after(async () => {
  await project?.remove();
  for (const end of ends) await end();
  await server?.stop();
  if (folder) rmSync(folder, { recursive: true, force: true });
});

long("the rights of a role are enough for every kind of backup, and no key of it lies on the machine", async () => {
  for (const what of [["--full"], []]) {
    const { code, stdout, stderr } = await project.ingot(["backup", "kept-s3/db", ...what]);
    assert.is(code, 0, stdout + stderr);
  }
  const [found] = (await project.json(["backups", "kept-s3"])) as Backups[];
  assert.equal(found?.late, []);
  assert.is(found?.postgresql.at(-1)?.error, false);
  assert.is((found?.directories.length ?? 0) > 0, true);
  assert.is(
    await project.must(
      "kept-s3/db",
      "grep -rlsE 'aws_secret|SecretAccessKey|s3-key-secret|s3-key=' /etc/ingot /run/ingot /root /var/lib/postgresql | wc -l",
    ),
    "0",
  );
  assert.is(await project.must("kept-s3/db", "grep -c '^repo1-s3-key-type=auto$' /etc/ingot/backup/pgbackrest.conf"), "1");
});

long("a role whose rights are withdrawn writes no more, and it is said", async () => {
  const { IAMClient, DeleteRolePolicyCommand } = await import("@aws-sdk/client-iam");
  await fetch(`${server.moto.endpoint}/moto-api/reset-auth`, { method: "POST", body: "Infinity" });
  await new IAMClient({}).send(new DeleteRolePolicyCommand({ RoleName: "db", PolicyName: policyName }));
  await server.guard();
  const { code, stderr } = await project.ingot(["backup", "kept-s3/db"]);
  assert.is(code, 1);
  assert.match(stderr, /this machine's role may not do this in s3:\/\/kept-backups\/kept-s3\/db: it needs ListBucket below the prefix/);
  const before = await project.sql("kept-s3/db", "postgres", "select failed_count from pg_stat_archiver");
  await project.sql("kept-s3/db", "postgres", "create table more (); select pg_switch_wal()");
  for (let i = 0; i < 60; i++) {
    if ((await project.sql("kept-s3/db", "postgres", "select failed_count from pg_stat_archiver")) !== before) return;
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
  assert.unreachable("PostgreSQL's log is archived as before");
});

test.run();
