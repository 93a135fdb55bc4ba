// What security updates mend, from .debs that an archive on loopback serves.
import { mkdirSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import * as assert from "uvu/assert";
import { debPath, lockRecipe } from "../../images/archive.ts";
import { explainedLock, parseChangelog } from "../../images/changelog.ts";
import { describePackages } from "../../images/difference.ts";
import { describeChanges, type PackageLock, readLock } from "../../images/lock.ts";
import { planImage } from "../../images/plan.ts";
import { loadRecipe } from "../../images/recipe.ts";
import { silent } from "../../lib/progress.ts";
import { suite } from "../suite.ts";
import { TestArchives } from "./archives.ts";
import { temporaryProject } from "./fixtures.ts";

const test = suite("changelogs");

const main = "deb.debian.org/debian";
const security = "security.debian.org/debian-security";
const recipe = `image: small
distro: debian
release: bookworm
architecture: amd64
archives:
  main: { mirror: http://${main}, suites: [bookworm], components: [main], key: test.asc }
  security: { mirror: http://${security}, suites: [bookworm-security], components: [main], key: test.asc }
packages: [library, library-data, native, bare, plain]
`;

const entry = (name: string, version: string, ...lines: string[]) =>
  `${name} (${version}) bookworm-security; urgency=high\n\n${lines.map((l) => `  ${l}\n`).join("")}\n -- Somebody <some@example.org>  Wed, 21 Oct 2026 16:54:24 +0700\n\n`;
const library = [
  entry("library", "1.0-1+deb12u2", "* Non-maintainer upload.", "* CVE-2026-1002, CVE-2026-1001: reads", "  too far."),
  entry("library", "1.0-1+deb12u1", "* Fix a leak (CVE-2025-9001).", "", "[ Somebody else ]", "* Also this."),
  entry("library", "1.0-1", "* New release."),
];

let archives: TestArchives;
let around: ReturnType<typeof temporaryProject>;

/** What of it is in the archive, old and new. */
function publish(to: "old" | "new"): void {
  const [u0, doc] = ["1.0-1", "usr/share/doc"];
  const is = (old: string, now: string) => (to === "old" ? old : now);
  const u2 = is(u0, "1.0-1+deb12u2");
  const base = [
    archives.deb("base-files", "13", { Essential: "yes" }),
    archives.deb("usr-is-merged", "1"),
    archives.deb("apt", "2"),
    archives.deb("systemd-sysv", "2"),
  ];
  const debs = [
    archives.deb(
      "library",
      u2,
      {},
      {
        [`${doc}/library/changelog.Debian.gz`]: gzipSync(library.join("")),
        [`${doc}/library/changelog.gz`]: gzipSync("1.0: its makers' words, library (9) x; y\n"),
      },
    ),
    archives.deb("library-data", u2, {}, { [`${doc}/library-data`]: { link: "library" } }),
    archives.deb("native", is("3", "3.1"), {}, { [`${doc}/native/changelog.gz`]: gzipSync(entry("native", "3.1", "* Mended.")) }),
    archives.deb("bare", is("1", "2")),
  ];
  const plain = archives.deb(
    "plain",
    is("1", "2"),
    {},
    { [`${doc}/plain/changelog.Debian.gz`]: gzipSync(entry("plain", "2", "* CVE-2026-7.")) },
  );
  archives.publish(main, "bookworm", { main: to === "old" ? [...base, ...debs, plain] : [...base, plain] }, "test");
  archives.publish(security, "bookworm-security", { main: to === "old" ? [] : debs }, "test");
}

test.before(async () => {
  archives = await TestArchives.open();
  around = temporaryProject({ small: recipe });
  process.env.INGOT_CACHE = around.project.cache;
  writeFileSync(join(around.project.images, "test.asc"), archives.key("test"));
});
test.after(() => {
  delete process.env.INGOT_CACHE;
  archives?.close();
  around?.remove();
});

const date = "Wed, 21 Oct 2026 16:54:24 +0700";
const mended = [
  {
    version: "1.0-1+deb12u2",
    date,
    cves: ["CVE-2026-1001", "CVE-2026-1002"],
    lines: ["* Non-maintainer upload.", "* CVE-2026-1002, CVE-2026-1001: reads", "  too far."],
  },
  {
    version: "1.0-1+deb12u1",
    date,
    cves: ["CVE-2025-9001"],
    lines: ["* Fix a leak (CVE-2025-9001).", "[ Somebody else ]", "* Also this."],
  },
];
const unknown = "      what it mends is not known here: its .deb is not in the cache, or has no changelog";
let before: PackageLock;

test("a changelog is read entry by entry, whatever stands around", () => {
  assert.equal(
    parseChangelog(library.join("")).map((e) => e.version),
    ["1.0-1+deb12u2", "1.0-1+deb12u1", "1.0-1"],
  );
  assert.equal(parseChangelog(`words before\n\n${library[0]}`), mended.slice(0, 1));
  assert.equal(parseChangelog("Version 3\n  * all new\n"), []);
});

test("a lock that brings security updates says what they mend, by the .debs that it brings into the cache", async () => {
  const { project } = around;
  publish("old");
  before = (await lockRecipe(project, loadRecipe(project, "small"), silent)).lock;
  publish("new");
  const { lock, changes } = await lockRecipe(project, loadRecipe(project, "small"), silent);
  const explained = await explainedLock(project, loadRecipe(project, "small"), lock, changes, silent);
  const changed = (name: string) => explained.changed.find((c) => c.name === name);
  assert.equal(changed("library")?.changes, mended);
  assert.equal(changed("library-data")?.changes, mended);
  assert.equal(
    changed("native")?.changes?.map((c) => c.version),
    ["3.1"],
  );
  assert.is(changed("bare")?.changes, null);
  assert.is(changed("plain")?.security, false);
  assert.is(changed("plain")?.changes, undefined);
  assert.equal(describeChanges(explained), [
    "  bare 1 -> 2 (security update)",
    unknown,
    "  library 1.0-1 -> 1.0-1+deb12u2 (security update)",
    "      mends CVE-2026-1001, CVE-2026-1002, CVE-2025-9001",
    `      1.0-1+deb12u2, ${date}`,
    "        * Non-maintainer upload.",
    "        * CVE-2026-1002, CVE-2026-1001: reads",
    "          too far.",
    `      1.0-1+deb12u1, ${date}`,
    "        * Fix a leak (CVE-2025-9001).",
    "        [ Somebody else ]",
    "        * Also this.",
    "  library-data 1.0-1 -> 1.0-1+deb12u2 (security update)",
    "      as library",
    "  native 3 -> 3.1 (security update)",
    `      3.1, ${date}`,
    "        * Mended.",
    "  plain 1 -> 2",
  ]);
});

test("a plan says so of another image, offline; what lies damaged in the cache, or is not there, is not known", async () => {
  const { project } = around;
  const lock = readLock(project, "small");
  if (!lock) throw new Error("no lock");
  const asked = archives.asked.length;
  const digest = "0".repeat(64);
  const packages = Object.fromEntries(before.packages.map((p) => [p.name, p.version]));
  mkdirSync(join(project.store, digest), { recursive: true });
  const manifest = { name: "small", digest, baked: "2026-11-01T00:00:00.000Z", packages, inputs: {} };
  writeFileSync(join(project.store, digest, "manifest.json"), JSON.stringify(manifest));
  const planned = async () => (await planImage(project, "small")).difference?.packages;
  assert.equal((await planned())?.changed.find((c) => c.name === "library-data")?.changes, mended);
  const deb = lock.packages.find((p) => p.name === "library");
  if (!deb) throw new Error("no library");
  truncateSync(debPath(project, deb), 100);
  const difference = await planned();
  for (const name of ["library", "library-data"]) assert.is(difference?.changed.find((c) => c.name === name)?.changes, null);
  if (difference)
    assert.ok(describePackages(difference).join("\n").includes(`  package library 1.0-1 -> 1.0-1+deb12u2 (security)\n${unknown}\n`));
  assert.is(archives.asked.length, asked);
});

test.run();
