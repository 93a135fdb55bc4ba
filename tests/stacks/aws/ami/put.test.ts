// A block's signature is the SDK's own, byte for byte.
import { createServer, type IncomingMessage } from "node:http";
import { EBSClient, PutSnapshotBlockCommand } from "@aws-sdk/client-ebs";
import fc from "fast-check";
import * as assert from "uvu/assert";
import { blockBytes, digestOfBlock } from "../../../../stacks/aws/ami/blocks.ts";
import { authorizationOf } from "../../../../stacks/aws/ami/put.ts";
import { suite } from "../../../suite.ts";

const test = suite("signature of a block");

test("whatever the keys, with and without a session", async () => {
  let met: IncomingMessage | undefined;
  const server = createServer((from, to) => {
    met = from;
    from.resume();
    from.on("end", () => to.writeHead(201).end());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const host = `127.0.0.1:${address && typeof address === "object" ? address.port : 0}`;
  const block = Buffer.alloc(blockBytes, "ingot");
  const digest = digestOfBlock(block);
  const text = fc.stringMatching(/^[A-Za-z0-9/+=]{1,40}$/);
  try {
    await fc.assert(
      fc.asyncProperty(
        text,
        text,
        fc.option(text, { nil: undefined }),
        fc.nat({ max: 100_000 }),
        async (accessKeyId, secretAccessKey, sessionToken, index) => {
          const credentials = { accessKeyId, secretAccessKey, ...(sessionToken !== undefined && { sessionToken }) };
          const region = "eu-central-1";
          const client = new EBSClient({ region, endpoint: `http://${host}`, credentials });
          await client.send(
            new PutSnapshotBlockCommand({
              SnapshotId: "snap-0123456789abcdef0",
              BlockIndex: index,
              BlockData: block,
              DataLength: blockBytes,
              Checksum: digest.toString("base64"),
              ChecksumAlgorithm: "SHA256",
            }),
          );
          client.destroy();
          const theirs = met?.headers ?? {};
          const names = /SignedHeaders=([^,]+)/.exec(String(theirs.authorization))?.[1]?.split(";") ?? [];
          for (const name of [
            "host",
            "x-amz-checksum",
            "x-amz-checksum-algorithm",
            "x-amz-content-sha256",
            "x-amz-data-length",
            "x-amz-date",
          ])
            assert.ok(names.includes(name), name);
          assert.is(theirs["x-amz-checksum"], digest.toString("base64"));
          assert.is(theirs["x-amz-content-sha256"], digest.toString("hex"));
          assert.is(names.includes("x-amz-security-token"), sessionToken !== undefined);
          const headers = Object.fromEntries(names.map((name) => [name, String(theirs[name])]));
          assert.is(
            authorizationOf(`/snapshots/snap-0123456789abcdef0/blocks/${index}`, headers, region, credentials),
            theirs.authorization,
          );
        },
      ),
      { numRuns: 15 },
    );
  } finally {
    server.close();
    server.closeAllConnections();
  }
});

test.run();
