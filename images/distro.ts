// What Ingot knows of a distribution beyond what a recipe says of it.
export interface Distro {
  releases: string[];
  /** The keys that its archives are signed with, and the Debian package that brings them to this computer. */
  keyring: string;
  keyringPackage: string;
  /** What every image has beside the essential packages and the recipe's. */
  base: string[];
}

export const distros = {
  debian: {
    releases: ["bookworm", "trixie"],
    keyring: "/usr/share/keyrings/debian-archive-keyring.gpg",
    keyringPackage: "debian-archive-keyring",
    // usr-is-merged instead of usrmerge and its Perl: the tree begins merged.
    base: ["apt", "systemd-sysv", "usr-is-merged"],
  },
} satisfies Record<string, Distro>;
