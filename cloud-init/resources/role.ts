// A role of PostgreSQL that logs in with a password.
import { choice, flag, list, object, optional, ref, text, withDefault } from "../../lib/schema.ts";
import { type Host, inside, kind, type Problem } from "../kind.ts";
import { reachableAt } from "../listener.ts";
import { type SecretRef, secretRef } from "../value.ts";
import { postgresql } from "./postgresql.ts";

export const sqlName = text({
  pattern: "^[a-z_][a-z0-9_-]{0,62}$",
  expected: "a name of lower-case letters, digits, `_` and `-`, at most 63",
});

/** Names that PostgreSQL keeps to itself. Source: its manual, CREATE ROLE and CREATE DATABASE. */
export const reservedProblems = (what: "role" | "database", name: string): Problem[] =>
  (what === "role" ? /^(pg_.*|postgres|public|none)$/ : /^(postgres|template[01])$/).test(name)
    ? [{ code: "ING1446", message: `${name} is a ${what} of PostgreSQL's own`, hint: "give it another name" }]
    : [];

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
    login: withDefault(flag({ description: "`false` makes a group: it has no password, and others are members of it" }), true),
    member_of: withDefault(list(ref("role"), { description: "Roles whose rights it has, exactly these" }), []),
  }),
  examples: [
    "roles:\n  shop: {}\n  reports: { password: { secret: reports-password, generate: password } }\n",
    "roles:\n  readers: { login: false }\n  reports: { member_of: [readers] }\n",
  ],
  outputs: ({ name, value }, host) => ({
    name: { parts: [name], description: "The role's name" },
    ...(value.login && { password: { parts: [{ secret: passwordOf(name, value, host) }], description: "Its password; sensitive" } }),
  }),
  awaited: (_, host, at) =>
    host.get(postgresql)?.value.listen === "private"
      ? reachableAt(at, 5432)
      : { unreachable: "is of a server that listens on loopback alone", hint: "write `postgresql: { listen: private, allow: [...] }`" },
  after: () => ["postgresql"],
  problems: ({ name, value }): Problem[] => [
    ...reservedProblems("role", name),
    ...(!value.login && value.password
      ? [{ code: "ING1422", path: ["password"], message: "a role that does not log in has no password", hint: "leave one of the two out" }]
      : []),
  ],
  compile: ({ name, value }, host) => {
    const password = passwordOf(name, value, host);
    return {
      secrets: value.login ? [{ name: password, generate: value.password ? value.password.generate : "password" }] : [],
      steps: [
        {
          action: "role",
          args: {
            name,
            ...(value.login && { password: { secret: password } }),
            attributes: [...(value.login ? ["login"] : []), ...value.attributes],
            ...(value.member_of.length && { member_of: value.member_of }),
          },
        },
      ],
    };
  },
  checks: ({ name, value }) => [
    inside("postgresql_role", { name, login: value.login, ...(value.member_of.length && { member_of: value.member_of }) }),
  ],
});
