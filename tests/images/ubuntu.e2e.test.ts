// An image of an archive that is Ubuntu's in all but its packages' contents: those are Debian's, from the cache. With it, another's archive.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { debPath, fetchDebs } from "../../images/archive.ts";
import { bake } from "../../images/bake.ts";
import type { Image } from "../../images/image.ts";
import { readLock } from "../../images/lock.ts";
import { loadRecipe } from "../../images/recipe.ts";
import { findImage } from "../../images/store.ts";
import { projectAt, toolFolder } from "../../lib/paths.ts";
import { silent } from "../../lib/progress.ts";
import { asRoot, run } from "../../lib/run.ts";
import { suite } from "../suite.ts";
import { TestArchives } from "./archives.ts";
import { temporaryProject } from "./fixtures.ts";

const recipe = `image: small
distro: ubuntu
release: noble
architecture: amd64
archives:
  main: { mirror: http://archive.ubuntu.com/ubuntu, suites: [noble, noble-updates], components: [main, universe], key: ubuntu.asc }
  security: { mirror: http://security.ubuntu.com/ubuntu, suites: [noble-security], components: [main, universe], key: ubuntu.asc }
  vendor: { mirror: http://apt.example.com/vendor, suites: [stable], components: [main], key: vendor.asc }
capabilities: { firewall: true }
packages: [sudo, vendor-agent]
leave_out: [docs, translations]
disabled: [apt-daily.timer]
enabled: [nftables.service]
sysctl: { net.core.somaxconn: 1024, kernel.core_pattern: "|/bin/false %p" }
provision:
  - { script: first.sh, variables: { GREETING: GREETINGS, EMPTY: "" } }
  - { script: second.pl }
`;
const greeting = `it's "here" $HOME \\ %n\nand there`;
const scripts = {
  "first.sh": `#!/bin/sh
set -eu
printf '%s' "$GREETING$EMPTY" >/etc/greeting
env -0 | sed -z 's/=.*//' | sort -z | tr '\\0' ' ' >/etc/environment-seen
sed -n 's/^ *\\([^ ]*\\):.*/\\1/p' /proc/net/dev >/etc/interfaces-seen
`,
  "second.pl":
    "#!/usr/bin/perl\nopen(my $in, '<', '/etc/greeting') or die; open(my $out, '>', '/etc/second'); print $out length(join '', <$in>);\n",
};

const test = suite("ubuntu");
const own = projectAt(toolFolder);
let archives: TestArchives;
let around: ReturnType<typeof temporaryProject>;

test.before(async () => {
  // By Debian's own mirror, before apt is told of another.
  process.env.INGOT_CACHE ??= own.cache;
  const lock = readLock(own, "debian-12");
  if (!lock) throw new Error("debian-12 has no lock");
  await fetchDebs(own, loadRecipe(own, "debian-12"), lock, silent);
  around = temporaryProject({ small: recipe.replace("GREETINGS", JSON.stringify(greeting)) });
  const { project } = around;
  mkdirSync(join(project.images, "provision"));
  for (const [name, text] of Object.entries(scripts)) writeFileSync(join(project.images, "provision", name), text);
  const from = lock.packages.map((p) => ({ ...p, path: debPath(own, p) }));
  process.env.INGOT_CACHE = project.cache;
  archives = await TestArchives.open();
  for (const who of ["ubuntu", "vendor"]) writeFileSync(join(project.images, `${who}.asc`), archives.key(who));
  const debs = (wanted: (name: string) => boolean) =>
    from.filter((p) => p.size < 6e6 && wanted(p.name)).map((p) => archives.named(p.path, p));
  const inUniverse = ["nftables", "libnftables1"];
  archives.publish(
    "archive.ubuntu.com/ubuntu",
    "noble",
    { main: debs((n) => n !== "sudo" && !inUniverse.includes(n)), universe: debs((n) => inUniverse.includes(n)) },
    "ubuntu",
  );
  archives.publish("archive.ubuntu.com/ubuntu", "noble-updates", { main: [], universe: [] }, "ubuntu");
  archives.publish("security.ubuntu.com/ubuntu", "noble-security", { main: debs((n) => n === "sudo"), universe: [] }, "ubuntu");
  archives.publish("apt.example.com/vendor", "stable", { main: [archives.deb("vendor-agent", "3")] }, "vendor");
});
test.after(async () => {
  archives?.close();
  if (!around) return;
  await run(asRoot(["rm", "-rf", "--one-file-system", around.project.store]));
  around.remove();
});

