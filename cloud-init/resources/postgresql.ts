// The PostgreSQL server of the host: one cluster, `main`, whose configuration is Ingot's.

import { postgresqlSetting } from "../../lib/quote.ts";
import { either, flag, integer, map, object, text, withDefault } from "../../lib/schema.ts";
import { type Host, inside, isBelow, kind, pkg, stranger } from "../kind.ts";
import { volume } from "./volume.ts";

/** The version in the image, "15". */
export const versionIn = (host: Host): string => host.image.postgresql ?? "15";
const dataOf = (host: Host): string => `/var/lib/postgresql/${versionIn(host)}/main`;
const volumeUnder = (host: Host) => host.all(volume).find((v) => isBelow(dataOf(host), v.value.mount));

export const postgresql = kind({
  kind: "postgresql",
  key: "postgresql",
  shape: "one",
  summary:
    "The PostgreSQL server, in the image's version, with UTF-8 and data checksums. The cluster is made at first boot, and only when its directory is empty; one that is there already (on a re-attached volume) is taken over with its data. It listens on loopback; roles log in with SCRAM, the system's users by peer.",
  schema: object({
    locale: withDefault(text({ description: "Locale of a new cluster" }), "en_US.UTF-8"),
    settings: withDefault(
      map(either([text(), integer(), flag()]), text({ pattern: "^[a-z_]+(\\.[a-z_]+)?$", expected: "the name of a setting" }), {
        description: "Settings, as in postgresql.conf",
      }),
      {},
    ),
  }),
  examples: ["postgresql: { settings: { shared_buffers: 256MB, work_mem: 16MB } }\n"],
  after: (_, host) =>
    host
      .all(volume)
      .filter((v) => isBelow(dataOf(host), v.value.mount))
      .map((v) => v.id),
  problems: ({ value }) =>
    ["data_directory", "hba_file", "ident_file", "config_file", "port"]
      .filter((s) => s in value.settings)
      .map((s) => ({ code: "ING1405", path: ["settings", s], message: `\`${s}\` is Ingot's own to set` })),
  needs: ({ value }, host) => [pkg(`postgresql-${versionIn(host)}`), pkg("postgresql-common"), { need: "locale", name: value.locale }],
  compile: ({ value }, host) => ({
    files: [
      {
        path: "/etc/ingot/postgresql/ingot.conf",
        mode: "0644",
        content: Object.entries({
          listen_addresses: "localhost",
          password_encryption: "scram-sha-256",
          log_timezone: "Etc/UTC",
          ...value.settings,
        })
          .map(([k, v]) => `${k} = ${postgresqlSetting(v)}\n`)
          .join(""),
      },
      {
        path: "/etc/ingot/postgresql/pg_hba.conf",
        mode: "0644",
        content: ["local all all peer", "host all all 127.0.0.1/32 scram-sha-256", "host all all ::1/128 scram-sha-256", ""].join("\n"),
      },
    ],
    steps: [
      {
        action: "postgresql",
        args: {
          version: versionIn(host),
          locale: value.locale,
          data: dataOf(host),
          mount: volumeUnder(host)?.value.mount ?? "",
          settings_file: "/etc/ingot/postgresql/ingot.conf",
          hba_file: "/etc/ingot/postgresql/pg_hba.conf",
        },
        timeoutSeconds: 120,
      },
    ],
  }),
  checks: (_, host) => [
    inside("unit", { name: `postgresql@${versionIn(host)}-main.service`, active: true, enabled: true }),
    inside("command", { argv: ["psql", "-XAtc", "show data_checksums"], user: "postgres", stdout: "on" }, "checksums"),
    stranger("tcp", { port: 5432, open: false }, "closed"),
  ],
});
