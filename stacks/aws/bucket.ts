// The bucket of an account and region: Terraform's state, artifacts, reports, the inventory. Made by the first launch, kept for good.
import type { S3Client } from "@aws-sdk/client-s3";
import { RefusedError } from "../../lib/diagnostics.ts";
import { type Aws, endpointOfS3 } from "./api.ts";
import { call, codeOf, isMissing } from "./errors.ts";

/** The name that the stack gives, or `ingot-<account>-<region>`. */
export async function bucketOf(aws: Aws, given: string | undefined): Promise<string> {
  return given ?? `ingot-${await aws.account()}-${aws.region}`;
}

export async function hasBucket(aws: Aws, bucket: string): Promise<boolean> {
  const { HeadBucketCommand } = await import("@aws-sdk/client-s3");
  const s3 = await aws.s3();
  try {
    await s3.send(new HeadBucketCommand({ Bucket: bucket }));
    return true;
  } catch (error) {
    if (isMissing(error)) return false;
    return call(`look at the bucket ${bucket}`, () => Promise.reject(error));
  }
}

/**
 * Makes the bucket when it is not there: versioned, encrypted, closed to the public and to unencrypted connections. One that is there
 * is left as it is, and must be this account's. Making it again after a kill in the middle goes on with the rest.
 */
export async function ensureBucket(aws: Aws, bucket: string): Promise<void> {
  const s3sdk = await import("@aws-sdk/client-s3");
  const s3 = await aws.s3();
  const owner = { Bucket: bucket, ExpectedBucketOwner: await aws.account() };
  try {
    const tags = await s3.send(new s3sdk.GetBucketTaggingCommand(owner));
    // Of ours, the tag says when it is whole; one that was made by hand has no such tag.
    if (!tags.TagSet?.some((t) => t.Key === "ingot:bucket" && t.Value === "begun")) return;
  } catch (error) {
    const code = codeOf(error);
    // Without any tag: made by hand, or by a run that was killed right after it.
    if (code === "NoSuchTagSet" && bucket !== (await bucketOf(aws, undefined))) return;
    if (code === "AccessDenied" || code === "403")
      throw new RefusedError(
        `the bucket ${bucket} is another account's, or closed to these credentials`,
        "give one of your own: `aws: { bucket: … }`",
      );
    const there = code === "NoSuchTagSet";
    if (!there && !isMissing(error)) await call(`look at the bucket ${bucket}`, () => Promise.reject(error));
    if (!there) await call(`make the bucket ${bucket}`, () => create(s3sdk, s3, bucket, aws.region));
  }
  const tag = (state: string) =>
    s3.send(new s3sdk.PutBucketTaggingCommand({ ...owner, Tagging: { TagSet: [{ Key: "ingot:bucket", Value: state }] } }));
  const parts = [
    () => tag("begun"),
    () =>
      s3.send(
        new s3sdk.PutPublicAccessBlockCommand({
          ...owner,
          PublicAccessBlockConfiguration: {
            BlockPublicAcls: true,
            BlockPublicPolicy: true,
            IgnorePublicAcls: true,
            RestrictPublicBuckets: true,
          },
        }),
      ),
    () => s3.send(new s3sdk.PutBucketVersioningCommand({ ...owner, VersioningConfiguration: { Status: "Enabled" } })),
    () =>
      s3.send(
        new s3sdk.PutBucketEncryptionCommand({
          ...owner,
          ServerSideEncryptionConfiguration: { Rules: [{ ApplyServerSideEncryptionByDefault: { SSEAlgorithm: "AES256" } }] },
        }),
      ),
    () =>
      s3.send(
        new s3sdk.PutBucketLifecycleConfigurationCommand({
          ...owner,
          LifecycleConfiguration: {
            Rules: [
              {
                ID: "ingot-unfinished-uploads",
                Status: "Enabled",
                Filter: { Prefix: "" },
                AbortIncompleteMultipartUpload: { DaysAfterInitiation: 7 },
              },
              {
                ID: "ingot-old-reports",
                Status: "Enabled",
                Filter: { Prefix: "stacks/" },
                NoncurrentVersionExpiration: { NoncurrentDays: 365 },
              },
            ],
          },
        }),
      ),
    // An emulator on loopback that speaks no TLS would be shut out as well.
    ...(endpointOfS3()?.startsWith("http:")
      ? []
      : [() => s3.send(new s3sdk.PutBucketPolicyCommand({ ...owner, Policy: JSON.stringify(tlsOnly(bucket, aws.region)) }))]),
    () => tag("made"),
  ];
  for (const part of parts) await call(`set up the bucket ${bucket}`, part);
}

async function create(sdk: typeof import("@aws-sdk/client-s3"), s3: S3Client, bucket: string, region: string): Promise<void> {
  // us-east-1 is the one region that may not be named here.
  const place = region !== "us-east-1" && { CreateBucketConfiguration: { LocationConstraint: region as "eu-central-1" } };
  try {
    await s3.send(new sdk.CreateBucketCommand({ Bucket: bucket, ...place }));
  } catch (error) {
    // The call was done, its answer was lost, and the client asked again.
    if (codeOf(error) !== "BucketAlreadyOwnedByYou") throw error;
  }
}

const tlsOnly = (bucket: string, region: string) => {
  const arn = `arn:${region.startsWith("cn-") ? "aws-cn" : region.startsWith("us-gov-") ? "aws-us-gov" : "aws"}:s3:::${bucket}`;
  return {
    Version: "2012-10-17",
    Statement: [
      {
        Sid: "TlsOnly",
        Effect: "Deny",
        Principal: "*",
        Action: "s3:*",
        Resource: [arn, `${arn}/*`],
        Condition: { Bool: { "aws:SecureTransport": "false" } },
      },
    ],
  };
};
