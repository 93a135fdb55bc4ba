import type { Capability } from "../capability.ts";

export const nfs: Capability = {
  description: "NFS, for those that export folders and for those that mount them",
  brings: ({ release }) => ({
    packages: ["nfs-common", "nfs-kernel-server"],
    disabled: [
      "rpcbind.service",
      "rpcbind.socket",
      "nfs-server.service",
      "nfs-client.target",
      "nfs-blkmap.service",
      ...(release === "trixie" ? ["fsidd.service"] : []),
    ],
  }),
};
