import { writeFileSync } from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { compareLocks, describeChanges, lockPath, lockText, readLock, solvedPart } from "../../images/lock.ts";
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

test("a lock is out of date when packages or pockets change, not when a mirror, a file or a comment does", () => {
  const changed = (from: string, to: string) => solvedPart(recipeOf(smallRecipe.replace(from, to))) !== solvedPart(recipe);
  assert.ok(changed("[sudo]", "[sudo, acl]"));
  assert.ok(changed(", bookworm-updates", ""));
  assert.not.ok(changed("http://deb.debian.org/debian", "http://elsewhere.example.org/debian"));
  assert.not.ok(changed("hello", "goodbye"));
  assert.not.ok(changed("image: small", "# a comment\nimage: small"));
});

test.run();
