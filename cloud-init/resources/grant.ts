// What a role of PostgreSQL may do in a database that is another's.
import { choice, flag, type Infer, integer, list, map, object, optional, ref, text, withDefault } from "../../lib/schema.ts";
import { inside, type Kind, kind, type Problem } from "../kind.ts";
import { database } from "./database.ts";
import { sqlName } from "./role.ts";

const privilege = choice(["select", "insert", "update", "delete", "truncate", "references", "trigger"]);
const tableName = text({ pattern: "^[A-Za-z_][A-Za-z0-9_$]{0,62}$", expected: "the name of a table" });

const schema = object({
  database: ref("database", { description: "Where" }),
  role: ref("role", { description: "Who" }),
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

export const grant: Kind<Grant> = kind({
  kind: "grant",
  key: "grants",
  shape: "many",
  summary:
    "What a role of PostgreSQL may do with the tables of a database that another role owns. It adds rights and takes none away. Tables that an application's migration makes are waited for by `after:`.",
  implies: ["postgresql"],
  schema,
  examples: [
    "roles:\n  shop: {}\n  clerk: {}\n  reports: {}\ndatabases:\n  shop: { owner: shop }\ngrants:\n  clerk: { database: shop, role: clerk, tables: { orders: [select, insert] }, sequences: true, wait_seconds: 300 }\n  reports: { database: shop, role: reports, all_tables: [select], later_tables: true }\n",
  ],
  problems: ({ value }): Problem[] =>
    Object.keys(value.tables).length || value.all_tables.length || value.sequences
      ? []
      : [{ code: "ING1424", message: "nothing is granted", hint: "give it `tables:`, `all_tables:` or `sequences: true`" }],
  compile: ({ value }, host) => {
    const owner = host.get(database, value.database)?.value.owner ?? "";
    return {
      steps: [
        {
          action: "grant",
          args: {
            database: value.database,
            role: value.role,
            schema: value.schema,
            tables: Object.entries(value.tables).map(([table, privileges]) => `${table} ${[...new Set(privileges)].join(",")}`),
            all: [...new Set(value.all_tables)].join(","),
            sequences: value.sequences,
            ...(value.later_tables && { owner }),
            ...(value.wait_seconds && { wait: value.wait_seconds }),
          },
          timeoutSeconds: 60 + value.wait_seconds,
        },
      ],
    };
  },
  checks: ({ value }) =>
    Object.entries(value.tables).map(([table, privileges]) =>
      inside("postgresql_grant", { database: value.database, schema: value.schema, role: value.role, object: table, privileges }, table),
    ),
});
