// The PostgreSQL server of the host: one cluster, `main`, whose configuration is Ingot's.

import { postgresqlSetting } from "../../lib/quote.ts";
import { choice, either, flag, integer, list, map, object, ref, text, withDefault } from "../../lib/schema.ts";
import { type Host, inside, isBelow, kind, type Problem, pkg, stranger } from "../kind.ts";
import { privateProblems } from "../listener.ts";
import type { Reach } from "../plan.ts";
import { archiveSettings, backup } from "./backup.ts";
import { directory, foldersAbove } from "./directory.ts";
import { bytesOf, volumeAt } from "./volume.ts";

/** The version in the image, "15". */
export const versionIn = (host: Host): string => host.image.postgresql ?? "15";
/** `data`: where clusters are; each has a folder of its version, as Debian lays them out. */
const dataOf = (data: string, host: Host): string => `${data}/${versionIn(host)}/main`;
/** The unit of the host's cluster, and where its data is. */
export const unitIn = (host: Host): string => `postgresql@${versionIn(host)}-main.service`;
export const dataIn = (host: Host): string => dataOf(host.get(postgresql)?.value.data ?? "/var/lib/postgresql", host);
/**
 * Bytes that the log of transactions keeps to on a volume of so many: a tenth, at most PostgreSQL's own bound (max_wal_size), which
 * fills a small one, on the day of a restore at the latest.
 */
export const logRoom = (volume: number): number => Math.min(Math.max(64 * 2 ** 20, volume / 10), 2 ** 30);

function logSettings(host: Host): Record<string, string> {
  const size = volumeAt(dataIn(host), host)?.value.size;
  const room = size === undefined ? 2 ** 30 : logRoom(bytesOf(size));
  return room < 2 ** 30 ? { max_wal_size: `${Math.floor(room / 2 ** 20)}MB` } : {};
}

/** Whether everybody, or postgres by name, may pass through. */
const letsIn = ({ mode, acl }: { mode: string; acl: { user?: string; may: string }[] }): boolean =>
  (Number.parseInt(mode, 8) & 1) === 1 || acl.some(({ user, may }) => user === "postgres" && may.includes("x"));

/** A name in pg_hba.conf: in quotes it means itself, whatever it is (`all`, `replication`). */
const postgresqlName = (name: string): string => `"${name}"`;

/** Where somebody comes from, as pg_hba.conf writes it: an address and its bits; undefined for what is neither. */
function sourceOf(from: string, host: Host): string | undefined {
  if (/^\d{1,3}(\.\d{1,3}){3}\/\d{1,2}$/.test(from)) return from;
  const peer = host.peers.find((p) => p.name === from);
  return peer && `${peer.address}/32`;
}

/** The hosts that are let in; where a network is, nobody knows which those are. */
function comers(allow: { from: string }[], host: Host): Reach {
  const hosts = [...new Set(allow.map((a) => a.from))];
  return hosts.length && hosts.every((from) => host.peers.some((p) => p.name === from)) ? hosts : "stack";
}

/** The map by which users of the system are roles; who has the role's name stays it. */
const identOf = (peers: { user: string; role: string }[]): string =>
  [
    ...peers.map((p) => `ingot ${postgresqlName(p.user)} ${postgresqlName(p.role)}`),
    ...[...new Set(peers.map((p) => p.role))].map((r) => `ingot ${postgresqlName(r)} ${postgresqlName(r)}`),
  ]
    .map((line) => `${line}\n`)
    .join("");

