// ingot render: the user-data bytes, and who takes how many of them.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { limit, userDataOf } from "../cloud-init/user-data.ts";
import { RefusedError } from "../lib/diagnostics.ts";
import { type Io, table } from "./command.ts";
import { load, only } from "./stack.ts";

export const help = `Gives the user-data that each machine of a stack gets, with its size by resource.

  ingot render <stack> [--to <folder>]

Without --to: the readable #cloud-config on standard output, sizes on standard error. With --to: <folder>/<host>.user-data holds
the bytes as the machine gets them, <host>.yaml the readable form. More than ${limit.toLocaleString("en")} bytes is an error (EC2's limit); the readable
form is compressed by gzip when it is over the limit. With --on aws what is still too large goes to the bucket.`;

export async function main(args: string[], io: Io): Promise<number> {
  const { positionals, values } = parseArgs({ args, allowPositionals: true, options: { to: { type: "string" } } });
  const { plan } = load(only(positionals, "stack", "ingot render <stack>"), io);
  const hosts = plan.hosts.map((host) => ({ host, data: userDataOf(host, io.on === "aws" ? "spills" : "stays") }));
  for (const { host, data } of hosts) {
    if (host.artifacts.some((a) => /^0+$/.test(a.sha256)))
      io.progress.say(`${host.host}: a release is not built yet, so its sha256 is all zeros here (\`ingot up\` builds it)`);
    if (values.to) {
      mkdirSync(values.to, { recursive: true });
      writeFileSync(join(values.to, `${host.host}.user-data`), data.bytes);
      writeFileSync(join(values.to, `${host.host}.yaml`), data.text);
    }
  }
  if (io.json) {
    io.print(
      JSON.stringify(
        hosts.map(({ host, data }) => ({
          host: host.host,
          bytes: data.bytes.length,
          limit,
          compressed: data.compressed,
          readableBytes: Buffer.byteLength(data.text),
          spilled: data.spilled.map((f) => ({ sha256: f.sha256, bytes: f.bytes.length, resource: f.resource })),
          byResource: data.byResource,
          ...(!values.to && { text: data.text }),
        })),
        null,
        2,
      ),
    );
  } else {
    for (const { host, data } of hosts) {
      if (!values.to) io.print(data.text);
      console.error(
        `${host.host}: ${data.bytes.length} of ${limit} bytes${data.compressed ? `, by gzip from ${Buffer.byteLength(data.text)}` : ""}`,
      );
      for (const f of data.spilled) console.error(`  ${f.bytes.length} bytes of ${f.resource} go to the bucket (${f.sha256.slice(0, 12)})`);
      console.error(table(data.byResource.map((r) => ["  ", r.resource, String(r.bytes)])));
    }
  }
  const over = hosts.find(({ data }) => data.bytes.length > limit);
  if (over)
    throw new RefusedError(
      `the user-data of ${over.host.host} has ${over.data.bytes.length} bytes; EC2 takes ${limit}`,
      `its largest part is ${over.data.byResource[0]?.resource}: move its content into the image (\`files:\` of the recipe) or into a release`,
    );
  return 0;
}
