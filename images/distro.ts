// What Ingot knows of a distribution beyond what a recipe says of it.
export interface Distro {
  releases: string[];
  /** The keys that its archives are signed with, and the Debian package that brings them to this computer. */
  keyring: string;
  keyringPackage: string;
  /** What every image has beside the essential packages and the recipe's. */
  base: string[];
  /** What makes a bootable disk, by architecture: GRUB, shim, and what writes partitions and file systems. Never installed in an image. */
  disk: Record<"amd64" | "arm64", string[]>;
}

const diskPrograms = ["fdisk", "e2fsprogs", "dosfstools", "mtools"];

export const distros = {
  debian: {
    releases: ["bookworm", "trixie"],
    keyring: "/usr/share/keyrings/debian-archive-keyring.gpg",
    keyringPackage: "debian-archive-keyring",
    // usr-is-merged instead of usrmerge and its Perl: the tree begins merged.
    base: ["apt", "systemd-sysv", "usr-is-merged"],
    disk: {
      amd64: ["grub-pc-bin", "grub-efi-amd64-signed", "shim-signed", "shim-helpers-amd64-signed", ...diskPrograms],
      arm64: ["grub-efi-arm64-signed", "shim-signed", "shim-helpers-arm64-signed", ...diskPrograms],
    },
  },
} satisfies Record<string, Distro>;
