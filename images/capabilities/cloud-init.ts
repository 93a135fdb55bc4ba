import { everywhere } from "../capability.ts";

export const cloudInit = everywhere("First boot: cloud-init, and what lets the root grow to its disk", {
  packages: ["cloud-init", "cloud-guest-utils", "fdisk"],
  disabled: ["cloud-init-hotplugd.socket"],
});
