// What AWS refuses, in words that say what to do. Every call of the SDK in this room goes through call().
import { Cancelled } from "../../lib/cancel.ts";
import { RefusedError } from "../../lib/diagnostics.ts";

/** What the SDK's errors have in common, and what the network's have. Source: @smithy/types, `ServiceException`. */
interface Failure {
  name?: string;
  message?: string;
  code?: string;
  Code?: string;
  $metadata?: { httpStatusCode?: number; requestId?: string };
}

/** Runs a call; `what` completes "could not …". @throws RefusedError that says what to do */
export async function call<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw explain(error, what);
  }
}

/** The code of an error of the SDK: "AccessDenied", "ThrottlingException"; also behind a message of ours. */
export function codeOf(error: unknown): string {
  const { name, Code, code, $metadata } = (error instanceof RefusedError ? (error.cause ?? {}) : error) as Failure;
  // S3's answer to HEAD has no body, and so no code: then its status says what it can.
  const named = name && !/^(Error|Unknown|UnknownError)$/.test(name) ? name : undefined;
  return Code ?? named ?? code ?? String($metadata?.httpStatusCode ?? "");
}

export const isMissing = (error: unknown): boolean =>
  /^(NoSuchKey|NotFound|NoSuchBucket|ParameterNotFound|ResourceNotFoundException)$/.test(codeOf(error));

/** @param what completes "could not …" */
export function explain(error: unknown, what: string): Error {
  if (error instanceof Cancelled || error instanceof RefusedError || !(error instanceof Error)) return error as Error;
  const failure = error as Failure;
  const code = codeOf(error);
  const message = failure.message ?? "";
  const found = causes.find((c) => c.code.test(code) || (c.message?.test(message) ?? false));
  const refused = new RefusedError(
    `could not ${what}: ${found?.words?.(message) ?? `${code}: ${message}`}`,
    found?.hint(message) ?? unknownHint(failure),
  );
  refused.cause = error;
  return refused;
}

const unknownHint = ({ $metadata }: Failure): string =>
  $metadata?.requestId ? `AWS knows it as request ${$metadata.requestId}` : "is this computer on the network?";

interface Cause {
  code: RegExp;
  message?: RegExp;
  /** In place of AWS's own words. */
  words?(message: string): string;
  hint(message: string): string;
}

const causes: Cause[] = [
  {
    code: /^(ExpiredToken|ExpiredTokenException|RequestExpired|TokenRefreshRequired)$/,
    message: /token.*(has )?expired/i,
    words: () => "the credentials have expired",
    hint: () => "log in again: `aws sso login`, or set new AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN",
  },
  {
    code: /^(CredentialsProviderError|TokenProviderError)$/,
    words: () => "there are no credentials",
    hint: () => "`aws configure`, `aws sso login`, or set AWS_PROFILE",
  },
  {
    code: /^(InvalidClientTokenId|UnrecognizedClientException|AuthFailure|InvalidAccessKeyId)$/,
    words: () => "AWS does not know these credentials in this region",
    hint: () => "are they of this account, still active, and is the region enabled for it (`aws account list-regions`)?",
  },
  {
    code: /^(SignatureDoesNotMatch|RequestTimeTooSkewed|InvalidSignatureException)$/,
    words: (message) =>
      /skew|expired|not yet current|too large/i.test(message)
        ? "this computer's clock is wrong"
        : "the secret access key is not the right one",
    hint: (message) =>
      /skew|expired|not yet current|too large/i.test(message)
        ? "set it: `timedatectl set-ntp true`"
        : "look at AWS_SECRET_ACCESS_KEY or the profile",
  },
  {
    code: /^(AccessDenied|AccessDeniedException|UnauthorizedOperation|Forbidden|403)$/,
    words: denied,
    hint: (message) =>
      /Encoded authorization failure message/i.test(message)
        ? "the reason is encoded: `aws sts decode-authorization-message --encoded-message …`; docs/aws.md lists every permission"
        : "docs/aws.md lists every permission that Ingot needs",
  },
  {
    code: /^(Throttling|ThrottlingException|ThrottledException|RequestLimitExceeded|TooManyRequestsException|SlowDown|RequestThrottled|RequestThrottledException|ConcurrentLimitExceededException|ProvisionedThroughputExceededException)$/,
    words: () => "AWS still says that this account asks too much, after six tries that waited longer and longer",
    hint: () => "wait some minutes; does something else call the same API without end?",
  },
  {
    code: /^(InstanceLimitExceeded|VcpuLimitExceeded|AddressLimitExceeded|VpcLimitExceeded|VolumeLimitExceeded|SnapshotLimitExceeded|LimitExceededException|LimitExceeded|ParameterLimitExceeded|MaxSpotInstanceCountExceeded|ServiceQuotaExceededException|SecurityGroupLimitExceeded|RulesPerSecurityGroupLimitExceeded)$/,
    hint: () => "a quota of the account is used up: raise it in Service Quotas, or remove what is no longer needed (`ingot gc --on aws`)",
  },
  {
    code: /^(InsufficientInstanceCapacity|InsufficientHostCapacity|InsufficientAddressCapacity|Unsupported|InsufficientFreeAddressesInSubnet)$/,
    hint: () => "this zone has none of that type now: another `zone:` or `type:`, or later",
  },
  {
    code: /^(AuthorizationHeaderMalformed|PermanentRedirect|IllegalLocationConstraintException|OptInRequired|InvalidRegion)$/,
    hint: () => "it is in another region than the stack: `region:` and `bucket:` in the stack's file",
  },
  {
    code: /^NoSuchBucket$/,
    hint: () => "`ingot up <stack> --on aws` makes it; or is it another account's, or another region's?",
  },
  {
    code: /^(BucketAlreadyExists)$/,
    words: () => "another account has a bucket of that name",
    hint: () => "give one of your own: `aws: { bucket: … }` in the stack's file",
  },
  {
    code: /^(TimeoutError|ETIMEDOUT|ENOTFOUND|ECONNREFUSED|ECONNRESET|EAI_AGAIN|EPIPE|NetworkingError|ENETUNREACH|EHOSTUNREACH)$/,
    message: /socket hang up|ENOTFOUND|ECONNREFUSED|ETIMEDOUT|EAI_AGAIN/,
    words: (message) => `AWS cannot be reached (${message || "no answer"})`,
    hint: () => "is this computer on the network, is the region's name right, does AWS_ENDPOINT_URL lead where it should?",
  },
  {
    code: /^(InternalError|InternalFailure|InternalServerError|InternalServerException|ServiceUnavailable|Unavailable|500|502|503|504)$/,
    words: () => "AWS failed six times at it",
    hint: () => "https://health.aws.amazon.com says whether the region is unwell; then do it again: what was done is kept",
  },
];

/** "… is not authorized to perform: ec2:RunInstances on resource: arn:…" → the action and the resource. */
function denied(message: string): string {
  const [, action] = /perform:?\s+([a-z0-9-]+:[A-Za-z*]+)/.exec(message) ?? [];
  const [, resource] = /on resource:?\s+(\S+)/.exec(message) ?? [];
  const [, who] = /(arn:aws[^\s]*:(?:user|assumed-role|role)\/\S+)/.exec(message) ?? [];
  if (!action) return `these credentials may not do it (${message.split("Encoded authorization")[0]?.trim()})`;
  return `${who ?? "these credentials"} may not do ${action}${resource ? ` on ${resource.replace(/[.,]$/, "")}` : ""}`;
}
