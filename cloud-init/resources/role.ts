// A role of PostgreSQL that logs in with a password.
import { choice, list, object, optional, text, withDefault } from "../../lib/schema.ts";
import { type Host, inside, kind } from "../kind.ts";
import { type SecretRef, secretRef } from "../value.ts";

export const sqlName = text({
  pattern: "^[a-z_][a-z0-9_-]{0,62}$",
  expected: "a name of lower-case letters, digits, `_` and `-`, at most 63",
});

/** The secret that holds a role's password. */
export const passwordOf = (name: string, value: { password?: SecretRef }, host: Host): string =>
  value.password?.secret ?? `${host.name}/role/${name}/password`;

export const role = kind({
  kind: "role",
  key: "roles",
  shape: "many",
  summary:
    "A role of PostgreSQL that logs in with a password (SCRAM). The password is made once and kept in the secrets' store, unless it is given by reference.",
  names: sqlName,
  implies: ["postgresql"],
  schema: object({
    password: optional({ ...secretRef, description: "Another secret than the generated one" }),
    attributes: withDefault(
      list(choice(["createdb", "createrole", "replication", "superuser"]), { description: "What the role may do beyond logging in" }),
      [],
    ),
  }),
  examples: ["roles:\n  shop: {}\n  reports: { password: { secret: reports-password, generate: password } }\n"],
  after: () => ["postgresql"],
  compile: ({ name, value }, host) => ({
    secrets: [{ name: passwordOf(name, value, host), generate: value.password ? value.password.generate : "password" }],
    steps: [
      { action: "role", args: { name, password: { secret: passwordOf(name, value, host) }, attributes: ["login", ...value.attributes] } },
    ],
  }),
  checks: ({ name }) => [inside("postgresql_role", { name, login: true })],
});
