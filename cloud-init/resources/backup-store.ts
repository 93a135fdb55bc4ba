// Where the backups of other hosts are kept. They come over ssh, each host as an account of its own that can do nothing else
// (cloud-init/host/backup_store.py); what they are of is the host's `backup:`.
import { type Infer, list, object, text } from "../../lib/schema.ts";
import { clusterSection, repositoryConf } from "../backup/pgbackrest.ts";
import { accountOf, keysOf, onlyThis, sshConfig } from "../backup/ssh.ts";
import { fixedId, type Host, inside, isBelow, type Kind, kind, type Problem, pkg, renderedFile, type StepDraft } from "../kind.ts";
import { reachProblems } from "../listener.ts";
import { absolutePath } from "../names.ts";
import type { Part } from "../plan.ts";
import { backup } from "./backup.ts";
import { foldersAbove } from "./directory.ts";
import { dataIn } from "./postgresql.ts";
import { user } from "./user.ts";
import { volume, volumeAt } from "./volume.ts";

const schema = object({
  path: { ...absolutePath, description: "Folder on a volume; each host's backups have a folder of their own in it" },
  of: list(text({ pattern: "^[a-z0-9][a-z0-9-]{0,23}$", expected: "the name of a host, of at most 24 characters" }), {
    minItems: 1,
    description: "The hosts of the stack whose backups are kept here: `backup: { to: { host: <this host> } }`",
  }),
});
export type BackupStore = Infer<typeof schema>;

const folderOf = (host: string): string => `/etc/ingot/backup-store/${host}`;
const addressIn = (host: Host, name: string): string => host.peers.find((p) => p.name === name)?.address ?? "";
/** pgBackRest's for a cluster on another host. */
const confOf = (place: string, kept: { password: string; keep: number }, { data, address }: { data: string; address: string }): Part[] =>
  repositoryConf(
    [`[global]\nrepo1-path=${place}/postgresql\n`],
    kept,
    `lock-path=${place}/lock
cmd-ssh=/usr/lib/ingot/backup-ssh

${clusterSection(data)}pg1-host=${address}
pg1-host-user=postgres
`,
  );

