// Bakes for real, as root (or with sudo). Started with BAKE_ONLY=<project>, it is the process that the kill tests kill.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import * as assert from "uvu/assert";
import { bake } from "../../images/bake.ts";
import type { Image } from "../../images/image.ts";
import { type LockedPackage, lockPath, lockText, readLock } from "../../images/lock.ts";
import { findImage, listImages } from "../../images/store.ts";
import { Cancelled, listenForSignals } from "../../lib/cancel.ts";
import { sha256 } from "../../lib/digest.ts";
import { ledgerAt } from "../../lib/ledger.ts";
import { type Project, projectAt, toolFolder } from "../../lib/paths.ts";
import { type Progress, silent } from "../../lib/progress.ts";
import { asRoot, run, tryRun } from "../../lib/run.ts";
import { suite } from "../suite.ts";
import { smallRecipe, temporaryProject } from "./fixtures.ts";

const own = projectAt(toolFolder);
process.env.INGOT_CACHE ??= own.cache;

if (process.env.BAKE_ONLY) {
  listenForSignals();
  const say: Progress = {
    start: (title) => {
      console.log(`begin ${title}`);
      return { note() {}, done() {}, failed() {} };
    },
    say: (text) => console.log(text),
    detail() {},
  };
  try {
    const { image, baked } = await bake(projectAt(process.env.BAKE_ONLY), process.env.BAKE_RECIPE ?? "small", { progress: say });
    console.log(`${baked ? "baked" : "found"} ${image.digest}`);
    process.exit(0);
  } catch (error) {
    console.error(error);
    process.exit(error instanceof Cancelled ? 130 : 1);
  }
}

/** Another process that bakes a recipe of `project`. */
function baker(project: Project, recipe = "small"): { child: ChildProcess; output: () => string; end: Promise<number | null> } {
  const child = spawn(process.execPath, [fileURLToPath(import.meta.url)], {
    env: { ...process.env, BAKE_ONLY: project.folder, BAKE_RECIPE: recipe },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk) => (output += String(chunk)));
  return { child, output: () => output, end: once(child, "close").then(([code]) => code as number | null) };
}

/** Once a bake has said that it begins with a phase; at once, not a while later. */
const begins = (child: ChildProcess, phase: string, output: () => string): Promise<void> =>
  new Promise((resolve, reject) => {
    const look = () => output().includes(`begin ${phase}`) && resolve();
    if (!phase) return resolve();
    child.stdout?.on("data", look);
    child.on("close", () => reject(new Error(`it ended before it began to ${phase}:\n${output()}`)));
    look();
  });

async function until(what: string, seconds: number, condition: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = Date.now() + seconds * 1000; !(await condition()); await delay(50))
    if (Date.now() > end) throw new Error(`not within ${seconds} s: ${what}`);
}

/** Processes other than this one that have the project's folder in their command or environment. */
async function processesOf(project: Project): Promise<string[]> {
  // Its exit code tells nothing: others' processes end while we look.
  const { stdout } = await tryRun(
    asRoot([
      "grep",
      "-lsF",
      "--",
      project.folder,
      ...readdirSync("/proc")
        .filter((f) => /^\d+$/.test(f) && f !== String(process.pid))
        .map((pid) => `/proc/${pid}/environ`),
    ]),
  );
  return stdout.split("\n").filter((file) => {
    try {
      return file && readFileSync(file.replace("environ", "stat"), "utf8").replace(/.*\) /, "")[0] !== "Z";
    } catch {
      return false;
    }
  });
}

const mountsOf = (project: Project): string[] =>
  readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .filter((l) => l.includes(project.folder));

const halfImages = (project: Project): string[] =>
  existsSync(project.store) ? readdirSync(project.store).filter((f) => f.startsWith(".")) : [];

async function removeImages(project: Project): Promise<void> {
  await run(asRoot(["rm", "-rf", "--one-file-system", project.store]));
}

/** Everything of an image's tree, as root sees it: type, size, path. */
async function listing(image: Image): Promise<{ type: string; size: number; path: string }[]> {
  const { stdout } = await run(asRoot(["find", image.root, "-xdev", "-printf", "%y\\t%s\\t/%P\\n"]));
  return stdout
    .trimEnd()
    .split("\n")
    .map((line) => {
      const [type = "", size, path = ""] = line.split("\t");
      return { type, size: Number(size), path };
    });
}

/** Seconds until a bake has its turn at the most: two are made at a time on a computer, and other tests' are among them. */
const turn = 900;

const test = suite("bake");
let golden: Image;
let small: { project: Project; remove(): void };

test.before(async () => {
  golden = (await bake(own, "debian-12", { progress: silent })).image;
  small = temporaryProject();
});
test.after(async () => {
  if (!small) return;
  await removeImages(small.project);
  small.remove();
});

test("an unchanged recipe bakes nothing, and says so", async () => {
  const again = await bake(own, "debian-12", { progress: silent });
  assert.is(again.baked, false);
  assert.is(again.image.digest, golden.digest);
});

