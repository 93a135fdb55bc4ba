// Backups in a bucket of S3, or of a server that speaks as it does. What the host's programs do there: host/backup_s3.py.
import { type Infer, object, optional, text } from "../../lib/schema.ts";
import { type Host, isBelow, type Problem, renderedFile } from "../kind.ts";
import { absolutePath, dnsName, ipv4 } from "../names.ts";
import type { Part } from "../plan.ts";
import { secretRef } from "../value.ts";
import { besideCluster, repositoryConf } from "./pgbackrest.ts";
import { folder, type Kept, type Place, type PlaceSettings } from "./place.ts";

export const bucketSchema = object(
  {
    bucket: text({
      pattern: "^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$",
      expected: "the name of a bucket: 3 to 63 lower-case letters, digits and `-` (one with dots has no certificate that holds)",
      description: "The bucket. It is yours to make, and outlives every stack: Ingot makes none, and removes none",
    }),
    prefix: optional(
      text({
        pattern: "^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$",
        expected: "names of letters, digits, `.`, `_` and `-` with `/` between them, none at either end",
        description: "What the names of its objects begin with. A copy of the stack wants another one. Default: `<stack>/<host>`",
      }),
    ),
    region: optional(
      text({ pattern: "^[a-z0-9]+(-[a-z0-9]+)*$", expected: "a region, such as eu-central-1", description: "The bucket's region, at AWS" }),
    ),
    endpoint: optional(
      text({
        pattern: `^https://(?!${ipv4}(:|$))${dnsName}(:[0-9]{1,5})?$`,
        expected: "`https://`, a name and perhaps a port (pgBackRest speaks nothing but TLS, and knows a server by its name alone)",
        description: "A server that speaks as S3 does, in AWS's place",
      }),
    ),
    ca: optional({
      ...absolutePath,
      description:
        "File on the host with the certificate that the endpoint's is signed by (`files:` brings it). Default: whom Debian knows",
    }),
    access_key: optional({
      ...secretRef,
      description: "The access key. Default, on EC2: the role of the instance, which gets the rights for it",
    }),
    secret_key: optional({ ...secretRef, description: "The secret key to it" }),
  },
  { description: "A bucket of S3, or of a server that speaks as it does" },
);
type S3 = Infer<typeof bucketSchema>;

/** A bucket as the host's programs are told of it (`s3` in backup.py's settings; backup_s3.py). */
export interface Bucket {
  bucket: string;
  prefix: string;
  region: string;
  url: string;
  /** How restic comes to its repository there, but for `ca`. */
  restic: { repository: string; options: string[] };
  /** A server in AWS's place: the bucket is in its paths, not in its name. */
  endpoint?: string;
  ca?: string;
  /** Names of the secrets; without them the machine's role has the keys. */
  access_key?: string;
  secret_key?: string;
}

export function bucketPlace(s3: S3, { host, password, cluster }: Kept): Place {
  const bucket = bucketOf(s3, host);
  const keys = bucket.access_key !== undefined && bucket.secret_key !== undefined ? [bucket.access_key, bucket.secret_key] : [];
  return {
    to: `s3://${bucket.bucket}/${bucket.prefix}`,
    settings: { s3: bucket },
    after: [...(bucket.ca === undefined ? [] : [`file/${bucket.ca}`]), "hostname"],
    ...(cluster && { pgbackrest: repositoryConf(whereOf(bucket), { password, keep: cluster.keep }, besideCluster(cluster.data)) }),
    secrets: keys.map((name) => ({ name })),
    steps: keys.length
      ? [
          renderedFile(
            "s3-keys",
            { path: `${folder}/s3-keys`, mode: "0400" },
            keys.flatMap((secret) => [{ secret }, "\n"]),
          ),
        ]
      : [],
    problems: (_, others) => bucketProblems(s3, bucket, others),
  };
}

