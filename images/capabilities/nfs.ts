import { everywhere } from "../capability.ts";

export const nfs = everywhere("NFS, for those that export folders and for those that mount them", {
  packages: ["nfs-common", "nfs-kernel-server"],
  disabled: ["rpcbind.service", "rpcbind.socket", "nfs-server.service", "nfs-client.target", "nfs-blkmap.service"],
});
