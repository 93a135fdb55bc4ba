// Makes the bootable disk of an image for real, as root (or with sudo). That it boots is shown in tests/stacks/vm.e2e.test.ts. Started with
// DISK_ONLY=<project>, it is the process that the kill tests kill.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import * as assert from "uvu/assert";
import { bake } from "../../images/bake.ts";
import { type Disk, diskOf, makeDisk } from "../../images/disk.ts";
import { layoutOf } from "../../images/disk-layout.ts";
import type { Image } from "../../images/image.ts";
import { prunable, prune } from "../../images/prune.ts";
import { Cancelled, listenForSignals } from "../../lib/cancel.ts";
import { ledgerAt } from "../../lib/ledger.ts";
import { type Project, projectAt, toolFolder } from "../../lib/paths.ts";
import { type Progress, silent } from "../../lib/progress.ts";
import { asRoot, run, tryRun } from "../../lib/run.ts";
import { suite } from "../suite.ts";

const own = projectAt(toolFolder);
process.env.INGOT_CACHE ??= own.cache;

if (process.env.DISK_ONLY) {
  listenForSignals();
  const start: Progress["start"] = (title) => {
    console.log(`begin ${title}`);
    return { note() {}, done() {}, failed() {} };
  };
  try {
    const { made } = await makeDisk(projectAt(process.env.DISK_ONLY), "debian-12", "raw", { progress: { ...silent, start } });
    console.log(made ? "made" : "found");
    process.exit(0);
  } catch (error) {
    console.error(error);
    process.exit(error instanceof Cancelled ? 130 : 1);
  }
}

const test = suite("disk of debian-12");
let image: Image;
let disk: Disk;
/** Another project, with a copy of the image: other folders, other inodes, other times of change and access. */
let other: Project;

test.before(async () => {
  image = (await bake(own, "debian-12", { progress: silent })).image;
  disk = await makeDisk(own, "debian-12", "raw", { progress: silent });
  other = projectAt(mkdtempSync("/var/tmp/ingot-disk-"));
  for (const folder of [other.images, other.stacks, join(other.store, image.digest)]) mkdirSync(folder, { recursive: true });
  for (const file of readdirSync(own.images).filter((f) => f.endsWith(".yaml") || f.endsWith(".json")))
    cpSync(join(own.images, file), join(other.images, file));
  const parts = [`layers/${image.manifest.layers[1]}`, image.digest].flatMap((of) => [`${of}/root`, `${of}/files`]);
  const records = [`layers/${image.manifest.layers[1]}/layer.json`, `${image.digest}/manifest.json`];
  await run(asRoot(["sh", "-c", 'cd "$1" && shift && cp --archive --parents "$@"', "sh", own.store, ...parts, ...records, other.store]));
});
test.after(async () => {
  if (!other) return;
  await run(asRoot(["rm", "-rf", "--one-file-system", other.folder]));
});

const disksOf = (project: Project): string[] => readdirSync(join(project.store, image.digest)).filter((f) => f.startsWith("disk-"));
const halves = (project: Project): string[] => readdirSync(project.store).filter((f) => f.startsWith("."));

test("stopped or killed at any moment it leaves nothing, and the next one is right", async () => {
  const ledger = ledgerAt(other.ledger);
  // By what it is at, since nobody knows how long a busy computer takes for it.
  for (const [signal, phase] of [
    ["SIGTERM", "write the file system of the packages"],
    ["SIGKILL", "put the configuration on it"],
  ] as [NodeJS.Signals, string][]) {
    const child = spawn(process.execPath, [fileURLToPath(import.meta.url)], {
      env: { ...process.env, DISK_ONLY: other.folder },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr])
      stream?.on("data", (chunk) => {
        output += String(chunk);
        if (output.includes(`begin ${phase}`)) child.kill(signal);
      });
    const [code] = await once(child, "close");
    const where = `${signal} at the beginning of: ${phase}: ${output}`;
    assert.match(output, new RegExp(`^begin ${phase}`, "m"), where);
    assert.equal(disksOf(other), [], where);
    assert.not.match(readFileSync("/proc/self/mountinfo", "utf8"), new RegExp(other.folder), where);
    if (signal === "SIGKILL") continue; // the next run takes its folder away
    assert.is(code, 130, where);
    assert.equal([halves(other), ledger.all()], [[], []], where);
  }
});

