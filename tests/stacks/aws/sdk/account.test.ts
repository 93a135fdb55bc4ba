// What the SDK's side does in an account, against moto: bucket, lock, inventory, secrets, artifacts, images, reports, leftovers.
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AllocateAddressCommand, CreateTagsCommand, CreateVolumeCommand, RunInstancesCommand } from "@aws-sdk/client-ec2";
import {
  GetBucketEncryptionCommand,
  GetBucketVersioningCommand,
  GetPublicAccessBlockCommand,
  ListMultipartUploadsCommand,
} from "@aws-sdk/client-s3";
import { DescribeParametersCommand, PutParameterCommand } from "@aws-sdk/client-ssm";
import * as assert from "uvu/assert";
import { RefusedError } from "../../../../lib/diagnostics.ts";
import { sha256 } from "../../../../lib/digest.ts";
import { silent } from "../../../../lib/progress.ts";
import { type Aws, awsOf } from "../../../../stacks/aws/api.ts";
import { upload } from "../../../../stacks/aws/artifacts.ts";
import { bucketOf, ensureBucket, hasBucket } from "../../../../stacks/aws/bucket.ts";
import { leftovers, removeLeftovers } from "../../../../stacks/aws/gc.ts";
import { amiOf } from "../../../../stacks/aws/images.ts";
import { type Inventory, readInventory, stacksIn, writeInventory } from "../../../../stacks/aws/inventory.ts";
import { lockStack } from "../../../../stacks/aws/lock.ts";
import { readObject, writeObject } from "../../../../stacks/aws/object.ts";
import { reportOf } from "../../../../stacks/aws/report.ts";
import { parameterStore, secretsManager } from "../../../../stacks/aws/secrets.ts";
import { registerImage } from "../../../aws.ts";
import { type Moto, motoProgram, region, startMoto } from "../../../moto.ts";
import { suite } from "../../../suite.ts";

const test = suite("aws account");
const one = motoProgram() ? test : test.skip;
let moto: Moto;
let aws: Aws;
let bucket: string;

test.before(async () => {
  if (!motoProgram()) return;
  moto = await startMoto();
  aws = await awsOf(undefined);
  bucket = await bucketOf(aws, undefined);
});
test.after(() => moto?.stop());

const refused = async (work: Promise<unknown>): Promise<RefusedError> => {
  const error = await work.then(
    () => undefined,
    (e: unknown) => e,
  );
  assert.instance(error, RefusedError, String(error));
  return error as RefusedError;
};

one("the bucket is made once: versioned, encrypted, closed to the public", async () => {
  assert.is(bucket, `ingot-123456789012-${region}`);
  assert.not.ok(await hasBucket(aws, bucket));
  assert.equal(await stacksIn(aws, bucket), []);
  await ensureBucket(aws, bucket);
  await ensureBucket(aws, bucket);
  const s3 = await aws.s3();
  assert.is((await s3.send(new GetBucketVersioningCommand({ Bucket: bucket }))).Status, "Enabled");
  assert.is((await s3.send(new GetBucketEncryptionCommand({ Bucket: bucket }))).ServerSideEncryptionConfiguration?.Rules?.length, 1);
  assert.ok((await s3.send(new GetPublicAccessBlockCommand({ Bucket: bucket }))).PublicAccessBlockConfiguration?.RestrictPublicBuckets);
});

one("what somebody else has written meanwhile is not overwritten", async () => {
  const first = await writeObject(aws, bucket, "test/a", "1", "nothing");
  assert.ok(first);
  assert.is(await writeObject(aws, bucket, "test/a", "2", "nothing"), undefined);
  assert.is((await readObject(aws, bucket, "test/a"))?.text, "1");
});

one("an inventory is read back, on another computer too", async () => {
  assert.is(await readInventory(aws, bucket, "shop"), undefined);
  const inventory = { stack: "shop", region, shape: { stack: "shop" }, hosts: [] } as unknown as Inventory;
  await writeInventory(aws, bucket, inventory);
  assert.equal(await readInventory(await awsOf(region), bucket, "shop"), inventory);
  assert.equal(await stacksIn(aws, bucket), ["shop"]);
});

