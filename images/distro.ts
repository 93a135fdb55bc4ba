// What Ingot knows of the distributions beyond what a recipe says of them. A release that is added here is asked for by the compiler
// wherever a capability (images/capabilities/) knows something for each.
import type { Archive } from "./recipe-schema.ts";

export type Release = "bookworm" | "trixie" | "jammy" | "noble";
export type DistroName = "debian" | "ubuntu";
export type Architecture = "amd64" | "arm64";

export interface Distro {
  /** By code name. `merged`: the package that says that /usr is merged, as the tree begins; where the release's own wants one. */
  releases: Partial<Record<Release, { version: string; merged?: string }>>;
  /** The keys that its archives are signed with, and the Debian package that brings them to this computer. */
  keyring: string;
  keyringPackage: string;
  /** What every image has beside the essential packages and the recipe's. */
  base: string[];
  /** What makes a bootable disk, by architecture: GRUB, shim, and what writes partitions and file systems. Never installed in an image. */
  disk: Record<Architecture, string[]>;
  /** What a bake needs on a builder beside its essential packages. */
  builder: string[];
  /** Its own image in EC2, which a builder starts from: who owns it, what it is called, its user, and the device of its root. */
  cloudImage: { owner: string; name(release: Release, architecture: Architecture): string; user: string; rootDevice: string };
  /** Where its packages come from: updates and security are in it. */
  archives(release: Release, architecture: Architecture): Record<string, Archive>;
  /** Where its archives can be had as they were at a time, by their own address. */
  snapshots: Record<string, string>;
}

const builderPrograms = ["mmdebstrap", "apt-utils", "python3"];
const diskPrograms = ["fdisk", "e2fsprogs", "dosfstools", "mtools"];

export const distros: Record<DistroName, Distro> = {
  debian: {
    // usr-is-merged instead of usrmerge and its Perl.
    releases: { bookworm: { version: "12", merged: "usr-is-merged" }, trixie: { version: "13", merged: "usr-is-merged" } },
    keyring: "/usr/share/keyrings/debian-archive-keyring.gpg",
    keyringPackage: "debian-archive-keyring",
    base: ["apt", "systemd-sysv"],
    disk: {
      amd64: ["grub-pc-bin", "grub-efi-amd64-signed", "shim-signed", "shim-helpers-amd64-signed", ...diskPrograms],
      arm64: ["grub-efi-arm64-signed", "shim-signed", "shim-helpers-arm64-signed", ...diskPrograms],
    },
    builder: builderPrograms,
    // https://wiki.debian.org/Cloud/AmazonEC2Image
    cloudImage: {
      owner: "136693071363",
      name: (release, architecture) => `debian-${distros.debian.releases[release]?.version}-${architecture}-*`,
      user: "admin",
      rootDevice: "/dev/xvda",
    },
    archives: (release) => ({
      main: { mirror: "http://deb.debian.org/debian", suites: [release, `${release}-updates`], components: ["main"] },
      security: { mirror: "http://security.debian.org/debian-security", suites: [`${release}-security`], components: ["main"] },
    }),
    snapshots: {
      "http://deb.debian.org/debian": "http://snapshot.debian.org/archive/debian",
      "http://security.debian.org/debian-security": "http://snapshot.debian.org/archive/debian-security",
    },
  },
  ubuntu: {
    releases: { jammy: { version: "22.04", merged: "usrmerge" }, noble: { version: "24.04" } },
    keyring: "/usr/share/keyrings/ubuntu-archive-keyring.gpg",
    keyringPackage: "ubuntu-keyring",
    base: ["apt", "systemd-sysv"],
    disk: {
      amd64: ["grub-pc-bin", "grub-efi-amd64-signed", "shim-signed", ...diskPrograms],
      arm64: ["grub-efi-arm64-signed", "shim-signed", ...diskPrograms],
    },
    builder: builderPrograms,
    // https://documentation.ubuntu.com/aws/aws-how-to/instances/find-ubuntu-images/
    cloudImage: {
      owner: "099720109477",
      name: (release, architecture) =>
        `ubuntu/images/hvm-ssd*/ubuntu-${release}-${distros.ubuntu.releases[release]?.version}-${architecture}-server-*`,
      user: "ubuntu",
      rootDevice: "/dev/sda1",
    },
    archives: (release, architecture) => {
      const ports = architecture === "amd64" ? undefined : "http://ports.ubuntu.com/ubuntu-ports";
      const components = ["main", "universe"];
      return {
        main: { mirror: ports ?? "http://archive.ubuntu.com/ubuntu", suites: [release, `${release}-updates`], components },
        security: { mirror: ports ?? "http://security.ubuntu.com/ubuntu", suites: [`${release}-security`], components },
      };
    },
    snapshots: {
      "http://archive.ubuntu.com/ubuntu": "http://snapshot.ubuntu.com/ubuntu",
      "http://security.ubuntu.com/ubuntu": "http://snapshot.ubuntu.com/ubuntu",
      "http://ports.ubuntu.com/ubuntu-ports": "http://snapshot.ubuntu.com/ubuntu",
    },
  },
};
