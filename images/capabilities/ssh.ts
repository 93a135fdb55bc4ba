import type { Capability } from "../capability.ts";

export const ssh: Capability = {
  description: "Login by OpenSSH",
  brings: ({ release }) => ({
    packages: ["openssh-server"],
    // Ubuntu's listens by a socket of systemd's from 24.04 on.
    disabled: release === "noble" ? ["ssh.service", "ssh.socket"] : ["ssh.service"],
  }),
};
