import { everywhere } from "../capability.ts";

export const docker = everywhere("Docker, as the distribution packages it", {
  packages: ["docker.io"],
  groups: { docker: 610 },
  disabled: ["docker.service", "docker.socket", "containerd.service"],
});
