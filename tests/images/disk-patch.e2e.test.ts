// The disk of a layer becomes that of an image by commands for debugfs (images/disk-patch.ts). Here trees of every kind of file become one another,
// and the kernel then finds on the file system what was asked for. As root: a file system in a file is mounted, in a namespace of its own.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import fc from "fast-check";
import * as assert from "uvu/assert";
import { patchOf, withFiles } from "../../images/disk-patch.ts";
import { readListing, type TreeEntry } from "../../images/manifest.ts";
import { toolFolder } from "../../lib/paths.ts";
import { asRoot, run } from "../../lib/run.ts";
import { suite } from "../suite.ts";

const test = suite("disk-patch");
const folder = mkdtempSync("/var/tmp/ingot-patch-");
test.after(async () => {
  await run(asRoot(["rm", "-rf", "--one-file-system", folder]));
});

const listing = async (root: string): Promise<string> =>
  (await run(asRoot(["python3", "-B", join(toolFolder, "images/provision/listing.py"), root]))).stdout;

/** A thing in a tree: how it is made by a shell, in the tree as the working folder. */
interface Thing {
  path: string;
  make: string;
}
const names = ["a", "a-b", "b c", 'q"uote', "back\\slash", "ü", "$x", "-f"];
const quote = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
const at = (path: string): string => quote(`./${path}`);

const attribute = (path: string, name: string, hex: string): string =>
  `python3 -c 'import os, sys; os.setxattr(sys.argv[1], "${name}", bytes.fromhex("${hex}"))' ${at(path)}`;

const pathIn = fc.array(fc.constantFrom(...names), { minLength: 1, maxLength: 3 }).map((parts) => parts.join("/"));
const body = fc.oneof(
  fc.record({ text: fc.constantFrom("", "one", "two", "x".repeat(9000)), mode: fc.constantFrom("644", "600", "4755") }).map(
    ({ text, mode }) =>
      (path: string) =>
        `printf %s ${quote(text)} >${at(path)}; chmod ${mode} ${at(path)}`,
  ),
  fc.constantFrom("x", "/etc/a b", "../up", "l".repeat(100)).map((target) => (path: string) => `ln -sT ${quote(target)} ${at(path)}`),
  fc.constantFrom("700", "755", "1777").map((mode) => (path: string) => `mkdir ${at(path)}; chmod ${mode} ${at(path)}`),
  fc.constant((path: string) => `mkfifo ${at(path)}`),
  fc.constantFrom("c 1 3", "b 7 200").map((device) => (path: string) => `mknod ${at(path)} ${device}`),
  fc.constant(
    (path: string) => `printf capable >${at(path)}; ${attribute(path, "security.capability", "0100000200200000000000000000000000000000")}`,
  ),
  fc.constant((path: string) => `mkdir ${at(path)}; ${attribute(path, "user.note", "68656c6c6f")}`),
  // A second name of the file that every tree has.
  fc.constant((path: string) => `ln -T ./shared ${at(path)}`),
);
const owned = fc.record({
  body,
  owner: fc.constantFrom("0:0", "33:33", "70000:70001"),
  time: fc.constantFrom(1_600_000_000, 1_700_000_000),
});
const tree = fc.array(fc.tuple(pathIn, owned), { maxLength: 12 }).map((things): Thing[] => {
  const seen = new Set<string>();
  return things.flatMap(([path, { body, owner, time }]) => {
    if (seen.has(path)) return [];
    seen.add(path);
    // A folder that lacks is made; where a file is in the way, the thing is left out.
    const parent = at(dirname(path));
    const make = `mkdir -p ${parent} 2>/dev/null && { ${body(path)}; chown -h ${owner} ${at(path)}; touch -h -d @${time} ${at(path)}; } 2>/dev/null || :`;
    return [{ path, make }];
  });
});

let count = 0;
async function made(things: Thing[]): Promise<{ root: string; text: string; entries: TreeEntry[] }> {
  const root = join(folder, String(count++));
  mkdirSync(root);
  const script = [
    "printf shared >shared; touch -d @1500000000 shared",
    ...things.map((t) => t.make),
    "find . -depth -type d -exec touch -d @1650000000 {} +",
  ];
  await run(asRoot(["sh", "-c", `cd ${quote(root)}; ${script.join("\n")}`]));
  const text = await listing(root);
  return { root, text, entries: readListing(text) };
}

test("whatever a layer and an image hold, the kernel finds the image's tree on the disk", async () => {
  await fc.assert(
    fc.asyncProperty(tree, tree, async (before, after) => {
      const [from, to] = [await made(before), await made(after)];
      const { commands, attributes } = patchOf(from.entries, to.entries, { root: to.root, attributes: join(folder, "attributes") });
      rmSync(join(folder, "attributes"), { recursive: true, force: true });
      mkdirSync(join(folder, "attributes"));
      attributes.forEach((value, i) => {
        writeFileSync(join(folder, "attributes", String(i)), value);
      });
      writeFileSync(join(folder, "patch"), commands.map((line) => `${line}\n`).join(""));
      const script = `set -e
        rm -f disk; mkdir -p mnt
        mke2fs -q -t ext4 -b 4096 -I 256 -d "$1" disk 8M >said
        debugfs -w -f patch disk >said 2>&1
        ! grep -Ev '^($|debugfs |debugfs: |Allocated inode: )' said
        e2fsck -f -n disk >said 2>&1 || { cat said; exit 1; }
        mount -o loop,ro,noload disk mnt
        python3 -B "$2" "$PWD/mnt"`;
      const { stdout } = await run(
        asRoot([
          "unshare",
          "--mount",
          "sh",
          "-c",
          `cd ${quote(folder)}; ${script}`,
          "sh",
          from.root,
          join(toolFolder, "images/provision/listing.py"),
        ]),
      );
      const found = stdout.replace(/^d\t700\t.*\t\/lost\+found\n/m, "");
      if (found !== to.text) throw new Error(`asked for:\n${to.text}found:\n${found}by:\n${commands.join("\n")}`);
    }),
    { includeErrorInReport: true, numRuns: process.env.INGOT_TEST_LONG ? 40 : 8 },
  );
});

test("what only a disk has is added with its folders, and takes the place of what is there", () => {
  const file = (path: string, type = "f"): TreeEntry => ({
    ...{ type, mode: "600", uid: 7, gid: 7, size: 1, mtime: 5, content: "old", links: "", attributes: "", path },
  });
  const all = withFiles([file("/", "d"), file("/etc", "d"), file("/etc/fstab")], { "/etc/fstab": "", "/boot/grub/grub.cfg": "é" }, 9);
  assert.equal(
    all.map((f) => [f.path, f.type, f.mode, f.uid, f.mtime, f.size]),
    [
      ["/", "d", "600", 7, 5, 1],
      ["/etc", "d", "600", 7, 5, 1],
      ["/etc/fstab", "f", "644", 0, 9, 0],
      ["/boot", "d", "755", 0, 9, 0],
      ["/boot/grub", "d", "755", 0, 9, 0],
      ["/boot/grub/grub.cfg", "f", "644", 0, 9, 2],
    ],
  );
});

test("a name that no line of debugfs can say is refused", () => {
  const entry: TreeEntry = {
    type: "f",
    mode: "644",
    uid: 0,
    gid: 0,
    size: 0,
    mtime: 0,
    content: "x",
    links: "",
    attributes: "",
    path: "/a\\nb",
  };
  assert.throws(() => patchOf([], [entry], { root: "", attributes: "" }), /cannot be put on a disk/);
});

test.run();