test("the tree has no identity, no logs, no lists and no cluster", async () => {
  const files = await listing(golden);
  const path = (pattern: RegExp) => files.filter((f) => f.type !== "d" && pattern.test(f.path)).map((f) => f.path);
  assert.equal(files.find((f) => f.path === "/etc/machine-id")?.size, 0);
  assert.equal(
    path(
      /^\/etc\/(hostname|resolv\.conf)$|^\/etc\/ssh\/ssh_host|ssl-cert-snakeoil\.(key|pem)|authorized_keys|\.erlang\.cookie|^\/var\/.*random-seed/,
    ),
    [],
  );
  assert.equal(path(/^\/(var\/lib\/apt\/lists|var\/cache\/apt\/archives|var\/lib\/cloud|var\/lib\/ingot|tmp|var\/tmp|run)\//), []);
  assert.equal(path(/^\/(etc|var\/lib)\/postgresql\/\d+\//), []);
  assert.equal(
    files.filter((f) => f.path.startsWith("/var/log/") && f.type === "f" && f.size > 0),
    [],
  );
  assert.equal(path(/\/\.dpkg-(new|dist|old)$|mmdebstrap/), []);
});

test("the tree can boot: kernel, initramfs, init, and links to them", async () => {
  for (const link of ["vmlinuz", "initrd.img", "sbin/init"]) await run(asRoot(["chroot", golden.root, "test", "-s", `/${link}`]));
});

test("services that a host may not want are there and disabled", () => {
  for (const unit of ["nginx.service", "postgresql.service", "redis-server.service", "docker.service", "docker.socket", "ssh.service"])
    assert.is(golden.manifest.units[unit], "disabled", unit);
  assert.is(golden.manifest.units["ingot-boot.service"], "enabled");
});

test("the manifest says what is in the tree", async () => {
  const { manifest } = golden;
  assert.is(manifest.versions.postgresql, "15");
  assert.is(manifest.versions.python, "3.11");
  assert.match(manifest.versions.cloudInit ?? "", /^22\.4/);
  assert.equal(manifest.users.postgres, { uid: 600, gid: 600, home: "/var/lib/postgresql", shell: "/bin/bash" });
  assert.is(manifest.groups.docker?.gid, 610);
  assert.ok(manifest.locales.includes("en_US.utf8"));
  for (const program of ["/usr/bin/python3", "/usr/sbin/nginx", "/usr/bin/docker", "/usr/bin/setfacl"])
    assert.ok(manifest.binaries.includes(program), program);
  const { stdout } = await run(asRoot(["sha256sum", ...Object.keys(manifest.files).map((f) => join(golden.root, f))]));
  assert.equal(
    stdout
      .trimEnd()
      .split("\n")
      .map((l) => l.slice(0, 64)),
    Object.values(manifest.files),
  );
});

test("the image's packages are the lock's, and its sources are the recipe's", async () => {
  const lock = readLock(own, "debian-12");
  assert.equal(golden.manifest.packages, Object.fromEntries((lock?.packages ?? []).map((p) => [p.name, p.version])));
  const sources = readFileSync(join(golden.root, "etc/apt/sources.list"), "utf8");
  assert.match(sources, "deb http://deb.debian.org/debian bookworm main");
  assert.match(sources, "deb http://security.debian.org/debian-security bookworm-security main");
});

test("Ctrl-C, SIGTERM and kill -9 at any moment leave nothing, and the next bake is right", async () => {
  const { project } = small;
  const ledger = ledgerAt(project.ledger);
  // Once, so that lock and packages are there and the moments below fall into the bake of the tree.
  await bake(project, "small", { progress: silent });
  // By what it is at, since nobody knows how long a busy computer takes for it, and then some seconds.
  const moments: [NodeJS.Signals, string, number][] = [
    ["SIGINT", "", 0.4],
    ["SIGTERM", "install the essential packages", 1.5],
    ["SIGKILL", "install the essential packages", 0.5],
    ["SIGINT", "unpack the packages", 0],
    ["SIGKILL", "configure the packages", 0.1],
    ["SIGTERM", "compile Python, make locales and initramfs", 0],
  ];
  for (const [signal, phase, seconds] of moments) {
    await removeImages(project);
    const { child, output, end } = baker(project);
    await until("the bake has begun", turn, () => ledger.all().length > 0);
    await begins(child, phase, output);
    await delay(seconds * 1000);
    child.kill(signal);
    const code = await end;
    const where = `${signal} ${seconds} s after the beginning of: ${phase || "it"}: ${output()}`;
    await until(`no process is left (${where})`, 60, async () => (await processesOf(project)).length === 0);
    assert.equal(mountsOf(project), [], where);
    if (signal !== "SIGKILL") {
      assert.is(code, 130, where);
      assert.equal(halfImages(project), [], where);
      assert.equal(ledger.all(), [], where);
    }
    assert.equal(listImages(project), [], where);
    assert.is(findImage(project, "small"), undefined, where);
  }
  const said: string[] = [];
  const { baked, image } = await bake(project, "small", { progress: { ...silent, say: (text) => said.push(text) } });
  assert.ok(baked);
  assert.is(readFileSync(join(image.root, "etc/motd"), "utf8"), "hello\n");
  assert.equal(halfImages(project), []);
  assert.equal(ledger.all(), []);
});

test("kill -9 is mended by the next bake, which says so", async () => {
  const { project } = small;
  await removeImages(project);
  const { child, end } = baker(project);
  await until("the bake has begun", turn, () => halfImages(project).length > 0);
  child.kill("SIGKILL");
  await end;
  assert.is(halfImages(project).length, 1);
  const said: string[] = [];
  await bake(project, "small", { progress: { ...silent, say: (text) => said.push(text) } });
  // Others may be baking on this computer; the one that was killed keeps nobody waiting.
  const ours = said.filter((text) => !/^waiting for the bake .*: \d+ at a time$/.test(text) || text.includes(`(process ${child.pid})`));
  assert.equal(ours, ["Cleaning up after an interrupted bake of small (essential packages)."]);
  assert.equal(halfImages(project), []);
});

test("a folder without its manifest is no image: the bake puts a whole one in its place", async () => {
  const { project } = small;
  const { image } = await bake(project, "small", { progress: silent });
  rmSync(join(project.store, image.digest, "manifest.json"));
  assert.is(findImage(project, "small"), undefined);
  const { baked } = await bake(project, "small", { progress: silent });
  assert.ok(baked);
  assert.is(findImage(project, "small")?.digest, image.digest);
});

test("of two bakes at once the second waits, and finds the image of the first", async () => {
  const { project } = small;
  await removeImages(project);
  const both = [baker(project), baker(project)];
  assert.equal(await Promise.all(both.map((b) => b.end)), [0, 0]);
  const output = both.map((b) => b.output());
  assert.is(output.filter((o) => /^baked /m.test(o)).length, 1, output.join("\n---\n"));
  assert.is(output.filter((o) => /^found /m.test(o) && /^waiting for the bake of small/m.test(o)).length, 1, output.join("\n---\n"));
});

// On one processor one bake is made at a time.
const onTwo = availableParallelism() > 1 ? test : test.skip;
onTwo("a bake of another recipe does not wait: it begins and ends while the first one is in the midst of its own", async () => {
  const { project } = small;
  const lock = readLock(project, "small");
  assert.ok(lock);
  writeFileSync(join(project.images, "other.yaml"), smallRecipe.replace("image: small", "image: other"));
  writeFileSync(lockPath(project, "other"), lockText({ ...lock, image: "other" }));
  await run(asRoot(["rm", "-rf", "--one-file-system", join(project.store, findImage(project, "small")?.digest ?? "none")]));
  const one = baker(project);
  try {
    await until("the first has begun", turn, () => halfImages(project).length > 0);
    one.child.kill("SIGSTOP");
    const [half] = halfImages(project);
    const two = baker(project, "other");
    assert.is(await two.end, 0, two.output());
    assert.match(two.output(), /^baked /m);
    assert.equal([halfImages(project), findImage(project, "small")], [[half], undefined]);
  } finally {
    one.child.kill("SIGCONT");
  }
  assert.is(await one.end, 0, one.output());
  assert.match(one.output(), /^baked /m);
  for (const name of ["small", "other"]) assert.is(findImage(project, name)?.name, name);
  for (const file of [join(project.images, "other.yaml"), lockPath(project, "other")]) rmSync(file);
});

test("a locked package that is gone: --locked fails, bake says so and locks anew", async () => {
  const { project } = small;
  const lock = readLock(project, "small");
  assert.ok(lock);
  const gone = (p: LockedPackage): LockedPackage => ({
    ...p,
    version: "0.1",
    file: "pool/main/s/sudo/sudo_0.1_amd64.deb",
    sha256: sha256("gone"),
  });
  writeFileSync(lockPath(project, "small"), lockText({ ...lock, packages: lock.packages.map((p) => (p.name === "sudo" ? gone(p) : p)) }));
  await bake(project, "small", { locked: true, progress: silent }).then(
    () => assert.unreachable("it baked"),
    (error) => assert.match(String(error), /cannot be had any more: .*sudo 0\.1/),
  );
  const said: string[] = [];
  await bake(project, "small", { progress: { ...silent, say: (text) => said.push(text) } });
  assert.match(said.join("\n"), /cannot be had any more .*sudo 0\.1.*locking anew/);
  assert.is(
    readLock(project, "small")?.packages.find((p) => p.name === "sudo")?.version,
    lock.packages.find((p) => p.name === "sudo")?.version,
  );
});

test("a recipe that fails leaves no image, and shows what failed", async () => {
  const wrong = temporaryProject({
    small: readFileSync(join(small.project.images, "small.yaml"), "utf8").replace("apt-daily.timer", "no-such.service"),
  });
  try {
    writeFileSync(lockPath(wrong.project, "small"), readFileSync(lockPath(small.project, "small")));
    await bake(wrong.project, "small", { progress: silent }).then(
      () => assert.unreachable("it baked"),
      (error) => assert.match(String(error), /no-such\.service is to be disabled and does not exist/),
    );
    assert.equal(halfImages(wrong.project), []);
    assert.equal(listImages(wrong.project), []);
  } finally {
    rmSync(wrong.project.folder, { recursive: true, force: true });
  }
});

test.run();
