import { type Capability, owner } from "../capability.ts";

export const postgresql: Capability = {
  description: "A PostgreSQL server; its cluster is made on the host, on the volume that the stack gives it",
  choices: { bookworm: ["15"], trixie: ["17"], jammy: ["14"], noble: ["16"] },
  brings: ({ choice }) => ({
    packages: [`postgresql-${choice}`, "postgresql-common"],
    users: {
      postgres: owner(600, "/var/lib/postgresql", { shell: "/bin/bash", groups: ["ssl-cert"], description: "PostgreSQL administrator" }),
    },
    groups: { "ssl-cert": 611 },
    disabled: ["postgresql.service"],
    files: { "/etc/postgresql-common/createcluster.d/ingot.conf": { content: "create_main_cluster = false\n", mode: "0644" } },
  }),
};
