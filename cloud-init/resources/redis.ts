// The Redis server of the host.
import { integer, map, object, optional, text, withDefault } from "../../lib/schema.ts";
import { inside, kind, type Problem, pkg, stranger } from "../kind.ts";

export const redis = kind({
  kind: "redis",
  key: "redis",
  shape: "one",
  summary:
    "The Redis server, on loopback. Its numbered databases get names here, so that a cache and a queue are not mixed up: `{ from: redis/cache.url }`.",
  schema: object({
    databases: withDefault(
      map(
        integer({ minimum: 0, maximum: 15 }),
        text({ pattern: "^[a-z][a-z0-9-]*$", expected: "a name of lower-case letters, digits and `-`" }),
        { description: "Name → number, 0 to 15" },
      ),
      {},
    ),
    memory: optional(text({ pattern: "^[1-9][0-9]*(mb|gb)$", description: "Redis's `maxmemory`", expected: "a size such as `256mb`" })),
  }),
  examples: ["redis:\n  databases: { cache: 0, queue: 1 }\n"],
  outputs: ({ value }) =>
    Object.fromEntries(
      Object.entries(value.databases).map(([name, n]) => [
        `${name}.url`,
        { parts: [`redis://127.0.0.1:6379/${n}`], description: `\`redis://127.0.0.1:6379/${n}\`` },
      ]),
    ),
  problems: ({ value }): Problem[] => {
    const seen = new Map<number, string>();
    return Object.entries(value.databases).flatMap(([name, n]) => {
      const other = seen.get(n);
      seen.set(n, name);
      return other ? [{ code: "ING1503", path: ["databases", name], message: `${other} and ${name} are both database ${n}` }] : [];
    });
  },
  needs: () => [pkg("redis-server")],
  binds: () => [6379],
  compile: ({ value }) => ({
    files: [
      {
        path: "/etc/redis/ingot.conf",
        mode: "0644",
        content: [
          "include /etc/redis/redis.conf",
          "bind 127.0.0.1 -::1",
          "protected-mode yes",
          ...(value.memory ? [`maxmemory ${value.memory}`] : []),
          "",
        ].join("\n"),
      },
      {
        path: "/etc/systemd/system/redis-server.service.d/ingot.conf",
        mode: "0644",
        content: [
          "[Service]",
          "ExecStart=",
          "ExecStart=/usr/bin/redis-server /etc/redis/ingot.conf --supervised systemd --daemonize no",
          "",
        ].join("\n"),
      },
    ],
    steps: [
      {
        action: "service",
        args: { unit: "redis-server.service", inputs: ["/etc/redis/ingot.conf"], listens: "127.0.0.1:6379" },
      },
    ],
  }),
  checks: ({ value }) => [
    inside("unit", { name: "redis-server.service", active: true, enabled: true }),
    ...[...new Set([0, ...Object.values(value.databases)])].map((n) => inside("redis", { database: n }, `database-${n}`)),
    stranger("tcp", { port: 6379, open: false }, "closed"),
  ],
});
