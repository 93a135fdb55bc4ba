// Backups of a host: PostgreSQL by pgBackRest, with its log of transactions archived as it is written; directories, and what other servers
// keep on disk, by restic. What runs on the host is cloud-init/host/backup.py; `ingot backup`, `ingot backups` and `ingot rebuild` (stacks/recovery/) call it.
import { durationExpected, durationPattern, secondsIn } from "../../lib/duration.ts";
import { unitPath } from "../../lib/quote.ts";
import { choice, either, type Infer, integer, list, object, optional, ref, text, withDefault } from "../../lib/schema.ts";
import { timerUnit } from "../cron.ts";
import { type Host, inside, isBelow, type Kind, kind, type Problem, pkg, type State, type StepDraft } from "../kind.ts";
import { absolutePath, dnsName, ipv4 } from "../names.ts";
import type { Part } from "../plan.ts";
import { secretRef } from "../value.ts";
import { accountOf, backupStore, keysOf, onlyThis, renderedFile, sshConfig } from "./backup-store.ts";
import { database } from "./database.ts";
import { directory, foldersAbove } from "./directory.ts";
import { file } from "./file.ts";
import { dataIn, unitIn, versionIn } from "./postgresql.ts";
import { repository } from "./repository.ts";
import { volume, volumeAt } from "./volume.ts";

const calendar = (description: string) =>
  text({ pattern: "^[^\\n]+$", expected: "times as systemd's calendar writes them: `Sun 03:00`", description });

const command = (description: string) => text({ pattern: "^[^\\n]+$", expected: "one line, for `sh`", description });

const s3Schema = object(
  {
    bucket: text({
      pattern: "^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$",
      expected: "the name of a bucket: 3 to 63 lower-case letters, digits and `-` (one with dots has no certificate that holds)",
      description: "The bucket. It is yours to make, and outlives every stack: Ingot makes none, and removes none",
    }),
    prefix: optional(
      text({
        pattern: "^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$",
        expected: "names of letters, digits, `.`, `_` and `-` with `/` between them, none at either end",
        description: "What the names of its objects begin with. A copy of the stack wants another one. Default: `<stack>/<host>`",
      }),
    ),
    region: optional(
      text({ pattern: "^[a-z0-9]+(-[a-z0-9]+)*$", expected: "a region, such as eu-central-1", description: "The bucket's region, at AWS" }),
    ),
    endpoint: optional(
      text({
        pattern: `^https://(?!${ipv4}(:|$))${dnsName}(:[0-9]{1,5})?$`,
        expected: "`https://`, a name and perhaps a port (pgBackRest speaks nothing but TLS, and knows a server by its name alone)",
        description: "A server that speaks as S3 does, in AWS's place",
      }),
    ),
    ca: optional({
      ...absolutePath,
      description:
        "File on the host with the certificate that the endpoint's is signed by (`files:` brings it). Default: whom Debian knows",
    }),
    access_key: optional({
      ...secretRef,
      description: "The access key. Default, on EC2: the role of the instance, which gets the rights for it",
    }),
    secret_key: optional({ ...secretRef, description: "The secret key to it" }),
  },
  { description: "A bucket of S3, or of a server that speaks as it does" },
);
type S3 = Infer<typeof s3Schema>;

