// The bucket of a host's backups, read from this computer: by a rebuild, before it changes anything (past.ts), and by what a drill's machines have in its
// place (gate.ts). It is asked what there is and what that holds; there is nothing here that writes to it.
import { Agent, type AgentOptions } from "node:https";
import { connect as dial } from "node:net";
import type { Readable } from "node:stream";
import { connect as secure } from "node:tls";
import type { Bucket } from "../../cloud-init/backup/bucket.ts";
import type { HostPlan } from "../../cloud-init/plan.ts";
import type { Target } from "../target.ts";

export interface Stored {
  /** Bytes. */
  size: number;
  /** With its quotation marks. */
  etag: string;
  /** Seconds since 1970. */
  written: number;
}

/** Keys are whole ones. Each throws what the SDK throws. */
export interface BucketReader {
  /** What lies below; with `/` what lies in a folder, and the folders in it, each with its slash. */
  list(prefix: string, delimiter?: string): Promise<{ objects: Map<string, Stored>; folders: string[] }>;
  /** undefined: there is none. */
  look(key: string): Promise<Stored | undefined>;
  /** @param range as the header has it, "bytes=0-99" @returns undefined: there is none */
  read(key: string, range?: string): Promise<{ stored: Stored; body: Readable; range?: string | undefined } | undefined>;
  close(): Promise<void>;
}

/** Where the machines of a host find its bucket, by its `etc_hosts:`: "10.1.9.254:9000". undefined: they would have to ask somebody. */
export function placeOf({ generation }: HostPlan, { url }: Bucket): string | undefined {
  const { hostname, port } = new URL(url);
  const peers = generation.steps.find((s) => s.id === "hostname")?.args.peers;
  const line = (Array.isArray(peers) ? peers : []).map((p) => String(p).split(" ")).find(([, ...names]) => names.includes(hostname));
  return line && `${line[0]}:${port || 443}`;
}

/** What a file of the host's holds; undefined: the generation does not bring it. */
function contentOf({ generation }: HostPlan, path: string): string | undefined {
  const source = generation.steps.find((s) => s.action === "file" && s.args.path === path)?.args.source;
  return generation.files.find((f) => f.path === source)?.content;
}

/** Opens the bucket with the keys that are declared, or with those of whoever calls Ingot; by the way that the host's machines take, where they have one. */
export async function openBucket(target: Target, plan: HostPlan, bucket: Bucket): Promise<BucketReader> {
  const { S3Client, ListObjectsV2Command, HeadObjectCommand, GetObjectCommand } = await import("@aws-sdk/client-s3");
  const { endpointOfS3 } = await import("../aws/api.ts");
  const secret = async (name: string) => (await target.secrets.get(plan.stack, name))?.trim() ?? "";
  const { access_key: access, secret_key: key, endpoint, region } = bucket;
  const place = placeOf(plan, bucket);
  const way = place === undefined ? undefined : await target.wayInto?.(plan.stack, place);
  const agent = new Through({ keepAlive: true, ca: bucket.ca === undefined ? undefined : contentOf(plan, bucket.ca) }, way?.socket);
  const s3 = new S3Client({
    region,
    ...(endpoint !== undefined && { endpoint }),
    forcePathStyle: (endpoint ?? endpointOfS3()) !== undefined,
    ...(access !== undefined &&
      key !== undefined && { credentials: { accessKeyId: await secret(access), secretAccessKey: await secret(key) } }),
    requestHandler: { httpsAgent: agent, connectionTimeout: 10_000 },
    responseChecksumValidation: "WHEN_REQUIRED",
  });
  const { bucket: Bucket } = bucket;
  const stored = (o: { Size?: number; ContentLength?: number; ETag?: string; LastModified?: Date }): Stored => ({
    size: o.Size ?? o.ContentLength ?? 0,
    etag: o.ETag ?? "",
    written: Math.round((o.LastModified?.getTime() ?? 0) / 1000),
  });
  return {
    async list(Prefix, Delimiter) {
      const objects = new Map<string, Stored>();
      const folders: string[] = [];
      for (let ContinuationToken: string | undefined, first = true; first || ContinuationToken; first = false) {
        const page = await s3.send(new ListObjectsV2Command({ Bucket, Prefix, Delimiter, ContinuationToken }));
        for (const o of page.Contents ?? []) objects.set(o.Key ?? "", stored(o));
        folders.push(...(page.CommonPrefixes ?? []).map((p) => p.Prefix ?? ""));
        ContinuationToken = page.NextContinuationToken;
      }
      return { objects, folders };
    },
    look: (Key) => orNone(async () => stored(await s3.send(new HeadObjectCommand({ Bucket, Key })))),
    read: (Key, Range) =>
      orNone(async () => {
        const answer = await s3.send(new GetObjectCommand({ Bucket, Key, Range }));
        return { stored: stored(answer), body: answer.Body as Readable, range: answer.ContentRange };
      }),
    async close() {
      s3.destroy();
      agent.destroy();
      await way?.close();
    },
  };
}

async function orNone<T>(work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof Error && ["NoSuchKey", "NotFound"].includes(error.name)) return undefined;
    throw error;
  }
}

/** Whether it is what the server says, and not that there is none. */
export const isAnswer = (error: unknown): boolean =>
  error instanceof Error && "$metadata" in error && (error.$metadata as { httpStatusCode?: number }).httpStatusCode !== undefined;

/** What a bucket's server refuses, as what the person who declared it can mend (backup_s3.py, in_words). */
export function inWords(error: unknown, { bucket, prefix, region, endpoint, access_key: access, secret_key: key }: Bucket): string {
  if (!(error instanceof Error)) throw error;
  const who = access === undefined ? "whoever calls Ingot" : `the access key of the secret ${access}`;
  const where = endpoint ?? `S3 in ${region}`;
  const words: Record<string, string> = {
    NoSuchBucket: `${where} has no bucket ${bucket}`,
    InvalidAccessKeyId: `${where} does not know ${who}`,
    SignatureDoesNotMatch: `the secret ${key} is not the secret key of ${who}`,
    AccessDenied: `${who} may not read s3://${bucket}/${prefix}`,
  };
  return (
    words[error.name] ?? `${where} ${isAnswer(error) ? "refuses to say what is there" : "does not answer"}: ${error.message || error.name}`
  );
}

/** TLS through a socket of the file system, where there is one. */
class Through extends Agent {
  constructor(
    options: AgentOptions,
    readonly socket: string | undefined,
  ) {
    super(options);
  }
  override createConnection(options: AgentOptions & { servername?: string; host?: string }): ReturnType<typeof secure> {
    const { host, servername = host, port } = options;
    const { ca } = this.options;
    return secure({ ...(this.socket === undefined ? { host, port } : { socket: dial(this.socket) }), servername, ca });
  }
}
