// Where everything in a YAML file stands, and what is said of a file that is none.
import fc from "fast-check";
import { CORE_SCHEMA, dump, load } from "js-yaml";
import * as assert from "uvu/assert";
import { type Path, parseYaml } from "../../lib/yaml.ts";
import { suite } from "../suite.ts";

const test = suite("yaml");
fc.configureGlobal({ includeErrorInReport: true });

const parse = (text: string) => parseYaml("a.yaml", text);
/** `line:column text` of the value at a path. */
function at(text: string, ...path: Path): string {
  const { start, end } = parse(text).rangeOf(path);
  return `${start.line}:${start.column} ${text.slice(start.offset, end.offset)}`;
}
function keyAt(text: string, ...path: Path): string {
  const { start, end } = parse(text).keyRangeOf(path);
  return `${start.line}:${start.column} ${text.slice(start.offset, end.offset)}`;
}
/** `line:column code message | hint` of what is wrong. */
const wrong = (text: string): string[] =>
  parse(text).diagnostics.map((d) => `${d.range.start.line}:${d.range.start.column} ${d.code} ${d.message}${d.hint ? ` | ${d.hint}` : ""}`);

// --- Places -----------------------------------------------------------------------------------------------------------------

test("values and keys in block style", () => {
  const text = "a:\n  b: one\n  c:\n    - two\n    - d: three\n";
  assert.is(at(text, "a", "b"), "2:6 one");
  assert.is(keyAt(text, "a", "b"), "2:3 b");
  assert.is(at(text, "a", "c", 0), "4:7 two");
  assert.is(at(text, "a", "c", 1, "d"), "5:10 three");
  assert.is(at(text, "a", "c", 1), "5:7 d: three");
  assert.is(at(text, "a", "c"), "4:5 - two\n    - d: three");
  assert.is(keyAt(text, "a", "c", 1), "5:7 d: three", "an entry of a list has no key: its value is shown");
});

test("values and keys in flow style, with their braces", () => {
  const text = "a: { b: [one, two ] , c: {} }\n";
  assert.is(at(text, "a"), "1:4 { b: [one, two ] , c: {} }");
  assert.is(at(text, "a", "b"), "1:9 [one, two ]");
  assert.is(at(text, "a", "b", 1), "1:15 two");
  assert.is(at(text, "a", "c"), "1:26 {}");
  assert.is(keyAt(text, "a", "c"), "1:23 c");
  assert.is(at("a: [\n  1, # one ]\n  2 # two ]\n  ,\n ]\nb: 1\n", "a"), "1:4 [\n  1, # one ]\n  2 # two ]\n  ,\n ]");
});

test("quoted texts with their quotes", () => {
  const text = `a: "one \\" two"\n'b c': 'it''s'\n"d\\te": x\n`;
  assert.is(at(text, "a"), `1:4 "one \\" two"`);
  assert.is(at(text, "b c"), "2:8 'it''s'");
  assert.is(keyAt(text, "b c"), "2:1 'b c'");
  assert.is(keyAt(text, "d\te"), `3:1 "d\\te"`);
});

test("texts over several lines", () => {
  const text = "a: |\n  one\n  two\nb: >-\n  three\nc: plain\n  goes on\nd: 'quoted\n  goes on'\ne: end\n";
  assert.match(at(text, "a"), /^2:\d+ +?one\n {2}two\n?$/);
  assert.is(at(text, "c"), "6:4 plain\n  goes on");
  assert.is(at(text, "d"), "8:4 'quoted\n  goes on'");
  assert.is(at(text, "e"), "10:4 end");
});

test("nothing at all stands where its key ends", () => {
  const text = "a:\n  b:\n  c: 1\n";
  assert.is(at(text, "a", "b"), "2:4 ");
  assert.is(keyAt(text, "a", "b"), "2:3 b");
});

