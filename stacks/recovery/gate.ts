// What a drill's machines have in the place of production's buckets: a server of S3's protocol that reads there and writes to a disk of the drill's own, so
// that a machine finds what it wrote over what production has, and nothing that it does gets to the bucket. It has the bucket's keys, the machines have
// none. It stands in the drill's network at the bucket's address (stacks/local/way.ts), for as long as `ingot drill` lives. The certificate that it shows
// is made for it, and trusted by the programs of backups alone (backup_place.py).
//
// Source: Amazon S3 API Reference. What pgBackRest, restic and backup_s3.py ask for is answered, everything else with NotImplemented.
import { createHash } from "node:crypto";
import { chmodSync, createReadStream, createWriteStream, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import type { IncomingMessage, RequestListener, ServerResponse } from "node:http";
import { createServer } from "node:https";
import { join } from "node:path";
import { Readable, Transform } from "node:stream";
import { buffer } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { run } from "../../lib/run.ts";
import type { BucketReader, Stored } from "./bucket.ts";

/** One host's part of a bucket. */
export interface Layer {
  bucket: string;
  prefix: string;
  below: BucketReader;
  /** Where what is written goes. */
  folder: string;
  own: Map<string, Stored & { file: string }>;
  /** Keys that were deleted here. */
  gone: Set<string>;
  uploads: Map<string, { key: string; parts: Map<number, { file: string; etag: string }> }>;
  /** Objects of production's that parts are asked of, as they were read last: pgBackRest reads a bundle of a thousand files file by file. */
  parts: Map<string, Promise<Part | undefined>>;
}

interface Part {
  stored: Stored;
  bytes: Buffer;
}
/** So many are kept, and none that is larger (bytes): a bundle has 20 MiB, a pack of restic's 16 or a little more. */
const [mostParts, largestPart] = [6, 32 << 20];

export function layerOver(bucket: string, prefix: string, below: BucketReader, folder: string): Layer {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  return { bucket, prefix, below, folder, own: new Map(), gone: new Set(), uploads: new Map(), parts: new Map() };
}

/** Serves layers at a socket of the file system. @param folder where `authority.crt` is written, which names are believed by */
export async function serve(layers: Layer[], names: string[], folder: string, socket: string): Promise<() => Promise<void>> {
  const { key, certificate } = await certificateFor(names, folder);
  const server = createServer({ key, cert: certificate, keepAliveTimeout: 120_000, requestTimeout: 0 }, answering(layers));
  server.on("tlsClientError", () => {});
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(socket, resolve));
  return () =>
    new Promise((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
}

/** Of backups that a machine made: what is not right about where they are. @param labels pgBackRest's, or restic's short ids */
export async function misplaced({ prefix, own, below }: Layer, labels: string[]): Promise<string[]> {
  const wrong: string[] = [];
  for (const label of labels) {
    const places = [`${prefix}/postgresql/backup/main/${label}/`, `${prefix}/files/snapshots/${label}`];
    if (![...own.keys()].some((key) => places.some((p) => key.startsWith(p))))
      wrong.push(`the backup ${label} is not on the drill's own disk`);
    for (const place of places) if ((await below.list(place)).objects.size) wrong.push(`the backup ${label} is in production's bucket`);
  }
  return wrong;
}

/** Signed by itself, and so its own authority. */
async function certificateFor(names: string[], folder: string): Promise<{ key: string; certificate: string }> {
  mkdirSync(folder, { recursive: true });
  const [key, certificate] = [`${folder}.key`, join(folder, "authority.crt")];
  const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", "/CN=a drill of Ingot's"];
  const alternatives = `subjectAltName=${names.map((n) => `DNS:${n}`).join(",")}`;
  await run(["openssl", "req", "-x509", ...kind, "-addext", alternatives, "-keyout", key, "-out", certificate]);
  // Whatever our umask is: postgres reads it, too.
  chmodSync(folder, 0o755);
  chmodSync(certificate, 0o644);
  return { key: readFileSync(key, "utf8"), certificate: readFileSync(certificate, "utf8") };
}

/** An answer that is none, as S3 has it. */
class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** Buckets are in the path. */
export const answering =
  (layers: Layer[]): RequestListener =>
  (request, response) => {
    answer(layers, request, response).catch((error: unknown) => {
      if (response.headersSent) return void response.destroy();
      const { status, code, message } = refusalOf(error);
      const body = xml("Error", `<Code>${code}</Code><Message>${text(message)}</Message>`);
      send(response, status, request.method === "HEAD" ? "" : body);
    });
  };

/** What production's bucket refuses is refused in its words. */
function refusalOf(error: unknown): Refusal {
  if (error instanceof Refusal) return error;
  if (!(error instanceof Error)) throw error;
  const { httpStatusCode } = (error as { $metadata?: { httpStatusCode?: number } }).$metadata ?? {};
  return httpStatusCode === undefined
    ? new Refusal(503, "ServiceUnavailable", `production's bucket does not answer: ${error.message}`)
    : new Refusal(httpStatusCode, error.name, error.message);
}

async function answer(layers: Layer[], request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { pathname, searchParams: query } = new URL(request.url ?? "/", "https://gate");
  const [, bucket = "", key = ""] = /^\/([^/]*)\/?(.*)$/.exec(decodeURIComponent(pathname)) ?? [];
  const one = (name: string) => {
    const layer = layers.find((l) => l.bucket === bucket && name.startsWith(`${l.prefix}/`));
    if (layer) return layer;
    throw new Refusal(403, "AccessDenied", `in this drill there is nothing but ${layers.map((l) => `${l.bucket}/${l.prefix}`).join(", ")}`);
  };
  const { method } = request;
  if (key === "") {
    if (method === "HEAD") return send(response, 200);
    if (method === "GET" && query.has("location")) return send(response, 200, xml("LocationConstraint", ""));
    if (method === "GET" && !query.has("uploads")) return list(one(query.get("prefix") ?? ""), query, response);
    if (method === "POST" && query.has("delete")) {
      for (const [, name = ""] of (await bodyOf(request)).matchAll(/<Key>([^<]*)<\/Key>/g)) remove(one(plain(name)), plain(name));
      return send(response, 200, xml("DeleteResult", ""));
    }
    throw new Refusal(501, "NotImplemented", `${method} of a bucket`);
  }
  const layer = one(key);
  const upload = query.get("uploadId");
  if (method === "GET" || method === "HEAD") return read(layer, key, request, response);
  if (method === "PUT" && request.headers["x-amz-copy-source"] === undefined) {
    const { file, etag, size } = await written(layer, request);
    if (upload !== null) uploadOf(layer, upload).parts.set(Number(query.get("partNumber")), { file, etag });
    else put(layer, key, file, etag, size);
    response.setHeader("ETag", etag);
    return send(response, 200);
  }
  if (method === "POST" && query.has("uploads")) {
    const id = `upload-${layer.uploads.size + 1}`;
    layer.uploads.set(id, { key, parts: new Map() });
    const named = `<Bucket>${bucket}</Bucket><Key>${text(key)}</Key><UploadId>${id}</UploadId>`;
    return send(response, 200, xml("InitiateMultipartUploadResult", named));
  }
  if (method === "POST" && upload !== null) {
    const etag = await joined(layer, upload, await bodyOf(request));
    return send(
      response,
      200,
      xml("CompleteMultipartUploadResult", `<Bucket>${bucket}</Bucket><Key>${text(key)}</Key><ETag>${text(etag)}</ETag>`),
    );
  }
  if (method === "DELETE") {
    if (upload !== null) uploadOf(layer, upload).parts.clear();
    else remove(layer, key);
    return send(response, 204);
  }
  throw new Refusal(501, "NotImplemented", `${method} of an object`);
}

const now = (): number => Math.round(Date.now() / 1000);

function put({ own, gone }: Layer, key: string, file: string, etag: string, size: number): void {
  own.set(key, { file, etag, size, written: now() });
  gone.delete(key);
}

function remove({ own, gone }: Layer, key: string): void {
  own.delete(key);
  gone.add(key);
}

function uploadOf({ uploads }: Layer, id: string): { key: string; parts: Map<number, { file: string; etag: string }> } {
  const found = uploads.get(id);
  if (found) return found;
  throw new Refusal(404, "NoSuchUpload", id);
}

let files = 0;

/** A request's body, in a file of its own. */
async function written({ folder }: Layer, request: IncomingMessage): Promise<{ file: string; etag: string; size: number }> {
  const file = join(folder, String(++files));
  const sum = createHash("md5");
  let size = 0;
  const count = new Transform({
    transform(chunk: Buffer, _, next) {
      sum.update(chunk);
      size += chunk.length;
      next(undefined, chunk);
    },
  });
  const chunked = String(request.headers["x-amz-content-sha256"]).startsWith("STREAMING-");
  await pipeline(chunked ? Readable.from(chunksOf(request)) : request, count, createWriteStream(file, { mode: 0o600 }));
  return { file, etag: `"${sum.digest("hex")}"`, size };
}

/** The data in a body that is sent in signed pieces: "<hex size>;…\r\n<data>\r\n", the last of size 0 with lines after it. */
export async function* chunksOf(body: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of body) {
    rest = Buffer.concat([rest, chunk]);
    for (;;) {
      const end = rest.indexOf("\r\n");
      if (end < 0) break;
      const size = Number.parseInt(rest.subarray(0, end).toString("latin1"), 16);
      if (!size) return void (await drained(body));
      if (rest.length < end + 2 + size + 2) break;
      yield rest.subarray(end + 2, end + 2 + size);
      rest = rest.subarray(end + 2 + size + 2);
    }
  }
}

async function drained(body: AsyncIterable<Buffer>): Promise<void> {
  for await (const _ of body);
}

/** Parts of an upload as one object. */
async function joined(layer: Layer, id: string, body: string): Promise<string> {
  const { key, parts } = uploadOf(layer, id);
  const file = join(layer.folder, String(++files));
  const sums = createHash("md5");
  let size = 0;
  const numbers = [...body.matchAll(/<PartNumber>(\d+)<\/PartNumber>/g)].map(([, n]) => Number(n));
  writeFileSync(file, "", { mode: 0o600 });
  for (const number of numbers) {
    const part = parts.get(number);
    if (!part) throw new Refusal(400, "InvalidPart", `${number}`);
    sums.update(Buffer.from(part.etag.slice(1, -1), "hex"));
    size += statSync(part.file).size;
    await pipeline(createReadStream(part.file), createWriteStream(file, { flags: "a" }));
  }
  const etag = `"${sums.digest("hex")}-${numbers.length}"`;
  layer.uploads.delete(id);
  put(layer, key, file, etag, size);
  return etag;
}

async function read(layer: Layer, key: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const own = layer.own.get(key);
  const none = new Refusal(404, "NoSuchKey", `there is no ${key}`);
  if (!own && layer.gone.has(key)) throw none;
  const { range } = request.headers;
  if (request.method === "HEAD") {
    const stored = own ?? (await layer.below.look(key));
    if (!stored) throw none;
    describe(response, stored, stored.size);
    return void response.writeHead(200).end();
  }
  const part = own || range === undefined ? undefined : await partIn(layer, key);
  if (part) {
    const [start, end] = partOf(range, part.stored.size);
    describe(response, part.stored, end - start + 1);
    response.setHeader("Content-Range", `bytes ${start}-${end}/${part.stored.size}`);
    return void response.writeHead(206).end(part.bytes.subarray(start, end + 1));
  }
  if (!own) {
    const found = await layer.below.read(key, range);
    if (!found) throw none;
    describe(response, found.stored, found.stored.size);
    if (found.range !== undefined) response.setHeader("Content-Range", found.range);
    response.writeHead(found.range === undefined ? 200 : 206);
    return pipeline(found.body, response);
  }
  const [start, end] = partOf(range, own.size);
  describe(response, own, end - start + 1);
  if (range !== undefined) response.setHeader("Content-Range", `bytes ${start}-${end}/${own.size}`);
  response.writeHead(range === undefined ? 200 : 206);
  return end < start ? void response.end() : pipeline(createReadStream(own.file, { start, end }), response);
}

/** An object of production's, read as a whole; undefined: it is too large for that, or not there. */
async function partIn({ parts, below }: Layer, key: string): Promise<Part | undefined> {
  const known = parts.get(key);
  parts.delete(key);
  const part =
    known ??
    (async () => {
      const stored = await below.look(key);
      const found = stored && stored.size <= largestPart ? await below.read(key) : undefined;
      return found && { stored: found.stored, bytes: await buffer(found.body) };
    })();
  // The last one that was asked for is the last to go.
  parts.set(key, part);
  for (const old of [...parts.keys()].slice(0, -mostParts)) parts.delete(old);
  part.catch(() => parts.delete(key));
  return part;
}

/** First and last byte of "bytes=0-99", "bytes=5-" or "bytes=-5"; the last is before the first where there is none. */
export function partOf(range: string | undefined, size: number): [number, number] {
  const [, from = "", to = ""] = /^bytes=(\d*)-(\d*)$/.exec(range ?? "") ?? [];
  if (from === "" && to !== "") return [Math.max(0, size - Number(to)), size - 1];
  const start = Number(from);
  if (range !== undefined && start >= size) throw new Refusal(416, "InvalidRange", `${range} of ${size} bytes`);
  return [start, to === "" ? size - 1 : Math.min(Number(to), size - 1)];
}

function describe(response: ServerResponse, { etag, written }: Stored, bytes: number): void {
  response.setHeader("Content-Length", bytes);
  response.setHeader("ETag", etag);
  response.setHeader("Last-Modified", new Date(written * 1000).toUTCString());
  response.setHeader("Accept-Ranges", "bytes");
}

/** All of it in one page. */
async function list(layer: Layer, query: URLSearchParams, response: ServerResponse): Promise<void> {
  const prefix = query.get("prefix") ?? "";
  const delimiter = query.get("delimiter") ?? "";
  const { objects, folders } = await layer.below.list(prefix, delimiter || undefined);
  const found = new Map<string, Stored>([...objects].filter(([key]) => !layer.gone.has(key)));
  const below = new Set(folders);
  // One is there for as long as there is anything in it.
  for (const folder of folders)
    if ([...layer.gone].some((key) => key.startsWith(folder))) {
      const left = [...(await layer.below.list(folder)).objects.keys()].some((key) => !layer.gone.has(key));
      if (!left) below.delete(folder);
    }
  for (const [key, stored] of layer.own) {
    if (!key.startsWith(prefix)) continue;
    const cut = delimiter ? key.indexOf(delimiter, prefix.length) : -1;
    if (cut < 0) found.set(key, stored);
    else below.add(key.slice(0, cut + delimiter.length));
  }
  const after = query.get("start-after") ?? query.get("marker") ?? "";
  const name = (key: string) => (query.get("encoding-type") === "url" ? encodeURIComponent(key).replaceAll("%2F", "/") : text(key));
  const contents = [...found]
    .filter(([key]) => key > after)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, { size, etag, written }]) => {
      const stamp = new Date(written * 1000).toISOString();
      return `<Contents><Key>${name(key)}</Key><LastModified>${stamp}</LastModified><ETag>${text(etag)}</ETag><Size>${size}</Size><StorageClass>STANDARD</StorageClass></Contents>`;
    });
  const common = [...below].sort().map((folder) => `<CommonPrefixes><Prefix>${name(folder)}</Prefix></CommonPrefixes>`);
  const said = `<Name>${layer.bucket}</Name><Prefix>${name(prefix)}</Prefix><KeyCount>${contents.length + common.length}</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>`;
  const encoding = query.get("encoding-type") === "url" ? "<EncodingType>url</EncodingType>" : "";
  send(response, 200, xml("ListBucketResult", `${said}${encoding}${contents.join("")}${common.join("")}`));
}

function send(response: ServerResponse, status: number, body = ""): void {
  if (body) response.setHeader("Content-Type", "application/xml");
  if (status !== 204) response.setHeader("Content-Length", Buffer.byteLength(body));
  response.writeHead(status).end(body);
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString("utf8");
}

const xml = (root: string, body: string): string =>
  `<?xml version="1.0" encoding="UTF-8"?>\n<${root} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${body}</${root}>`;
const entities: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;" };
const text = (value: string): string => value.replace(/[&<>"']/g, (c) => entities[c] ?? c);
const plain = (value: string): string => Object.entries(entities).reduceRight((all, [c, entity]) => all.replaceAll(entity, c), value);
