// What a role of PostgreSQL may do in a database that is another's.
import { choice, either, flag, type Infer, integer, list, map, object, optional, ref, text, withDefault } from "../../lib/schema.ts";
import { databasePlace } from "../connection.ts";
import { type Host, inside, type Kind, kind, type Problem, pkg } from "../kind.ts";
import { type From, fromSchema } from "../value.ts";
import { database } from "./database.ts";
import { versionIn } from "./postgresql.ts";
import { sqlName } from "./role.ts";

const privilege = choice(["select", "insert", "update", "delete", "truncate", "references", "trigger"]);
const tableName = text({ pattern: "^[A-Za-z_][A-Za-z0-9_$]{0,62}$", expected: "the name of a table" });

const schema = object({
  database: either([ref("database"), fromSchema], {
    description:
      "Where: a database of this host; or the `url` of one elsewhere, whose owner grants it: `{ from: database:database/shop.url }`",
  }),
  role: either([ref("role"), fromSchema], {
    description: "Who: a role of this host; or the name of one elsewhere: `{ from: database:role/clerk.name }`",
  }),
  schema: withDefault({ ...sqlName, description: "The schema of the tables" }, "public"),
  tables: withDefault(map(list(privilege, { minItems: 1 }), tableName, { description: "What it may do with each table or view" }), {}),
  all_tables: withDefault(list(privilege, { description: "What it may do with every table of the schema" }), []),
  sequences: withDefault(flag({ description: "It may draw from the schema's sequences, as inserts into numbered tables do" }), false),
  later_tables: withDefault(
    flag({ description: "`all_tables` and `sequences` hold for what the database's owner makes later, too" }),
    false,
  ),
  wait_seconds: withDefault(
    integer({
      minimum: 0,
      maximum: 3600,
      description: "So long it waits for `tables:` that are not there yet, because another host's application makes them",
    }),
    0,
  ),
  after: optional(ref("application", { description: "The application whose migration makes the tables: its commands come first" })),
});
type Grant = Infer<typeof schema>;

/** Where it is granted, and to whom. */
function partiesOf({ database: where, role: who }: Grant, host: Host) {
  const named = (value: string | From): string => (typeof value === "string" ? value : host.parts(value).join(""));
  const place = typeof where === "string" ? { name: where } : databasePlace(where.from, host);
  return { role: named(who), ...(place ?? { name: "" }) };
}

export const grant: Kind<Grant> = kind({
  kind: "grant",
  key: "grants",
  shape: "many",
  summary:
    "What a role of PostgreSQL may do with the tables of a database that another role owns, on this host's server or on another. It adds rights and takes none away. Tables that an application's migration makes are waited for by `after:`.",
  schema,
  examples: [
    "roles:\n  shop: {}\n  clerk: {}\n  reports: {}\ndatabases:\n  shop: { owner: shop }\ngrants:\n  clerk: { database: shop, role: clerk, tables: { orders: [select, insert] }, sequences: true, wait_seconds: 300 }\n  reports: { database: shop, role: reports, all_tables: [select], later_tables: true }\n",
    "externals:\n  shop: { kind: postgresql, address: db.example.org, name: shop, user: shop, password: { secret: shop } }\n  clerk: { kind: postgresql, address: db.example.org, name: shop, user: clerk, password: { secret: clerk } }\ngrants:\n  clerk: { database: { from: external/shop.url }, role: { from: external/clerk.user }, tables: { orders: [select, insert] } }\n",
  ],
  needs: ({ value }, host) => (typeof value.database === "string" ? [] : [pkg(`postgresql-client-${versionIn(host)}`)]),
  problems: ({ value }, host): Problem[] => [
    ...(Object.keys(value.tables).length || value.all_tables.length || value.sequences
      ? []
      : [{ code: "ING1424", message: "nothing is granted", hint: "give it `tables:`, `all_tables:` or `sequences: true`" }]),
    ...(typeof value.database === "string" || databasePlace(value.database.from, host)
      ? []
      : [
          {
            code: "ING1424",
            path: ["database"],
            message: `${value.database.from} is no PostgreSQL that somebody logs in to`,
            hint: "name the `url` of a database, or of an external one with `user:` and `password:`",
          },
        ]),
  ],
  compile: ({ value }, host) => {
    const { name, role, connection } = partiesOf(value, host);
    // A role elsewhere may be in the making.
    const wait = value.wait_seconds || (connection === undefined ? 0 : 120);
    const owner =
      typeof value.database === "string"
        ? host.get(database, value.database)?.value.owner
        : host.parts({ from: value.database.from.replace(/\.[a-z]+$/, ".user") }).join("");
    return {
      steps: [
        {
          action: "grant",
          args: {
            database: name,
            role,
            ...(connection !== undefined && { connection }),
            schema: value.schema,
            tables: Object.entries(value.tables).map(([table, privileges]) => `${table} ${[...new Set(privileges)].join(",")}`),
            all: [...new Set(value.all_tables)].join(","),
            sequences: value.sequences,
            ...(value.later_tables && { owner }),
            ...(wait && { wait }),
          },
          timeoutSeconds: 60 + wait,
        },
      ],
    };
  },
  checks: ({ value }, host) => {
    const { name, role, server } = partiesOf(value, host);
    return Object.entries(value.tables).map(([table, privileges]) =>
      inside(
        "postgresql_grant",
        { database: name, schema: value.schema, role, object: table, privileges, ...(server && { server }) },
        table,
      ),
    );
  },
});
