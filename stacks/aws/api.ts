// The SDK's clients: made when first asked for, since each takes its time to load. Credentials, profile, region and endpoint come from
// the SDK's default chain; AWS_ENDPOINT_URL leads all of them elsewhere.
import type { AutoScalingClient } from "@aws-sdk/client-auto-scaling";
import type { EBSClient } from "@aws-sdk/client-ebs";
import type { EC2Client } from "@aws-sdk/client-ec2";
import type { IAMClient } from "@aws-sdk/client-iam";
import type { KMSClient } from "@aws-sdk/client-kms";
import type { S3Client } from "@aws-sdk/client-s3";
import type { SecretsManagerClient } from "@aws-sdk/client-secrets-manager";
import type { SSMClient } from "@aws-sdk/client-ssm";
import type { STSClient } from "@aws-sdk/client-sts";
import { RefusedError } from "../../lib/diagnostics.ts";
import { call } from "./errors.ts";

export interface Aws {
  region: string;
  ec2(): Promise<EC2Client>;
  ebs(): Promise<EBSClient>;
  iam(): Promise<IAMClient>;
  kms(): Promise<KMSClient>;
  ssm(): Promise<SSMClient>;
  secretsManager(): Promise<SecretsManagerClient>;
  s3(): Promise<S3Client>;
  sts(): Promise<STSClient>;
  autoScaling(): Promise<AutoScalingClient>;
  /** The account's number, asked once. */
  account(): Promise<string>;
  /** The ARN of whose credentials these are, asked once. */
  caller(): Promise<string>;
}

// Ingot runs on Node 20; that later versions of the SDK will not is nothing that an operator can do something about.
process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED ??= "true";

/** Adaptive retries slow down by themselves while AWS throttles. Source: AWS SDKs and Tools Reference Guide, "Retry behavior". */
const common = { retryMode: "adaptive", maxAttempts: 6 } as const;
/** Seconds to connect, and to wait for an answer. */
const limits = { connectionTimeout: 10_000, requestTimeout: 60_000, throwOnRequestTimeout: true };
/** Options of Node's http.Agent. */
const blockSockets = { keepAlive: true, maxSockets: 64 };

/** Keys of a role that was assumed; the SDK asks again when they are about to expire. */
export type Credentials = () => Promise<{ accessKeyId: string; secretAccessKey: string; sessionToken?: string; expiration?: Date }>;

/**
 * @param credentials those of the SDK's default chain without it
 * @throws RefusedError when nobody says which region
 */
export async function awsOf(given: string | undefined, credentials?: Credentials): Promise<Aws> {
  const region = given ?? process.env.AWS_REGION ?? process.env.AWS_DEFAULT_REGION ?? (await regionOfProfile());
  if (!region)
    throw new RefusedError("no region is given", "write `aws: { region: eu-central-1 }` into the stack's file, or set AWS_REGION");
  const settings = { region, requestHandler: limits, ...common, ...(credentials && { credentials }) };
  const once = <T>(make: () => Promise<T>): (() => Promise<T>) => {
    let made: Promise<T> | undefined;
    return () => (made ??= make());
  };
  const sts = once(async () => new (await import("@aws-sdk/client-sts")).STSClient(settings));
  const identity = once(async () => {
    const [{ GetCallerIdentityCommand }, client] = [await import("@aws-sdk/client-sts"), await sts()];
    return call("ask whose credentials these are", () => client.send(new GetCallerIdentityCommand({})));
  });
  return {
    region,
    ec2: once(async () => new (await import("@aws-sdk/client-ec2")).EC2Client(settings)),
    // Blocks are sent many at a time (ami/upload.ts).
    ebs: once(
      async () =>
        new (await import("@aws-sdk/client-ebs")).EBSClient({
          ...settings,
          requestHandler: { ...limits, httpAgent: blockSockets, httpsAgent: blockSockets },
        }),
    ),
    iam: once(async () => new (await import("@aws-sdk/client-iam")).IAMClient(settings)),
    kms: once(async () => new (await import("@aws-sdk/client-kms")).KMSClient(settings)),
    ssm: once(async () => new (await import("@aws-sdk/client-ssm")).SSMClient(settings)),
    secretsManager: once(async () => new (await import("@aws-sdk/client-secrets-manager")).SecretsManagerClient(settings)),
    // Behind another endpoint a bucket is no host name.
    s3: once(
      async () =>
        new (await import("@aws-sdk/client-s3")).S3Client({
          ...settings,
          forcePathStyle: endpointOfS3() !== undefined,
        }),
    ),
    sts,
    autoScaling: once(async () => new (await import("@aws-sdk/client-auto-scaling")).AutoScalingClient(settings)),
    account: async () => (await identity()).Account ?? "",
    caller: async () => (await identity()).Arn ?? "",
  };
}

/** An S3 other than AWS's own. */
export const endpointOfS3 = (): string | undefined => process.env.AWS_ENDPOINT_URL_S3 ?? process.env.AWS_ENDPOINT_URL;

/** The region of the profile in ~/.aws/config, as the SDK reads it. */
async function regionOfProfile(): Promise<string | undefined> {
  const { STSClient } = await import("@aws-sdk/client-sts");
  try {
    return await new STSClient({}).config.region();
  } catch {
    return undefined;
  }
}