test("keys that are numbers, flags or nothing are found by their names", () => {
  const text = "1: a\n0x10: b\n1.50: c\ntrue: d\n~: e\n-3: f\n2001-01-01: g\n";
  assert.equal(Object.keys(parse(text).value as object).sort(), ["-3", "1", "1.5", "16", "2001-01-01", "null", "true"].sort());
  for (const [key, place] of Object.entries({ "1": "1:4 a", "16": "2:7 b", "1.5": "3:7 c", true: "4:7 d", null: "5:4 e", "-3": "6:5 f" }))
    assert.is(at(text, key), place);
});

test("an alias is shown where it stands; what is in it, where it was written", () => {
  const text = "a: &x { b: one }\nc: *x\nd: &y two\ne: [*y]\n";
  assert.is(at(text, "c"), "2:4 *x");
  assert.is(at(text, "c", "b"), "1:12 one");
  assert.is(at(text, "e", 0), "4:5 *y");
  assert.equal(parse(text).value, { a: { b: "one" }, c: { b: "one" }, d: "two", e: ["two"] });
  assert.is(at("a: &x 1\na2: &x 2\nb: *x\n", "b"), "3:4 *x", "the last anchor of a name counts");
  assert.is(at("&k a: 1\nb: { *k : 2 }\n", "b", "a"), "2:11 2", "an alias can be a key");
});

test("what is missing is shown at the nearest that is there", () => {
  const text = "a:\n  b: one\n";
  assert.is(at(text, "a", "x", "y"), "2:3 b: one");
  assert.is(at(text, "x"), "1:1 a:\n  b: one");
  assert.is(keyAt(text, "a", "x"), "1:1 a");
});

test("lines and columns count from 1, in UTF-16 units, whatever ends a line", () => {
  assert.is(at("a: é\nb: 😀x\nc: d\n", "c"), "3:4 d");
  assert.is(at("a: 1\r\nb: 2\r\n", "b"), "2:4 2");
  assert.equal(parse("a: [b]\n").rangeOf(["a", 0]), {
    file: "a.yaml",
    start: { line: 1, column: 5, offset: 4 },
    end: { line: 1, column: 6, offset: 5 },
  });
});

test("values are those of YAML 1.2: yes is a text, 0644 a number", () => {
  assert.equal(parse("[yes, on, 0644, 0o644, 12:30:45, 1_000, ~, 2001-01-01]\n").value, [
    "yes",
    "on",
    644,
    420,
    "12:30:45",
    "1_000",
    null,
    "2001-01-01",
  ]);
});

test("a key called __proto__ is a key and nothing else", () => {
  const { value } = parse("__proto__: { admin: true }\n");
  assert.is((value as { admin?: boolean }).admin, undefined);
  assert.equal(Object.keys(value as object), ["__proto__"]);
});

// --- What is wrong ----------------------------------------------------------------------------------------------------------

