import { everywhere } from "../capability.ts";

export const backup = everywhere("pgBackRest, for PostgreSQL, and restic, for directories: what `backup:` of a host makes backups with", {
  packages: ["pgbackrest", "restic"],
  disabled: ["pgbackrest.service"],
});
