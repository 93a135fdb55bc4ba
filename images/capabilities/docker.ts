import type { Capability } from "../capability.ts";

export const docker: Capability = {
  description: "Docker, as the distribution packages it",
  brings: ({ release }) => ({
    // From Debian 13 on the client is a package of its own. Where the kernel has AppArmor, Docker starts no container without AppArmor's
    // parser; by that it loads the profile of its containers itself, and apparmor.service would load those of other programs.
    packages: release === "trixie" ? ["docker.io", "docker-cli", "apparmor"] : ["docker.io", "apparmor"],
    groups: { docker: 610 },
    disabled: ["docker.service", "docker.socket", "containerd.service", "apparmor.service"],
  }),
};
