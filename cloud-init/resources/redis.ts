// The Redis server of the host.
import { shell } from "../../lib/quote.ts";
import { choice, type Infer, integer, map, object, optional, text, withDefault } from "../../lib/schema.ts";
import { type Host, inside, type Kind, kind, type Problem, pkg, renderedFile, stranger } from "../kind.ts";
import { allowHosts, privateAwaited, privatePorts, privateProblems } from "../listener.ts";
import { secretRef } from "../value.ts";
import { backup } from "./backup.ts";

const port = 6379;
const schema = object({
  databases: withDefault(
    map(
      integer({ minimum: 0, maximum: 15 }),
      text({ pattern: "^[a-z][a-z0-9-]*$", expected: "a name of lower-case letters, digits and `-`" }),
      { description: "Name → number, 0 to 15" },
    ),
    {},
  ),
  listen: withDefault(
    choice(["loopback", "private"], {
      description: "Where it listens: for this host alone, or at the host's `address:` too, and then nobody comes in without the password",
    }),
    "loopback",
  ),
  allow: allowHosts,
  password: optional({ ...secretRef, description: "Its password, also on loopback; a generated one when it listens beyond that" }),
  memory: optional(text({ pattern: "^[1-9][0-9]*(mb|gb)$", description: "Redis's `maxmemory`", expected: "a size such as `256mb`" })),
});
type Redis = Infer<typeof schema>;

/** The secret of its password, if it has one. */
const passwordOf = (value: Redis, host: Host): string | undefined =>
  value.password?.secret ?? (value.listen === "private" ? `${host.name}/redis/password` : undefined);

/** For redis-cli. */
const authentication = (password: string | undefined): string =>
  password === undefined ? "" : `REDISCLI_AUTH=$(cat ${shell(`/var/lib/ingot/secrets/${password}`)}) `;

const usersPath = "/etc/redis/ingot.acl";

export const redis: Kind<Redis> = kind({
  kind: "redis",
  key: "redis",
  shape: "one",
  summary:
    "The Redis server, on loopback unless it is told otherwise. Its numbered databases get names here, so that a cache and a queue are not mixed up: `{ from: redis/cache.url }`.",
  schema,
  examples: [
    "redis:\n  databases: { cache: 0, queue: 1 }\n",
    "address: 10.1.1.1\nredis:\n  listen: private\n  databases: { queue: 0 }\n  memory: 256mb\n",
  ],
  outputs: ({ value }, host, at) => {
    const password = passwordOf(value, host);
    return Object.fromEntries(
      Object.entries(value.databases).map(([name, n]) => [
        `${name}.url`,
        {
          parts: [
            ...(password === undefined ? ["redis://"] : ["redis://:", { secret: password, encode: "url" as const }, "@"]),
            `${at}:${port}/${n}`,
          ],
          description:
            password === undefined ? `\`redis://127.0.0.1:${port}/${n}\`` : `\`redis://:password@127.0.0.1:${port}/${n}\`; sensitive`,
        },
      ]),
    );
  },
  awaited: ({ value }, _, at) => privateAwaited("redis", value.listen, at, port),
  // One file, which it makes when it is told to.
  state: ({ value }, host) => ({
    name: "redis",
    paths: ["/var/lib/redis"],
    before: `${authentication(passwordOf(value, host))}redis-cli save | grep -qx OK`,
  }),
  binds: () => [port],
  after: (_, host) => host.all(backup).map((b) => b.id),
  problems: ({ value }, host): Problem[] => {
    const seen = new Map<number, string>();
    return [
      ...privateProblems(value.listen, host, value.allow),
      ...Object.entries(value.databases).flatMap(([name, n]) => {
        const other = seen.get(n);
        seen.set(n, name);
        return other ? [{ code: "ING1503", path: ["databases", name], message: `${other} and ${name} are both database ${n}` }] : [];
      }),
    ];
  },
  needs: () => [pkg("redis-server")],
  compile: ({ value }, host) => {
    const password = passwordOf(value, host);
    const inputs = ["/etc/redis/ingot.conf", ...(password === undefined ? [] : [usersPath])];
    return {
      secrets:
        password === undefined ? [] : [{ name: password, generate: value.password ? value.password.generate : ("password" as const) }],
      ports: privatePorts(value, port),
      files: [
        {
          path: "/etc/redis/ingot.conf",
          mode: "0644",
          content: [
            "include /etc/redis/redis.conf",
            value.listen === "private" ? `bind 127.0.0.1 ${host.address}` : "bind 127.0.0.1 -::1",
            "protected-mode yes",
            ...(password === undefined ? [] : [`aclfile ${usersPath}`]),
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
        ...(password === undefined
          ? []
          : [
              // Of its hash, so that it needs no quoting and stands nowhere else.
              renderedFile("password", { path: usersPath, owner: "redis", mode: "0600" }, [
                "user default on #",
                { secret: password, encode: "sha256" },
                " ~* &* +@all\n",
              ]),
            ]),
        { action: "service", args: { unit: "redis-server.service", inputs, listens: `127.0.0.1:${port}` } },
      ],
    };
  },
  checks: ({ value }, host) => {
    const password = passwordOf(value, host);
    return [
      inside("unit", { name: "redis-server.service", active: true, enabled: true }),
      ...[...new Set([0, ...Object.values(value.databases)])].map((n) =>
        inside("redis", { database: n, ...(password !== undefined && { secret: password }) }, `database-${n}`),
      ),
      ...(password === undefined ? [] : [inside("redis", { refuses: true }, "without-password")]),
      ...(value.listen === "loopback" ? [stranger("tcp", { port, open: false }, "closed")] : []),
    ];
  },
});
