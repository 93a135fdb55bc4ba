// Backups of a host: PostgreSQL by pgBackRest, with its log of transactions archived as it is written; directories, and what other servers
// keep on disk, by restic. What runs on the host is cloud-init/host/backup.py; `ingot backup`, `ingot backups` and `ingot rebuild` (stacks/recovery/) call it.
import { durationExpected, durationPattern, secondsIn } from "../../lib/duration.ts";
import { unitPath } from "../../lib/quote.ts";
import { choice, either, type Infer, integer, list, object, optional, ref, text, withDefault } from "../../lib/schema.ts";
import { bucketPlace, bucketSchema } from "../backup/bucket.ts";
import { folderPlace } from "../backup/folder.ts";
import { pgbackrestConfig } from "../backup/pgbackrest.ts";
import { type Place, passwordPath, settingsPath } from "../backup/place.ts";
import { storePlace, storeSchema } from "../backup/store.ts";
import { timerUnit } from "../cron.ts";
import { type Host, inside, isBelow, type Kind, kind, type Problem, pkg, renderedFile, type State } from "../kind.ts";
import { absolutePath } from "../names.ts";
import { secretRef } from "../value.ts";
import { database } from "./database.ts";
import { directory } from "./directory.ts";
import { dataIn, unitIn, versionIn } from "./postgresql.ts";
import { repository } from "./repository.ts";
import { volume } from "./volume.ts";

const calendar = (description: string) =>
  text({ pattern: "^[^\\n]+$", expected: "times as systemd's calendar writes them: `Sun 03:00`", description });

const command = (description: string) => text({ pattern: "^[^\\n]+$", expected: "one line, for `sh`", description });

const schema = object({
  to: {
    ...either([absolutePath, storeSchema, object({ s3: bucketSchema })]),
    description:
      "Folder of the repositories, on a volume that holds none of what is backed up; or another host, which keeps them; or a bucket of S3",
  },
  password: withDefault(
    { ...secretRef, description: "What the repositories are encrypted with. Keep a copy of it elsewhere: without it they are noise" },
    { secret: "backup", generate: "hex64" },
  ),
  postgresql: optional(
    object(
      {
        full: withDefault(calendar("When everything is copied"), "Sun 03:00"),
        differential: withDefault(calendar("When what changed since the last full one is copied"), "Mon..Sat 03:00"),
        incremental: optional(calendar("When what changed since the last backup, of whatever kind, is copied, beside the other two")),
        keep: withDefault(
          integer({ minimum: 1, maximum: 100, description: "How many full ones are kept, with all that stand on them" }),
          2,
        ),
        archive_seconds: withDefault(
          integer({
            minimum: 1,
            maximum: 3600,
            description: "What was committed is in the repository after so many seconds, at the latest: what a lost disk may cost",
          }),
          60,
        ),
        tables: withDefault(
          list(
            object({
              database: ref("database", { order: false, description: "A database of this host" }),
              table: text({
                pattern: "^[a-z_][a-z0-9_]*(\\.[a-z_][a-z0-9_]*)?$",
                expected: "a table, with its schema where that is not `public`",
                description: "The table, `schema.table` or of `public`",
              }),
            }),
            {
              description:
                "Tables whose rows are counted and summed with each backup, while nobody writes to them: a restore is held against it",
            },
          ),
          [],
        ),
      },
      { description: "The host's cluster" },
    ),
  ),
  directories: withDefault(
    list(
      either([
        absolutePath,
        object({
          path: { ...absolutePath, description: "The directory" },
          before: optional(command("What makes quiet who writes there, until `after` has run")),
          after: optional(command("What wakes him, also when the copy failed")),
        }),
      ]),
      { description: "Directories, with all that is in them; with commands around the copy of one, where it must not change meanwhile" },
    ),
    [],
  ),
  servers: withDefault(
    list(choice(["mail", "rabbitmq", "redis"]), {
      description:
        "Servers of this host whose data is copied with the directories: Postfix's queue, RabbitMQ's queues with their messages, Redis's databases. Each is held still for as long as its copy takes, a second or two; nobody's connection ends",
    }),
    [],
  ),
  every: withDefault(calendar("When directories and servers are copied"), "hourly"),
  keep: withDefault(integer({ minimum: 1, maximum: 10000, description: "How many copies of them are kept" }), 48),
  drill: optional(
    object(
      {
        every: text({
          pattern: durationPattern,
          expected: durationExpected,
          description: "How often `ingot drill` is to be run: when the last one is older, `ingot backups` says so and exits with 1",
        }),
      },
      { description: "Drills: the stack made anew from its backups, beside itself" },
    ),
  ),
});
type Backup = Infer<typeof schema>;

