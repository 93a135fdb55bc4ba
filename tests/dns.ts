// A name server for the tests, over UDP: what it answers, A and NS, is the caller's. Its clients are real ones (c-ares in Node, glibc).
// Source: RFC 1035, section 4.
import { createSocket } from "node:dgram";

/** Of a name; undefined: there is no such name. What there is of another type alone: []. */
export type Records = (name: string, type: "A" | "NS") => Promise<string[] | undefined> | string[] | undefined;

const types = { 1: "A", 2: "NS" } as const;
const typeOf = (code: number): "A" | "NS" | undefined => types[code as keyof typeof types];
const ttl = 60;

/** @param port 0: one that is free @returns the port, and how it ends */
export async function serveDns(address: string, port: number, records: Records): Promise<{ port: number; stop(): void }> {
  const socket = createSocket("udp4");
  socket.on("message", async (query, from) => {
    const answer = await answerTo(query, records).catch(() => undefined);
    if (answer) socket.send(answer, from.port, from.address);
  });
  await new Promise<void>((resolve, reject) => {
    socket.once("error", reject);
    socket.bind(port, address, resolve);
  });
  return { port: socket.address().port, stop: () => void socket.close() };
}

async function answerTo(query: Buffer, records: Records): Promise<Buffer> {
  const labels: string[] = [];
  let at = 12;
  for (let length = query[at] ?? 0; length; length = query[at] ?? 0) {
    labels.push(query.toString("latin1", at + 1, at + 1 + length));
    at += length + 1;
  }
  const question = query.subarray(12, at + 5);
  const type = typeOf(query.readUInt16BE(at + 1));
  const values = await records(labels.join(".").toLowerCase(), type ?? "A");
  const found = type ? (values ?? []) : [];
  const head = Buffer.alloc(12);
  query.copy(head, 0, 0, 2);
  // A response, authoritative, that recursion was asked for and is to be had; 3: no such name.
  head.writeUInt16BE(0x8580 | (values ? 0 : 3), 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt16BE(found.length, 6);
  return Buffer.concat([head, question, ...found.map((value) => record(type ?? "A", value))]);
}

/** Of the name that was asked for, which stands behind the head. */
function record(type: "A" | "NS", value: string): Buffer {
  const data =
    type === "A"
      ? Buffer.from(value.split(".").map(Number))
      : Buffer.concat([...value.split(".").map((l) => Buffer.concat([Buffer.from([l.length]), Buffer.from(l)])), Buffer.from([0])]);
  const head = Buffer.alloc(12);
  head.writeUInt16BE(0xc00c, 0);
  head.writeUInt16BE(type === "A" ? 1 : 2, 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt32BE(ttl, 6);
  head.writeUInt16BE(data.length, 10);
  return Buffer.concat([head, data]);
}
