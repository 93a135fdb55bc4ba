// A database of the host's PostgreSQL.
import { object, ref, text, withDefault } from "../../lib/schema.ts";
import { inside, kind } from "../kind.ts";
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
  }),
  examples: ["roles:\n  shop: {}\ndatabases:\n  shop: { owner: shop }\n"],
  outputs: ({ name, value }, host) => {
    const owner = host.get(role, value.owner);
    const password = { secret: passwordOf(value.owner, owner?.value ?? {}, host), encode: "url" as const };
    return {
      url: {
        parts: [`postgres://${encodeURIComponent(value.owner)}:`, password, `@127.0.0.1:5432/${encodeURIComponent(name)}`],
        description: "`postgres://owner:password@127.0.0.1:5432/name`; sensitive",
      },
      name: { parts: [name], description: "The database's name" },
    };
  },
  after: () => ["postgresql"],
  compile: ({ name, value }) => ({
    steps: [
      { action: "database", args: { name, owner: value.owner, encoding: value.encoding, locale: value.locale, template: value.template } },
    ],
  }),
  checks: ({ name, value }) => [
    inside("postgresql_database", { name, owner: value.owner, encoding: value.encoding, collate: value.locale }),
  ],
});
