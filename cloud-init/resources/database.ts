// A database of the host's PostgreSQL.
import { readFileSync } from "node:fs";
import { sha256 } from "../../lib/digest.ts";
import { list, object, ref, text, withDefault } from "../../lib/schema.ts";
import { inStackFolder, inside, isThere, kind, type Problem } from "../kind.ts";
import { postgresql } from "./postgresql.ts";
import { passwordOf, reservedProblems, role, sqlName } from "./role.ts";

/** Those that a server may have. Source: PostgreSQL's manual, "Character Set Support". */
const encodings = "UTF8|SQL_ASCII|EUC_(CN|JP|JIS_2004|KR|TW)|ISO_8859_[5-8]|KOI8[RU]|LATIN([1-9]|10)|MULE_INTERNAL|WIN(866|874|125[0-8])";

/** Locales of libc's own, which are in every image. */
const builtIn = ["C", "POSIX", "C.UTF-8"];

export const database = kind({
  kind: "database",
  key: "databases",
  shape: "many",
  summary: "A database and who owns it. Encoding and locale are those of its making; a database that is there already is never made again.",
  names: sqlName,
  implies: ["postgresql"],
  schema: object({
    owner: ref("role", { description: "The role that owns it" }),
    encoding: withDefault(
      text({
        pattern: `^(${encodings})$`,
        expected: "an encoding that a server of PostgreSQL's may have, such as `UTF8`",
        description: "Character encoding",
      }),
      "UTF8",
    ),
    locale: withDefault(text({ description: "Collation and character type" }), "en_US.UTF-8"),
    template: withDefault(text({ description: "The database it is copied from" }), "template0"),
    extensions: withDefault(list(sqlName, { description: "Extensions that are there, by name: `pg_trgm`" }), []),
    schemas: withDefault(list(sqlName, { description: "Schemas that are there beside `public`, the owner's" }), []),
    sql: withDefault(
      list(text(), {
        description:
          "Files of SQL beside the stack, run by the owner, each once for its content, one after the other, each as a whole or not at all",
      }),
      [],
    ),
  }),
  examples: [
    "roles:\n  shop: {}\ndatabases:\n  shop: { owner: shop }\n",
    "roles:\n  shop: {}\ndatabases:\n  search: { owner: shop, extensions: [pg_trgm, unaccent], schemas: [reports] }\n",
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
  needs: ({ value }) => (builtIn.includes(value.locale) ? [] : [{ need: "locale", name: value.locale }]),
  after: ({ value }) => ["postgresql", `database/${value.template}`],
  problems: ({ name, value }, host): Problem[] => [
    ...reservedProblems("database", name),
    ...(["template0", "template1"].includes(value.template) || host.has(`database/${value.template}`)
      ? []
      : [
          {
            code: "ING1203",
            path: ["template"],
            message: `${host.name} has no database \`${value.template}\``,
            hint: "`template0` is always there, and empty",
          },
        ]),
    ...value.sql.flatMap((file, i) =>
      isThere(host, file, "file") ? [] : [{ code: "ING1401", path: ["sql", i], message: `there is no file \`${file}\` beside the stack` }],
    ),
  ],
  compile: ({ name, value }, host) => ({
    files: value.sql.map((file, i) => ({
      path: `/etc/ingot/sql/${name}-${i + 1}.sql`,
      mode: "0600" as const,
      content: readFileSync(inStackFolder(host, file), "utf8"),
    })),
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
          ...(value.schemas.length && { schemas: value.schemas }),
        },
      },
      ...value.sql.map((file, i) => ({
        part: `sql-${i + 1}`,
        action: "sql-file",
        args: {
          database: name,
          role: value.owner,
          source: `/etc/ingot/sql/${name}-${i + 1}.sql`,
          digest: sha256(readFileSync(inStackFolder(host, file))),
        },
        done: "stamp" as const,
        stampIn: { database: name },
        timeoutSeconds: 600,
      })),
    ],
  }),
  checks: ({ name, value }) => [
    inside("postgresql_database", { name, owner: value.owner, encoding: value.encoding, collate: value.locale }),
    ...(value.extensions.length ? [inside("postgresql_extensions", { database: name, extensions: value.extensions }, "extensions")] : []),
    ...(value.schemas.length ? [inside("postgresql_schemas", { database: name, schemas: value.schemas }, "schemas")] : []),
  ],
});
