// The facts that images/provision/facts.sh wrote down about a tree, read back: what the manifest is made of and truths.ts looks at.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { sha256, short } from "../lib/digest.ts";
import type { Digests } from "./digest.ts";
import type { Manifest } from "./image.ts";
import { debsOf, type PackageLock } from "./lock.ts";
import type { Recipe } from "./recipe-schema.ts";

export interface TreeEntry {
  /** As find(1) has it: f, d, l, c, … */
  type: string;
  mode: string;
  uid: number;
  gid: number;
  /** Bytes; 0 of a folder. */
  size: number;
  /** Seconds since 1970. */
  mtime: number;
  /** A file's sha256, a link's target, a device's numbers. */
  content: string;
  /** The first of the paths that are this file by hard links; empty where it is the only one. */
  links: string;
  /** Extended attributes: name=hex,… */
  attributes: string;
  /** Absolute. */
  path: string;
}

export interface Facts {
  packages: { state: string; name: string; version: string }[];
  units: Manifest["units"];
  users: Manifest["users"];
  groups: Manifest["groups"];
  files: TreeEntry[];
  /** sha256 over everything in the tree: that of its listing. */
  tree: string;
  /** Users that have a password. */
  passwords: string[];
  /** Files with a private key in them. */
  privateKeys: string[];
  locales: string[];
  postgresql: string[];
  machineId?: string;
  sourcesList?: string;
}

export function readFacts(folder: string): Facts {
  const text = (name: string) => (existsSync(join(folder, name)) ? readFileSync(join(folder, name), "utf8") : undefined);
  const lines = (name: string) => (text(name) ?? "").split("\n").filter((l) => l !== "");
  return {
    packages: lines("packages").map((l) => {
      const [state = "", name = "", version = ""] = l.split("\t");
      return { state: state.trim(), name, version };
    }),
    units: Object.fromEntries(
      lines("units").map((l) => {
        const [name = "", state = ""] = l.split(/\s+/);
        return [name, state as Manifest["units"][string]];
      }),
    ),
    users: Object.fromEntries(
      lines("passwd").map((l) => {
        const [name = "", , uid, gid, , home = "", shell = ""] = l.split(":");
        return [name, { uid: Number(uid), gid: Number(gid), home, shell }];
      }),
    ),
    groups: Object.fromEntries(
      lines("group").map((l) => {
        const [name = "", , gid, members = ""] = l.split(":");
        return [name, { gid: Number(gid), members: members.split(",").filter(Boolean) }];
      }),
    ),
    files: readListing(text("files") ?? ""),
    tree: sha256(text("files") ?? ""),
    passwords: lines("passwords"),
    privateKeys: lines("private-keys").map((path) => path.replace(/^root/, "")),
    locales: lines("locales"),
    postgresql: lines("postgresql"),
    machineId: text("machine-id"),
    sourcesList: text("sources.list"),
  };
}

/** What images/provision/listing.py says of a tree. */
export const readListing = (text: string): TreeEntry[] =>
  text
    .trimEnd()
    .split("\n")
    .map((line) => {
      const [type = "", mode = "", uid, gid, size, mtime, content = "", links = "", attributes = "", path = ""] = line.split("\t");
      return { type, mode, uid: Number(uid), gid: Number(gid), size: Number(size), mtime: Number(mtime), content, links, attributes, path };
    });

/** Of Ingot's own files in a tree (files.ts, hostFiles): sha256 by path. */
export const ownFiles = (files: TreeEntry[]): Record<string, string> =>
  Object.fromEntries(
    files
      .filter((f) => f.type === "f" && /^\/usr\/lib\/(ingot\/|(systemd\/system|udev\/rules\.d)\/(ingot|[^/]*-ingot-)[^/]*$)/.test(f.path))
      .map((f) => [f.path, f.content]),
  );

/** Bytes of files: a folder is as large as its file system makes it. */
export const sizeOf = (files: TreeEntry[]): number => files.reduce((sum, f) => sum + (f.type === "f" ? f.size : 0), 0);

export function manifestOf(
  recipe: Recipe,
  lock: PackageLock,
  { digest, base, inputs }: Digests,
  facts: Facts,
  how: Pick<Manifest, "baked" | "bakeSeconds" | "configureSeconds" | "layers">,
): Manifest {
  const packages = Object.fromEntries(facts.packages.map((p) => [p.name, p.version]));
  return {
    name: recipe.image,
    digest,
    base,
    distro: recipe.distro,
    release: recipe.release,
    architecture: recipe.architecture,
    ...how,
    tree: facts.tree,
    size: sizeOf(facts.files),
    packages,
    debs: debsOf(lock),
    security: lock.packages.filter((p) => p.security).map((p) => p.name),
    units: facts.units,
    users: facts.users,
    groups: facts.groups,
    binaries: facts.files
      .filter((f) => (f.type === "f" || f.type === "l") && /^\/usr\/s?bin\/[^/]+$/.test(f.path))
      .map((f) => f.path)
      .sort(),
    files: ownFiles(facts.files),
    versions: {
      postgresql: facts.postgresql.at(-1),
      python: upstream(packages.python3)?.split(".").slice(0, 2).join("."),
      cloudInit: upstream(packages["cloud-init"]),
    },
    locales: facts.locales,
    inputs: Object.fromEntries(Object.entries(inputs).map(([name, sum]) => [name, short(sum)])),
  };
}

/** Debian's version without epoch and revision: 1:9.2p1-2+deb12u3 is 9.2p1. */
const upstream = (version: string | undefined): string | undefined => version?.replace(/^\d+:/, "").replace(/-[^-]*$/, "");
