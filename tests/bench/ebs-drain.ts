// What uploads are sent to in `npm run bench -- amis`: a process of its own, so light that it is not what is measured. It drains blocks, counts
// them, holds every sixteenth and the checksum of the whole to what was said, and knows just enough of EC2 and S3 for an upload.
import { createHash } from "node:crypto";
import { createServer } from "node:http";

const blockBytes = 524_288;
const sha = (data: Uint8Array): Buffer => createHash("sha256").update(data).digest();
/** Of each snapshot: digests that were said, by block. */
const snapshots = new Map<string, Map<number, Buffer>>();
const states = new Map<string, string>();
const objects = new Map<string, Buffer>();
const tags: string[] = [];

const server = createServer((from, to) => {
  const url = new URL(from.url ?? "/", "http://drain");
  const [, top, one = "", , index = ""] = url.pathname.split("/");
  const block = from.method === "PUT" && top === "snapshots";
  const checked = block && Number(index) % 16 !== 0 ? undefined : [];
  let bytes = 0;
  from.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    checked?.push(chunk as never);
  });
  from.on("end", () => {
    const body = checked && Buffer.concat(checked);
    const say = (status: number, text: string | Buffer = "", headers: Record<string, string> = {}) => {
      to.writeHead(status, headers);
      to.end(text);
    };
    const refuse = (message: string) => say(400, JSON.stringify({ Message: message }), { "x-amzn-errortype": "ValidationException" });
    if (block) {
      const digest = Buffer.from(String(from.headers["x-amz-checksum"]), "base64");
      if (bytes !== blockBytes || (body && !sha(body).equals(digest))) return refuse("not the block that was said");
      snapshots.get(one)?.set(Number(index), digest);
      return say(201, "", { "x-amz-checksum": digest.toString("base64"), "x-amz-checksum-algorithm": "SHA256" });
    }
    if (top === "snapshots" && one === "completion") {
      const id = url.pathname.split("/")[3] ?? "";
      const digests = snapshots.get(id) ?? new Map<number, Buffer>();
      const all = [...digests.entries()].sort(([a], [b]) => a - b).map(([, d]) => d);
      if (from.headers["x-amz-changedblockscount"] !== String(all.length)) return refuse("another number of blocks");
      const said = from.headers["x-amz-checksum"];
      if (said !== undefined && said !== sha(Buffer.concat(all)).toString("base64")) return refuse("another checksum");
      states.set(id, "completed");
      return say(202, JSON.stringify({ Status: "completed" }));
    }
    if (top === "snapshots") {
      const id = `snap-${String(snapshots.size + 1).padStart(17, "0")}`;
      snapshots.set(id, new Map());
      states.set(id, "pending");
      const asked = JSON.parse(String(body)) as { VolumeSize: number; Tags?: { Key: string; Value: string }[] };
      tags.push(
        `<item><snapshotId>${id}</snapshotId><volumeSize>${asked.VolumeSize}</volumeSize><startTime>${new Date().toISOString()}</startTime><tagSet>${(
          asked.Tags ?? []
        )
          .map((t) => `<item><key>${t.Key}</key><value>${t.Value}</value></item>`)
          .join("")}</tagSet>`,
      );
      return say(201, JSON.stringify({ SnapshotId: id, VolumeSize: asked.VolumeSize, BlockSize: blockBytes, Status: "pending" }));
    }
    if (top === "counts") return say(200, JSON.stringify(Object.fromEntries([...snapshots].map(([id, digests]) => [id, digests.size]))));
    if (String(from.headers["content-type"]).includes("x-www-form-urlencoded")) {
      const asked = new URLSearchParams(String(body));
      const action = asked.get("Action") ?? "";
      const wanted = asked.get("SnapshotId.1");
      const [recipe] = [...asked].flatMap(([key, value]) =>
        value === "tag:ingot:recipe" ? [asked.get(key.replace(/Name$/, "Value.1"))] : [],
      );
      const items = tags
        .filter((t) => recipe === undefined || t.includes(`<value>${recipe}</value>`))
        .filter((t) => wanted === null || t.includes(wanted))
        .map((t) => `${t}<status>${states.get(/snap-[0-9]+/.exec(t)?.[0] ?? "")}</status><encrypted>false</encrypted></item>`);
      const inner =
        action === "GetEbsEncryptionByDefault"
          ? "<ebsEncryptionByDefault>false</ebsEncryptionByDefault>"
          : `<snapshotSet>${items.join("")}</snapshotSet>`;
      return say(200, `<${action}Response xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">${inner}</${action}Response>`, {
        "content-type": "text/xml",
      });
    }
    // S3: the digests of blocks.
    if (from.method === "PUT") {
      objects.set(url.pathname, plain(body ?? Buffer.alloc(0), from.headers["x-amz-decoded-content-length"]));
      return say(200, "", { etag: '"1"' });
    }
    const there = objects.get(url.pathname);
    if (there) return say(200, there, { etag: '"1"' });
    return say(404, "<Error><Code>NoSuchKey</Code><Message>none</Message></Error>", { "content-type": "text/xml" });
  });
});

/** What the SDK sends in chunks with their sizes before them (aws-chunked) is put together. */
function plain(body: Buffer, length: string | string[] | undefined): Buffer {
  if (length === undefined) return body;
  const parts: Buffer[] = [];
  for (let at = 0; ; ) {
    const end = body.indexOf("\r\n", at);
    const size = Number.parseInt(body.subarray(at, end).toString(), 16);
    if (!size) return Buffer.concat(parts);
    parts.push(body.subarray(end + 2, end + 2 + size));
    at = end + 2 + size + 2;
  }
}

server.listen(0, "127.0.0.1", () => {
  const address = server.address();
  process.stdout.write(`${address && typeof address === "object" ? address.port : 0}\n`);
});
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
