// Stands before moto where AMIs are made, and holds to what moto only nods at: the EBS direct APIs (ebs-server.ts), states of snapshots, and
// of RegisterImage the names that are taken, tags, block devices and architecture. Everything else is moto's.
// Sources: Amazon EC2 API Reference, RegisterImage, DescribeSnapshots, GetEbsEncryptionByDefault.
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import { EbsServer } from "./ebs-server.ts";

export interface Registered {
  id: string;
  name: string;
  /** Every parameter of the call, as EC2's query protocol has it: `BlockDeviceMapping.1.Ebs.SnapshotId`. */
  asked: Record<string, string>;
  state: "pending" | "available" | "failed";
}

export interface AwsFront {
  endpoint: string;
  ebs: EbsServer;
  images: Registered[];
  /** EC2's actions, in their order. */
  actions: string[];
  /** The state that the next image gets. */
  nextState: Registered["state"];
  stop(): void;
}

/** @param at where it listens; a free port of loopback's without it */
export async function awsFront(moto: string, at = { host: "127.0.0.1", port: 0 }): Promise<AwsFront> {
  const ebs = new EbsServer();
  const front: AwsFront = { endpoint: "", ebs, images: [], actions: [], nextState: "available", stop: () => {} };
  const server = createServer((from, to) => {
    void answer(front, moto, from, to).catch(() => to.destroy());
  });
  await new Promise<void>((resolve) => server.listen(at.port, at.host, resolve));
  const address = server.address();
  front.endpoint = `http://${at.host}:${address && typeof address === "object" ? address.port : 0}`;
  front.stop = () => {
    server.close();
    server.closeAllConnections();
  };
  // EC2's side of a snapshot is moto's.
  ebs.newId = async (body, authorization) => {
    const { ParentSnapshotId: _, Encrypted: __, KmsKeyArn: ___, ...known } = JSON.parse(body) as Record<string, unknown>;
    const made = await fetch(`${moto}/snapshots`, {
      method: "POST",
      headers: { authorization, "content-type": "application/json" },
      body: JSON.stringify(known),
    });
    return ((await made.json()) as { SnapshotId: string }).SnapshotId;
  };
  return front;
}

async function answer(front: AwsFront, moto: string, from: IncomingMessage, to: ServerResponse): Promise<void> {
  if (EbsServer.takes(from)) return front.ebs.serve(from, to);
  if (!String(from.headers["content-type"]).includes("x-www-form-urlencoded")) {
    const forward = request(new URL(from.url ?? "/", moto), { method: from.method, headers: from.headers }, (back) => {
      to.writeHead(back.statusCode ?? 500, back.headers);
      back.pipe(to);
    });
    forward.on("error", () => to.destroy());
    from.pipe(forward);
    return;
  }
  const chunks: Buffer[] = [];
  for await (const chunk of from) chunks.push(chunk as Buffer);
  const asked = Object.fromEntries(new URLSearchParams(Buffer.concat(chunks).toString())) as Record<string, string>;
  const action = asked.Action ?? "";
  front.actions.push(action);
  const ask = (parameters: Record<string, string>, authorization: string) =>
    fetch(moto, {
      method: "POST",
      headers: { authorization, "content-type": "application/x-www-form-urlencoded" },
      body: new URLSearchParams(parameters),
    });
  const authorization = String(from.headers.authorization);
  const refuse = (code: string, message: string) => {
    to.writeHead(400, { "content-type": "text/xml" });
    to.end(
      `<Response><Errors><Error><Code>${code}</Code><Message>${message}</Message></Error></Errors><RequestID>r-1</RequestID></Response>`,
    );
  };
  if (action === "RegisterImage") {
    const wrong = whatIsWrong(front, asked);
    if (wrong) return refuse(...wrong);
  }
  if (action === "GetEbsEncryptionByDefault") {
    to.writeHead(200, { "content-type": "text/xml" });
    to.end(
      `<GetEbsEncryptionByDefaultResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><ebsEncryptionByDefault>${front.ebs.encryptionByDefault}</ebsEncryptionByDefault></GetEbsEncryptionByDefaultResponse>`,
    );
    return;
  }
  const back = await ask(asked, authorization);
  let text = await back.text();
  if (back.ok && action === "RegisterImage") {
    const [, id = ""] = /<imageId>([^<]+)/.exec(text) ?? [];
    front.images.push({ id, name: asked.Name ?? "", asked, state: front.nextState });
    const tags = Object.entries(asked).flatMap(([key, value]) => {
      const [, n, what] = /^TagSpecification\.1\.Tag\.(\d+)\.(Key|Value)$/.exec(key) ?? [];
      return n === undefined ? [] : [[`Tag.${n}.${what}`, value]];
    });
    if (tags.length)
      await ask({ Action: "CreateTags", Version: "2016-11-15", "ResourceId.1": id, ...Object.fromEntries(tags) }, authorization);
  }
  if (back.ok && action === "DeregisterImage") front.images = front.images.filter((i) => i.id !== asked.ImageId);
  if (back.ok && action === "DeleteSnapshot") front.ebs.snapshots.delete(asked.SnapshotId ?? "");
  if (back.ok && action === "DescribeImages") text = eachItem(text, "imagesSet", (item) => imageItem(front, item));
  if (back.ok && action === "DescribeSnapshots") text = eachItem(text, "snapshotSet", (item) => snapshotItem(front, item, asked));
  to.writeHead(back.status, { "content-type": "text/xml" });
  to.end(text);
}

