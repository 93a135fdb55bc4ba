// A package of which there is another version: in a lock that was made anew, or in another image. What a security update mends is read by
// images/changelog.ts.

export interface Update {
  name: string;
  from: string;
  to: string;
  security: boolean;
  /** Of a security update, where somebody asked: the newest first; null when its .deb is not in the cache, or has no changelog. */
  changes?: Change[] | null;
}

/** One entry of a changelog. */
export interface Change {
  version: string;
  /** As the changelog has it: "Wed, 21 Oct 2026 16:54:24 +0700". */
  date: string;
  /** What it mends, by its number: "CVE-2026-84782". */
  cves: string[];
  /** Without the indent and blank lines. */
  lines: string[];
}

/** For people: a line for each, and below it what it mends, once where several packages come of one source. */
export function describeUpdates(updates: Update[], line: (update: Update) => string): string[] {
  const told = new Map<string, string>();
  return updates.flatMap((update) => {
    const { name, changes } = update;
    if (changes === undefined) return [line(update)];
    if (changes === null) return [line(update), "      what it mends is not known here: its .deb is not in the cache, or has no changelog"];
    const key = JSON.stringify(changes);
    const same = changes.length ? told.get(key) : undefined;
    if (same !== undefined) return [line(update), `      as ${same}`];
    told.set(key, name);
    const cves = shortened([...new Set(changes.flatMap((c) => c.cves))], 20, "");
    const lines = changes.flatMap((c) => [`${c.version}, ${c.date}`, ...c.lines.map((l) => `  ${l}`)]);
    const shown = [...(cves.length ? [`mends ${cves.join(", ")}`] : []), ...shortened(lines, 12, " lines: --json has all")];
    return [line(update), ...shown.map((l) => `      ${l}`)];
  });
}

const shortened = (all: string[], most: number, what: string): string[] =>
  all.length > most + 1 ? [...all.slice(0, most), `and ${all.length - most} more${what}`] : all;