/** Settings of PostgreSQL by which its log is archived. */
export const archiveSettings = ({ postgresql: kept }: Partial<Backup> = {}): Record<string, string> =>
  kept
    ? {
        archive_mode: "on",
        archive_command: "/usr/lib/ingot/pgbackrest-archive %p",
        archive_timeout: `${kept.archive_seconds}s`,
        wal_level: "replica",
      }
    : {};

/** What is copied with commands around it. */
const heldOf = (value: Backup, host: Host): State[] => [
  ...value.directories.flatMap((d) => (typeof d === "string" ? [] : [{ name: d.path, paths: [d.path], before: d.before, after: d.after }])),
  ...value.servers.flatMap((name) => host.state(name) ?? []),
];

/** Every path that is copied, but for PostgreSQL's. */
export const copied = (value: Backup, host: Host): string[] => [
  ...value.directories.flatMap((d) => (typeof d === "string" ? [d] : [])),
  ...heldOf(value, host).flatMap(({ paths }) => paths),
];

/** What is backed up, by its path. */
const backedUp = (value: Backup, host: Host): { what: string; path: string }[] => [
  ...(value.postgresql ? [{ what: "PostgreSQL", path: dataIn(host) }] : []),
  ...copied(value, host).map((path) => ({ what: path, path })),
];

function placeOf({ to, password, postgresql }: Backup, host: Host): Place {
  const kept = { host, password: password.secret, ...(postgresql && { cluster: { data: dataIn(host), keep: postgresql.keep } }) };
  if (typeof to === "string") return folderPlace(to, kept);
  return "host" in to ? storePlace(to.host, kept) : bucketPlace(to.s3, kept);
}

const programUnit = (description: string, what: string, { here }: Place): string =>
  [
    "[Unit]",
    `Description=${description}`,
    ...(here === undefined ? [] : [`RequiresMountsFor=${unitPath(here)}`]),
    "",
    "[Service]",
    "Type=oneshot",
    `ExecStart=/usr/lib/ingot/backup.py run ${what}`,
    // Whom it has made quiet and was killed before it woke him.
    "ExecStopPost=/usr/lib/ingot/backup.py wake",
    "Nice=10",
    "IOSchedulingClass=best-effort",
    "IOSchedulingPriority=7",
    "TimeoutStartSec=infinity",
    "",
  ].join("\n");

/** Backups by their times: unit's name → what is run, when. */
const timesOf = (value: Backup): { name: string; what: string; at: string; description: string }[] => [
  ...(value.postgresql
    ? [
        { name: "ingot-backup-full", what: "full", at: value.postgresql.full, description: "Full backup of PostgreSQL" },
        {
          name: "ingot-backup-differential",
          what: "differential",
          at: value.postgresql.differential,
          description: "Differential backup of PostgreSQL",
        },
        ...(value.postgresql.incremental === undefined
          ? []
          : [
              {
                name: "ingot-backup-incremental",
                what: "incremental",
                at: value.postgresql.incremental,
                description: "Incremental backup of PostgreSQL",
              },
            ]),
      ]
    : []),
  ...(value.directories.length || value.servers.length
    ? [{ name: "ingot-backup-directories", what: "directories", at: value.every, description: "Backup of directories" }]
    : []),
];

