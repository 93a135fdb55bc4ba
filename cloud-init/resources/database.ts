// A database of the host's PostgreSQL.
import { list, object, ref, text, withDefault } from "../../lib/schema.ts";
import { inside, kind } from "../kind.ts";
import { postgresql } from "./postgresql.ts";
import { passwordOf, role, sqlName } from "./role.ts";

export const database = kind({
  kind: "database",
  key: "databases",
  shape: "many",
  summary: "A database and who owns it. Encoding and locale are those of its making; a database that is there already is never made again.",
  names: sqlName,
  implies: ["postgresql"],
  schema: object({
    owner: ref("role", { description: "The role that owns it" }),
    encoding: withDefault(text({ description: "Character encoding" }), "UTF8"),
    locale: withDefault(text({ description: "Collation and character type" }), "en_US.UTF-8"),
    template: withDefault(text({ description: "The database it is copied from" }), "template0"),
    extensions: withDefault(list(sqlName, { description: "Extensions that are there, by name: `pg_trgm`" }), []),
  }),
  examples: [
    "roles:\n  shop: {}\ndatabases:\n  shop: { owner: shop }\n",
    "roles:\n  shop: {}\ndatabases:\n  search: { owner: shop, extensions: [pg_trgm, unaccent] }\n",
  ],
  outputs: ({ name, value }, host, at) => {
    const owner = host.get(role, value.owner);
    const password = { secret: passwordOf(value.owner, owner?.value ?? {}, host), encode: "url" as const };
    return {
      url: {
        parts: [`postgres://${encodeURIComponent(value.owner)}:`, password, `@${at}:5432/${encodeURIComponent(name)}`],
        description: "`postgres://owner:password@127.0.0.1:5432/name`; sensitive",
      },
      name: { parts: [name], description: "The database's name" },
      host: { parts: [at], description: "The server's address" },
      user: { parts: [value.owner], description: "The owner" },
      password: { parts: [{ secret: password.secret }], description: "The owner's password; sensitive" },
    };
  },
  awaited: ({ name, value }, host, at) => {
    const server = host.get(postgresql);
    if (server?.value.listen !== "private")
      return {
        unreachable: "is on a server that listens on loopback alone",
        hint: "write `postgresql: { listen: private, allow: [...] }`",
      };
    const owner = host.get(role, value.owner);
    return {
      action: "database-ready",
      args: { address: at, name, role: value.owner, password: { secret: passwordOf(value.owner, owner?.value ?? {}, host) } },
      timeoutSeconds: 600,
    };
  },
  after: () => ["postgresql"],
  compile: ({ name, value }) => ({
    steps: [
      {
        action: "database",
        args: {
          name,
          owner: value.owner,
          encoding: value.encoding,
          locale: value.locale,
          template: value.template,
          ...(value.extensions.length && { extensions: value.extensions }),
        },
      },
    ],
  }),
  checks: ({ name, value }) => [
    inside("postgresql_database", { name, owner: value.owner, encoding: value.encoding, collate: value.locale }),
    ...(value.extensions.length ? [inside("postgresql_extensions", { database: name, extensions: value.extensions }, "extensions")] : []),
  ],
});