for (const [what, text, expected] of [
  [
    "a tab",
    "a:\n\tb: 1\n",
    "2:1 ING1001 this is not YAML: tab characters must not be used in indentation | YAML is indented with spaces, not tabs",
  ],
  [
    "a key twice",
    "a: 1\nb: 2\na: 3\n",
    "3:1 ING1001 this is not YAML: the key `a` stands here a second time | merge the two, or rename one",
  ],
  [
    "a key twice in two spellings",
    `a: 1\n"a": 2\n`,
    "2:1 ING1001 this is not YAML: the key `a` stands here a second time | merge the two, or rename one",
  ],
  [
    "a map as a key",
    "{ a: 1 }: 2\n",
    "1:1 ING1001 a key must be a text, and here a map or a list stands for one | nothing is filled in for `{{ … }}`: a variable is written `{ var: name }`",
  ],
  [
    "a brace that is not closed",
    "a: { b: 1\n",
    "1:9 ING1001 this is not YAML: deficient indentation | a `{`, `[` or quote further up is not closed, or this line is not indented far enough",
  ],
  [
    "a quote that is not closed",
    'a: "b\n',
    "1:5 ING1001 this is not YAML: deficient indentation | a `{`, `[` or quote further up is not closed, or this line is not indented far enough",
  ],
  [
    "a colon in a text",
    "a: b: c\n",
    "1:5 ING1001 this is not YAML: bad indentation of a mapping entry | check the indentation, and quote a text that holds `: `",
  ],
  [
    "a brace that is not closed, at the top",
    "{ b: 1\n",
    "1:6 ING1001 this is not YAML: unexpected end of the stream within a flow collection | a `{` or `[` is not closed",
  ],
  [
    "a quote that is not closed, at the top",
    "'b\n",
    "1:2 ING1001 this is not YAML: unexpected end of the stream within a single quoted scalar | a quote is not closed",
  ],
  [
    "an unknown alias",
    "a: *b\n",
    '1:5 ING1001 this is not YAML: unidentified alias "b" | `&name` must stand before `*name`; quote a text that begins with `*`',
  ],
  [
    "a tag",
    "a: !b c\n",
    "1:4 ING1001 this is not YAML: unknown scalar tag !<!b> | there are no tags here: remove it, or quote a text that begins with `!`",
  ],
  ["an empty file", "", "1:1 ING1002 the file is empty | a stack begins with `stack: <name>`, a recipe with `image: <name>`"],
  ["white space only", " \n\n", "1:1 ING1002 the file is empty | a stack begins with `stack: <name>`, a recipe with `image: <name>`"],
  ["comments only", "# a\n", "1:1 ING1002 the file is empty | a stack begins with `stack: <name>`, a recipe with `image: <name>`"],
  ["a second document", "a: 1\n---\nb: 2\n", "3:1 ING1002 a second YAML document begins here; one file holds one"],
  [
    "an alias in what it stands for",
    "a: &x [*x]\n",
    "1:8 ING1003 `*x` stands inside the very value that it stands for | write the value out",
  ],
  ["too deep", `${"[".repeat(60)}\n`, "1:50 ING1003 nested deeper than 50 levels"],
  ["a control character", "a: b\u0007c\n", "1:5 ING1001 this is not YAML: the stream contains non-printable characters"],
] as const)
  test(`told at its place: ${what}`, () => assert.equal(wrong(text), [expected]));

test("an alias bomb is told before it is built", () => {
  const names = [..."abcdefghij"];
  const lines = names.map((n, i) => `${n}: &${n} [${Array.from({ length: 10 }, () => (i ? `*${names[i - 1]}` : "x")).join(", ")}]`);
  assert.match(wrong(`${lines.join("\n")}\n`)[0] ?? "", /ING1003 its aliases stand for more than 100000 values/);
});

test("a file that is too large is refused unread", () =>
  assert.match(wrong(`a: ${"x".repeat(1_000_001)}\n`)[0] ?? "", /^1:1 ING1003 larger than/));

test("one document may begin with `---` and end with `...`", () => {
  assert.equal(wrong("---\na: 1\n...\n"), []);
  assert.is(at("--- # first\na: 1\n", "a"), "2:4 1");
});

// --- Properties -------------------------------------------------------------------------------------------------------------

const text = fc.oneof(
  fc.string({ maxLength: 10 }),
  fc.string({ unit: "grapheme", maxLength: 6 }),
  fc.constantFrom(
    "",
    " ",
    "a b",
    "a: b",
    "- a",
    "#a",
    "a #b",
    "1",
    "0x1",
    "true",
    "null",
    "~",
    "it's",
    '"',
    "a\nb",
    "a\n",
    "\n",
    " a\n  b\n",
    "a\tb",
    "é",
    "{}",
    "[a]",
    "*a",
    "&a",
    "!a",
    "|",
    "word ".repeat(30),
    "__proto__",
  ),
);
const { tree } = fc.letrec<{ tree: unknown }>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 4, depthSize: "small" },
    text,
    fc.integer(),
    fc.boolean(),
    fc.constant(null),
    fc.array(tie("tree"), { maxLength: 4 }),
    fc.dictionary(
      text.filter((k) => k !== "__proto__"),
      tie("tree"),
      { maxKeys: 4, noNullPrototype: true },
    ),
  ),
}));
const style = fc.record({
  flowLevel: fc.integer({ min: -1, max: 4 }),
  lineWidth: fc.constantFrom(-1, 20, 80),
  indent: fc.constantFrom(2, 4),
});

