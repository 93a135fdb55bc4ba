// The EBS direct APIs for the tests, as documented, in this process: what moto only nods at (block size, checksums, counts, parents, tokens,
// states, encryption) is held to here. Content is kept by block, so that the tests read back all of it.
// Sources: EBS direct APIs, API Reference; Amazon EBS User Guide, "Ensure idempotency in StartSnapshot API requests", "Encryption outcomes for
// EBS direct APIs", "Frequently asked questions for EBS direct APIs".
import { createHash, randomBytes } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";

export const blockBytes = 524_288;

export interface ServedSnapshot {
  id: string;
  /** GiB. */
  gib: number;
  state: "pending" | "completed" | "error";
  message?: string;
  encrypted: boolean;
  /** ARN of the key that it is encrypted with. */
  key?: string;
  parent?: string;
  tags: Record<string, string>;
  /** Own blocks, by index; undefined: all zeros (they take no room here). */
  blocks: Map<number, Buffer | undefined>;
  digests: Map<number, Buffer>;
  token?: string;
  request: string;
  /** CompleteSnapshot was accepted. */
  sealed: boolean;
  /** How many more times it is said to be pending once it is sealed. */
  polls: number;
  /** Puts to it that are still "not found": it is not known everywhere at once. */
  unknown: number;
}

/** What of one call goes wrong. `lost`: it is done, and its answer does not arrive; `cut`: neither. */
export type Trouble = "throttled" | "broken" | "denied" | "refused" | "lost" | "cut" | "silent";

export interface EbsCall {
  name: "StartSnapshot" | "PutSnapshotBlock" | "CompleteSnapshot" | "ListSnapshotBlocks" | "ListChangedBlocks" | "GetSnapshotBlock";
  snapshot: string;
  /** Of a block. */
  index: number;
  /** From 1, of this name. */
  count: number;
}

class Failure extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly reason?: string,
  ) {
    super(message);
  }
}
const invalid = (message: string, reason = "INVALID_PARAMETER_VALUE") => new Failure(400, "ValidationException", message, reason);

/** The block that is nothing but zeros: one object, so that it is known without being looked through. */
export const zeros: Buffer = Buffer.alloc(blockBytes);
const sha = (data: Uint8Array): Buffer => createHash("sha256").update(data).digest();
const digestOfZeros = sha(zeros);

export class EbsServer {
  readonly snapshots = new Map<string, ServedSnapshot>();
  /** Calls of each name, those that went wrong included. */
  readonly counts = new Map<string, number>();
  /** Blocks that were taken, by snapshot and index, each time. */
  readonly puts: { snapshot: string; index: number }[] = [];
  encryptionByDefault = false;
  trouble: (call: EbsCall) => Trouble | undefined = () => undefined;
  /** `digests`: of blocks that are taken the content is dropped, for disks that are too large to be kept here. */
  keeps: "content" | "digests" = "content";
  /** Waits before each block is taken: milliseconds. */
  delay = 0;
  /** While it is so, no block is taken: calls wait. */
  held = false;
  /** Of snapshots that are begun. */
  unknownAtFirst = 0;
  pollsUntilCompleted = 1;
  /** Puts on their way at once, at most so far. */
  most = 0;
  private under = 0;
  /** Gives the id of a new snapshot: the one that EC2's emulator made. */
  newId: (body: string, authorization: string) => Promise<string> = async () => `snap-${randomBytes(8).toString("hex")}`;

  /** Whether it is a call of this API. */
  static takes = (from: IncomingMessage): boolean => /^\/snapshots(\/|\?|$)/.test(from.url ?? "");

