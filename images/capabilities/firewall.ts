import { everywhere } from "../capability.ts";

export const firewall = everywhere("A firewall (nftables)", { packages: ["nftables"], disabled: ["nftables.service"] });
