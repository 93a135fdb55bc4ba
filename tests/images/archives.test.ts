// What apt makes of a recipe, from archives on loopback: Ubuntu's layout, others' archives with their keys, passwords, the past.
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { debPath, fetchDebs, GoneError, lockRecipe } from "../../images/archive.ts";
import { lateFiles, sourcesList } from "../../images/files.ts";
import { describeChanges, lockPath, readLock } from "../../images/lock.ts";
import { loadRecipe } from "../../images/recipe.ts";
import { silent } from "../../lib/progress.ts";
import { suite } from "../suite.ts";
import { TestArchives } from "./archives.ts";
import { temporaryProject } from "./fixtures.ts";

const test = suite("archives");

const main = "archive.ubuntu.com/ubuntu";
const security = "security.ubuntu.com/ubuntu";
const components = "components: [main, universe], key: keys/ubuntu.asc";
const ubuntu = `image: small
distro: ubuntu
release: noble
architecture: amd64
archives:
  main: { mirror: http://${main}, suites: [noble, noble-updates], ${components} }
  security: { mirror: http://${security}, suites: [noble-security], ${components} }
packages: [tool]
`;
const vendor = `${ubuntu.replace("[tool]", "[tool, vendor-agent]").replace("packages:", "  vendor: { mirror: http://apt.example.com/vendor, suites: [noble], components: [stable], key: keys/vendor.asc }\npackages:")}`;

let archives: TestArchives;
let around: ReturnType<typeof temporaryProject>;
let base: string[];

test.before(async () => {
  archives = await TestArchives.open();
  around = temporaryProject();
  mkdirSync(join(around.project.images, "keys"));
  for (const who of ["ubuntu", "vendor"]) writeFileSync(join(around.project.images, `keys/${who}.asc`), archives.key(who));
  base = [archives.deb("base-files", "13ubuntu10", { Essential: "yes" }), archives.deb("apt", "2.8"), archives.deb("systemd-sysv", "255")];
  archives.publish(main, "noble", { main: base, universe: [archives.deb("tool", "1:1.0", { Depends: "library" })] }, "ubuntu");
  archives.publish(main, "noble-updates", { main: [archives.deb("library", "1.0-0ubuntu2")], universe: [] }, "ubuntu");
  archives.publish(security, "noble-security", { main: [archives.deb("library", "1.0-0ubuntu1")], universe: [] }, "ubuntu");
  archives.publish("apt.example.com/vendor", "noble", { stable: [archives.deb("vendor-agent", "3")] }, "vendor");
});
test.after(() => {
  archives?.close();
  around?.remove();
});

/** Locks the recipe as `text` has it. */
const lock = async (text: string) => {
  writeFileSync(join(around.project.images, "small.yaml"), text);
  return lockRecipe(around.project, loadRecipe(around.project, "small"), silent);
};
const refused = async (work: Promise<unknown>): Promise<string> => {
  const error = await work.then(
    () => undefined,
    (e: unknown) => e,
  );
  if (!(error instanceof Error)) throw new Error("it was not refused");
  return error.message;
};

test("an archive of Ubuntu's layout: suites, pockets and components, by its own key", async () => {
  const { lock: locked } = await lock(ubuntu);
  assert.equal(
    locked.packages.map((p) => `${p.archive} ${p.name} ${p.version}${p.essential ? " essential" : ""}`),
    ["main apt 2.8", "main base-files 13ubuntu10 essential", "main library 1.0-0ubuntu2", "main systemd-sysv 255", "main tool 1:1.0"],
  );
  assert.is(locked.packages.find((p) => p.name === "tool")?.file, "pool/noble/universe/tool_1.0_all.deb");
  assert.ok(archives.asked.includes(`${security}/dists/noble-security/InRelease`), "it did not go through apt's own proxy");
});

test("what came by a pocket of security updates is said", async () => {
  archives.publish(security, "noble-security", { main: [archives.deb("library", "1.0-0ubuntu3")], universe: [] }, "ubuntu");
  const { lock: locked, changes } = await lock(ubuntu);
  assert.equal(describeChanges(changes), ["  library 1.0-0ubuntu2 -> 1.0-0ubuntu3 (security update)"]);
  assert.equal(
    locked.packages.filter((p) => p.security).map((p) => `${p.archive} ${p.name}`),
    ["security library"],
  );
});

test("a pocket that has a locked package as well by now changes no lock", async () => {
  archives.publish(main, "noble-updates", { main: [archives.deb("library", "1.0-0ubuntu3")], universe: [] }, "ubuntu");
  const before = readFileSync(lockPath(around.project, "small"), "utf8");
  const { changes } = await lock(ubuntu);
  assert.equal(describeChanges(changes), ["nothing changed"]);
  assert.is(readFileSync(lockPath(around.project, "small"), "utf8"), before);
});

