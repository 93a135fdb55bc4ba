// The facts that images/provision/facts.sh wrote down about a tree, read back: what the manifest is made of and truths.ts looks at.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Digests } from "./digest.ts";
import type { Manifest } from "./image.ts";
import type { Recipe } from "./recipe-schema.ts";

export interface TreeEntry {
  /** As find(1) has it: f, d, l, c, … */
  type: string;
  mode: string;
  uid: number;
  gid: number;
  size: number;
  /** Absolute. */
  path: string;
  target: string;
}

export interface Facts {
  packages: { state: string; name: string; version: string }[];
  units: Manifest["units"];
  users: Manifest["users"];
  groups: Manifest["groups"];
  files: TreeEntry[];
  /** sha256 by absolute path, of Ingot's own files. */
  sums: Record<string, string>;
  /** Users that have a password. */
  passwords: string[];
  /** Files with a private key in them. */
  privateKeys: string[];
  locales: string[];
  postgresql: string[];
  machineId?: string;
  sourcesList?: string;
}

export function readFacts(folder: string, root: string): Facts {
  const text = (name: string) => (existsSync(join(folder, name)) ? readFileSync(join(folder, name), "utf8") : undefined);
  const lines = (name: string) => (text(name) ?? "").split("\n").filter((l) => l !== "");
  const inTree = (path: string) => path.slice(path.indexOf(root) + root.length);
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
    files: lines("files").map((l) => {
      const [type = "", mode = "", uid, gid, size, path = "", target = ""] = l.split("\t");
      return { type, mode, uid: Number(uid), gid: Number(gid), size: Number(size), path: `/${path}`, target };
    }),
    sums: Object.fromEntries(lines("sums").map((l) => [`/${l.slice(66)}`, l.slice(0, 64)])),
    passwords: lines("passwords"),
    privateKeys: lines("private-keys").map(inTree),
    locales: lines("locales"),
    postgresql: lines("postgresql"),
    machineId: text("machine-id"),
    sourcesList: text("sources.list"),
  };
}

export function manifestOf(recipe: Recipe, { digest, base }: Digests, facts: Facts, baked: Date, bakeSeconds: number): Manifest {
  const packages = Object.fromEntries(facts.packages.map((p) => [p.name, p.version]));
  return {
    name: recipe.image,
    digest,
    base,
    distro: recipe.distro,
    release: recipe.release,
    architecture: recipe.architecture,
    baked: baked.toISOString(),
    bakeSeconds: Math.round(bakeSeconds * 10) / 10,
    // Of files: a folder is as large as its file system makes it.
    size: facts.files.reduce((sum, f) => sum + (f.type === "f" ? f.size : 0), 0),
    packages,
    units: facts.units,
    users: facts.users,
    groups: facts.groups,
    binaries: facts.files
      .filter((f) => (f.type === "f" || f.type === "l") && /^\/usr\/s?bin\/[^/]+$/.test(f.path))
      .map((f) => f.path)
      .sort(),
    files: facts.sums,
    versions: {
      postgresql: facts.postgresql.at(-1),
      python: upstream(packages.python3)?.split(".").slice(0, 2).join("."),
      cloudInit: upstream(packages["cloud-init"]),
    },
    locales: facts.locales,
  };
}

/** Debian's version without epoch and revision: 1:9.2p1-2+deb12u3 is 9.2p1. */
const upstream = (version: string | undefined): string | undefined => version?.replace(/^\d+:/, "").replace(/-[^-]*$/, "");