  async serve(from: IncomingMessage, to: ServerResponse): Promise<void> {
    const url = new URL(from.url ?? "/", "http://ebs");
    const [, , first = "", second, third] = url.pathname.split("/");
    const method = from.method ?? "";
    const name: EbsCall["name"] =
      method === "POST" && first === "completion"
        ? "CompleteSnapshot"
        : method === "POST"
          ? "StartSnapshot"
          : method === "PUT"
            ? "PutSnapshotBlock"
            : second === "changedblocks"
              ? "ListChangedBlocks"
              : third === undefined
                ? "ListSnapshotBlocks"
                : "GetSnapshotBlock";
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of from) chunks.push(chunk as Buffer);
    } catch {
      return; // the caller went away
    }
    const body = Buffer.concat(chunks);
    const count = (this.counts.get(name) ?? 0) + 1;
    this.counts.set(name, count);
    const call: EbsCall = { name, snapshot: first === "completion" ? (second ?? "") : first, index: Number(third ?? -1), count };
    const trouble = this.trouble(call);
    try {
      if (trouble === "silent") return;
      if (trouble === "cut") return void to.destroy();
      if (trouble === "throttled") throw new Failure(400, "RequestThrottledException", "slower", "RESOURCE_LEVEL_THROTTLE");
      if (trouble === "broken") throw new Failure(500, "InternalServerException", "broken");
      if (trouble === "denied")
        throw new Failure(
          403,
          "AccessDeniedException",
          `User: arn:aws:iam::123456789012:user/ops is not authorized to perform: ebs:${name}`,
        );
      if (trouble === "refused") throw invalid("The block is refused", "INVALID_BLOCK");
      const answer = await this.answer(call, from, url, body);
      if (trouble === "lost") return void to.destroy();
      to.writeHead(answer.status, { "content-type": "application/json", ...answer.headers });
      to.end(answer.body);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      to.writeHead(error.status, { "content-type": "application/json", "x-amzn-errortype": error.code, "x-amzn-requestid": "r-1" });
      to.end(JSON.stringify({ Message: error.message, ...(error.reason && { Reason: error.reason }) }));
    }
  }

  private async answer(call: EbsCall, from: IncomingMessage, url: URL, body: Buffer) {
    const header = (name: string): string => String(from.headers[name] ?? "");
    const json = (status: number, value: unknown) => ({
      status,
      headers: {} as Record<string, string>,
      body: JSON.stringify(value) as string | Buffer,
    });
    if (call.name === "StartSnapshot") return json(201, await this.start(body.toString(), header("authorization")));
    const snapshot = this.snapshots.get(call.snapshot);
    if (!snapshot) throw new Failure(404, "ResourceNotFoundException", "The snapshot does not exist.", "SNAPSHOT_NOT_FOUND");
    switch (call.name) {
      case "PutSnapshotBlock": {
        if (snapshot.unknown > 0) {
          snapshot.unknown--;
          throw new Failure(404, "ResourceNotFoundException", `The snapshot '${snapshot.id}' does not exist.`, "SNAPSHOT_NOT_FOUND");
        }
        this.under++;
        this.most = Math.max(this.most, this.under);
        while (this.held) await new Promise((resolve) => setTimeout(resolve, 20));
        if (this.delay) await new Promise((resolve) => setTimeout(resolve, this.delay));
        this.under--;
        const digest = this.put(snapshot, call.index, body, header);
        return {
          status: 201,
          headers: { "x-amz-checksum": digest.toString("base64"), "x-amz-checksum-algorithm": "SHA256" },
          body: "" as string | Buffer,
        };
      }
      case "CompleteSnapshot":
        this.complete(snapshot, header);
        return json(202, { Status: "pending" });
      case "GetSnapshotBlock": {
        this.readable(snapshot);
        if (url.searchParams.get("blockToken") !== tokenOf(snapshot.id, call.index)) throw invalid("no such token", "INVALID_BLOCK_TOKEN");
        const block = this.block(snapshot, call.index);
        return {
          status: 200,
          headers: { "x-amz-data-length": String(blockBytes), "x-amz-checksum": sha(block).toString("base64") },
          body: block,
        };
      }
      case "ListSnapshotBlocks":
      case "ListChangedBlocks": {
        this.readable(snapshot);
        const other = this.snapshots.get(url.searchParams.get("firstSnapshotId") ?? "");
        const all =
          call.name === "ListSnapshotBlocks"
            ? this.known(snapshot).map((i) => ({ BlockIndex: i, BlockToken: tokenOf(snapshot.id, i) }))
            : [...new Set([...this.known(snapshot), ...(other ? this.known(other) : [])])]
                .filter((i) => !other || !this.block(snapshot, i).equals(this.block(other, i)))
                .sort((a, b) => a - b)
                .map((i) => ({ BlockIndex: i, FirstBlockToken: other && tokenOf(other.id, i), SecondBlockToken: tokenOf(snapshot.id, i) }));
        const start = Number(url.searchParams.get("pageToken") ?? 0);
        const size = Math.max(100, Number(url.searchParams.get("maxResults") ?? 10_000));
        const page = all.slice(start, start + size);
        return json(200, {
          [call.name === "ListSnapshotBlocks" ? "Blocks" : "ChangedBlocks"]: page,
          BlockSize: blockBytes,
          VolumeSize: snapshot.gib,
          ...(start + size < all.length && { NextToken: String(start + size) }),
        });
      }
    }
  }

  private async start(text: string, authorization: string) {
    const body = JSON.parse(text) as {
      VolumeSize: number;
      ParentSnapshotId?: string;
      Encrypted?: boolean;
      KmsKeyArn?: string;
      ClientToken?: string;
      Timeout?: number;
      Tags?: { Key: string; Value: string }[];
    };
    const { VolumeSize, ParentSnapshotId, ClientToken, Timeout = 60 } = body;
    const before = [...this.snapshots.values()].find((s) => ClientToken !== undefined && s.token === ClientToken);
    if (before && before.request !== text) throw new Failure(409, "ConflictException", "The token was used for another request");
    if (!(VolumeSize >= 1 && VolumeSize <= 65_536)) throw invalid("VolumeSize", "INVALID_VOLUME_SIZE");
    if (!(Timeout >= 10 && Timeout <= 4320)) throw invalid("Timeout is between 10 and 4320");
    if (ParentSnapshotId !== undefined && body.Encrypted !== undefined) throw invalid("You cannot specify ParentSnapshotId and Encrypted");
    const parent = ParentSnapshotId === undefined ? undefined : this.snapshots.get(ParentSnapshotId);
    if (ParentSnapshotId !== undefined && parent?.state !== "completed")
      throw new Failure(404, "ResourceNotFoundException", "The parent snapshot does not exist", "SNAPSHOT_NOT_FOUND");
    if (parent && !parent.encrypted && this.encryptionByDefault) throw invalid("the parent is not encrypted");
    if (parent && VolumeSize < parent.gib) throw invalid("smaller than the parent", "INVALID_VOLUME_SIZE");
    if (body.KmsKeyArn !== undefined && !/^arn:aws[a-z-]*:kms:.*:\d{12}:key\/.+$/.test(body.KmsKeyArn)) throw invalid("KmsKeyArn");
    const encrypted = parent ? parent.encrypted : body.Encrypted === true || this.encryptionByDefault;
    const key = body.KmsKeyArn ?? "arn:aws:kms:eu-central-1:123456789012:key/default";
    const snapshot: ServedSnapshot = before ?? {
      id: await this.newId(text, authorization),
      gib: VolumeSize,
      state: "pending",
      encrypted,
      ...(encrypted && { key }),
      ...(ParentSnapshotId !== undefined && { parent: ParentSnapshotId }),
      tags: Object.fromEntries((body.Tags ?? []).map((t) => [t.Key, t.Value])),
      blocks: new Map(),
      digests: new Map(),
      ...(ClientToken !== undefined && { token: ClientToken }),
      request: text,
      sealed: false,
      polls: this.pollsUntilCompleted,
      unknown: this.unknownAtFirst,
    };
    this.snapshots.set(snapshot.id, snapshot);
    return {
      SnapshotId: snapshot.id,
      OwnerId: "123456789012",
      Status: snapshot.state,
      VolumeSize,
      BlockSize: blockBytes,
      Tags: body.Tags,
      ...(encrypted && { KmsKeyArn: key }),
    };
  }

  private put(snapshot: ServedSnapshot, index: number, body: Buffer, header: (name: string) => string): Buffer {
    if (snapshot.state !== "pending" || snapshot.sealed) throw invalid("The snapshot is not pending", "INVALID_SNAPSHOT_ID");
    if (header("x-amz-data-length") !== String(blockBytes) || body.length !== blockBytes)
      throw invalid("a block has 524288 bytes", "INVALID_BLOCK");
    if (!(index >= 0 && index < snapshot.gib * 2048)) throw invalid("beyond the volume", "INVALID_BLOCK");
    if (header("x-amz-checksum-algorithm") !== "SHA256") throw invalid("SHA256");
    const digest = sha(body);
    if (header("x-amz-checksum") !== digest.toString("base64")) throw invalid("The checksum does not correspond", "INVALID_BLOCK");
    snapshot.blocks.set(index, this.keeps === "digests" || digest.equals(digestOfZeros) ? undefined : Buffer.from(body));
    snapshot.digests.set(index, digest);
    this.puts.push({ snapshot: snapshot.id, index });
    return digest;
  }

  private complete(snapshot: ServedSnapshot, header: (name: string) => string): void {
    if (snapshot.state !== "pending" || snapshot.sealed) throw invalid("The snapshot is not pending", "INVALID_SNAPSHOT_ID");
    if (header("x-amz-changedblockscount") !== String(snapshot.blocks.size))
      throw invalid(`${header("x-amz-changedblockscount")} blocks were said to be written, and ${snapshot.blocks.size} were`);
    if (header("x-amz-checksum-aggregation-method") !== "LINEAR") throw invalid("LINEAR");
    const indexes = [...snapshot.digests.keys()].sort((a, b) => a - b);
    const whole = sha(Buffer.concat(indexes.map((i) => snapshot.digests.get(i) ?? zeros))).toString("base64");
    if (header("x-amz-checksum") !== whole) throw invalid("The checksum of the whole does not correspond");
    snapshot.sealed = true;
  }

  /** What EC2 says of its state; asking moves it on, once it is sealed. */
  stateOf(id: string): ServedSnapshot["state"] | undefined {
    const snapshot = this.snapshots.get(id);
    if (snapshot?.state === "pending" && snapshot.sealed && --snapshot.polls <= 0) snapshot.state = "completed";
    return snapshot?.state;
  }

  private readable(snapshot: ServedSnapshot): void {
    if (snapshot.state !== "completed") throw invalid("The snapshot is not completed", "INVALID_SNAPSHOT_ID");
  }

  private known(snapshot: ServedSnapshot): number[] {
    const above = snapshot.parent === undefined ? undefined : this.snapshots.get(snapshot.parent);
    return [...new Set([...(above ? this.known(above) : []), ...snapshot.blocks.keys()])].sort((a, b) => a - b);
  }

  /** As a volume made from it reads: what nobody wrote is its parent's, zeros, or, when it is encrypted, noise. */
  block(snapshot: ServedSnapshot, index: number): Buffer {
    if (snapshot.blocks.has(index)) return snapshot.blocks.get(index) ?? zeros;
    const above = snapshot.parent === undefined ? undefined : this.snapshots.get(snapshot.parent);
    if (above) return this.block(above, index);
    return snapshot.encrypted ? randomBytes(blockBytes) : zeros;
  }

  /** On 127.0.0.1, alone. */
  async listen(): Promise<{ endpoint: string; stop(): void }> {
    const server = createServer((from, to) => void this.serve(from, to));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    return {
      endpoint: `http://127.0.0.1:${address && typeof address === "object" ? address.port : 0}`,
      stop() {
        server.close();
        server.closeAllConnections();
      },
    };
  }
}

const tokenOf = (snapshot: string, index: number): string => `${snapshot}.${index}`;
