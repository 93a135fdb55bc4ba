import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { capabilities } from "../../images/capabilities/index.ts";
import type { Capability } from "../../images/capability.ts";
import { type DistroName, distros, type Release } from "../../images/distro.ts";
import { loadRecipe, parseRecipe, recipeNames } from "../../images/recipe.ts";
import { projectAt, toolFolder } from "../../lib/paths.ts";
import { suite } from "../suite.ts";

const test = suite("capabilities");
const own = projectAt(toolFolder);

const releases = Object.entries(distros).flatMap(([distro, { releases }]) =>
  Object.keys(releases).map((release) => ({ distro: distro as DistroName, release: release as Release })),
);
const head = (distro: string, release: string) => `image: small\ndistro: ${distro}\nrelease: ${release}\narchitecture: amd64\n`;
const recipeWith = (distro: string, release: string, wanted: string) => {
  const { recipe, diagnostics } = parseRecipe("images/small.yaml", "small", `${head(distro, release)}capabilities: { ${wanted} }\n`);
  return {
    recipe,
    wrong: diagnostics.map((d) => `${d.range.start.line}:${d.range.start.column} ${d.code} ${d.message}${d.hint ? ` | ${d.hint}` : ""}`),
  };
};

test("all of them together fit each release, and nobody shares a number", () => {
  const all = Object.keys(capabilities)
    .map((name) => `${name}: true`)
    .join(", ");
  for (const { distro, release } of releases) assert.equal(recipeWith(distro, release, all).wrong, [], release);
});

test("what a version is called, each release knows for itself", () => {
  const packages = (release: string, wanted: string) =>
    recipeWith(release === "noble" || release === "jammy" ? "ubuntu" : "debian", release, wanted).recipe?.packages;
  assert.equal(packages("bookworm", "postgresql: 15"), ["postgresql-15", "postgresql-common"]);
  assert.equal(packages("trixie", "postgresql: true"), ["postgresql-17", "postgresql-common"]);
  assert.equal(packages("jammy", "postgresql: true"), ["postgresql-14", "postgresql-common"]);
  assert.equal(packages("noble", 'python: "3.12"'), ["python3", "python3-venv", "python3-pip"]);
  assert.equal(packages("bookworm", "kernel: true"), ["linux-image-cloud-amd64"]);
  assert.equal(packages("noble", "kernel: aws"), ["linux-image-aws", "initramfs-tools"]);
});

test("a version that the release has not is said with those that it has", () =>
  assert.equal(recipeWith("debian", "bookworm", "postgresql: 16").wrong, [
    "5:29 ING1707 debian bookworm has postgresql as 15, and not as 16 | take what it has; others come from an archive of their makers', which is declared in `archives:`, and then by name in `packages:`",
  ]));

test("a value that can be none is said with what can be", () => {
  assert.equal(recipeWith("debian", "bookworm", "nginx: false").wrong, ["5:24 ING1104 capabilities.nginx must be `true`, not `false`"]);
  assert.equal(recipeWith("debian", "bookworm", "python: 3.11").wrong, [
    '5:25 ING1103 capabilities.python must be `true` or which one, such as "3.11", not `3.11`',
  ]);
  assert.match(
    recipeWith("debian", "bookworm", "postgres: true").wrong.join(),
    /ING1101 unknown key `postgres` in capabilities \| did you mean `postgresql`\?/,
  );
});

test("what the recipe itself says of an account counts", () => {
  const { recipe } = parseRecipe(
    "images/small.yaml",
    "small",
    `${head("debian", "bookworm")}capabilities: { redis: true }\nusers: { redis: { uid: 650, home: /srv/redis } }\n`,
  );
  assert.is(recipe?.users.redis?.uid, 650);
});

test("each capability says what it gives, in every release in its own way", () => {
  for (const [name, { description, choices }] of Object.entries(capabilities as Record<string, Capability>)) {
    assert.ok(description, name);
    for (const { release } of releases) assert.ok(!choices || choices[release].length, `${name} ${release}`);
  }
});

test("every package that a recipe for Ubuntu names is in what could be learnt of Ubuntu's lists, or is said not to be", () => {
  const known = JSON.parse(readFileSync(join(toolFolder, "tests/images/ubuntu-packages.json"), "utf8")) as {
    releases: Record<string, Record<string, string>>;
    unseen: string[];
  };
  const brought = releases
    .filter((r) => r.distro === "ubuntu")
    .flatMap(({ distro, release }) =>
      Object.entries(capabilities as Record<string, Capability>).flatMap(([, c]) =>
        (c.choices?.[release] ?? [""]).flatMap((choice) =>
          c.brings({ distro, release, architecture: "amd64", choice }).packages.map((name) => ({ release, name })),
        ),
      ),
    );
  const named = recipeNames(own)
    .map((name) => loadRecipe(own, name))
    .filter((r) => r.distro === "ubuntu")
    .flatMap((r) => r.packages.map((name) => ({ release: r.release as string, name })));
  const used = [...brought, ...named];
  for (const { release, name } of used)
    assert.ok(known.releases[release]?.[name] !== undefined || known.unseen.includes(name), `${name} in ${release}`);
  // What has been seen in both, or is used no more, is not said to be unseen.
  for (const name of known.unseen)
    assert.ok(
      used.some((u) => u.name === name && known.releases[u.release]?.[name] === undefined),
      name,
    );
});

test.run();
