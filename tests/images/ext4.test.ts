// What is read of an ext4 file system, held against what images/provision/listing.py says of the folder that mke2fs(8) made it of.
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  closeSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { readExt4 } from "../../images/ext4.ts";
import { readListing } from "../../images/manifest.ts";
import { toolFolder } from "../../lib/paths.ts";
import { suite } from "../suite.ts";

const test = suite("ext4");
const folder = mkdtempSync("/var/tmp/ingot-ext4-");
const tree = join(folder, "tree");
const disk = join(folder, "disk");
/** Not at its beginning, as on a disk with partitions. */
const offset = 2 ** 20;
const date = 1_700_000_000;

/** setfattr(1) and setfacl(1) are on few computers. */
const setAttribute = (path: string, name: string, hex: string) =>
  execFileSync("python3", ["-c", "import os, sys; os.setxattr(sys.argv[1], sys.argv[2], bytes.fromhex(sys.argv[3]))", path, name, hex]);

test.before(() => {
  for (const path of ["etc/a b", "many", "empty"]) mkdirSync(join(tree, path), { recursive: true });
  const write = (path: string, content: string | Buffer) => writeFileSync(join(tree, path), content);
  write("etc/motd", "hello\n");
  write("etc/a b/tab\tand\\n", "x");
  write("etc/größe", "");
  write("large", Buffer.alloc(3_000_001, "ingot"));
  write("sudo", "runs as root");
  chmodSync(join(tree, "sudo"), 0o4755);
  chmodSync(join(tree, "empty"), 0o1777);
  for (let i = 0; i < 700; i++) write(`many/a file with a rather long name, number ${i}`, String(i));
  // More parts than an inode has room for, and a hole at the end.
  write("holes", "");
  const file = openSync(join(tree, "holes"), "r+");
  for (let i = 0; i < 400; i++) writeSync(file, Buffer.alloc(4096, String(i % 10)), 0, 4096, i * 3 * 4096);
  closeSync(file);
  truncateSync(join(tree, "holes"), 8_000_000);
  symlinkSync("etc/motd", join(tree, "short"));
  symlinkSync(`/${"a-long-way/".repeat(20)}`, join(tree, "long"));
  linkSync(join(tree, "large"), join(tree, "etc/large"));
  execFileSync("mkfifo", [join(tree, "pipe")]);
  setAttribute(join(tree, "etc/motd"), "user.note", "00ff");
  setAttribute(join(tree, "large"), "user.large", "ab".repeat(900));
  // user::rw-, user 1000: r--, group::r--, mask::r--, other::---
  setAttribute(
    join(tree, "etc/motd"),
    "system.posix_acl_access",
    "02000000 01000600ffffffff 02000400e8030000 04000400ffffffff 10000400ffffffff 20000000ffffffff".replaceAll(" ", ""),
  );
  if (process.getuid?.() === 0) {
    execFileSync("chown", ["70000:80000", join(tree, "etc/a b")]);
    execFileSync("mknod", [join(tree, "null"), "c", "1", "3"]);
    execFileSync("mknod", [join(tree, "far"), "b", "259", "70000"]);
    setAttribute(join(tree, "large"), "security.capability", "0100000200200000000000000000000000000000");
  }
  // mke2fs takes no nanoseconds, and of the root no time at all.
  for (const path of ["", ...readdirSync(tree, { recursive: true, encoding: "utf8" })]) lutimesSync(join(tree, path), date, date);
  const options = [
    "-q",
    "-F",
    "-t",
    "ext4",
    "-b",
    "4096",
    "-I",
    "256",
    "-d",
    tree,
    "-E",
    `offset=${offset},root_owner=${process.getuid?.()}:${process.getgid?.()}`,
  ];
  execFileSync("/sbin/mke2fs", [...options, disk, "20000"], {
    stdio: "ignore",
    env: { ...process.env, E2FSPROGS_FAKE_TIME: String(date) },
  });
});
test.after(() => rmSync(folder, { recursive: true }));

test("every path is there with its content, owner, mode, time, links and attributes", () => {
  const found = readExt4(disk, offset).filter((e) => e.path !== "/lost+found");
  const should = readListing(execFileSync("python3", ["-B", join(toolFolder, "images/provision/listing.py"), tree], { encoding: "utf8" }));
  for (const [i, entry] of should.entries()) assert.equal(found[i], entry, entry.path);
  assert.is(found.length, should.length);
  assert.ok(found.length > 700);
});

test("what is proven is not read again, and what is not is", () => {
  const content = "0".repeat(64);
  const known = readExt4(disk, offset, new Map([["/etc/motd", content]]));
  assert.is(known.find((f) => f.path === "/etc/motd")?.content, content);
  assert.equal(
    known.filter((f) => f.path !== "/etc/motd"),
    readExt4(disk, offset).filter((f) => f.path !== "/etc/motd"),
  );
});

test("what is no ext4 is not read as one", () => {
  assert.throws(() => readExt4(disk, 0), /no ext4 that can be read here/);
});

test.run();
