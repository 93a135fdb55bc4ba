// Small objects in the bucket, by key: JSON and text, written only over what was read.
import type { Aws } from "./api.ts";
import { call, codeOf, isMissing } from "./errors.ts";

export interface Stored {
  text: string;
  etag: string;
}

/** undefined: there is none (or no bucket yet). */
export async function readObject(aws: Aws, bucket: string, key: string): Promise<Stored | undefined> {
  const { GetObjectCommand } = await import("@aws-sdk/client-s3");
  const s3 = await aws.s3();
  try {
    const { Body, ETag } = await s3.send(new GetObjectCommand({ Bucket: bucket, Key: key }));
    return { text: (await Body?.transformToString("utf8")) ?? "", etag: ETag ?? "" };
  } catch (error) {
    if (isMissing(error)) return undefined;
    return call(`read s3://${bucket}/${key}`, () => Promise.reject(error));
  }
}

/**
 * Writes an object. `over`: the ETag of what it replaces; "nothing": only when there is none; "anything".
 * Gives the new ETag, or undefined when somebody was faster.
 */
export async function writeObject(
  aws: Aws,
  bucket: string,
  key: string,
  text: string,
  over: { etag: string } | "nothing" | "anything",
): Promise<string | undefined> {
  const { PutObjectCommand } = await import("@aws-sdk/client-s3");
  const s3 = await aws.s3();
  const condition = over === "nothing" ? { IfNoneMatch: "*" } : over === "anything" ? {} : { IfMatch: over.etag };
  try {
    const { ETag } = await s3.send(
      new PutObjectCommand({ Bucket: bucket, Key: key, Body: text, ContentType: "application/json", ...condition }),
    );
    return ETag ?? "";
  } catch (error) {
    if (/^(PreconditionFailed|ConditionalRequestConflict|412|409)$/.test(codeOf(error))) return undefined;
    return call(`write s3://${bucket}/${key}`, () => Promise.reject(error));
  }
}

export async function removeObject(aws: Aws, bucket: string, key: string): Promise<void> {
  const { DeleteObjectCommand } = await import("@aws-sdk/client-s3");
  const s3 = await aws.s3();
  await call(`remove s3://${bucket}/${key}`, () => s3.send(new DeleteObjectCommand({ Bucket: bucket, Key: key })));
}

/** Keys below a prefix. None where there is no bucket. */
export async function keysBelow(aws: Aws, bucket: string, prefix: string): Promise<string[]> {
  const { ListObjectsV2Command } = await import("@aws-sdk/client-s3");
  const s3 = await aws.s3();
  const keys: string[] = [];
  let token: string | undefined;
  do {
    try {
      const page = await s3.send(new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix, ContinuationToken: token }));
      keys.push(...(page.Contents ?? []).flatMap((o) => o.Key ?? []));
      token = page.NextContinuationToken;
    } catch (error) {
      if (isMissing(error)) return [];
      return call(`list s3://${bucket}/${prefix}`, () => Promise.reject(error));
    }
  } while (token);
  return keys;
}
