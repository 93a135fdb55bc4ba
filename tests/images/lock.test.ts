import { writeFileSync } from "node:fs";
import * as assert from "uvu/assert";
import {
  compareLocks,
  describeChanges,
  type LockedPackage,
  lockPath,
  lockText,
  type PackageLock,
  readLock,
  solvedPart,
  staged,
} from "../../images/lock.ts";
import { suite } from "../suite.ts";
import { locked, lockOf, recipeOf, smallRecipe, temporaryProject } from "./fixtures.ts";

const test = suite("lock");
const recipe = recipeOf(smallRecipe);

test("a lock is read back as it was written, one package a line", () => {
  const { project, remove } = temporaryProject();
  try {
    const lock = lockOf(recipe, [locked("acl", "2.3.1-3"), locked("sudo", "1.9")]);
    writeFileSync(lockPath(project, "small"), lockText(lock));
    assert.equal(readLock(project, "small"), lock);
    assert.is(
      lockText(lock)
        .split("\n")
        .filter((l) => l.includes('"sha256"')).length,
      2,
    );
  } finally {
    remove();
  }
});

test("no lock is no error, a broken one is", () => {
  const { project, remove } = temporaryProject();
  try {
    assert.is(readLock(project, "small"), undefined);
    writeFileSync(lockPath(project, "small"), "{");
    assert.throws(() => readLock(project, "small"), /not a lock/);
  } finally {
    remove();
  }
});

test("changes are packages that came, went, or are another file", () => {
  const before = lockOf(recipe, [locked("acl", "1"), locked("curl", "1"), locked("sudo", "1")]);
  const after = lockOf(recipe, [locked("acl", "1"), locked("sudo", "2"), locked("zstd", "1")]);
  assert.equal(describeChanges(compareLocks(before, after)), ["+ zstd 1", "- curl 1", "  sudo 1 -> 2"]);
  assert.equal(describeChanges(compareLocks(after, after)), ["nothing changed"]);
});

test("what is new in a lock is a stage on top of what stays", () => {
  const stages = (before: PackageLock | undefined, ...packages: LockedPackage[]) =>
    staged(before, { ...lockOf(recipe, packages), date: 2 });
  const shown = (lock: PackageLock) => lock.packages.map((p) => `${p.name} ${p.stage ?? 1}`);
  const [acl, curl, sudo, zstd] = [locked("acl", "1"), locked("curl", "1"), locked("sudo", "1"), locked("zstd", "1")];
  const first = { ...lockOf(recipe, [sudo]), date: 1 };
  assert.equal(shown(stages(undefined, sudo)), ["sudo 1"]);
  const second = stages(first, acl, sudo);
  assert.equal(shown(second), ["acl 2", "sudo 1"]);
  assert.is(second.date, 1);
  const third = stages(second, acl, curl, sudo);
  assert.equal(shown(third), ["acl 2", "curl 3", "sudo 1"]);
  assert.equal(stages(third, acl, curl, sudo), third, "locked again it stays");
  // From the stage on in which something changed or went, all is one.
  assert.equal(shown(stages(third, curl, sudo, zstd)), ["curl 2", "sudo 1", "zstd 2"]);
  assert.equal(shown(stages(third, locked("acl", "2"), curl, sudo)), ["acl 2", "curl 2", "sudo 1"]);
  const anew = stages(third, acl, curl, locked("sudo", "2"));
  assert.equal(shown(anew), ["acl 1", "curl 1", "sudo 1"]);
  assert.is(anew.date, 2);
  // There are four at most.
  let lock = first;
  for (const name of ["a1", "b1", "c1", "d1"]) lock = stages(lock, ...lock.packages, locked(name, "1"));
  assert.equal(shown(lock), ["sudo 1", "a1 2", "b1 3", "c1 4", "d1 4"]);
  // The essential packages are below all of them.
  assert.equal(shown(stages(second, acl, sudo, { ...zstd, essential: true })), ["acl 1", "sudo 1", "zstd 1"]);
});

test("a lock is out of date when packages or pockets change, not when a mirror, a file or a comment does", () => {
  const changed = (from: string, to: string) => solvedPart(recipeOf(smallRecipe.replace(from, to))) !== solvedPart(recipe);
  assert.ok(changed("[sudo]", "[sudo, acl]"));
  assert.ok(changed(", bookworm-updates", ""));
  assert.not.ok(changed("http://deb.debian.org/debian", "http://elsewhere.example.org/debian"));
  assert.not.ok(changed("hello", "goodbye"));
  assert.not.ok(changed("image: small", "# a comment\nimage: small"));
});

test.run();
