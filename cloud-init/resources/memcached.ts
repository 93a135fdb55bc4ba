// The memcached server of the host.
import { choice, type Infer, integer, object, withDefault } from "../../lib/schema.ts";
import { inside, type Kind, kind, pkg, stranger } from "../kind.ts";
import { allowHosts, privateAwaited, privatePorts, privateProblems } from "../listener.ts";

const port = 11211;
const schema = object({
  memory: withDefault(integer({ minimum: 8, maximum: 1048576, description: "How much it keeps, in MiB" }), 64),
  listen: withDefault(
    choice(["loopback", "private"], {
      description: "Where it listens: for this host alone, or at the host's `address:` too. It asks nobody for a password",
    }),
    "loopback",
  ),
  allow: allowHosts,
});
type Memcached = Infer<typeof schema>;

export const memcached: Kind<Memcached> = kind({
  kind: "memcached",
  key: "memcached",
  shape: "one",
  summary: "The memcached server, on loopback unless it is told otherwise, over TCP alone: `{ from: memcached/server.address }`.",
  schema,
  examples: ["image: patchwork\nmemcached: { memory: 128 }\n"],
  outputs: (_, _host, at) => ({ "server.address": { parts: [`${at}:${port}`], description: "Where it is reached, as `127.0.0.1:11211`" } }),
  awaited: ({ value }, _, at) => privateAwaited("memcached", value.listen, at, port),
  binds: () => [port],
  needs: () => [pkg("memcached")],
  problems: ({ value }, host) => privateProblems(value.listen, host, value.allow),
  compile: ({ value }, host) => ({
    ports: privatePorts(value, port),
    files: [
      {
        path: "/etc/systemd/system/memcached.service.d/ingot.conf",
        mode: "0644",
        content: [
          "[Service]",
          "ExecStart=",
          `ExecStart=/usr/bin/memcached -u memcache -m ${value.memory} -p ${port} -U 0 -l 127.0.0.1${value.listen === "private" ? `,${host.address}` : ""}`,
          "",
        ].join("\n"),
      },
    ],
    steps: [{ action: "service", args: { unit: "memcached.service", listens: `127.0.0.1:${port}` } }],
  }),
  checks: ({ value }) => [
    inside("unit", { name: "memcached.service", active: true, enabled: true }),
    inside("tcp", { host: "127.0.0.1", port, open: true }, "listens"),
    ...(value.listen === "loopback" ? [stranger("tcp", { port, open: false }, "closed")] : []),
  ],
});
