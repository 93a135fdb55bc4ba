// One block of a snapshot, sent once: called many at a time by upload.ts, which tries again. The first block goes the SDK's way; the others are
// signed and sent here as that one was, because the SDK's own work for each of them takes four times as long as hashing it.
// Source of the signature: AWS IAM User Guide, "Create a signed AWS API request"; tests/stacks/aws/ami/put.test.ts holds it to the SDK's.
import { createHash, createHmac } from "node:crypto";
import { Agent as PlainAgent, request as plainRequest } from "node:http";
import { Agent as TlsAgent, request as tlsRequest } from "node:https";
import type { EBSClient } from "@aws-sdk/client-ebs";
import type { Aws } from "../api.ts";
import { blockBytes } from "./blocks.ts";

/** @throws what the SDK does; AbortError */
export type PutBlock = (index: number, block: Buffer, digest: Buffer) => Promise<void>;

/** Where and how blocks of a snapshot are sent, as the SDK found it out. */
interface Template {
  protocol: string;
  hostname: string;
  port?: number;
  /** Up to the block's index. */
  path: string;
}

/** Milliseconds without a sign of life after which an answer is not waited for any more. */
const patience = 60_000;

/** @param atOnce connections at most */
export async function putter(aws: Aws, snapshot: string, atOnce: number, signal: AbortSignal): Promise<PutBlock & { close(): void }> {
  const ebs = await aws.ebs();
  const settings = { keepAlive: true, maxSockets: atOnce };
  const agents = { "http:": new PlainAgent(settings), "https:": new TlsAgent(settings) };
  let template: Promise<Template> | undefined;
  const put: PutBlock = async (index, block, digest) => {
    if (!template) {
      const first = bySdk(ebs, snapshot, index, block, digest, signal);
      template = first.then((f) => f.template);
      // Whoever waits for it asks anew when it fails.
      template.catch(() => (template = undefined));
      await first;
      return;
    }
    const { protocol, hostname, port, path } = await template;
    const secure = protocol === "https:";
    const place = `${path}${index}`;
    const headers = signed(
      {
        host: port === undefined ? hostname : `${hostname}:${port}`,
        path: place,
        digest,
        date: new Date(Date.now() + (ebs.config.systemClockOffset ?? 0)),
        region: await ebs.config.region(),
      },
      await ebs.config.credentials(),
    );
    await new Promise<void>((resolve, reject) => {
      const options = {
        method: "PUT",
        hostname,
        port,
        path: place,
        headers: { ...headers, "content-length": blockBytes },
        agent: secure ? agents["https:"] : agents["http:"],
        signal,
      };
      const sent = (secure ? tlsRequest : plainRequest)(options, (answer) => {
        const chunks: Buffer[] = [];
        answer.on("data", (chunk: Buffer) => chunks.push(chunk));
        answer.on("error", reject);
        answer.on("end", () => {
          const wrong = failureOf(answer.statusCode ?? 0, answer.headers, Buffer.concat(chunks).toString(), digest);
          if (wrong) reject(wrong);
          else resolve();
        });
      });
      sent.setTimeout(patience, () => sent.destroy(Object.assign(new Error("no answer"), { name: "TimeoutError" })));
      sent.on("error", reject);
      sent.end(block);
    });
  };
  return Object.assign(put, {
    close() {
      for (const agent of Object.values(agents)) agent.destroy();
    },
  });
}

