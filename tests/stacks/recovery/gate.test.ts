// What a drill has in the place of a bucket, over a real server of S3's protocol (moto), asked by the SDK.
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import {
  CompleteMultipartUploadCommand,
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  UploadPartCommand,
} from "@aws-sdk/client-s3";
import fc from "fast-check";
import * as assert from "uvu/assert";
import type { HostPlan } from "../../../cloud-init/plan.ts";
import { type BucketReader, openBucket } from "../../../stacks/recovery/bucket.ts";
import { answering, chunksOf, type Layer, layerOver, misplaced, partOf } from "../../../stacks/recovery/gate.ts";
import type { Target } from "../../../stacks/target.ts";
import { type Moto, startMoto } from "../../moto.ts";
import { suite } from "../../suite.ts";

const test = suite("gate");
const Bucket = "backups";
let moto: Moto;
let production: S3Client;
let through: S3Client;
let reader: BucketReader;
let layer: Layer;
let server: Server;
const folder = mkdtempSync(join(tmpdir(), "ingot-gate-"));

const keys = async (s3: S3Client, Prefix: string, Delimiter?: string) => {
  const { Contents = [], CommonPrefixes = [] } = await s3.send(new ListObjectsV2Command({ Bucket, Prefix, Delimiter }));
  return [...Contents.map((c) => c.Key), ...CommonPrefixes.map((c) => c.Prefix)];
};
const text = async (s3: S3Client, Key: string, Range?: string) =>
  (await s3.send(new GetObjectCommand({ Bucket, Key, Range }))).Body?.transformToString();
const etags = async () => {
  const { Contents = [] } = await production.send(new ListObjectsV2Command({ Bucket }));
  return Contents.map((c) => `${c.Key} ${c.ETag}`);
};
const named = async (work: Promise<unknown>) => work.then(() => "fine").catch((error: Error) => error.name);

test.before(async () => {
  moto = await startMoto();
  production = new S3Client({ forcePathStyle: true, region: "us-east-1" });
  await production.send(new CreateBucketCommand({ Bucket }));
  for (const [Key, Body] of Object.entries({
    "shop/db/holder": "old",
    "shop/db/postgresql/backup/main/F1/bundle/1": "0123456789",
    "shop/db/files/snapshots/abc": "copy",
    "shop/db2/holder": "another's",
  }))
    await production.send(new PutObjectCommand({ Bucket, Key, Body }));
  const target = { secrets: { get: async () => "test" } } as unknown as Target;
  const plan = { stack: "shop", host: "db", generation: { steps: [], files: [] } } as unknown as HostPlan;
  const secret = { access_key: "a", secret_key: "s" };
  reader = await openBucket(target, plan, {
    bucket: Bucket,
    prefix: "shop/db",
    region: "us-east-1",
    url: moto.endpoint,
    restic: { repository: "", options: [] },
    endpoint: moto.endpoint,
    ...secret,
  });
  layer = layerOver(Bucket, "shop/db", reader, join(folder, "layer"));
  server = createServer(answering([layer]));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  through = new S3Client({ forcePathStyle: true, region: "us-east-1", endpoint: `http://127.0.0.1:${port}` });
});
test.after(async () => {
  through?.destroy();
  production?.destroy();
  server?.close();
  await reader?.close();
  await moto?.stop();
  rmSync(folder, { recursive: true, force: true });
});

test("what is written lies over what production has; production's bucket stays as it is", async () => {
  const before = await etags();
  assert.is(await text(through, "shop/db/holder"), "old");
  await through.send(new PutObjectCommand({ Bucket, Key: "shop/db/holder", Body: "new" }));
  await through.send(new PutObjectCommand({ Bucket, Key: "shop/db/postgresql/backup/main/F2/manifest", Body: "m & <m>" }));
  assert.is(await text(through, "shop/db/holder"), "new");
  assert.equal(await keys(through, "shop/db/", "/"), ["shop/db/holder", "shop/db/files/", "shop/db/postgresql/"]);
  assert.equal(await keys(through, "shop/db/postgresql/backup/main/", "/"), [
    "shop/db/postgresql/backup/main/F1/",
    "shop/db/postgresql/backup/main/F2/",
  ]);
  const head = new HeadObjectCommand({ Bucket, Key: "shop/db/postgresql/backup/main/F2/manifest" });
  const { ContentLength, ETag } = await through.send(head);
  assert.equal([ContentLength, ETag], [7, `"${createHash("md5").update("m & <m>").digest("hex")}"`]);
  assert.equal(await etags(), before);
});

