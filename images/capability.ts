// What an image can do, in one word: `nginx: true`, `postgresql: 15`. A capability is one file in images/capabilities/, which knows for each
// release what the packages are called, who owns their data, and which of their units wait for a host that declares them.
import type { Architecture, DistroName, Release } from "./distro.ts";

export interface Capability {
  /** What an image has by it. */
  description: string;
  /** Where it can be had in several ways, such as versions: by release those that there are. The first is what `true` means. */
  choices?: Record<Release, readonly [string, ...string[]]>;
  brings(ground: Ground): Brought;
}

/** What it is brought to. */
export interface Ground {
  distro: DistroName;
  release: Release;
  architecture: Architecture;
  /** One of the release's choices; empty where there are none. */
  choice: string;
}

/** In a recipe's own words (recipe-schema.ts says what they mean). */
export interface Brought {
  packages: string[];
  users?: Record<string, Account>;
  groups?: Record<string, number>;
  disabled?: string[];
  files?: Record<string, { content: string; mode: string }>;
}

interface Account {
  uid: number;
  home: string;
  shell: string;
  groups: string[];
  description: string;
}

/** One that is the same everywhere. */
export const everywhere = (description: string, brought: Brought): Capability => ({ description, brings: () => brought });

/** An owner of data, with its fixed number. Numbers are in 600..699, which neither adduser (from 100 upwards) nor sysusers (from 999 downwards) reaches. */
export const owner = (uid: number, home: string, more: Partial<Account> = {}): Account => ({
  uid,
  home,
  shell: "/usr/sbin/nologin",
  groups: [],
  description: "",
  ...more,
});