async function bySdk(
  ebs: EBSClient,
  snapshot: string,
  index: number,
  block: Buffer,
  digest: Buffer,
  signal: AbortSignal,
): Promise<{ template: Template }> {
  const { PutSnapshotBlockCommand } = await import("@aws-sdk/client-ebs");
  const command = new PutSnapshotBlockCommand({
    SnapshotId: snapshot,
    BlockIndex: index,
    BlockData: block,
    DataLength: blockBytes,
    Checksum: digest.toString("base64"),
    ChecksumAlgorithm: "SHA256",
  });
  let template: Template | undefined;
  command.middlewareStack.add(
    (next) => (args) => {
      const { protocol, hostname, port, path } = args.request as { protocol: string; hostname: string; port?: number; path: string };
      template = { protocol, hostname, ...(port !== undefined && { port }), path: path.replace(/[0-9]+$/, "") };
      return next(args);
    },
    { step: "finalizeRequest", name: "ingotTemplate" },
  );
  await ebs.send(command, { abortSignal: signal });
  if (!template) throw new Error("the SDK sent a request");
  return { template };
}

/** What an answer says is wrong, as the SDK would throw it; undefined: the block was taken. */
function failureOf(status: number, headers: NodeJS.Dict<string | string[]>, body: string, digest: Buffer): Error | undefined {
  const metadata = { httpStatusCode: status, requestId: String(headers["x-amzn-requestid"] ?? "") };
  if (status >= 200 && status < 300) {
    const theirs = headers["x-amz-checksum"];
    if (theirs === undefined || theirs === digest.toString("base64")) return undefined;
    // Something between here and EBS changed it: it is sent again.
    return Object.assign(new Error(`EBS took another block than was sent: ${theirs}`), {
      name: "InternalServerException",
      $metadata: metadata,
    });
  }
  const said = parsed(body);
  const name = String(headers["x-amzn-errortype"] ?? said.__type ?? status)
    .replace(/^.*#/, "")
    .replace(/:.*$/, "");
  const error = new Error(said.Message ?? said.message ?? "no answer that could be read");
  return Object.assign(error, { name, $metadata: metadata, ...(said.Reason && { Reason: said.Reason }) });
}

function parsed(body: string): { __type?: string; Message?: string; message?: string; Reason?: string } {
  try {
    return JSON.parse(body) as ReturnType<typeof parsed>;
  } catch {
    return {};
  }
}

interface Keys {
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken?: string;
}

/** @param host with the port, where it is not the usual one */
function signed(
  { host, path, digest, date, region }: { host: string; path: string; digest: Buffer; date: Date; region: string },
  keys: Keys,
): Record<string, string> {
  const headers: Record<string, string> = {
    host,
    "x-amz-checksum": digest.toString("base64"),
    "x-amz-checksum-algorithm": "SHA256",
    "x-amz-content-sha256": digest.toString("hex"),
    "x-amz-data-length": String(blockBytes),
    "x-amz-date": date.toISOString().replace(/[-:]|\.\d+/g, ""),
    ...(keys.sessionToken !== undefined && { "x-amz-security-token": keys.sessionToken }),
  };
  return { ...headers, authorization: authorizationOf(path, headers, region, keys) };
}

/** Signature version 4 of a PUT. @param headers all that is signed, by lower-case names in their order; `x-amz-date` and `x-amz-content-sha256` are among them */
export function authorizationOf(
  path: string,
  headers: Record<string, string>,
  region: string,
  { accessKeyId, secretAccessKey }: Keys,
): string {
  const names = Object.keys(headers).join(";");
  const lines = Object.entries(headers).map(([name, value]) => `${name}:${value}`);
  const canonical = ["PUT", path, "", ...lines, "", names, headers["x-amz-content-sha256"]].join("\n");
  const time = headers["x-amz-date"] ?? "";
  const scope = `${time.slice(0, 8)}/${region}/ebs/aws4_request`;
  const text = ["AWS4-HMAC-SHA256", time, scope, createHash("sha256").update(canonical).digest("hex")].join("\n");
  const key = scope
    .split("/")
    .reduce<string | Buffer>((k, part) => createHmac("sha256", k).update(part).digest(), `AWS4${secretAccessKey}`);
  const signature = createHmac("sha256", key).update(text).digest("hex");
  return `AWS4-HMAC-SHA256 Credential=${accessKeyId}/${scope}, SignedHeaders=${names}, Signature=${signature}`;
}