export const backupStore: Kind<BackupStore> = kind({
  kind: "backup-store",
  key: "backup_store",
  shape: "one",
  summary:
    "Where the backups of other hosts of the stack are kept, so that they outlive a host with all its volumes. They come over ssh, with keys that Ingot makes: each host as an account that gets no shell and sees its own folder alone, PostgreSQL's backups made by pgBackRest as its repository host, the rest by restic over sftp. A machine whose place a rebuild has given to another one is refused. Both hosts want images with the same version of pgBackRest.",
  schema,
  examples: [
    "hosts:\n  vault:\n    image: inloop\n    address: 10.1.1.1\n    volumes:\n      backups: { mount: /srv/backups, size: 100GiB }\n    backup_store: { path: /srv/backups, of: [db] }\n  db:\n    image: inloop\n    address: 10.1.1.2\n    volumes:\n      data: { mount: /srv/data, size: 20GiB }\n    postgresql: { data: /srv/data/postgresql }\n    directories:\n      /srv/data/media: {}\n    backup: { to: { host: vault }, postgresql: {}, directories: [/srv/data/media] }\n",
  ],
  after: ({ value }, host) => [
    "hostname",
    ...host.all(volume).flatMap((v) => (isBelow(value.path, v.value.mount) ? [v.id] : [])),
    ...foldersAbove(value.path, host),
  ],
  problems: ({ value }, host): Problem[] => [
    ...reachProblems(value.of, host, ["of"]),
    ...(volumeAt(value.path, host) === undefined
      ? [
          {
            code: "ING1461",
            path: ["path"],
            message: `${value.path} is on no volume: the backups would go with the machine`,
            hint: "declare a volume that is mounted there, or above it",
          },
        ]
      : []),
    ...value.of.flatMap((name, i): Problem[] => {
      const to = host.other(name)?.get(backup)?.value.to;
      if (!host.peers.some((p) => p.name === name) || (typeof to === "object" && "host" in to && to.host === host.name)) return [];
      return [
        {
          code: "ING1462",
          path: ["of", i],
          message: `${name} does not keep its backups here`,
          hint: `write \`backup: { to: { host: ${host.name} } }\` there, or leave it out`,
        },
      ];
    }),
    ...value.of.flatMap((name, i): Problem[] => {
      const uid = fixedId(accountOf(name), true);
      const other =
        host.all(user).find((u) => (u.value.uid ?? fixedId(u.name, u.value.system)) === uid)?.name ??
        value.of.slice(0, i).find((o) => fixedId(accountOf(o), true) === uid);
      return other === undefined
        ? []
        : [
            {
              code: "ING1501",
              path: ["of", i],
              message: `the account ${accountOf(name)} and ${other} both have the uid ${uid}`,
              hint: "give the host another name",
            },
          ];
    }),
  ],
  needs: () => [pkg("pgbackrest"), pkg("openssh-server"), pkg("python3")],
  compile: ({ value }, host) => {
    const clients = value.of.flatMap((name) => {
      const client = host.other(name);
      const declared = client?.get(backup)?.value;
      return client && declared ? [{ name, client, declared }] : [];
    });
    const mount = volumeAt(value.path, host)?.value.mount ?? value.path;
    return {
      secrets: clients.flatMap(({ name, declared }) => [
        { name: `${keysOf(name).host}.pub`, generate: "ssh-public" as const },
        { name: keysOf(name).store, generate: "ssh-ed25519" as const },
        { name: `${name}/ssh-host-key.pub`, generate: "ssh-public" as const },
        ...(declared.postgresql ? [{ name: declared.password.secret, generate: declared.password.generate }] : []),
      ]),
      files: clients.flatMap(({ name }) => [
        {
          path: `${folderOf(name)}/settings.json`,
          mode: "0644" as const,
          content: `${JSON.stringify({ mount, place: `${value.path}/${name}` })}\n`,
        },
        { path: `${folderOf(name)}/ssh_config`, mode: "0644" as const, content: sshConfig(folderOf(name)) },
      ]),
      steps: [
        ...clients.flatMap(({ name, client, declared }): StepDraft[] => {
          const account = accountOf(name);
          const uid = fixedId(account, true);
          const rendered = (file: string, parts: Part[], mode: string, owner?: string) =>
            renderedFile(`${name}-${file}`, { path: `${folderOf(name)}/${file}`, owner, mode }, parts);
          return [
            {
              part: `${name}-account`,
              action: "user",
              args: {
                name: account,
                uid,
                gid: uid,
                system: true,
                home: `${value.path}/${name}`,
                shell: "/bin/sh",
                groups: [],
                sudo: "none",
              },
            },
            { part: `${name}-folder`, action: "directory", args: { path: `${value.path}/${name}`, owner: account, mode: "0700" } },
            // Before anybody can log in.
            { part: `${name}-drill`, action: "backup-store", args: { host: name } },
            rendered("authorized_keys", [{ secret: `${keysOf(name).host}.pub` }, "\n"], "0644"),
            rendered("key", [{ secret: keysOf(name).store }, "\n"], "0400", account),
            rendered("known_hosts", [`${addressIn(host, name)} `, { secret: `${name}/ssh-host-key.pub` }, "\n"], "0644"),
            ...(declared.postgresql
              ? [
                  rendered(
                    "pgbackrest.conf",
                    confOf(
                      `${value.path}/${name}`,
                      { password: declared.password.secret, keep: declared.postgresql.keep },
                      { data: dataIn(client), address: addressIn(host, name) },
                    ),
                    "0400",
                    account,
                  ),
                ]
              : []),
          ];
        }),
        renderedFile("sshd", { path: "/etc/ssh/sshd_config.d/ingot-backup-store.conf", mode: "0644" }, [
          clients
            .map(({ name }) =>
              onlyThis(`User ${accountOf(name)}`, `${folderOf(name)}/authorized_keys`, `/usr/lib/ingot/backup_store.py serve ${name}`),
            )
            .join(""),
        ]),
      ],
    };
  },
  checks: ({ value }) =>
    value.of.flatMap((name) => [
      inside("path", { path: `${value.path}/${name}`, type: "directory", owner: accountOf(name), mode: "0700" }, `${name}-folder`),
      inside("path", { path: `${folderOf(name)}/key`, type: "file", owner: accountOf(name), mode: "0400" }, `${name}-key`),
    ]),
});