export const backup: Kind<Backup> = kind({
  kind: "backup",
  key: "backup",
  shape: "one",
  summary:
    "Backups of what the host holds: its PostgreSQL by pgBackRest (full, differential and incremental, and the log of transactions as it is written), directories and what other servers keep by restic, both encrypted. `ingot backup` makes one now, `ingot backups` says what there is and whether one is late, `ingot rebuild` makes the host anew from them. The repositories are on a volume of their own, on another host of the stack (`backup_store:`), or in a bucket of S3. One machine at a time may write to them: a rebuild gives that right to the new one, and the old one, should it come back, is refused.",
  schema,
  examples: [
    "image: inloop\nvolumes:\n  data: { mount: /srv/data, size: 20GiB }\n  backup: { mount: /srv/backup, size: 40GiB }\npostgresql: { data: /srv/data/postgresql }\nroles:\n  shop: {}\ndatabases:\n  shop: { owner: shop }\ndirectories:\n  /srv/data/media: {}\nbackup:\n  to: /srv/backup\n  postgresql: { archive_seconds: 5, tables: [{ database: shop, table: orders }] }\n  directories: [/srv/data/media]\n  every: '*:0/15'\n",
    "image: kano-konnect\nvolumes:\n  backup: { mount: /srv/backup, size: 10GiB }\nrabbitmq: { vhosts: { shop: { users: [shop] } } }\ndirectories:\n  /srv/wiki: {}\nbackup:\n  to: /srv/backup\n  servers: [rabbitmq]\n  directories: [{ path: /srv/wiki, before: systemctl stop wiki, after: systemctl start wiki }]\n",
    "image: inloop\nvolumes:\n  data: { mount: /srv/data, size: 20GiB }\npostgresql: { data: /srv/data/postgresql }\nbackup:\n  to: { s3: { bucket: shop-backups, region: eu-central-1 } }\n  postgresql: {}\n",
    'image: inloop\nvolumes:\n  data: { mount: /srv/data, size: 20GiB }\npostgresql: { data: /srv/data/postgresql }\nfiles:\n  /etc/ssl/objects.crt: { content: "-----BEGIN CERTIFICATE-----…" }\nbackup:\n  to:\n    s3:\n      bucket: backups\n      endpoint: https://objects.example.org:9000\n      ca: /etc/ssl/objects.crt\n      access_key: { secret: objects-access-key }\n      secret_key: { secret: objects-secret-key }\n  postgresql: {}\n',
  ],
  // What it restores must find its place; the folders that are declared there come after it.
  after: ({ value }, host) => [
    ...host
      .all(volume)
      .filter((v) => [dataIn(host), ...copied(value, host)].some((path) => isBelow(path, v.value.mount)))
      .map((v) => v.id),
    ...placeOf(value, host).after,
  ],
  problems: ({ value }, host): Problem[] => {
    const problems: Problem[] = [];
    if (!value.postgresql && !copied(value, host).length)
      problems.push({
        code: "ING1460",
        message: "nothing is backed up: it has none of `postgresql:`, `directories:` and `servers:`",
        hint: "write `postgresql: {}`, or name directories",
      });
    for (const [i, name] of value.servers.entries())
      if (!host.has(name))
        problems.push({ code: "ING1460", path: ["servers", i], message: `${host.name} has no ${name}`, hint: `declare \`${name}:\`` });
    if (value.postgresql && !host.has("postgresql"))
      problems.push({ code: "ING1460", path: ["postgresql"], message: `${host.name} has no PostgreSQL`, hint: "declare `postgresql: {}`" });
    const tables = value.postgresql?.tables ?? [];
    const other = tables.findIndex((t) => t.database !== tables[0]?.database);
    if (other >= 0)
      problems.push({
        code: "ING1460",
        path: ["postgresql", "tables", other, "database"],
        message: `tables are counted at one point, with nobody writing to them, which is possible in one database: ${tables[0]?.database} or ${tables[other]?.database}`,
        hint: "leave those of one of the two out: their rows are backed up all the same",
      });
    const others = [...host.hosts.values()].flatMap((other) => {
      const declared = other.name === host.name ? undefined : other.get(backup)?.value;
      return declared ? [{ host: other.name, settings: placeOf(declared, other).settings }] : [];
    });
    return [...problems, ...placeOf(value, host).problems(backedUp(value, host), others)];
  },
  needs: ({ value }, host) => [
    ...(value.postgresql ? [pkg("pgbackrest")] : []),
    ...(copied(value, host).length ? [pkg("restic")] : []),
    pkg("python3"),
  ],
  compile: ({ value }, host) => {
    const times = timesOf(value);
    const paths = copied(value, host);
    // What is to be backed up is there before it is.
    const held = [
      ...(value.postgresql ? ["postgresql", ...host.all(database).map((d) => d.id)] : []),
      ...host.all(directory).flatMap((d) => (paths.some((path) => isBelow(d.name, path)) ? [d.id] : [])),
      ...host.all(repository).map((r) => r.id),
      ...value.servers,
    ];
    const place = placeOf(value, host);
    const unit = (name: string, suffix: string) => `/etc/systemd/system/${name}.${suffix}`;
    return {
      secrets: [{ name: value.password.secret, generate: value.password.generate }, ...(place.secrets ?? [])],
      files: [
        {
          path: settingsPath,
          mode: "0644",
          content: `${JSON.stringify(
            {
              to: place.to,
              ...place.settings,
              directories: paths,
              held: heldOf(value, host),
              keep: value.keep,
              ...(value.drill && { drill_seconds: secondsIn(value.drill.every) }),
              times: Object.fromEntries(times.map((t) => [t.what, t.at])),
              ...(value.postgresql && {
                postgresql: {
                  version: versionIn(host),
                  unit: unitIn(host),
                  data: dataIn(host),
                  archive_seconds: value.postgresql.archive_seconds,
                  tables: value.postgresql.tables,
                },
              }),
            },
            null,
            1,
          )}\n`,
        },
        ...(place.files ?? []),
        ...times.flatMap(({ name, what, at, description }) => [
          { path: unit(name, "service"), mode: "0644" as const, content: programUnit(description, what, place) },
          {
            path: unit(name, "timer"),
            mode: "0644" as const,
            content: timerUnit(`Times of: ${description}`, [`OnCalendar=${at}`, "Persistent=true", "AccuracySec=1s"]),
          },
        ]),
        ...(value.postgresql
          ? [
              {
                path: unit("ingot-heartbeat", "service"),
                mode: "0644" as const,
                content: [
                  "[Unit]",
                  "Description=A row every few seconds, by which it is known up to when a restore would reach",
                  `After=${unitIn(host)}`,
                  "",
                  "[Service]",
                  "ExecStart=/usr/lib/ingot/backup.py heartbeat",
                  "Restart=always",
                  "RestartSec=5",
                  "",
                  "[Install]",
                  "WantedBy=multi-user.target",
                  "",
                ].join("\n"),
              },
            ]
          : []),
      ],
      steps: [
        ...(place.pgbackrest
          ? [renderedFile("pgbackrest", { path: pgbackrestConfig, owner: "postgres", mode: "0400" }, place.pgbackrest)]
          : []),
        renderedFile("password", { path: passwordPath, mode: "0400" }, [{ secret: value.password.secret }]),
        ...(place.steps ?? []),
        // Only on a machine that was launched to be what another was (facts.py, `restore`); elsewhere there is nothing to do.
        { part: "restore", action: "restore", args: { settings: settingsPath }, timeoutSeconds: 21600 },
        {
          part: "repository",
          action: "backup",
          args: { settings: settingsPath },
          timeoutSeconds: 3600,
          late: held,
        },
        ...[...times.map((t) => `${t.name}.timer`), ...(value.postgresql ? ["ingot-heartbeat.service"] : [])].map((name) => ({
          part: name,
          action: "service",
          args: { unit: name, ...(name.endsWith(".service") && { inputs: ["/usr/lib/ingot/backup.py"] }) },
          late: held,
        })),
      ],
    };
  },
  checks: ({ value }) => [
    ...timesOf(value).map(({ name }) => inside("unit", { name: `${name}.timer`, active: true, enabled: true }, name)),
    inside("command", { argv: ["/usr/lib/ingot/backup.py", "in-time"] }, "in-time"),
  ],
});