one("two at one stack: the second waits, says for whom, and goes on when the first is done", async () => {
  const first = await lockStack(aws, bucket, "shop", "up", () => {});
  const said: string[] = [];
  let got = false;
  const second = lockStack(aws, bucket, "shop", "down", (text) => said.push(text)).then((lock) => {
    got = true;
    return lock;
  });
  for (let i = 0; i < 600 && !said.length; i++) await new Promise((resolve) => setTimeout(resolve, 100));
  assert.not.ok(got);
  assert.match(said[0] ?? "", /waiting: .+@.+ is at shop \(up, since \d{4}-/);
  await first.release();
  await (await second).release();
});

one("the lock of a run that died is taken over once its lease has ended", async () => {
  const until = new Date(Date.now() - 1000).toISOString();
  await writeObject(
    aws,
    bucket,
    "stacks/shop/lock.json",
    JSON.stringify({ id: "x", who: "ops@gone", what: "up", since: until, until }),
    "anything",
  );
  assert.equal(
    (await leftovers(aws, bucket)).map((l) => [l.kind, l.name]),
    [["lock", "stacks/shop/lock.json"]],
  );
  const said: string[] = [];
  const lock = await lockStack(aws, bucket, "shop", "up", (text) => said.push(text));
  assert.match(said[0] ?? "", /ops@gone .* ended without a word/);
  await lock.release();
});

one("a lock that somebody else took is not let go, and its loss is said", async () => {
  const lock = await lockStack(aws, bucket, "lost", "up", () => {});
  await writeObject(
    aws,
    bucket,
    "stacks/lost/lock.json",
    JSON.stringify({ id: "other", who: "a@b", what: "up", since: "", until: "9999-01-01" }),
    "anything",
  );
  const error = await refused(lock.release());
  assert.match(error.message, /lock of lost was lost/);
  assert.match((await readObject(aws, bucket, "stacks/lost/lock.json"))?.text ?? "", /other/);
});

for (const [name, storeOf] of [
  ["Parameter Store", parameterStore],
  ["Secrets Manager", secretsManager],
] as const) {
  one(`${name}: a generated secret is kept, and one that is there is never overwritten`, async () => {
    const store = storeOf(aws);
    assert.is(await store.get("shop", "web/key"), undefined);
    const long = "k".repeat(5000);
    assert.is(await store.create("shop", "web/key", long), long);
    assert.is(await store.create("shop", "web/key", "another"), long);
    assert.is(await store.get("shop", "web/key"), long);
    assert.is(await store.get("other", "web/key"), undefined);
    assert.match(store.placeOf("shop", "smtp"), /aws (ssm|secretsmanager) .*shop/);
  });
}

one("parameters are SecureStrings", async () => {
  const { Parameters = [] } = await (await aws.ssm()).send(new DescribeParametersCommand({}));
  assert.equal(
    Parameters.map((p) => [p.Name, p.Type]),
    [["/ingot/shop/secrets/web/key", "SecureString"]],
  );
});

one("an artifact goes up once, by its hash, in parts when it is large", async () => {
  const folder = mkdtempSync(join(tmpdir(), "ingot-artifact-"));
  try {
    const bytes = Buffer.from("a release");
    assert.is(await upload(aws, bucket, `artifacts/${sha256(bytes)}`, { bytes }, sha256(bytes)), "uploaded");
    assert.is(await upload(aws, bucket, `artifacts/${sha256(bytes)}`, { bytes }, sha256(bytes)), "there");
    const path = join(folder, "large");
    writeFileSync(path, "begin");
    truncateSync(path, 70 * 2 ** 20);
    assert.is(await upload(aws, bucket, "artifacts/large", { path }, "f".repeat(64)), "uploaded");
    assert.is(await upload(aws, bucket, "artifacts/large", { path }, "f".repeat(64)), "there");
    const { Uploads = [] } = await (await aws.s3()).send(new ListMultipartUploadsCommand({ Bucket: bucket }));
    assert.equal(Uploads, []);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

one("the AMI is the one that is tagged with the recipe's digest, or that a channel or an id names", async () => {
  const digest = "d".repeat(64);
  const lacking = await refused(amiOf(aws, "recipe", { name: "debian-12", digest }));
  assert.match(lacking.message, /the image debian-12 d{12} has no AMI in eu-central-1/);
  assert.match(lacking.hint ?? "", /ingot bake debian-12 --on aws/);
  const id = await registerImage(moto.endpoint, digest);
  const image = { id, digest, architecture: "x86_64", rootDevice: "/dev/sda1" }; // what moto makes of every AMI
  assert.equal(await amiOf(aws, "recipe", { name: "debian-12", digest }), { ...image, recipe: "debian-12" });
  assert.equal(await amiOf(aws, { ami: id }, { name: "debian-12" }), image);
  await (await aws.ssm()).send(new PutParameterCommand({ Name: "/images/stable", Type: "String", Value: id }));
  assert.equal(await amiOf(aws, { channel: "/images/stable" }, { name: "debian-12" }), image);
  assert.match((await refused(amiOf(aws, { channel: "/images/none" }, { name: "a" }))).message, /no channel \/images\/none/);
  assert.match((await refused(amiOf(aws, { ami: "ami-00000000000000000" }, { name: "a" }))).message, /no such AMI|not there/);
  assert.match((await refused(amiOf(aws, "recipe", { name: "debian-12" }))).hint ?? "", /ingot image lock debian-12/);
});

one("a host's report is read as it grows, each line once, a half one not yet", async () => {
  const key = "stacks/shop/reports/web/i-1.jsonl";
  const report = reportOf(aws, bucket, "shop", "web", "i-1");
  assert.equal(await report.read(), []);
  const step = '{"step":"user/a","outcome":"changed","seconds":1}\n';
  await writeObject(aws, bucket, key, `${step}{"step":"user/b","out`, "anything");
  assert.equal((await report.read()).length, 1);
  assert.equal((await report.read()).length, 0);
  await writeObject(
    aws,
    bucket,
    key,
    `${step}{"step":"user/b","outcome":"failed","seconds":1,"log":"no"}\n{"generation":"g","outcome":"failed","seconds":2}\n`,
    "anything",
  );
  assert.equal(
    (await report.read()).map((e) => e.event),
    ["step", "activated"],
  );
});

one("what interrupted runs left is found by its tags, shown, and removed; data only when it is named", async () => {
  const ec2 = await aws.ec2();
  const image = await registerImage(moto.endpoint, "e".repeat(64));
  const tags = (stack: string, more: { Key: string; Value: string }[] = []) => [
    { Key: "ingot:stack", Value: stack },
    { Key: "ingot:host", Value: "web" },
    ...more,
  ];
  const run = async (stack: string) =>
    (
      await ec2.send(
        new RunInstancesCommand({
          ImageId: image,
          MinCount: 1,
          MaxCount: 1,
          TagSpecifications: [{ ResourceType: "instance", Tags: tags(stack) }],
        }),
      )
    ).Instances?.[0]?.InstanceId ?? "";
  const volume = async (stack: string, more: { Key: string; Value: string }[]) => {
    const { VolumeId = "" } = await ec2.send(new CreateVolumeCommand({ AvailabilityZone: `${region}a`, Size: 1 }));
    await ec2.send(new CreateTagsCommand({ Resources: [VolumeId], Tags: tags(stack, more) }));
    return VolumeId;
  };
  await run("shop"); // it has an inventory: somebody's
  const lost = await run("gone");
  const data = await volume("gone", [{ Key: "ingot:volume", Value: "data" }]);
  const scratch = await volume("gone", []);
  const { AllocationId = "" } = await ec2.send(new AllocateAddressCommand({ Domain: "vpc" }));
  await ec2.send(new CreateTagsCommand({ Resources: [AllocationId], Tags: tags("gone") }));
  const shown = await leftovers(aws, bucket);
  assert.equal(
    shown.map((l) => [l.kind, l.name, l.data]),
    [
      ["instance", lost, false],
      ["volume", data, true],
      ["volume", scratch, false],
      ["address", AllocationId, false],
    ],
  );
  await removeLeftovers(aws, bucket, shown, [], silent);
  assert.equal(
    (await leftovers(aws, bucket)).map((l) => l.name),
    [data],
  );
  await removeLeftovers(aws, bucket, await leftovers(aws, bucket), [data], silent);
  assert.equal(await leftovers(aws, bucket), []);
});

one(
  "generated secrets of a stack that never came to be are left over, unless somebody is at it now; given ones are nobody's to take",
  async () => {
    await parameterStore(aws).create("never", "web/key", "a");
    await secretsManager(aws).create("never", "web/key", "b");
    await (await aws.ssm()).send(new PutParameterCommand({ Name: "/ingot/never/secrets/smtp", Type: "SecureString", Value: "given" }));
    const lock = await lockStack(aws, bucket, "never", "up", () => {});
    assert.equal(await leftovers(aws, bucket), []);
    await lock.release();
    const found = await leftovers(aws, bucket);
    assert.equal(
      found.map((l) => [l.kind, l.name]),
      [
        ["parameter", "/ingot/never/secrets/web/key"],
        ["secret", "ingot/never/web/key"],
      ],
    );
    await removeLeftovers(aws, bucket, found, [], silent);
    assert.equal(await leftovers(aws, bucket), []);
    assert.is(await parameterStore(aws).get("never", "smtp"), "given");
    // Secrets Manager keeps what was deleted for 30 days, name and all.
    assert.is(await secretsManager(aws).get("never", "web/key"), undefined);
    assert.is(await secretsManager(aws).create("never", "web/key", "c"), "b");
  },
);

test.run();
