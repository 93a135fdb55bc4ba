// What the SDK does for a launch, call by call, as `up` does it around Terraform: the subject of failing.test.ts. As a program it is what
// gets killed: launch.js <bucket> <ami's digest> <file>.
import { sha256 } from "../../../../lib/digest.ts";
import { type Aws, awsOf } from "../../../../stacks/aws/api.ts";
import { upload } from "../../../../stacks/aws/artifacts.ts";
import { ensureBucket } from "../../../../stacks/aws/bucket.ts";
import { amiOf } from "../../../../stacks/aws/images.ts";
import { type Inventory, readInventory, writeInventory } from "../../../../stacks/aws/inventory.ts";
import { lockStack } from "../../../../stacks/aws/lock.ts";
import { parameterStore, secretsManager } from "../../../../stacks/aws/secrets.ts";

/** @param file something of more than 2 KiB, which goes up in parts of 2 KiB */
export async function launch(
  aws: Aws,
  bucket: string,
  digest: string,
  file: string,
  say: (text: string) => void = () => {},
): Promise<void> {
  await ensureBucket(aws, bucket);
  // The bucket's name is the stack's too: each launch of the test is alone with its things.
  const held = await lockStack(aws, bucket, bucket, "up", say);
  try {
    const before = await readInventory(aws, bucket, bucket);
    await amiOf(aws, "recipe", { name: "debian-12", digest });
    for (const store of [parameterStore(aws), secretsManager(aws)]) {
      if ((await store.get(bucket, "web/key")) === undefined) await store.create(bucket, "web/key", "generated");
    }
    const small = Buffer.from(bucket);
    await upload(aws, bucket, `files/${sha256(small)}`, { bytes: small }, sha256(small));
    await upload(aws, bucket, "artifacts/large", { path: file }, "f".repeat(64), 2048);
    await writeInventory(aws, bucket, { ...before, stack: bucket, hosts: [] } as unknown as Inventory);
  } finally {
    await held.release();
  }
}

const [, program = "", bucket, digest, file] = process.argv;
if (/sdk\/launch\.js$/.test(program) && bucket && digest && file) await launch(await awsOf(undefined), bucket, digest, file);
