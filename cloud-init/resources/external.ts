// A server that is there already, and that Ingot does not make.
import { choice, type Infer, object, optional, text, withDefault } from "../../lib/schema.ts";
import { type Host, inside, type Kind, kind, type Problem } from "../kind.ts";
import { reachableAt } from "../listener.ts";
import { serverAndPort } from "../names.ts";
import type { Part } from "../plan.ts";
import { type Output, secretRef } from "../value.ts";

const kinds = {
  postgresql: { port: 5432, scheme: "postgres" },
  redis: { port: 6379, scheme: "redis" },
  amqp: { port: 5672, scheme: "amqp" },
  smtp: { port: 25, scheme: "smtp" },
  http: { port: 80, scheme: "http" },
  https: { port: 443, scheme: "https" },
} as const;

const schema = object({
  kind: choice(Object.keys(kinds) as (keyof typeof kinds)[], { description: "What it speaks" }),
  address: text({
    pattern: `^${serverAndPort}$`,
    expected: "a server, such as `db.example.org:5432`",
    description: "Where it is; the protocol's own port when none is named",
  }),
  name: withDefault(text({ pattern: "^[^\\n]*$", description: "The database, or its number, or the virtual host" }), ""),
  user: optional(text({ pattern: "^[^\\n]+$", description: "Who logs in" })),
  password: optional({ ...secretRef, description: "The password" }),
  authority: optional(
    text({
      pattern: "^/[^\\s]+$",
      expected: "an absolute path",
      description: "Certificates that vouch for it, for whoever asks for `authority`",
    }),
  ),
});
type External = Infer<typeof schema>;

export const serverOf = ({ kind: speaks, address }: External): { host: string; port: number } => {
  const [host = "", port] = address.split(":");
  return { host, port: port === undefined ? kinds[speaks].port : Number(port) };
};

export const external: Kind<External> = kind({
  kind: "external",
  key: "externals",
  shape: "many",
  summary:
    "A server that exists already: a PostgreSQL on site or at RDS, a broker, a cache, a mail relay. It has the outputs that one declared here would have, so that what refers to it cannot tell. First boot waits until it can be reached, and a PostgreSQL lets in who logs in to it; `verify` asks again, and logs in to a PostgreSQL, a Redis, and a broker that speaks AMQP in plain.",
  schema,
  examples: [
    "externals:\n  orders: { kind: postgresql, address: db.example.org, name: orders, user: shop, password: { secret: orders } }\n  queue: { kind: amqp, address: 'mq.example.org:5671', name: /, user: shop, password: { secret: queue } }\n",
  ],
  outputs: ({ value }) => {
    const { host, port } = serverOf(value);
    const path = value.kind === "amqp" ? encodeURIComponent(value.name) : value.name;
    const password: Part[] = value.password ? [":", { secret: value.password.secret, encode: "url" }] : [];
    const login: Part[] = value.user !== undefined || password.length ? [encodeURIComponent(value.user ?? ""), ...password, "@"] : [];
    const outputs: Record<string, Output> = {
      url: {
        parts: [`${kinds[value.kind].scheme}://`, ...login, `${host}:${port}/${path}`],
        description: "`postgres://user:password@address:port/name`; sensitive",
      },
      host: { parts: [host], description: "Its address" },
      port: { parts: [String(port)], description: "Its port" },
      name: { parts: [value.name], description: "The database, or the virtual host" },
    };
    if (value.user !== undefined) outputs.user = { parts: [value.user], description: "Who logs in" };
    if (value.password) outputs.password = { parts: [{ secret: value.password.secret }], description: "The password; sensitive" };
    if (value.authority !== undefined)
      outputs.authority = { parts: [value.authority], description: "Path of the certificates that vouch for it" };
    return outputs;
  },
  problems: ({ value }): Problem[] =>
    value.password && value.user === undefined && value.kind !== "redis"
      ? [{ code: "ING1433", path: ["password"], message: "a password without a user logs nobody in", hint: "add `user:`" }]
      : [],
  compile: ({ value }) => {
    const { host, port } = serverOf(value);
    return {
      secrets: value.password ? [{ name: value.password.secret, generate: value.password.generate }] : [],
      steps: [
        reachableAt(host, port),
        ...(value.kind === "postgresql" && value.user !== undefined && value.password
          ? [
              {
                part: "login",
                action: "database-ready",
                // A server that is there lets in, or never will: no longer than its role may take to be made.
                args: { address: host, port, name: value.name, role: value.user, password: { secret: value.password.secret }, wait: 60 },
                timeoutSeconds: 90,
              },
            ]
          : []),
      ],
    };
  },
  checks: ({ value }, _: Host) => {
    const { host, port } = serverOf(value);
    const secret = value.password?.secret;
    return [
      inside("tcp", { host, port, open: true }),
      ...(value.kind === "redis" && value.user === undefined
        ? [inside("redis", { host, port, database: Number(value.name || 0), ...(secret !== undefined && { secret }) }, "login")]
        : []),
      // Behind TLS (5671) the port is all that is asked for.
      ...(value.kind === "amqp" && port === kinds.amqp.port && value.user !== undefined && secret !== undefined
        ? [inside("amqp", { host, port, user: value.user, vhost: value.name || "/", secret }, "login")]
        : []),
      ...(value.kind === "postgresql" && value.user !== undefined && value.password
        ? [inside("postgresql_login", { host, port, database: value.name, role: value.user, secret: value.password.secret }, "login")]
        : []),
    ];
  },
});