export const postgresql = kind({
  kind: "postgresql",
  key: "postgresql",
  shape: "one",
  summary:
    "The PostgreSQL server, in the image's version, with UTF-8 and data checksums. The cluster is made at first boot, and only when its directory is empty; one that is there already (on a re-attached volume) is taken over with its data. It listens on loopback; roles log in with SCRAM, the system's users by peer. On a volume of less than 10 GiB its log of transactions keeps to a tenth of it (`max_wal_size`).",
  schema: object({
    listen: withDefault(
      choice(["loopback", "private"], {
        description: "Where it listens beside its socket: for this host alone, or at the host's `address:` too",
      }),
      "loopback",
    ),
    allow: withDefault(
      list(
        object({
          database: ref("database", { order: false, description: "The database" }),
          role: ref("role", { order: false, description: "The role that may enter it, by its password (SCRAM)" }),
          from: text({
            pattern: "^[a-z0-9./-]+$",
            expected: "a host of the stack, or a network such as `10.1.1.0/24`",
            description: "A host of the stack, or a network",
          }),
        }),
        { description: "Who may come from elsewhere. Nobody else may" },
      ),
      [],
    ),
    peers: withDefault(
      list(
        object({
          user: ref("user", { order: false, description: "A user of this host" }),
          role: ref("role", { order: false, description: "The role that it may be, without a password, through the socket" }),
        }),
        { description: "Users that may be roles of other names than their own" },
      ),
      [],
    ),
    data: withDefault(
      text({
        pattern: "^(/[A-Za-z0-9_][A-Za-z0-9._-]*)+$",
        expected: "an absolute path of letters, digits, `.`, `_` and `-`",
        description: "Folder of its data, which is in `VERSION/main` below it. A cluster that is elsewhere already is not moved",
      }),
      "/var/lib/postgresql",
    ),
    locale: withDefault(text({ description: "Locale of a new cluster" }), "en_US.UTF-8"),
    settings: withDefault(
      map(either([text(), integer(), flag()]), text({ pattern: "^[a-z_]+(\\.[a-z_]+)?$", expected: "the name of a setting" }), {
        description: "Settings, as in postgresql.conf",
      }),
      {},
    ),
  }),
  examples: [
    "volumes:\n  data: { mount: /srv/data, size: 20GiB }\npostgresql: { data: /srv/data/postgresql }\n",
    "postgresql: { settings: { shared_buffers: 256MB, work_mem: 16MB } }\n",
    "address: 10.1.1.1\npostgresql:\n  listen: private\n  allow: [{ database: shop, role: shop, from: 10.1.1.2/32 }]\n  peers: [{ user: clerk, role: shop }]\nusers:\n  clerk: { system: true }\nroles:\n  shop: {}\ndatabases:\n  shop: { owner: shop }\n",
  ],
  // A cluster that is restored is there before it is looked for.
  after: ({ value }, host) => [...foldersAbove(dataOf(value.data, host), host), ...host.all(backup).map((b) => b.id)],
  problems: ({ value }, host): Problem[] => [
    ...host
      .all(directory)
      .filter((d) => isBelow(dataOf(value.data, host), d.name) && d.value.owner !== "postgres" && !letsIn(d.value))
      .map((d) => ({
        code: "ING1453",
        path: ["data"],
        message: `\`postgres\` may not enter ${d.name}, which belongs to ${d.value.owner} and has the mode ${d.value.mode}`,
        hint: 'let it in: `mode: "0711"`, or `owner: postgres`',
        related: { id: d.id, message: "it is declared here" },
      })),
    ...["data_directory", "hba_file", "ident_file", "config_file", "port", "listen_addresses"]
      .filter((s) => s in value.settings)
      .map((s) => ({ code: "ING1405", path: ["settings", s], message: `\`${s}\` is Ingot's own to set` })),
    ...privateProblems(value.listen, host),
    ...value.allow.flatMap(({ from }, i): Problem[] => {
      if (value.listen !== "private")
        return [
          {
            code: "ING1423",
            path: ["allow", i],
            message: "nobody comes from elsewhere to a server that listens on loopback",
            hint: "write `listen: private`",
          },
        ];
      return sourceOf(from, host) !== undefined
        ? []
        : [
            {
              code: "ING1423",
              path: ["allow", i, "from"],
              message: `\`${from}\` is neither a network nor a host of the stack with an address`,
              hint: host.peers.length
                ? `hosts with an address: ${host.peers.map((p) => p.name).join(", ")}`
                : "a network is written as `10.1.1.0/24`",
            },
          ];
    }),
  ],
  needs: ({ value }, host) => [pkg(`postgresql-${versionIn(host)}`), pkg("postgresql-common"), { need: "locale", name: value.locale }],
  binds: () => [5432],
  compile: ({ value }, host) => ({
    ports: value.listen === "private" ? [{ port: 5432, protocol: "tcp", from: comers(value.allow, host) }] : [],
    files: [
      {
        path: "/etc/ingot/postgresql/ingot.conf",
        mode: "0644",
        content: Object.entries({
          listen_addresses: value.listen === "private" ? `localhost,${host.address}` : "localhost",
          password_encryption: "scram-sha-256",
          log_timezone: "Etc/UTC",
          ...logSettings(host),
          ...archiveSettings(host.get(backup)?.value),
          ...value.settings,
        })
          .map(([k, v]) => `${k} = ${postgresqlSetting(v)}\n`)
          .join(""),
      },
      {
        path: "/etc/ingot/postgresql/pg_hba.conf",
        mode: "0644",
        content: [
          ...[...new Set(value.peers.map((p) => p.role))].map((r) => `local all ${postgresqlName(r)} peer map=ingot`),
          "local all all peer",
          "host all all 127.0.0.1/32 scram-sha-256",
          "host all all ::1/128 scram-sha-256",
          ...value.allow.map((a) => `host ${postgresqlName(a.database)} ${postgresqlName(a.role)} ${sourceOf(a.from, host)} scram-sha-256`),
          "",
        ].join("\n"),
      },
      {
        path: "/etc/ingot/postgresql/pg_ident.conf",
        mode: "0644",
        content: identOf(value.peers),
      },
    ],
    steps: [
      {
        action: "postgresql",
        args: {
          unit: unitIn(host),
          version: versionIn(host),
          locale: value.locale,
          data: dataOf(value.data, host),
          mount: volumeAt(dataIn(host), host)?.value.mount ?? "",
          settings_file: "/etc/ingot/postgresql/ingot.conf",
          hba_file: "/etc/ingot/postgresql/pg_hba.conf",
          ident_file: "/etc/ingot/postgresql/pg_ident.conf",
        },
        // What was archived since a backup takes its time to go through.
        timeoutSeconds: host.has("backup") ? 21600 : 120,
      },
    ],
  }),
  checks: ({ value }, host) => [
    inside("unit", { name: unitIn(host), active: true, enabled: true }),
    inside("command", { argv: ["psql", "-XAtc", "show data_checksums"], user: "postgres", stdout: "on" }, "checksums"),
    value.listen === "private"
      ? inside("tcp", { host: host.address ?? "", port: 5432, open: true }, "listens")
      : stranger("tcp", { port: 5432, open: false }, "closed"),
  ],
});