/** Every path in a value with the value there. */
const pathsIn = (value: unknown, path: Path = []): [Path, unknown][] => [
  [path, value],
  ...(Array.isArray(value)
    ? value.flatMap((v, i) => pathsIn(v, [...path, i]))
    : value && typeof value === "object"
      ? Object.entries(value).flatMap(([k, v]) => pathsIn(v, [...path, k]))
      : []),
];

test("the value is the one that js-yaml loads, and every place holds the text of its value", () => {
  fc.assert(
    fc.property(tree, style, (value, options) => {
      const source = dump(value, { ...options, noRefs: true });
      const yaml = parse(source);
      assert.equal(yaml.diagnostics, []);
      assert.equal(yaml.value, load(source, { schema: CORE_SCHEMA }));
      assert.equal(yaml.value, value);
      for (const [path, there] of pathsIn(value)) {
        const { start, end } = yaml.rangeOf(path);
        const own = source.slice(start.offset, end.offset);
        const line = source.split("\n")[start.line - 1] ?? "";
        assert.is(start.column - 1, start.offset - (source.slice(0, start.offset).lastIndexOf("\n") + 1));
        assert.ok(source.slice(start.offset).startsWith(line.slice(start.column - 1)));
        // A text in block style (`|`, `>`) stands behind its sign: its first line is enough.
        if (typeof there === "string" && /[|>][0-9+-]*\s*$/.test(source.slice(0, start.offset))) continue;
        assert.equal(load(`${" ".repeat(start.column - 1)}${own}`, { schema: CORE_SCHEMA }), there, JSON.stringify({ path, own, source }));
      }
      for (const [path] of pathsIn(value)) {
        const last = path.at(-1);
        if (typeof last !== "string") continue;
        const { start, end } = yaml.keyRangeOf(path);
        assert.is(String(load(source.slice(start.offset, end.offset), { schema: CORE_SCHEMA })), last);
      }
    }),
    { numRuns: 300 },
  );
});

test("whatever a file holds, it is a value or one diagnostic with a place in the file", () => {
  const piece = fc.constantFrom(
    "a",
    "b: ",
    "- ",
    "{",
    "}",
    "[",
    "]",
    ",",
    '"',
    "'",
    "&x ",
    "*x",
    "!t ",
    "|\n",
    ">-\n",
    "\n",
    "\n  ",
    "\n    ",
    "\t",
    "#",
    "? ",
    ": ",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "<<: ",
    "é",
    "\r\n",
    "\u0000",
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 25 }), (pieces) => {
      const source = pieces.join("");
      const yaml = parse(source);
      assert.ok(yaml.diagnostics.length <= 1);
      for (const d of yaml.diagnostics) {
        assert.ok(d.range.start.offset <= d.range.end.offset && d.range.end.offset <= Math.max(1, source.length), source);
        assert.is(yaml.value, undefined);
      }
      if (!yaml.diagnostics.length) {
        assert.equal(yaml.value, load(source, { schema: CORE_SCHEMA }));
        for (const [path] of pathsIn(yaml.value)) {
          const { start, end } = yaml.rangeOf(path);
          assert.ok(start.offset <= end.offset && end.offset <= source.length);
        }
      }
    }),
    { numRuns: 2000 },
  );
});

test.run();
