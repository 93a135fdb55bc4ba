// Backups that another host of the stack keeps (resources/backup-store.ts): this host's end of the ways between the two.
import { object, text } from "../../lib/schema.ts";
import { type Host, type Problem, renderedFile, type StepDraft } from "../kind.ts";
import type { Part } from "../plan.ts";
import { backupStore } from "../resources/backup-store.ts";
import { besideCluster } from "./pgbackrest.ts";
import { folder, type Kept, type Place } from "./place.ts";
import { accountOf, keysOf, onlyThis, sshConfig } from "./ssh.ts";

export const storeSchema = object({
  host: text({
    pattern: "^[a-z0-9][a-z0-9-]{0,62}$",
    expected: "the name of a host",
    description: "A host of the stack with a `backup_store:` for this one",
  }),
});

/** @param name the host that keeps them */
export function storePlace(name: string, kept: Kept): Place {
  const { host, cluster } = kept;
  const address = host.peers.find((p) => p.name === name)?.address ?? "";
  return {
    to: `${host.other(name)?.get(backupStore)?.value.path ?? ""}/${host.name}`,
    settings: { on: { host: name, login: `${accountOf(host.name)}@${address}` } },
    after: ["hostname"],
    ...(cluster && {
      pgbackrest: [
        `[global]
repo1-host=${address}
repo1-host-user=${accountOf(host.name)}
cmd-ssh=/usr/lib/ingot/backup-ssh
compress-type=zst
log-level-console=warn
log-level-file=off
${besideCluster(cluster.data)}`,
      ],
    }),
    secrets: [
      { name: keysOf(host.name).host, generate: "ssh-ed25519" },
      { name: `${keysOf(host.name).store}.pub`, generate: "ssh-public" },
      { name: `${name}/ssh-host-key.pub`, generate: "ssh-public" },
    ],
    files: [{ path: `${folder}/ssh_config`, mode: "0644", content: sshConfig(folder) }],
    steps: waysOf(name, address, kept),
    problems: () => storeProblems(name, host),
  };
}

function waysOf(name: string, address: string, { host, cluster }: Kept): StepDraft[] {
  const rendered = (file: string, parts: Part[], mode: string, owner?: string) =>
    renderedFile(file, { path: `${folder}/${file}`, owner, mode }, parts);
  return [
    rendered("key", [{ secret: keysOf(host.name).host }, "\n"], "0400", cluster && "postgres"),
    rendered("known_hosts", [`${address} `, { secret: `${name}/ssh-host-key.pub` }, "\n"], "0644"),
    ...(cluster
      ? [
          rendered("store_keys", [{ secret: `${keysOf(host.name).store}.pub` }, "\n"], "0644"),
          renderedFile("sshd", { path: "/etc/ssh/sshd_config.d/ingot-backup.conf", mode: "0644" }, [
            onlyThis(`User postgres Address ${address}`, `${folder}/store_keys`, "/usr/lib/ingot/backup_store.py cluster"),
          ]),
        ]
      : []),
  ];
}

function storeProblems(name: string, host: Host): Problem[] {
  const wrong = (message: string, hint: string): Problem[] => [{ code: "ING1462", path: ["to", "host"], message, hint }];
  if (name === host.name) return wrong(`${name} is this host itself: the backups would go with it`, "name another host of the stack");
  const other = host.other(name);
  if (!other) return wrong(`the stack has no host \`${name}\``, "name a host with a `backup_store:`");
  if (host.address === undefined || other.address === undefined)
    return wrong(`${host.address === undefined ? host.name : name} has no \`address:\` by which the two reach each other`, "give both one");
  if (!other.get(backupStore)?.value.of.includes(host.name))
    return wrong(`${name} keeps no backups of ${host.name}`, `write \`backup_store: { path: …, of: [${host.name}] }\` there`);
  return [];
}