function whatIsWrong({ ebs, images }: AwsFront, asked: Record<string, string>): [code: string, message: string] | undefined {
  const name = asked.Name ?? "";
  const taken = images.find((i) => i.name === name);
  if (!/^[A-Za-z0-9()[\] ./'@_-]{3,128}$/.test(name))
    return ["InvalidAMIName.Malformed", "AMI names must be between 3 and 128 characters long"];
  if (taken) return ["InvalidAMIName.Duplicate", `AMI name ${name} is already in use by AMI ${taken.id}`];
  if (Object.entries(asked).some(([key, value]) => /^TagSpecification\.\d+\.ResourceType$/.test(key) && value !== "image"))
    return ["InvalidParameterValue", "only images can be tagged by this call"];
  const snapshot = ebs.snapshots.get(asked["BlockDeviceMapping.1.Ebs.SnapshotId"] ?? "");
  if (asked["BlockDeviceMapping.1.Ebs.SnapshotId"] !== undefined) {
    if (!snapshot) return ["InvalidSnapshot.NotFound", "The snapshot does not exist."];
    if (snapshot.state !== "completed") return ["InvalidParameterValue", "Snapshot is in invalid state - pending"];
    if (asked["BlockDeviceMapping.1.Ebs.Encrypted"] !== undefined)
      return ["InvalidBlockDeviceMapping", "the encryption state is the snapshot's"];
  }
  return undefined;
}

/** Rewrites each <item> directly below an element; undefined leaves it out. */
function eachItem(text: string, within: string, rewrite: (item: string) => string | undefined): string {
  const [, before = "", inner = "", after = ""] = new RegExp(`^([\\s\\S]*<${within}>)([\\s\\S]*)(</${within}>[\\s\\S]*)$`).exec(text) ?? [];
  if (!inner) return text;
  const items: string[] = [];
  let depth = 0;
  let begin = 0;
  for (const match of inner.matchAll(/<(\/?)item>/g)) {
    if (match[1] === "" && depth++ === 0) begin = match.index;
    if (match[1] === "/" && --depth === 0) items.push(inner.slice(begin, match.index + "</item>".length));
  }
  return `${before}${items.flatMap((item) => rewrite(item) ?? []).join("")}${after}`;
}

function imageItem({ images, ebs }: AwsFront, item: string): string {
  const image = images.find((i) => item.includes(`<imageId>${i.id}</imageId>`));
  if (!image) return item;
  const { asked } = image;
  const device = asked["BlockDeviceMapping.1.DeviceName"];
  const snapshot = asked["BlockDeviceMapping.1.Ebs.SnapshotId"] ?? "";
  const encrypted = ebs.snapshots.get(snapshot)?.encrypted ?? false;
  return item
    .replace(/<blockDeviceMapping>[\s\S]*<\/blockDeviceMapping>/, () =>
      device === undefined
        ? "<blockDeviceMapping/>"
        : `<blockDeviceMapping><item><deviceName>${device}</deviceName><ebs><snapshotId>${snapshot}</snapshotId><encrypted>${encrypted}</encrypted></ebs></item></blockDeviceMapping>`,
    )
    .replace(/<rootDeviceName>[^<]*/, `<rootDeviceName>${asked.RootDeviceName ?? ""}`)
    .replace(/<imageState>[^<]*/, `<imageState>${image.state}`)
    .replace(/<architecture>[^<]*<\/architecture>/, "")
    .replace(/<bootMode>[^<]*<\/bootMode>/, asked.BootMode === undefined ? "" : `<bootMode>${asked.BootMode}</bootMode>`)
    .replace("<imageType>", `<architecture>${asked.Architecture ?? "i386"}</architecture><imageType>`);
}

function snapshotItem({ ebs }: AwsFront, item: string, asked: Record<string, string>): string | undefined {
  const [, id = ""] = /<snapshotId>([^<]+)/.exec(item) ?? [];
  const snapshot = ebs.snapshots.get(id);
  if (!snapshot) return item;
  const state = ebs.stateOf(id) ?? "error";
  const filters = Object.entries(asked).flatMap(([key, name]) => {
    const [, n] = /^Filter\.(\d+)\.Name$/.exec(key) ?? [];
    return n === undefined ? [] : [[name, asked[`Filter.${n}.Value.1`]] as const];
  });
  const is: Record<string, string> = { status: state, encrypted: String(snapshot.encrypted) };
  if (filters.some(([name, value]) => name in is && is[name] !== value)) return undefined;
  return item
    .replace(/<status>[^<]*/, `<status>${state}`)
    .replace(/<encrypted>[^<]*/, `<encrypted>${snapshot.encrypted}`)
    .replace(/<kmsKeyId>[^<]*<\/kmsKeyId>|<kmsKeyId\/>/, "")
    .replace(/<\/item>$/, snapshot.key === undefined ? "</item>" : `<kmsKeyId>${snapshot.key}</kmsKeyId></item>`)
    .replace(/<\/item>$/, snapshot.message === undefined ? "</item>" : `<statusMessage>${snapshot.message}</statusMessage></item>`);
}