/** That of the first test. */
function image(): Image {
  const found = findImage(around.project, "small");
  if (!found) throw new Error("it is not baked");
  return found;
}

test("it is locked from its pockets and components, baked, and has its own sources and keys alone", async () => {
  const { project } = around;
  const { image } = await bake(project, "small", { progress: silent });
  const lock = readLock(project, "small");
  assert.equal(image.manifest.packages, Object.fromEntries((lock?.packages ?? []).map((p) => [p.name, p.version])));
  assert.equal(
    ["sudo", "nftables", "vendor-agent"].map((name) => {
      const p = lock?.packages.find((q) => q.name === name);
      return `${name} ${p?.archive} ${p?.file.split("/").slice(0, 3).join("/")} ${p?.security === true}`;
    }),
    [
      "sudo security pool/noble-security/main true",
      "nftables main pool/noble/universe false",
      "vendor-agent vendor pool/stable/main false",
    ],
  );
  assert.is(image.manifest.distro, "ubuntu");
  assert.is(image.manifest.units["nftables.service"], "enabled");
  const inside = async (...argv: string[]) => (await run(asRoot(["chroot", image.root, ...argv]))).stdout;
  const by = (name: string) => `[signed-by=/etc/apt/keyrings/${name}.asc]`;
  assert.equal((await inside("cat", "/etc/apt/sources.list")).trimEnd().split("\n"), [
    `deb ${by("main")} http://archive.ubuntu.com/ubuntu noble main universe`,
    `deb ${by("main")} http://archive.ubuntu.com/ubuntu noble-updates main universe`,
    `deb ${by("security")} http://security.ubuntu.com/ubuntu noble-security main universe`,
    `deb ${by("vendor")} http://apt.example.com/vendor stable main`,
  ]);
  assert.is(await inside("cat", "/etc/apt/keyrings/vendor.asc"), readFileSync(join(project.images, "vendor.asc"), "utf8"));
  assert.is(await inside("sh", "-c", "grep -rl 127.0.0.1 /etc/apt || :"), "");
});

test("what the recipe leaves out is not there, of the essential packages and of the others; what it keeps is", async () => {
  const { root } = image();
  const has = (path: string) => existsSync(join(root, "usr/share", path));
  for (const [name, page] of [
    ["dpkg", "man1/dpkg.1.gz"],
    ["sudo", "man8/sudo.8.gz"],
  ])
    assert.equal(
      [`doc/${name}/copyright`, `doc/${name}/changelog.gz`, `man/${page}`, `lintian/overrides/${name}`].map(has),
      [true, false, true, true],
      name,
    );
  assert.not.ok(has("locale/de/LC_MESSAGES/dpkg.mo") || has("locale/de/LC_MESSAGES/sudo.mo"));
  assert.is(
    readFileSync(join(root, "etc/dpkg/dpkg.cfg.d/ingot-excludes"), "utf8"),
    "path-exclude=/usr/share/doc/*\npath-include=/usr/share/doc/*/copyright\npath-exclude=/usr/share/locale/*\npath-include=/usr/share/locale/locale.alias\npath-include=/usr/share/locale/en*\n",
  );
});

test("the recipe's settings of the kernel are there, and its scripts ran in their order with their variables alone and no network", async () => {
  const { root } = image();
  const inside = async (path: string) => (await run(asRoot(["cat", join(root, path)]))).stdout;
  assert.is(await inside("/etc/sysctl.d/90-recipe.conf"), "net.core.somaxconn = 1024\nkernel.core_pattern = |/bin/false %p\n");
  assert.is(await inside("/etc/greeting"), greeting);
  assert.is(await inside("/etc/second"), String(greeting.length));
  assert.is(await inside("/etc/environment-seen"), "DEBIAN_FRONTEND EMPTY GREETING HOME LC_ALL PATH PWD SOURCE_DATE_EPOCH ");
  assert.is(await inside("/etc/interfaces-seen"), "lo\n");
});

test("a script that fails fails the bake, with what it said", async () => {
  const { project } = around;
  writeFileSync(join(project.images, "provision/second.pl"), "#!/bin/sh\necho this is why >&2\nexit 3\n");
  const error = await bake(project, "small", { progress: silent }).catch((e: unknown) => e);
  assert.match(String(error), /the bake of small failed:[\s\S]*this is why/);
  assert.is(findImage(project, "small"), undefined);
});

test.run();
