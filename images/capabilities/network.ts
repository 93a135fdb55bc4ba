import type { Capability } from "../capability.ts";

/** What cloud-init renders its network for, and the client that its Ec2 datasource asks for an address with. */
export const network: Capability = {
  description: "A network by DHCP: ifupdown on Debian, netplan with systemd-networkd on Ubuntu",
  brings: ({ distro, release }) => ({
    packages: [
      distro === "debian" ? "ifupdown" : "netplan.io",
      ["bookworm", "jammy"].includes(release) ? "isc-dhcp-client" : "dhcpcd-base",
      "iproute2",
    ],
  }),
};
