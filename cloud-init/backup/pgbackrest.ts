// pgBackRest's configuration, where it writes into the repository itself: beside the cluster, or on the host that keeps the backups. Called by
// the places and by resources/backup-store.ts; the postgresql kind archives by it.
import type { Part } from "../plan.ts";
import { folder } from "./place.ts";

export const pgbackrestConfig = `${folder}/pgbackrest.conf`;
export const stanza = "main";

/** The cluster, as it is reached by its own host's pgBackRest. */
export const besideCluster = (data: string): string => `spool-path=/var/spool/pgbackrest

${clusterSection(data)}`;

export const clusterSection = (data: string): string => `[${stanza}]
pg1-path=${data}
pg1-socket-path=/run/postgresql
`;

/**
 * @param where the repository is: lines of pgBackRest's, `[global]` among them
 * @param keep full backups that are kept
 * @param cluster how the cluster is reached
 */
export const repositoryConf = (where: Part[], { password, keep }: { password: string; keep: number }, cluster: string): Part[] => [
  ...where,
  "repo1-cipher-type=aes-256-cbc\nrepo1-cipher-pass=",
  { secret: password },
  `
repo1-retention-full=${keep}
repo1-bundle=y
compress-type=zst
start-fast=y
log-level-console=warn
log-level-file=off
${cluster}`,
];
