// The `qemu` source of the Packer template, really built: a disk of Ingot's own, which plays a distribution's cloud image, becomes another image in a
// machine, and boots as that. In the long suite: without KVM it takes a quarter of an hour.
import { spawn } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { bake } from "../../images/bake.ts";
import { diskFiles, makeDisk } from "../../images/disk.ts";
import { layoutOf } from "../../images/disk-layout.ts";
import { withFiles } from "../../images/disk-patch.ts";
import { readExt4 } from "../../images/ext4.ts";
import type { TreeEntry } from "../../images/manifest.ts";
import { packerTemplate } from "../../images/packer.ts";
import { wantedOf, writePackerFolder } from "../../images/packer-folder.ts";
import { filesOf } from "../../images/store.ts";
import { projectAt, toolFolder } from "../../lib/paths.ts";
import { silent } from "../../lib/progress.ts";
import { run } from "../../lib/run.ts";
import { suite } from "../suite.ts";

const test = suite("packer qemu");
const long = process.env.INGOT_TEST_LONG ? test : test.skip;
let folder = "";

test.before(() => {
  if (!process.env.INGOT_TEST_LONG) return;
  process.env.INGOT_CACHE ??= projectAt(toolFolder).cache;
  folder = mkdtempSync("/var/tmp/ingot-qemu-");
  mkdirSync(join(folder, "stacks"));
  cpSync(join(toolFolder, "images"), join(folder, "images"), { recursive: true, filter: (path) => !/\.ts$/.test(path) });
  cpSync(join(toolFolder, "tests/ec2/images"), join(folder, "images"), { recursive: true });
});
test.after(() => {
  if (folder) rmSync(folder, { recursive: true, force: true });
});

/** Path and all that is proven of it; of a folder its times, which change with what only a disk has, are left out. */
const line = (f: TreeEntry): string =>
  [f.type, f.mode, f.uid, f.gid, f.size, f.type === "d" ? "" : Math.floor(f.mtime), f.content, f.attributes, f.path].join("\t");

long("a machine becomes the image, whose disk holds what a local bake gives, and boots", async () => {
  const project = projectAt(folder);
  const cloud = await makeDisk(project, "cloud", "raw", { locked: true, progress: silent });
  const { image } = await bake(project, "packed", { locked: true, progress: silent });

  const work = join(folder, "packer");
  const seed = join(work, "seed");
  mkdirSync(seed, { recursive: true });
  const key = join(work, "key");
  await run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "packer", "-f", key]);
  const publicKey = readFileSync(`${key}.pub`, "utf8").trim();
  // An image of Ingot's has its host keys from elsewhere; a cloud image makes them.
  const userData = { ssh_genkeytypes: ["ed25519"], ssh_authorized_keys: [publicKey] };
  writeFileSync(join(seed, "user-data"), `#cloud-config\n${JSON.stringify(userData)}\n`);
  writeFileSync(join(seed, "meta-data"), JSON.stringify({ "instance-id": "packer", "local-hostname": "builder" }));

  const wanted = wantedOf(project, "packed");
  const sent = join(work, "ingot-sent");
  await writePackerFolder(project, wanted, sent, silent);
  const facts = join(work, "facts.tar.gz");
  const prove = [process.execPath, join(toolFolder, "dist/ingot.js"), "image", "prove", "packed", wanted.digests.digest, facts];
  const output = join(work, "out");
  const template = packerTemplate(
    wanted.recipe,
    "1.6",
    { sent, facts, prove: { folder, argv: prove } },
    {
      qemu: {
        disk: cloud.path,
        format: "raw",
        size: 6,
        user: "admin",
        key,
        seed,
        accelerator: "tcg",
        console: join(work, "console.log"),
        output,
      },
    },
  );
  writeFileSync(join(work, "template.json"), JSON.stringify(template, null, 2));
  const began = performance.now();
  const env = { CHECKPOINT_DISABLE: "1", PACKER_CACHE_DIR: join(work, "cache") };
  const log: string[] = [];
  const argv = ["sh", join(toolFolder, "stacks/aws/ami/packer.sh"), "packer", "build", "-color=false", join(work, "template.json")];
  await run(argv, {
    cwd: work,
    env,
    leash: true,
    onLine: (l) => log.push(`${((performance.now() - began) / 1000).toFixed(0)} ${l}`),
  }).catch((error: unknown) => {
    throw new Error(`${String(error)}\n${log.slice(-40).join("\n")}\n${readFileSync(join(work, "console.log"), "utf8").slice(-3000)}`);
  });
  if (process.env.INGOT_TEST_TIMES) console.log(log.filter((l) => /ingot: phase|placed|==>/.test(l)).join("\n"));

  // What a disk of the image has more is the source's: where its root is found.
  const disk = join(output, "disk.raw");
  const { layout } = { layout: layoutOf(cloud.image, { esp: wanted.recipe.disk.esp }) };
  const expected = withFiles(filesOf(image), diskFiles(layout), wanted.lock.date);
  const there = readExt4(disk, layout.root.start * 512);
  const own = (f: TreeEntry) => !["/", "/lost+found", "/boot/grub/grub.cfg", "/etc/fstab"].includes(f.path);
  const [a, b] = [expected, there].map((files) => new Set(files.filter(own).map(line)));
  assert.equal(
    [...[...(a ?? [])].filter((l) => !b?.has(l)).map((l) => `- ${l}`), ...[...(b ?? [])].filter((l) => !a?.has(l)).map((l) => `+ ${l}`)],
    [],
  );
  const contents = (files: TreeEntry[]) =>
    files
      .filter((f) => ["/boot/grub/grub.cfg", "/etc/fstab"].includes(f.path))
      .map((f) => `${f.path} ${f.content}`)
      .sort();
  assert.equal(contents(there), contents(expected));

  assert.match(await boot(disk), /packed login:|localhost login:/);
});

/** What comes on the console until somebody could log in. */
function boot(disk: string): Promise<string> {
  const argv = ["-machine", "pc", "-accel", "tcg", "-m", "1024", "-display", "none", "-serial", "stdio", "-nic", "none"];
  const child = spawn("qemu-system-x86_64", [...argv, "-drive", `file=${disk},if=virtio,format=raw`], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let said = "";
  return new Promise((resolve, reject) => {
    const end = setTimeout(() => child.kill("SIGKILL"), 400_000);
    child.stdout.on("data", (chunk: Buffer) => {
      said += chunk.toString();
      if (/ login:/.test(said)) child.kill("SIGKILL");
    });
    child.on("close", () => {
      clearTimeout(end);
      if (/ login:/.test(said)) resolve(said);
      else reject(new Error(`nobody could log in:\n${said.slice(-3000)}`));
    });
  });
}

test.run();
