// What one image has and another has not. Called by `ingot image diff` and `ingot image plan`.
import type { Manifest } from "./image.ts";
import { megabytes } from "./lock.ts";
import type { TreeEntry } from "./manifest.ts";
import { describeUpdates, type Update } from "./update.ts";

interface Changed {
  name: string;
  from: string;
  to: string;
}

export interface Apart {
  added: string[];
  removed: string[];
  changed: Changed[];
}

export interface Difference {
  packages: { added: Record<string, string>; removed: Record<string, string>; changed: Update[] };
  units: Apart;
  users: Apart;
  groups: Apart;
  /** By path; what changed says content, mode, owner, attributes or links. */
  files: Apart;
  /** Bytes that the second has more. */
  size: number;
}

/** What `two` has more, less, and otherwise than `one`. */
export function differenceOf(one: Side, two: Side): Difference {
  return {
    packages: packagesApart(one.manifest.packages, two.manifest.packages, new Set(two.manifest.security)),
    units: apart(one.manifest.units, two.manifest.units),
    users: apart(one.manifest.users, two.manifest.users),
    groups: apart(one.manifest.groups, two.manifest.groups),
    files: filesApart(one.files, two.files),
    size: two.manifest.size - one.manifest.size,
  };
}

export interface Side {
  manifest: Manifest;
  files: TreeEntry[];
}

export function packagesApart(
  before: Record<string, string>,
  after: Record<string, string>,
  security: Set<string>,
): Difference["packages"] {
  const { added, removed, changed } = apart(before, after);
  const versions = (names: string[], of: Record<string, string>) => Object.fromEntries(names.map((name) => [name, of[name] ?? ""]));
  return {
    added: versions(added, after),
    removed: versions(removed, before),
    changed: changed.map((c) => ({ ...c, security: security.has(c.name) })),
  };
}

export function apart(before: Record<string, unknown>, after: Record<string, unknown>): Apart {
  const text = (value: unknown) => (typeof value === "string" ? value : JSON.stringify(value));
  return {
    added: Object.keys(after).filter((name) => !(name in before)),
    removed: Object.keys(before).filter((name) => !(name in after)),
    changed: Object.keys(after).flatMap((name) => {
      const [from, to] = [text(before[name]), text(after[name])];
      return name in before && from !== to ? [{ name, from, to }] : [];
    }),
  };
}

function filesApart(before: TreeEntry[], after: TreeEntry[]): Apart {
  const old = new Map(before.map((f) => [f.path, f]));
  const now = new Map(after.map((f) => [f.path, f]));
  return {
    added: after.filter((f) => !old.has(f.path)).map((f) => f.path),
    removed: before.filter((f) => !now.has(f.path)).map((f) => f.path),
    changed: after.flatMap((f) => {
      const was = old.get(f.path);
      // A folder's time says only that something in it came or went, which is listed itself.
      const what = was ? aspects.filter((aspect) => was[aspect] !== f[aspect] && !(aspect === "mtime" && f.type === "d")) : [];
      const said = (entry: TreeEntry) => what.map((aspect) => `${aspect} ${shown(String(entry[aspect]))}`).join(", ");
      return was && what.length ? [{ name: f.path, from: said(was), to: said(f) }] : [];
    }),
  };
}

const aspects = ["type", "mode", "uid", "gid", "size", "content", "mtime", "links", "attributes"] as const;
const shown = (text: string): string => (/^[0-9a-f]{64}$/.test(text) ? text.slice(0, 12) : text || "none");

/** For people, a line each; of files no more than `most`. */
export function describeDifference({ packages, units, users, groups, files, size }: Difference, most = 40): string[] {
  const named = (kind: string, { added, removed, changed }: Apart) => [
    ...added.map((name) => `+ ${kind} ${name}`),
    ...removed.map((name) => `- ${kind} ${name}`),
    ...changed.map((c) => `  ${kind} ${c.name}: ${c.from} -> ${c.to}`),
  ];
  // Another time alone is what every file of a younger lock has.
  const onlyTime = (c: Changed) => /^mtime [^,]*$/.test(c.from);
  const times = files.changed.filter(onlyTime).length;
  const paths = named("file", { ...files, changed: files.changed.filter((c) => !onlyTime(c)) });
  const lines = [
    ...describePackages(packages),
    ...named("unit", units),
    ...named("user", users),
    ...named("group", groups),
    ...paths.slice(0, most),
    ...(times ? [`  ${times} files by their time alone`] : []),
    ...(paths.length > most ? [`  and ${paths.length - most} more files: --json has all`] : []),
  ];
  if (size) lines.push(`  size ${size > 0 ? "+" : "-"}${megabytes(Math.abs(size))}`);
  return lines.length ? lines : ["no difference"];
}

export const describePackages = ({ added, removed, changed }: Difference["packages"]): string[] => [
  ...Object.entries(added).map(([name, version]) => `+ package ${name} ${version}`),
  ...Object.entries(removed).map(([name, version]) => `- package ${name} ${version}`),
  ...describeUpdates(changed, (c) => `  package ${c.name} ${c.from} -> ${c.to}${c.security ? " (security)" : ""}`),
];
