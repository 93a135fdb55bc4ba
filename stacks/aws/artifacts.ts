// Artifacts and spilled files go to the bucket by their sha256: what is there already is not sent again.
import { closeSync, createReadStream, openSync, readSync, statSync } from "node:fs";
import { onCancel } from "../../lib/cancel.ts";
import type { Aws } from "./api.ts";
import { call, isMissing } from "./errors.ts";

/** Above this many bytes an object is sent in parts. S3 takes 5 GiB in one, and 10,000 parts. */
const partBytes = 64 * 2 ** 20;

/**
 * @param sha256 hex; S3 verifies it where it is sent in one, and the host does in any case
 * @param partSize bytes of a part, of what is larger than one
 */
export async function upload(
  aws: Aws,
  bucket: string,
  key: string,
  from: { path: string } | { bytes: Uint8Array },
  sha256: string,
  partSize: number = partBytes,
): Promise<"there" | "uploaded"> {
  const sdk = await import("@aws-sdk/client-s3");
  const s3 = await aws.s3();
  const size = "path" in from ? statSync(from.path).size : from.bytes.length;
  const at = { Bucket: bucket, Key: key };
  try {
    const head = await s3.send(new sdk.HeadObjectCommand(at));
    if (head.ContentLength === size && head.Metadata?.sha256 === sha256) return "there";
  } catch (error) {
    if (!isMissing(error)) return call(`look at s3://${bucket}/${key}`, () => Promise.reject(error));
  }
  const Metadata = { sha256 };
  if (size <= partSize || "bytes" in from) {
    await call(`upload s3://${bucket}/${key}`, () =>
      s3.send(
        new sdk.PutObjectCommand({
          ...at,
          Body: "path" in from ? createReadStream(from.path) : from.bytes,
          ContentLength: size,
          ChecksumSHA256: Buffer.from(sha256, "hex").toString("base64"),
          Metadata,
        }),
      ),
    );
    return "uploaded";
  }
  const { UploadId } = await call(`begin the upload of s3://${bucket}/${key}`, () =>
    s3.send(new sdk.CreateMultipartUploadCommand({ ...at, Metadata })),
  );
  const abort = () => s3.send(new sdk.AbortMultipartUploadCommand({ ...at, UploadId }));
  let stopped = false;
  const forget = onCancel(() => {
    stopped = true;
  });
  const file = openSync(from.path, "r");
  try {
    const Parts: { ETag?: string; PartNumber: number }[] = [];
    for (let offset = 0; offset < size; offset += partSize) {
      if (stopped) break;
      const Body = Buffer.alloc(Math.min(partSize, size - offset));
      readSync(file, Body, 0, Body.length, offset);
      const PartNumber = Parts.length + 1;
      const { ETag } = await call(`upload part ${PartNumber} of s3://${bucket}/${key}`, () =>
        s3.send(new sdk.UploadPartCommand({ ...at, UploadId, PartNumber, Body })),
      );
      Parts.push({ ETag, PartNumber });
    }
    if (stopped) await abort();
    else
      await call(`end the upload of s3://${bucket}/${key}`, () =>
        s3.send(new sdk.CompleteMultipartUploadCommand({ ...at, UploadId, MultipartUpload: { Parts } })),
      );
  } catch (error) {
    // What cannot be taken back now is found by `ingot gc`, and by the bucket's own rule after 7 days.
    await abort().catch(() => {});
    throw error;
  } finally {
    closeSync(file);
    forget();
  }
  return "uploaded";
}