const schema = object({
  to: {
    ...either([
      absolutePath,
      object({
        host: text({
          pattern: "^[a-z0-9][a-z0-9-]{0,62}$",
          expected: "the name of a host",
          description: "A host of the stack with a `backup_store:` for this one",
        }),
      }),
      object({ s3: s3Schema }),
    ]),
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

/** Kept by another host. */
export const isElsewhere = (to: Backup["to"]): to is { host: string } => typeof to !== "string" && "host" in to;
const isBucket = (to: Backup["to"]): to is { s3: S3 } => typeof to !== "string" && "s3" in to;
/** Its folder on this host, where it is on this one. */
const hereIn = ({ to }: Backup): string[] => (typeof to === "string" ? [to] : []);

/** A bucket as the host's programs are told of it (`s3` in backup.py's settings; backup_s3.py). */
export interface Bucket {
  bucket: string;
  prefix: string;
  region: string;
  /** Where restic finds it. */
  url: string;
  /** A server in AWS's place: the bucket is in its paths, not in its name. */
  endpoint?: string;
  ca?: string;
  /** Names of the secrets; without them the machine's role has the keys. */
  access_key?: string;
  secret_key?: string;
}
function bucketOf({ to }: Backup, { stack, name }: Pick<Host, "stack" | "name">): Bucket | undefined {
  if (!isBucket(to)) return undefined;
  const { bucket, prefix = `${stack}/${name}`, endpoint, ca, access_key, secret_key } = to.s3;
  const region = to.s3.region ?? "us-east-1"; // what servers in AWS's place take for theirs; at AWS one is declared (ING1463)
  return {
    bucket,
    prefix,
    region,
    url: endpoint ?? `https://s3.${region}.amazonaws.com${region.startsWith("cn-") ? ".cn" : ""}`,
    ...(endpoint !== undefined && { endpoint }),
    ...(ca !== undefined && { ca }),
    ...(access_key && secret_key && { access_key: access_key.secret, secret_key: secret_key.secret }),
  };
}

/** pgBackRest's configuration; the postgresql kind archives by it. */
export const pgbackrestConfig = "/etc/ingot/backup/pgbackrest.conf";
export const stanza = "main";
const folder = "/etc/ingot/backup";
const settingsPath = `${folder}/settings.json`;
const passwordPath = `${folder}/password`;
const keysPath = `${folder}/s3-keys`;

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

/** How another host keeps them. */
interface Elsewhere {
  name: string;
  address: string;
  /** The host's folder there. */
  place: string;
}
function elsewhere({ to }: Backup, host: Host): Elsewhere | undefined {
  if (!isElsewhere(to)) return undefined;
  const place = `${host.other(to.host)?.get(backupStore)?.value.path ?? ""}/${host.name}`;
  return { name: to.host, address: host.peers.find((p) => p.name === to.host)?.address ?? "", place };
}

/** pgBackRest's own words for a bucket. */
function bucketConf({ bucket, prefix, region, url, endpoint, ca, access_key, secret_key }: Bucket): Part[] {
  const { hostname, port } = new URL(url);
  return [
    `# holder below: /${prefix}
[global]
repo1-type=s3
repo1-path=/${prefix}/postgresql
repo1-s3-bucket=${bucket}
repo1-s3-region=${region}
repo1-s3-endpoint=${hostname}
${port ? `repo1-storage-port=${port}\n` : ""}${endpoint === undefined ? "" : "repo1-s3-uri-style=path\n"}${ca === undefined ? "" : `repo1-storage-ca-file=${ca}\n`}`,
    // The role's keys pgBackRest gets, and renews, by itself (IMDSv2, since 2.39).
    ...(access_key === undefined || secret_key === undefined
      ? ["repo1-s3-key-type=auto\n"]
      : ["repo1-s3-key=", { secret: access_key }, "\nrepo1-s3-key-secret=", { secret: secret_key }, "\n"]),
  ];
}

/**
 * pgBackRest's configuration where the repository is.
 * @param cluster address of the host with the cluster, where that is another one
 */
export const confOf = (value: Backup, host: Host, { place, cluster }: { place: string | Bucket; cluster?: string }): Part[] => [
  ...(typeof place === "string"
    ? [`${cluster === undefined ? `# holder: ${place}/holder\n` : ""}[global]\nrepo1-path=${place}/postgresql\n`]
    : bucketConf(place)),
  `repo1-cipher-type=aes-256-cbc
repo1-cipher-pass=`,
  { secret: value.password.secret },
  `
repo1-retention-full=${value.postgresql?.keep ?? 2}
repo1-bundle=y
compress-type=zst
start-fast=y
log-level-console=warn
log-level-file=off
${cluster === undefined ? "spool-path=/var/spool/pgbackrest" : `lock-path=${place}/lock\ncmd-ssh=/usr/lib/ingot/backup-ssh`}

[${stanza}]
pg1-path=${dataIn(host)}
pg1-socket-path=/run/postgresql
${cluster === undefined ? "" : `pg1-host=${cluster}\npg1-host-user=postgres\n`}`,
];

/** The same where the cluster is, and the repository is not. */
const clusterConf = (host: Host, { address }: Elsewhere): string => `[global]
repo1-host=${address}
repo1-host-user=${accountOf(host.name)}
cmd-ssh=/usr/lib/ingot/backup-ssh
compress-type=zst
log-level-console=warn
log-level-file=off
spool-path=/var/spool/pgbackrest

[${stanza}]
pg1-path=${dataIn(host)}
pg1-socket-path=/run/postgresql
`;

function elsewhereProblems(name: string, host: Host): Problem[] {
  const wrong = (message: string, hint: string): Problem[] => [{ code: "ING1462", path: ["to", "host"], message, hint }];
  if (name === host.name) return wrong(`${name} is this host itself: the backups would go with it`, "name another host of the stack");
  const other = host.other(name);
  if (!other) return wrong(`the stack has no host \`${name}\``, "name a host with a `backup_store:`");
  if (host.address === undefined || other.address === undefined)
    return wrong(`${host.address === undefined ? host.name : name} has no \`address:\` by which the two reach each other`, "give both one");
  const store = other.get(backupStore)?.value;
  if (!store?.of.includes(host.name))
    return wrong(`${name} keeps no backups of ${host.name}`, `write \`backup_store: { path: …, of: [${host.name}] }\` there`);
  return [];
}

function bucketProblems(value: Backup, host: Host): Problem[] {
  if (!isBucket(value.to)) return [];
  const { s3 } = value.to;
  const wrong = (path: string[], message: string, hint: string): Problem[] => [
    { code: "ING1463", path: ["to", "s3", ...path], message, hint },
  ];
  const own = bucketOf(value, host);
  const others = [...host.hosts.values()].flatMap((other) => {
    const declared = other.name === host.name ? undefined : other.get(backup)?.value;
    const bucket = declared && bucketOf(declared, other);
    return bucket ? [{ name: other.name, bucket }] : [];
  });
  const shared = others.find(
    ({ bucket: b }) =>
      own && b.bucket === own.bucket && b.url === own.url && (isBelow(b.prefix, own.prefix) || isBelow(own.prefix, b.prefix)),
  );
  return [
    ...(s3.endpoint === undefined && s3.region === undefined
      ? wrong(
          [],
          "it says neither the bucket's region nor another server",
          "write `region:`, or `endpoint:` for a server that is not AWS's",
        )
      : []),
    ...((s3.access_key === undefined) !== (s3.secret_key === undefined)
      ? wrong(
          [s3.access_key ? "access_key" : "secret_key"],
          `${s3.access_key ? "access_key" : "secret_key"} without ${s3.access_key ? "secret_key" : "access_key"}`,
          "write both; or neither, on EC2, where the machine's role has the rights",
        )
      : []),
    ...(["access_key", "secret_key"] as const).flatMap((name) =>
      s3[name]?.generate
        ? wrong([name], "a key that is made here opens no bucket", "take `generate:` out, and put the key into the secrets' store")
        : [],
    ),
    ...(s3.ca !== undefined && s3.endpoint === undefined
      ? wrong(["ca"], "AWS's own certificate needs no `ca:`", "take it out, or write `endpoint:`")
      : []),
    ...(shared
      ? wrong(
          s3.prefix === undefined ? ["bucket"] : ["prefix"],
          `${shared.name} keeps its backups there, too: below ${shared.bucket.prefix}`,
          "give each host a prefix of its own",
        )
      : []),
  ];
}

/** The ways between the host and the store's. */
function waysOf(value: Backup, host: Host, { name, address }: Elsewhere): StepDraft[] {
  const rendered = (file: string, parts: Part[], mode: string, owner?: string) =>
    renderedFile(file, { path: `${folder}/${file}`, owner, mode }, parts);
  const own = value.postgresql ? "postgres" : undefined;
  return [
    rendered("key", [{ secret: keysOf(host.name).host }, "\n"], "0400", own),
    rendered("known_hosts", [`${address} `, { secret: `${name}/ssh-host-key.pub` }, "\n"], "0644"),
    ...(value.postgresql
      ? [
          rendered("store_keys", [{ secret: `${keysOf(host.name).store}.pub` }, "\n"], "0644"),
          renderedFile("sshd", { path: "/etc/ssh/sshd_config.d/ingot-backup.conf", mode: "0644" }, [
            onlyThis(`User postgres Address ${address}`, `${folder}/store_keys`, "/usr/lib/ingot/backup_store.py cluster"),
          ]),
        ]
      : []),
  ];
}

const programUnit = (description: string, what: string, value: Backup): string =>
  [
    "[Unit]",
    `Description=${description}`,
    ...hereIn(value).map((path) => `RequiresMountsFor=${unitPath(path)}`),
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
      .filter((v) => [...hereIn(value), dataIn(host), ...copied(value, host)].some((path) => isBelow(path, v.value.mount)))
      .map((v) => v.id),
    ...hereIn(value).flatMap((path) => foldersAbove(path, host)),
    ...(isBucket(value.to) && value.to.s3.ca !== undefined && host.get(file, value.to.s3.ca) ? [`file/${value.to.s3.ca}`] : []),
    ...(hereIn(value).length ? [] : ["hostname"]),
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
    const { to } = value;
    if (isElsewhere(to)) return [...problems, ...elsewhereProblems(to.host, host)];
    if (isBucket(to)) return [...problems, ...bucketProblems(value, host)];
    const place = volumeAt(to, host)?.name;
    const held = [
      ...(value.postgresql ? [{ what: "PostgreSQL", path: dataIn(host) }] : []),
      ...copied(value, host).map((path) => ({ what: path, path })),
    ];
    const beside = held.find(({ path }) => volumeAt(path, host)?.name === place);
    if (place === undefined)
      problems.push({
        code: "ING1461",
        path: ["to"],
        message: `${to} is on no volume: the backups would go with the machine`,
        hint: "declare a volume that is mounted there, or above it",
      });
    else if (beside)
      problems.push({
        code: "ING1461",
        path: ["to"],
        message: `${to} is on the volume ${place}, as ${beside.what} is: one lost disk would take both`,
        hint: "give the backups a volume of their own",
        related: { id: `volume/${place}`, message: "it is declared here" },
      });
    return problems;
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
    const there = elsewhere(value, host);
    const bucket = bucketOf(value, host);
    const keys = bucket?.access_key !== undefined && bucket.secret_key !== undefined ? [bucket.access_key, bucket.secret_key] : [];
    const unit = (name: string, suffix: string) => `/etc/systemd/system/${name}.${suffix}`;
    return {
      secrets: [
        { name: value.password.secret, generate: value.password.generate },
        ...keys.map((name) => ({ name })),
        ...(there
          ? [
              { name: keysOf(host.name).host, generate: "ssh-ed25519" as const },
              { name: `${keysOf(host.name).store}.pub`, generate: "ssh-public" as const },
              { name: `${there.name}/ssh-host-key.pub`, generate: "ssh-public" as const },
            ]
          : []),
      ],
      files: [
        {
          path: settingsPath,
          mode: "0644",
          content: `${JSON.stringify(
            {
              to: there?.place ?? (bucket ? `s3://${bucket.bucket}/${bucket.prefix}` : value.to),
              ...(bucket && { s3: bucket }),
              ...(there && { on: { host: there.name, login: `${accountOf(host.name)}@${there.address}` } }),
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
        ...(there ? [{ path: `${folder}/ssh_config`, mode: "0644" as const, content: sshConfig(folder) }] : []),
        ...times.flatMap(({ name, what, at, description }) => [
          { path: unit(name, "service"), mode: "0644" as const, content: programUnit(description, what, value) },
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
        ...(value.postgresql
          ? [
              renderedFile(
                "pgbackrest",
                { path: pgbackrestConfig, owner: "postgres", mode: "0400" },
                there ? [clusterConf(host, there)] : confOf(value, host, { place: bucket ?? String(value.to) }),
              ),
            ]
          : []),
        renderedFile("password", { path: passwordPath, mode: "0400" }, [{ secret: value.password.secret }]),
        ...(keys.length
          ? [
              renderedFile(
                "s3-keys",
                { path: keysPath, mode: "0400" },
                keys.flatMap((secret) => [{ secret }, "\n"]),
              ),
            ]
          : []),
        ...(there ? waysOf(value, host, there) : []),
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
