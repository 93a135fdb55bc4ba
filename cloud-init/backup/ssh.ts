// How a host and the one that keeps its backups reach each other by ssh: each end has a key of its own, and sshd lets it do one thing. Called by
// both ends (store.ts, resources/backup-store.ts); what may be asked is host/backup_store.py's to say.

/** The account of a host on the store's. */
export const accountOf = (host: string): string => `backup-${host}`;

/** Secrets of the two keys: by which the host comes to the store, and the store to the host's cluster. Public halves end in `.pub`. */
export const keysOf = (host: string): { host: string; store: string } => ({
  host: `${host}/backup-key`,
  store: `${host}/backup-store-key`,
});

/** ssh of the one to the other: nobody is asked, and nobody else is believed. @param folder of its key and its known hosts */
export const sshConfig = (folder: string): string =>
  [
    "BatchMode yes",
    `IdentityFile ${folder}/key`,
    "IdentitiesOnly yes",
    `UserKnownHostsFile ${folder}/known_hosts`,
    "GlobalKnownHostsFile /dev/null",
    "StrictHostKeyChecking yes",
    "ConnectTimeout 20",
    "ServerAliveInterval 15",
    "",
  ].join("\n");

/** What sshd lets an account do. */
export const onlyThis = (match: string, keys: string, command: string): string =>
  [
    `Match ${match}`,
    `    AuthorizedKeysFile ${keys}`,
    "    AuthenticationMethods publickey",
    `    ForceCommand ${command}`,
    "    AcceptEnv INGOT_INSTANCE",
    "    DisableForwarding yes",
    "    PermitTTY no",
    "    PermitUserRC no",
    "",
  ].join("\n");