test("what is deleted is gone for the drill alone, and a folder with it", async () => {
  const before = await etags();
  await through.send(new DeleteObjectCommand({ Bucket, Key: "shop/db/files/snapshots/abc" }));
  assert.is(await named(text(through, "shop/db/files/snapshots/abc")), "NoSuchKey");
  assert.not.ok((await keys(through, "shop/db/", "/")).includes("shop/db/files/"));
  await through.send(new PutObjectCommand({ Bucket, Key: "shop/db/a", Body: "a" }));
  await through.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects: [{ Key: "shop/db/a" }] } }));
  assert.not.ok((await keys(through, "shop/db/")).includes("shop/db/a"));
  assert.equal(await etags(), before);
});

test("an upload in parts is one object, and any part of an object can be read", async () => {
  const Key = "shop/db/large";
  const { UploadId } = await through.send(new CreateMultipartUploadCommand({ Bucket, Key }));
  const Parts = [];
  for (const [i, Body] of ["first, ", "second"].entries()) {
    const { ETag } = await through.send(new UploadPartCommand({ Bucket, Key, UploadId, PartNumber: i + 1, Body }));
    Parts.push({ PartNumber: i + 1, ETag });
  }
  await through.send(new CompleteMultipartUploadCommand({ Bucket, Key, UploadId, MultipartUpload: { Parts } }));
  assert.is(await text(through, Key), "first, second");
  assert.is(await text(through, Key, "bytes=7-8"), "se");
  const below = "shop/db/postgresql/backup/main/F1/bundle/1";
  assert.equal([await text(through, below, "bytes=2-4"), await text(through, below, "bytes=8-")], ["234", "89"]);
  assert.is(await named(text(through, below, "bytes=10-")), "InvalidRange");
});

test("what is another's, in the same bucket or another one, is not to be had", async () => {
  assert.is(await named(text(through, "shop/db2/holder")), "AccessDenied");
  assert.is(await named(through.send(new PutObjectCommand({ Bucket, Key: "elsewhere", Body: "x" }))), "AccessDenied");
  assert.is(await named(keys(through, "")), "AccessDenied");
  assert.is(await named(through.send(new GetObjectCommand({ Bucket: "others", Key: "shop/db/holder" }))), "AccessDenied");
});

test("a backup is where it is to be: on the drill's own disk, and not in production's bucket", async () => {
  assert.equal(await misplaced(layer, ["F2"]), []);
  assert.equal(await misplaced(layer, ["F1"]), ["the backup F1 is not on the drill's own disk", "the backup F1 is in production's bucket"]);
});

test("a body that comes in signed pieces is the data in them, wherever it is cut", async () => {
  const bytes = fc.uint8Array({ minLength: 0, maxLength: 40 });
  await fc.assert(
    fc.asyncProperty(fc.array(bytes, { maxLength: 4 }), fc.integer({ min: 1, max: 50 }), async (pieces, cut) => {
      const full = pieces.filter((p) => p.length);
      const signed = full.map((p) =>
        Buffer.concat([Buffer.from(`${p.length.toString(16)};chunk-signature=0a\r\n`), p, Buffer.from("\r\n")]),
      );
      const body = Buffer.concat([...signed, Buffer.from("0;chunk-signature=0b\r\nx-amz-checksum-crc32c:AAAA\r\n\r\n")]);
      const cuts = Array.from({ length: Math.ceil(body.length / cut) }, (_, i) => body.subarray(i * cut, (i + 1) * cut));
      assert.equal(await buffer(Readable.from(chunksOf(Readable.from(cuts)))), Buffer.concat(full));
    }),
  );
});

test("parts as the header names them", () => {
  assert.equal(
    [partOf("bytes=0-4", 10), partOf("bytes=5-", 10), partOf("bytes=-3", 10), partOf("bytes=5-99", 10), partOf(undefined, 10)],
    [
      [0, 4],
      [5, 9],
      [7, 9],
      [5, 9],
      [0, 9],
    ],
  );
  assert.throws(() => partOf("bytes=10-", 10), /bytes=10- of 10 bytes/);
});

test.run();