function bucketOf({ bucket, endpoint, ca, access_key, secret_key, ...s3 }: S3, { stack, name }: Host): Bucket {
  const region = s3.region ?? "us-east-1"; // what servers in AWS's place take for theirs; at AWS one is declared (ING1463)
  const prefix = s3.prefix ?? `${stack}/${name}`;
  const url = endpoint ?? `https://s3.${region}.amazonaws.com${region.startsWith("cn-") ? ".cn" : ""}`;
  return {
    bucket,
    prefix,
    region,
    url,
    restic: {
      repository: `s3:${url}/${bucket}/${prefix}/files`,
      options: ["-o", `s3.region=${region}`, "-o", `s3.bucket-lookup=${endpoint === undefined ? "dns" : "path"}`],
    },
    ...(endpoint !== undefined && { endpoint }),
    ...(ca !== undefined && { ca }),
    ...(access_key && secret_key && { access_key: access_key.secret, secret_key: secret_key.secret }),
  };
}

/** pgBackRest's own words for a bucket. */
function whereOf({ bucket, prefix, region, url, endpoint, ca, access_key, secret_key }: Bucket): Part[] {
  const { hostname, port } = new URL(url);
  return [
    `# holder below: /${prefix}
[global]
repo1-type=s3
repo1-path=/${prefix}/postgresql
repo1-s3-bucket=${bucket}
repo1-s3-region=${region}
repo1-s3-endpoint=${hostname}
${port ? `repo1-storage-port=${port}\n` : ""}${endpoint === undefined ? "" : "repo1-s3-uri-style=path\n"}${ca === undefined ? "" : `repo1-storage-ca-file=${ca}\n`}`,
    // The role's keys pgBackRest gets, and renews, by itself (IMDSv2, since 2.39).
    ...(access_key === undefined || secret_key === undefined
      ? ["repo1-s3-key-type=auto\n"]
      : ["repo1-s3-key=", { secret: access_key }, "\nrepo1-s3-key-secret=", { secret: secret_key }, "\n"]),
  ];
}

function bucketProblems(s3: S3, own: Bucket, others: { host: string; settings: PlaceSettings }[]): Problem[] {
  const wrong = (path: string[], message: string, hint: string): Problem[] => [
    { code: "ING1463", path: ["to", "s3", ...path], message, hint },
  ];
  const overlaps = (b: Bucket) =>
    b.bucket === own.bucket && b.url === own.url && (isBelow(b.prefix, own.prefix) || isBelow(own.prefix, b.prefix));
  const shared = others.find(({ settings }) => settings.s3 && overlaps(settings.s3));
  return [
    ...(s3.endpoint === undefined && s3.region === undefined
      ? wrong(
          [],
          "it says neither the bucket's region nor another server",
          "write `region:`, or `endpoint:` for a server that is not AWS's",
        )
      : []),
    ...((s3.access_key === undefined) !== (s3.secret_key === undefined)
      ? wrong(
          [s3.access_key ? "access_key" : "secret_key"],
          `${s3.access_key ? "access_key" : "secret_key"} without ${s3.access_key ? "secret_key" : "access_key"}`,
          "write both; or neither, on EC2, where the machine's role has the rights",
        )
      : []),
    ...(["access_key", "secret_key"] as const).flatMap((name) =>
      s3[name]?.generate
        ? wrong([name], "a key that is made here opens no bucket", "take `generate:` out, and put the key into the secrets' store")
        : [],
    ),
    ...(s3.ca !== undefined && s3.endpoint === undefined
      ? wrong(["ca"], "AWS's own certificate needs no `ca:`", "take it out, or write `endpoint:`")
      : []),
    ...(shared
      ? wrong(
          s3.prefix === undefined ? ["bucket"] : ["prefix"],
          `${shared.host} keeps its backups there, too: below ${shared.settings.s3?.prefix}`,
          "give each host a prefix of its own",
        )
      : []),
  ];
}
