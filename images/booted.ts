// What must be true of a machine that has just booted of an image and was told to become nothing: held against what it says of itself
// (stacks/aws/ami/smoke.sh). truths.ts holds the same image while nothing of it runs.
import { gunzipSync } from "node:zlib";
import { sha256 } from "../lib/digest.ts";
import { enabledUnitsOf, type TreeFile } from "./files.ts";
import type { Manifest } from "./image.ts";
import type { PackageLock } from "./lock.ts";
import type { Recipe } from "./recipe-schema.ts";

/** What an image promises to whoever boots it. */
export interface Promised {
  /** Name → version. */
  packages: Record<string, string>;
  users: Record<string, { uid: number; gid: number }>;
  groups: Record<string, number>;
  enabled: string[];
  disabled: string[];
  /** Ingot's own files: path → sha256. */
  files: Record<string, string>;
}

/** Of the recipe as it stands now. @param host Ingot's own files */
export const promisedByRecipe = (recipe: Recipe, lock: PackageLock, host: TreeFile[]): Promised => ({
  packages: Object.fromEntries(lock.packages.map((p) => [p.name, p.version])),
  users: Object.fromEntries(Object.entries(recipe.users).map(([name, { uid }]) => [name, { uid, gid: uid }])),
  groups: recipe.groups,
  enabled: [...enabledUnitsOf(host), ...recipe.enabled],
  disabled: recipe.disabled,
  files: Object.fromEntries(host.map((f) => [f.path, sha256(f.content)])),
});

/** Of an image that was baked here, whatever its recipe says by now. */
export const promisedByManifest = ({ packages, users, groups, units, files }: Manifest): Promised => ({
  packages,
  users,
  groups: Object.fromEntries(Object.entries(groups).map(([name, { gid }]) => [name, gid])),
  enabled: Object.entries(units).flatMap(([name, state]) => (state === "enabled" ? [name] : [])),
  disabled: Object.entries(units).flatMap(([name, state]) => (state === "disabled" ? [name] : [])),
  files,
});

/** What a machine says of itself: the sections of smoke.sh, each a list of lines. */
export type Booted = Record<string, string[]>;

/** Of `== <section>` and the lines below it. */
function sections(text: string): Booted {
  const found: Booted = {};
  let now: string[] = [];
  for (const line of text.split("\n")) {
    const [, name] = /^== (\S+)$/.exec(line) ?? [];
    if (name !== undefined) found[name] = now = [];
    else if (line !== "") now.push(line);
  }
  return found;
}

/**
 * The report in what a machine wrote on its console: lines `ingot-smoke <number>/<of> <base64>`, said again and again, among whatever else is
 * written there. undefined: not yet whole.
 */
export function reportIn(console: string): Booted | undefined {
  const parts = new Map<number, string>();
  let count = 0;
  for (const [, number, of, data = ""] of console.matchAll(/ingot-smoke (\d+)\/(\d+) ([A-Za-z0-9+/=]+) *\r?$/gm)) {
    count = Number(of);
    parts.set(Number(number), data);
  }
  if (count === 0 || parts.size < count) return undefined;
  const packed = Array.from({ length: count }, (_, i) => parts.get(i + 1) ?? "").join("");
  try {
    return sections(gunzipSync(Buffer.from(packed, "base64")).toString("utf8"));
  } catch {
    return undefined; // a line was torn by another one; the next round is whole
  }
}

/** What is not true, for people; nothing when the machine is right. */
export function brokenOnBoot(promised: Promised, booted: Booted): string[] {
  const broken: string[] = [];
  const lines = (section: string) => {
    const found = booted[section];
    if (!found) broken.push(`the machine said nothing of its ${section}`);
    return found ?? [];
  };
  const some = (what: string, found: string[]) => {
    if (found.length) broken.push(`${what}: ${found.slice(0, 5).join(", ")}${found.length > 5 ? ` and ${found.length - 5} more` : ""}`);
  };

  // It is a machine of its own.
  const [id = ""] = lines("machine-id");
  if (!/^[0-9a-f]{32}$/.test(id)) broken.push(`it has no machine-id of its own: \`${id}\``);
  some("it has ssh host keys that are older than its boot", lines("old-host-keys"));
  some("it has users with a password or without the need of one", lines("passwords"));

  // It came up.
  some("cloud-init failed", lines("cloud-init-errors"));
  const [cloud = ""] = lines("cloud-init");
  if (cloud !== "done") broken.push(`cloud-init is not done: ${cloud || "it wrote no result"}`);
  some("units failed", lines("failed"));
  const [state = ""] = lines("system");
  if (state !== "running" && !booted.failed?.length) broken.push(`the system is ${state}`);

  // It is the image.
  const packages = new Map(
    lines("packages")
      .map((l) => l.split("\t"))
      .map(([status, name, version]) => [name ?? "", { status: status?.trim(), version }]),
  );
  const others = Object.entries(promised.packages).flatMap(([name, version]) => {
    const there = packages.get(name);
    return there?.version === version && there.status === "ii"
      ? []
      : [`${name} ${there ? `${there.version} (${there.status})` : "is missing"}, not ${version}`];
  });
  some("packages are not the image's", others);
  some(
    "there are packages that the image has not",
    [...packages.keys()].filter((name) => !(name in promised.packages)),
  );
  const accounts = (section: string) =>
    new Map(
      lines(section)
        .map((l) => l.split(":"))
        .map(([name = "", , number, group]) => [name, { number: Number(number), group: Number(group) }]),
    );
  const users = accounts("passwd");
  some(
    "users have not their numbers",
    Object.entries(promised.users).flatMap(([name, u]) =>
      users.get(name)?.number === u.uid && users.get(name)?.group === u.gid ? [] : [name],
    ),
  );
  const groups = accounts("group");
  some(
    "groups have not their numbers",
    Object.entries(promised.groups).flatMap(([name, gid]) => (groups.get(name)?.number === gid ? [] : [name])),
  );
  some(
    "there are more that are root",
    [...users].flatMap(([name, u]) => (u.number === 0 && name !== "root" ? [name] : [])),
  );
  const units = new Map(
    lines("units")
      .map((l) => l.split(/\s+/))
      .map(([name = "", how]) => [name, how]),
  );
  some(
    "units are not started at boot",
    promised.enabled.filter((u) => units.get(u) !== "enabled"),
  );
  some(
    "units are started at boot",
    promised.disabled.filter((u) => units.get(u) === "enabled"),
  );
  const own = new Map(
    lines("files")
      .map((l) => l.split(/\s+/))
      .map(([sum, path = ""]) => [path, sum]),
  );
  some(
    "files are not Ingot's",
    Object.entries(promised.files).flatMap(([path, sum]) => (own.get(path) === sum ? [] : [path])),
  );
  return broken;
}
