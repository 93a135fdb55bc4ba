import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { layoutOf, leastOf, partitionTable } from "../../images/disk-layout.ts";
import { brokenDisk, type DiskFacts } from "../../images/disk-truths.ts";
import type { TreeEntry } from "../../images/manifest.ts";
import { toolFolder } from "../../lib/paths.ts";
import { suite } from "../suite.ts";

const test = suite("disk");

const image = (name: string, size: number) => ({ name, manifest: { size } });
const usual = { esp: "64MiB" };

test("ids stay with the image's name, and no two are the same", () => {
  const { ids } = layoutOf(image("debian-12", 900e6), usual);
  assert.equal(layoutOf(image("debian-12", 2e9), usual).ids, ids);
  const others = layoutOf(image("inloop", 900e6), usual).ids;
  const all = [...Object.values(ids), ...Object.values(others)];
  assert.is(new Set(all).size, all.length);
  for (const [name, id] of Object.entries(ids))
    assert.match(id, name === "espVolume" ? /^[0-9a-f]{8}$/ : /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
});

test("the root is last, nothing overlaps, and it has room for what is in it", () => {
  for (const size of [100e6, 900e6, 5e9]) {
    const { sectors, bios, esp, root } = layoutOf(image("a", size), usual);
    assert.is(bios.start + bios.sectors, esp.start);
    assert.is(esp.start + esp.sectors, root.start);
    assert.ok(root.start + root.sectors <= sectors - 34);
    assert.ok(root.sectors * 512 > size * 1.4, `${size}`);
    assert.is(root.start % 2048, 0);
    assert.is(sectors % 2 ** 21, 0);
  }
});

test("a recipe says how large the disk and its ESP are; without it a larger ESP takes no room from the root", () => {
  const said = layoutOf(image("a", 900e6), { size: "8GiB", esp: "256MiB" });
  assert.equal([said.sectors, said.esp.sectors, said.root.start], [8 * 2 ** 21, 2 ** 19, 8192 + 2 ** 19]);
  assert.ok(said.root.start + said.root.sectors <= said.sectors - 34);
  assert.is(layoutOf(image("a", 900e6), { esp: "1GiB" }).sectors, layoutOf(image("a", 900e6), usual).sectors + 2 ** 21);
  for (const size of [100e6, 900e6, 5e9])
    for (const esp of ["64MiB", "3GiB"])
      assert.ok(layoutOf(image("a", size), { esp }).sectors * 512 > leastOf(image("a", size), { esp }), `${size} ${esp}`);
});

test("the table of partitions names each partition by its number", () => {
  const table = partitionTable(layoutOf(image("a", 900e6), usual), "amd64");
  assert.match(table, /^label: gpt\nlabel-id: /);
  assert.match(table, /^1 : start=139264, size=\d+, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, uuid=/m);
  assert.match(table, /^14 : start=2048, size=6144, type=21686148-6449-6E6F-744E-656564454649, uuid=/m);
  assert.match(table, /^15 : start=8192, size=131072, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid=/m);
});

const layout = layoutOf(image("debian-12", 900e6), usual);
const esp = ["/EFI/BOOT/BOOTX64.EFI"];
const entry = (path: string, more: Partial<TreeEntry> = {}): TreeEntry => ({
  ...{ type: "f", mode: "644", uid: 0, gid: 0, size: 0, mtime: 1_700_000_000, content: "", links: "", attributes: "", path },
  ...more,
});
const tree = (): TreeEntry[] => [
  entry("/etc", { type: "d", mode: "755" }),
  entry("/etc/machine-id", { mode: "444" }),
  entry("/etc/passwd"),
];
function right(): DiskFacts {
  const at = ({ start, sectors }: { start: number; sectors: number }) => ({ start, size: sectors });
  const { ids } = layout;
  return {
    table: {
      label: "gpt",
      id: ids.disk.toUpperCase(),
      partitions: [
        { node: "/mnt/disk.raw1", ...at(layout.root), type: "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", uuid: ids.root.toUpperCase() },
        { node: "/mnt/disk.raw14", ...at(layout.bios), type: "21686148-6449-6E6F-744E-656564454649", uuid: ids.bios.toUpperCase() },
        { node: "/mnt/disk.raw15", ...at(layout.esp), type: "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", uuid: ids.esp.toUpperCase() },
      ],
    },
    super: {
      "Filesystem UUID": ids.fileSystem,
      "Directory Hash Seed": ids.hashSeed,
      "Filesystem state": "clean",
      "Mount count": "0",
      "Last mounted on": "<not available>",
    },
    esp: ["/EFI/BOOT/BOOTX64.EFI"],
    root: [...tree(), entry("/lost+found", { type: "d", mode: "700" })],
  };
}
const broken = (facts: DiskFacts) => brokenDisk(layout, "amd64", esp, tree(), facts);

test("a disk that is right breaks no truth", () => assert.equal(broken(right()), []));

for (const [what, change, pattern] of [
  ["another table", (f) => (f.table.label = "dos"), /table of partitions is dos/],
  ["a root elsewhere", (f) => f.table.partitions.splice(0, 1), /number of partitions is 2/],
  ["another id", (f) => (f.super["Filesystem UUID"] = "x"), /the root's file system is x/],
  ["a file system that was in use", (f) => (f.super["Mount count"] = "1"), /how often it was mounted is 1/],
  ["a file system with errors", (f) => (f.super["Filesystem state"] = "clean with errors"), /its state is clean with errors/],
  ["more on the ESP", (f) => f.esp.push("/EFI/x"), /what is on the ESP/],
  ["a file that is lacking", (f) => f.root.splice(2, 1), /the disk has not: \/etc\/passwd f 644 0 0 0 1700000000$/],
  [
    "a file too many",
    (f) => f.root.push(entry("/etc/ssh/ssh_host_rsa_key", { mode: "600", size: 2600 })),
    /the image has not: \/etc\/ssh\/ssh_host_rsa_key/,
  ],
  ...(
    [
      ["mode", "640"],
      ["uid", 1000],
      ["gid", 1000],
      ["size", 1],
      ["mtime", 1],
      ["content", "0123"],
      ["links", "/etc/shadow"],
      ["attributes", "user.x=00"],
      ["type", "l"],
    ] as const
  ).map(([aspect, value]): [string, (facts: DiskFacts) => unknown, RegExp] => [
    `another ${aspect} of a file`,
    (f) => f.root.splice(2, 1, entry("/etc/passwd", { [aspect]: value })),
    /the disk has not: \/etc\/passwd f 644 0 0 0 1700000000\nthe disk has, and the image has not: \/etc\/passwd /,
  ]),
  [
    "a machine's id",
    (f) => f.root.splice(1, 1, entry("/etc/machine-id", { mode: "444", size: 33 })),
    /the size of \/etc\/machine-id is 33/,
  ],
] as [string, (facts: DiskFacts) => unknown, RegExp][])
  test(`${what} is said`, () => {
    const facts = right();
    change(facts);
    assert.match(broken(facts).join("\n"), pattern);
  });

test("GRUB waits for nothing, and everything is on the serial console", () => {
  const text = readFileSync(join(toolFolder, "images/disk/grub.cfg"), "utf8");
  assert.match(text, /^set timeout=0$/m);
  assert.match(text, /^linux \/vmlinuz root=UUID=@ROOT@ ro .*console=ttyS0,115200/m);
});

test.run();
