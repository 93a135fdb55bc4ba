import type { Capability } from "../capability.ts";

export const docker: Capability = {
  description: "Docker, as the distribution packages it",
  brings: ({ release }) => ({
    // From Debian 13 on the client is a package of its own.
    packages: release === "trixie" ? ["docker.io", "docker-cli"] : ["docker.io"],
    groups: { docker: 610 },
    disabled: ["docker.service", "docker.socket", "containerd.service"],
  }),
};
