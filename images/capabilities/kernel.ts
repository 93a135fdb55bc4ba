import type { Capability } from "../capability.ts";

export const kernel: Capability = {
  description: "A kernel and its initramfs: made for virtual machines, or with drivers for everything else, too (`generic`)",
  choices: {
    bookworm: ["cloud", "generic"],
    trixie: ["cloud", "generic"],
    jammy: ["virtual", "aws", "generic"],
    noble: ["virtual", "aws", "generic"],
  },
  brings: ({ distro, architecture, choice }) => ({
    packages:
      distro === "debian"
        ? [choice === "cloud" ? `linux-image-cloud-${architecture}` : `linux-image-${architecture}`]
        : // Ubuntu's kernels only recommend it.
          [`linux-image-${choice}`, "initramfs-tools"],
  }),
};
