// What can go wrong around a bake: a disk that is full, a mirror that fails, stalls or serves something else, a cache that was written by halves.
// Each ends in a whole image or in none, and the next bake is right. (Kills are in bake.e2e.test.ts, damaged layers in bake-layers.e2e.test.ts.)
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { debFolder, debPath, fetchDebs, GoneError, lockRecipe } from "../../images/archive.ts";
import { bake } from "../../images/bake.ts";
import type { LockedPackage, PackageLock } from "../../images/lock.ts";
import { loadRecipe } from "../../images/recipe.ts";
import { listImages } from "../../images/store.ts";
import { sha256 } from "../../lib/digest.ts";
import { ledgerAt } from "../../lib/ledger.ts";
import { type Project, projectAt, toolFolder } from "../../lib/paths.ts";
import { silent } from "../../lib/progress.ts";
import { asRoot, run } from "../../lib/run.ts";
import { suite } from "../suite.ts";
import { smallRecipe, temporaryProject } from "./fixtures.ts";

const own = projectAt(toolFolder);
const cache = process.env.INGOT_CACHE ?? own.cache;
process.env.INGOT_CACHE = cache;

const left = (project: Project): string[] => (existsSync(project.store) ? readdirSync(project.store).filter((f) => f.startsWith(".")) : []);

/** Nothing of a bake is left but what is whole. */
function nothingLeft(project: Project): void {
  assert.equal(listImages(project), []);
  assert.equal(left(project), []);
  assert.equal(ledgerAt(project.ledger).all(), []);
}

async function refused(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => assert.unreachable("it went well") as never,
    (error: Error) => error.message,
  );
}

const test = suite("faults around a bake");
let work: ReturnType<typeof temporaryProject>;
let lock: PackageLock;

test.before(async () => {
  work = temporaryProject();
  const recipe = loadRecipe(work.project, "small");
  lock = (await lockRecipe(work.project, recipe, silent)).lock;
  await fetchDebs(work.project, recipe, lock, silent);
});
test.after(async () => {
  await run(asRoot(["rm", "-rf", "--one-file-system", work.project.store]));
  work.remove();
});

async function emptied(): Promise<Project> {
  await run(asRoot(["rm", "-rf", "--one-file-system", work.project.store]));
  return work.project;
}

test("a full disk leaves nothing, and says what it is", async () => {
  const project = await emptied();
  mkdirSync(project.store, { recursive: true });
  await run(asRoot(["mount", "-t", "tmpfs", "-o", `size=64m,mode=0755,uid=${process.getuid?.()}`, "small", project.store]));
  try {
    assert.match(await refused(bake(project, "small", { progress: silent })), /No space left on device/);
    nothingLeft(project);
  } finally {
    await run(asRoot(["umount", project.store]));
  }
});

test("a package that lies damaged in the cache is fetched anew, and the bake after the full disk is right", async () => {
  const project = await emptied();
  // A cache of its own, whose packages may be spoiled.
  const other = join(project.folder, "cache");
  mkdirSync(join(other, "debs"), { recursive: true });
  for (const p of lock.packages) copyFileSync(debPath(project, p), join(other, "debs", `${p.sha256}.deb`));
  const [short, changed, gone] = lock.packages.filter((p) => p.size > 10_000).map((p) => join(other, "debs", `${p.sha256}.deb`));
  assert.ok(short && changed && gone);
  truncateSync(short, 5000);
  const bytes = readFileSync(changed);
  bytes[9000] = (bytes[9000] ?? 0) ^ 255;
  writeFileSync(changed, bytes);
  rmSync(gone);
  mkdirSync(join(other, "debs/.partial-99999999-x"));
  process.env.INGOT_CACHE = other;
  try {
    const { baked, image } = await bake(project, "small", { locked: true, progress: silent });
    assert.ok(baked);
    assert.is(readFileSync(join(image.root, "etc/motd"), "utf8"), "hello\n");
    assert.equal(left(project), []);
    for (const p of lock.packages) assert.is(sha256(readFileSync(join(other, "debs", `${p.sha256}.deb`))), p.sha256);
    assert.equal(
      readdirSync(join(other, "debs")).filter((f) => f.startsWith(".")),
      [],
    );
  } finally {
    process.env.INGOT_CACHE = cache;
    rmSync(other, { recursive: true });
  }
});

/** A recipe whose only archive is a server on loopback, and a lock of one package. @param patience seconds that apt waits for an answer */
async function fetchedFrom(answer: (response: ServerResponse, content: Buffer) => void, patience = 60): Promise<string> {
  const server = createServer((_, response) => answer(response, content));
  const content = Buffer.alloc(200_000, "ingot");
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const mirror = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const there = temporaryProject({
    small: smallRecipe
      .replace(/main: .*/, `main: { mirror: "${mirror}", suites: [nowhere], components: [main] }`)
      .replace(/ {2}security: .*\n/, ""),
  });
  process.env.INGOT_CACHE = join(there.project.folder, "cache");
  // This computer's own settings, but for a proxy; and nobody waits for long where nothing comes.
  const settings = join(there.project.folder, "apt.conf");
  writeFileSync(settings, `Acquire::http::Proxy::127.0.0.1 "DIRECT";\nAcquire::http::Timeout "${patience}";\nAcquire::Retries "0";\n`);
  process.env.APT_CONFIG = settings;
  const one: LockedPackage = {
    ...{ name: "one", version: "1", architecture: "amd64", archive: "main", file: "pool/one_1.404_amd64.deb" },
    ...{ size: content.length, sha256: sha256(content) },
  };
  const { project } = there;
  try {
    const recipe = loadRecipe(project, "small");
    const said = await fetchDebs(project, recipe, { ...lock, packages: [one] }, silent).then(
      () => "fetched",
      (error: Error) => (error instanceof GoneError ? `gone: ${error.message}` : error.message),
    );
    const there_ = statSync(debPath(project, one), { throwIfNoEntry: false });
    assert.is(there_ !== undefined, said === "fetched", said);
    assert.equal(
      readdirSync(debFolder(project)).filter((f) => f.startsWith(".")),
      [],
    );
    return said;
  } finally {
    process.env.INGOT_CACHE = cache;
    delete process.env.APT_CONFIG;
    server.closeAllConnections();
    server.close();
    there.remove();
  }
}

test("a mirror that serves what was locked", async () =>
  assert.is(await fetchedFrom((response, content) => response.end(content)), "fetched"));
test("a mirror that no longer has it", async () =>
  assert.match(await fetchedFrom((response) => response.writeHead(404).end()), /^gone: .*one 1/));
test("a mirror that fails", async () => assert.match(await fetchedFrom((response) => response.writeHead(503).end()), /503/));
test("a mirror that ends in the middle", async () =>
  assert.match(
    await fetchedFrom((response, content) => {
      response.writeHead(200, { "Content-Length": content.length });
      response.write(content.subarray(0, 90_000), () => response.destroy());
    }),
    /apt-helper ended with exit code/,
  ));
test("a mirror that stalls", async () => {
  // Where the beginning comes late, too, apt has other words.
  const said = await fetchedFrom((response, content) => {
    response.writeHead(200, { "Content-Length": content.length });
    response.write(content.subarray(0, 90_000));
  }, 12);
  assert.match(said, /timed out/i, said);
});
test("a mirror that serves something else of the same size", async () =>
  assert.match(await fetchedFrom((response, content) => response.end(Buffer.alloc(content.length, "other"))), /Hash Sum mismatch/));

test.run();