test("others' archives come with their key, which is the image's, too", async () => {
  const { lock: locked, changes } = await lock(vendor);
  assert.equal(describeChanges(changes), ["+ vendor-agent 3"]);
  assert.is(locked.packages.find((p) => p.name === "vendor-agent")?.archive, "vendor");
  const recipe = loadRecipe(around.project, "small");
  assert.match(
    sourcesList(recipe),
    /^deb \[signed-by=\/etc\/apt\/keyrings\/vendor\.asc\] http:\/\/apt\.example\.com\/vendor noble stable$/m,
  );
  const key = lateFiles(recipe, locked).find((f) => f.path === "/etc/apt/keyrings/vendor.asc");
  assert.is(key?.content, readFileSync(join(around.project.images, "keys/vendor.asc"), "utf8"));
});

test("a key vouches for its own archive and for no other", async () => {
  const before = readFileSync(lockPath(around.project, "small"), "utf8");
  const said = await refused(lock(vendor.replace("keys/vendor.asc", "keys/ubuntu.asc")));
  assert.match(said, /lists could not be had[\s\S]*apt\.example\.com\/vendor noble InRelease[\s\S]*NO_PUBKEY/);
  assert.is(readFileSync(lockPath(around.project, "small"), "utf8"), before);
});

test("an archive with a password takes it from apt's own files, and nothing that is written has it", async () => {
  const { project } = around;
  archives.passwords[main] = "me:secret-word";
  assert.match(await refused(lock(vendor)), /401|Unauthorized/);
  const auth = join(project.folder, "auth.conf");
  writeFileSync(auth, "machine http://archive.ubuntu.com/ubuntu login me password secret-word\n", { mode: 0o600 });
  archives.configure(`Dir::Etc::netrc "${auth}";\n`);
  const { lock: locked } = await lock(vendor);
  const recipe = loadRecipe(project, "small");
  await fetchDebs(project, recipe, locked, silent);
  for (const p of locked.packages) assert.is(statSync(debPath(project, p)).size, p.size, p.name);
  for (const text of [readFileSync(lockPath(project, "small"), "utf8"), ...lateFiles(recipe, locked).map((f) => String(f.content))])
    assert.not.match(text, /secret-word|127\.0\.0\.1:/);
  delete archives.passwords[main];
});

test("a company's certificate is the one that apt is told of", async () => {
  const { address, certificate } = await archives.openTls();
  archives.configure('Acquire::https::Proxy::localhost "DIRECT";\n');
  archives.publish("localhost/company", "noble", { stable: [archives.deb("vendor-agent", "4")] }, "vendor");
  const company = vendor.replace("http://apt.example.com/vendor", `${address}/company`);
  assert.match(await refused(lock(company)), /certificate/i);
  archives.configure(`Acquire::https::CAInfo "${certificate}";\n`);
  const { lock: locked } = await lock(company);
  assert.is(locked.packages.find((p) => p.name === "vendor-agent")?.version, "4");
  await fetchDebs(around.project, loadRecipe(around.project, "small"), locked, silent);
});

test("a day of the past comes from the distribution's own archive of it, which is valid no more by its own word", async () => {
  const past = "snapshot.ubuntu.com/ubuntu/20261101T000000Z";
  const old = { "Valid-Until": "Sun, 08 Nov 2026 00:00:00 UTC" };
  archives.publish(past, "noble", { main: base, universe: [archives.deb("tool", "0.9")] }, "ubuntu", old);
  for (const pocket of ["noble-updates", "noble-security"]) archives.publish(past, pocket, { main: [], universe: [] }, "ubuntu", old);
  const { lock: locked } = await lock(`${ubuntu}snapshot: 2026-11-01\n`);
  assert.is(locked.packages.find((p) => p.name === "tool")?.version, "0.9");
  const recipe = loadRecipe(around.project, "small");
  assert.match(sourcesList(recipe), /http:\/\/archive\.ubuntu\.com\/ubuntu noble main universe$/m);
  assert.not.match(sourcesList(recipe), /snapshot/);
});

test("a locked package that is gone is named, with where it can still be had", async () => {
  const { project } = around;
  const { lock: locked } = await lock(ubuntu);
  archives.publish(main, "noble", { main: base, universe: [archives.deb("tool", "1:1.1")] }, "ubuntu");
  rmSync(project.cache, { recursive: true, force: true });
  const recipe = loadRecipe(project, "small");
  const error = await fetchDebs(project, recipe, locked, silent).catch((e: unknown) => e);
  assert.instance(error, GoneError);
  const { message, past } = error as GoneError;
  assert.is(message, "gone from the archives: tool 1:1.0");
  const stamp = `${past.day.replaceAll("-", "")}T000000Z`;
  assert.equal(past.addresses, [`http://snapshot.ubuntu.com/ubuntu/${stamp}/pool/noble/universe/tool_1.0_all.deb`]);
  assert.ok(Date.parse(past.day) / 1000 > locked.date);
  assert.equal(readLock(project, "small"), locked);
});

test.run();
