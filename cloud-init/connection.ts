// A PostgreSQL elsewhere, as the steps of a host reach it: what an application's values name, or a grant. Another host's database, or an
// external server; both have the same outputs.
import type { Host } from "./kind.ts";
import type { Arg, Part } from "./plan.ts";

/** A database; where it is not this host's own, how its owner logs in to it: for an action of a step, and for a check. */
export interface DatabasePlace {
  name: string;
  connection?: Arg;
  server?: { host: string; port: string; role: string; secret: string };
}

/** @param from an output of a database: `[host:]database/name.url` or `external/name.url`; undefined for what is neither */
export function databasePlace(from: string, host: Host): DatabasePlace | undefined {
  const [, id = "", where, name = ""] = /^((?:[a-z][a-z0-9-]*:)?(database|external)\/(.+))\.[a-z]+$/.exec(from) ?? [];
  if (where === undefined) return undefined;
  const output = (of: string): Part[] => host.parts({ from: `${id}.${of}` });
  const textOf = (of: string): string => output(of).join("");
  if (where === "database" && id === `database/${name}`) return { name };
  // What is no server of PostgreSQL's, or nobody logs in to.
  const [password] = output("password");
  if (!textOf("url").startsWith("postgres://") || typeof password !== "object") return undefined;
  const [authority, port] = [textOf("authority"), textOf("port")];
  return {
    name: textOf("name"),
    server: { host: textOf("host"), port: port || "5432", role: textOf("user"), secret: password.secret },
    connection: {
      render: {
        format: "env",
        values: {
          PGHOST: output("host"),
          PGPORT: [port || "5432"],
          PGUSER: output("user"),
          PGPASSWORD: [password],
          ...(authority !== "" && { PGSSLMODE: ["verify-full"], PGSSLROOTCERT: [authority] }),
        },
      },
    },
  };
}
