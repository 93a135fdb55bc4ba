// What an image is, for every room above: where it lies in the store and what is in it.

/** What baking a recipe gives: `<store>/<digest>/` with `root/` (the tree, root's own, never written to), `files` (what is in it) and `manifest.json`. */
export interface Image {
  name: string;
  digest: string;
  /** The root tree, absolute. */
  root: string;
  manifest: Manifest;
}

/** Every package, unit, user, path and version that a stack may rely on. Written at the end of a bake, read by the compiler. */
export interface Manifest {
  name: string;
  digest: string;
  /** The digest of everything but Ingot's own files: images that share it differ in those alone. */
  base: string;
  distro: string;
  release: string;
  architecture: string;
  baked: string;
  bakeSeconds: number;
  /** sha256 over the whole tree: every path with its content, owner, mode, times, hard links and attributes (the file `files` beside it). */
  tree: string;
  /** Bytes of the files in the tree. */
  size: number;
  packages: Record<string, string>;
  /** sha256 of their .debs; missing in images of an older Ingot. */
  debs?: Record<string, string>;
  /** Those of them that came from a pocket of security updates. */
  security: string[];
  /** systemd unit files, and whether they are started at boot. */
  units: Record<string, "enabled" | "disabled" | "static" | "masked" | "alias" | "generated" | "indirect">;
  users: Record<string, { uid: number; gid: number; home: string; shell: string }>;
  groups: Record<string, { gid: number; members: string[] }>;
  /** Absolute paths of the programs in bin and sbin. */
  binaries: string[];
  /** Ingot's own files in the image (below /usr/lib/ingot and its units): sha256 by absolute path. */
  files: Record<string, string>;
  /** Upstream versions: "15", "3.11", "22.4.2". */
  versions: { postgresql?: string; python?: string; cloudInit?: string };
  locales: string[];
  /** The layers that it is made of, the lowest first, by their keys. */
  layers: string[];
  /** What went into it, as in images/digest.ts; the first 12 characters of each sum. */
  inputs: Record<string, string>;
  /** Seconds that the step on top of the layers took. */
  configureSeconds: number;
}
