import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import * as assert from "uvu/assert";
import { canonicalJson, digestOf, sha256, sha256File, short } from "../../lib/digest.ts";
import { suite } from "../suite.ts";

const test = suite("digest");

/** The same value with the keys of every object in another order. */
function shuffled(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(shuffled);
  if (!value || typeof value !== "object") return value;
  return Object.fromEntries(
    Object.entries(value)
      .reverse()
      .map(([k, v]) => [k, shuffled(v)]),
  );
}

test("the order of keys does not count, whatever the value", () => {
  fc.assert(fc.property(fc.jsonValue(), (value) => assert.is(canonicalJson(shuffled(value)), canonicalJson(value))));
});

test("it is JSON of the same value, without white space", () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      const text = canonicalJson(value);
      assert.equal(JSON.parse(text), JSON.parse(JSON.stringify(value)));
    }),
  );
  assert.is(canonicalJson({ b: [1, { d: 1, c: 2 }], a: "x y" }), '{"a":"x y","b":[1,{"c":2,"d":1}]}');
});

test("the order of a list counts; what is undefined is left out", () => {
  assert.is.not(digestOf([1, 2]), digestOf([2, 1]));
  assert.is(digestOf({ a: 1, b: undefined }), digestOf({ a: 1 }));
  assert.is.not(digestOf({ a: null }), digestOf({}));
  assert.is.not(digestOf("1"), digestOf(1));
});

test("Python on the host writes the same bytes (render.py, canonical())", () => {
  // Keys are names there: they never begin with a digit, and JavaScript would move those to the front.
  const name = fc.stringMatching(/^[A-Za-z_][A-Za-z0-9_]{0,6}$/);
  const value = fc.letrec((tie) => ({
    tree: fc.oneof(
      { maxDepth: 3 },
      fc.string({ unit: "grapheme" }),
      fc.string({ unit: "binary" }),
      fc.integer(),
      fc.boolean(),
      fc.array(tie("tree"), { maxLength: 3 }),
      fc.dictionary(name, tie("tree"), { maxKeys: 4, noNullPrototype: true }),
    ),
  })).tree;
  const values = fc.sample(value, 200);
  const python =
    "import json, sys\nfor v in json.load(sys.stdin):\n print(json.dumps(v, sort_keys=True, separators=(',', ':'), ensure_ascii=False).encode('utf-8', 'surrogatepass').hex())";
  const { stdout, stderr } = spawnSync("python3", ["-c", python], { input: JSON.stringify(values), encoding: "utf8" });
  assert.is(stderr, "");
  assert.equal(
    stdout.trimEnd().split("\n"),
    values.map((v) => Buffer.from(canonicalJson(v)).toString("hex")),
  );
});

test("sha256 of text, bytes and a file are sha256sum's", async () => {
  const known = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
  assert.is(sha256("hello"), known);
  assert.is(sha256(new TextEncoder().encode("hello")), known);
  const folder = mkdtempSync(join(tmpdir(), "ingot-digest-"));
  writeFileSync(join(folder, "file"), "hello");
  assert.is(await sha256File(join(folder, "file")), known);
  rmSync(folder, { recursive: true });
  assert.is(short(known), "2cf24dba5fb0");
});

test("a file that is not there is an error, not an empty one", async () => {
  const error = await sha256File("/nonexistent").catch((e: unknown) => e);
  assert.instance(error, Error);
});

test.run();