test("two disks of one image, made in different folders at different times, are the same bit for bit", async () => {
  const again = await makeDisk(other, "debian-12", "raw", { locked: true, progress: silent });
  assert.ok(again.made);
  assert.equal([halves(other), ledgerAt(other.ledger).all()], [[], []]);
  assert.is.not(again.path, disk.path);
  const { stdout } = await tryRun(["sh", "-c", 'cmp --verbose -- "$1" "$2" | head -n 20', "sh", again.path, disk.path]);
  assert.is(stdout, "", "they differ");
});

test("a recipe that wants another disk gets it of the same image; the one before is nobody's then, unless a machine has the image", async () => {
  const before = disksOf(other);
  const recipe = join(other.images, "debian-12.yaml");
  const text = readFileSync(recipe, "utf8");
  const wanting = async (size: string) => {
    writeFileSync(recipe, `${text}disk: { size: ${size}, esp: 128MiB }\n`);
    return makeDisk(other, "debian-12", "raw", { locked: true, progress: silent });
  };
  const error = await wanting("1GiB").catch((e: unknown) => e);
  assert.match(String(error), /debian-12\.yaml:\d+:15: 1GiB is too little for debian-12: its files come to \d+ MB, and .* need 2GiB$/);
  assert.equal([disksOf(other), halves(other)], [before, []]);
  const larger = await wanting("5GiB");
  assert.equal([larger.image.digest, larger.made, larger.size, statSync(larger.path).size], [image.digest, true, 5 * 2 ** 30, 5 * 2 ** 30]);
  const old = before.map((file) => ({ kind: "disk" as const, id: `${image.digest}/${file}`, name: "debian-12" }));
  const disks = (machines: string[]) => prunable(other, new Set(machines)).filter((p) => p.kind === "disk");
  assert.equal(disks([image.digest]), []);
  assert.equal(disks([]), old);
  await prune(other, old);
  assert.equal(disksOf(other), [basename(larger.path)]);
  assert.equal(prunable(other, new Set()), []);
});

test("what the kernel finds on it is the image, path by path, but for what only a disk has", async () => {
  const at = `loop,ro,noload,offset=${layoutOf(image, { esp: "64MiB" }).root.start * 512}`;
  const script = 'mkdir "$1/mnt" && mount -o "$2" "$3" "$1/mnt" && python3 -B "$4" "$1/mnt"';
  const words = [other.folder, at, disk.path, join(toolFolder, "images/provision/listing.py")];
  const { stdout } = await run(asRoot(["unshare", "--mount", "sh", "-c", script, "sh", ...words]));
  const found = new Set(stdout.trimEnd().split("\n"));
  const wanted = new Set(readFileSync(join(image.root, "../files"), "utf8").trimEnd().split("\n"));
  const path = (line: string) => line.split("\t").at(-1);
  assert.equal(
    [[...wanted].filter((l) => !found.has(l)).map(path), [...found].filter((l) => !wanted.has(l)).map(path)],
    [["/etc/fstab"], ["/boot/grub", "/boot/grub/grub.cfg", "/etc/fstab", "/lost+found"]],
  );
});

test("a disk that is there is not made again, and is nobody's to write to", async () => {
  const again = await makeDisk(own, "debian-12", "raw", { progress: silent });
  assert.equal([again.made, again.path], [false, disk.path]);
  const { mode, uid, blocks, size } = statSync(disk.path);
  assert.equal([(mode & 0o7777).toString(8), uid], ["444", process.getuid?.()]);
  assert.is(size, layoutOf(image, { esp: "64MiB" }).sectors * 512);
  assert.ok(blocks * 512 < image.manifest.size * 1.3, `${blocks * 512} bytes on this computer, of ${image.manifest.size} in the image`);
});

test("the kernel finds its root on NVMe, virtio and Xen, and has EC2's network card from the start", async () => {
  const inTree = async (command: string) => (await run(asRoot(["chroot", image.root, "sh", "-c", command]))).stdout;
  const there = `${await inTree("cat /lib/modules/*/modules.builtin")}${await inTree("zstd -dc </initrd.img | cpio -t --quiet")}`;
  for (const driver of ["nvme", "ena", "ext4", "virtio_blk", "virtio_pci", "virtio_net", "xen-blkfront"])
    assert.match(there, new RegExp(`/${driver}\\.ko`), driver);
});

test("without a kernel there is no disk, and the message says what to add", async () => {
  const bare: Image = { ...image, manifest: { ...image.manifest, packages: {} } };
  await diskOf(other, bare, "raw", { progress: silent }).then(
    () => assert.unreachable(),
    (error) => assert.match(String(error.message), /has no kernel to boot/),
  );
});

test.run();
