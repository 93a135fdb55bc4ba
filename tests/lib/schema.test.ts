// What is said when a value does not fit its schema, keyword by keyword.
import { Ajv } from "ajv";
import * as assert from "uvu/assert";
import * as s from "../../lib/schema.ts";
import { parseYaml } from "../../lib/yaml.ts";
import { suite } from "../suite.ts";

const test = suite("schema");

// As scripts/build.mjs compiles them.
const ajv = new Ajv({ allErrors: true, useDefaults: true, strict: true, allowUnionTypes: true, strictTypes: false, strictRequired: false });
for (const keyword of ["x-ref", "x-value", "x-output", "x-expected"]) ajv.addKeyword({ keyword });

function check(schema: s.Schema, text: string): { value: unknown; wrong: string[] } {
  const yaml = parseYaml("a.yaml", text);
  const value = structuredClone(yaml.value);
  const wrong = s.validate(yaml, value, schema, ajv.compile(schema) as s.Validator).map((d) => {
    const at = text.slice(d.range.start.offset, d.range.end.offset);
    return `${d.code} ${d.message} [${at}]${d.hint ? ` | ${d.hint}` : ""}`;
  });
  return { value, wrong };
}
/** What is said of `a: <text>` by the schema of a. */
const of = (a: s.Schema, text: string): string[] => check(s.object({ a }), `a: ${text}\n`).wrong;

const port = s.integer({ minimum: 1, maximum: 65535 });
const user = s.object({
  name: s.text({ description: "Who it is" }),
  shell: s.withDefault(s.text({ pattern: "^/", expected: "an absolute path" }), "/bin/sh"),
});

for (const [what, schema, text, expected] of [
  ["text for a number", port, "many", ["ING1103 a must be a whole number, not the text `many` [many]"]],
  ["text of digits", port, '"80"', ['ING1103 a must be a whole number, not the text `80` ["80"] | write it without quotes: 80']],
  ["fraction", port, "1.5", ["ING1103 a must be a whole number, not `1.5` [1.5]"]],
  ["too small", port, "0", ["ING1104 a must be at least 1, not `0` [0]"]],
  ["too large", port, "65536", ["ING1104 a must be at most 65535, not `65536` [65536]"]],
  ["number for a text", s.text(), "0644", ['ING1103 a must be a text, not `0644` [0644] | quote it: "0644"']],
  [
    "number for a text that it would not be",
    s.text({ pattern: "^[a-z]$", expected: "a letter" }),
    "1",
    ["ING1103 a must be a letter, not `1` [1]"],
  ],
  ["flag for a text", s.text(), "true", ['ING1103 a must be a text, not `true` [true] | quote it: "true"']],
  ["nothing for a text", s.text(), "", ["ING1103 a must be a text, not empty [a]"]],
  ["pattern", s.text({ pattern: "^/", expected: "an absolute path" }), "b", ["ING1104 a must be an absolute path, not the text `b` [b]"]],
  [
    "long text",
    s.text({ pattern: "^/", expected: "an absolute path" }),
    "b".repeat(50),
    [`ING1104 a must be an absolute path, not the text \`${"b".repeat(40)}…\` [${"b".repeat(50)}]`],
  ],
  ["empty reference", s.ref("user"), '""', ['ING1104 a must be the name of a user, not the text `` [""]']],
  ["yes", s.flag(), "yes", ["ING1103 a must be `true` or `false`, not the text `yes` [yes] | YAML 1.2 has no `yes`: write true"]],
  ["Off", s.flag(), "Off", ["ING1103 a must be `true` or `false`, not the text `Off` [Off] | YAML 1.2 has no `Off`: write false"]],
  [
    "quoted true",
    s.flag(),
    '"true"',
    ['ING1103 a must be `true` or `false`, not the text `true` ["true"] | write it without quotes: true'],
  ],
  ["1 for a flag", s.flag(), "1", ["ING1103 a must be `true` or `false`, not `1` [1]"]],
  [
    "choice, near",
    s.choice(["ext4", "xfs"]),
    "ext3",
    ["ING1104 a must be one of `ext4`, `xfs`, not the text `ext3` [ext3] | did you mean `ext4`?"],
  ],
  ["choice, far", s.choice(["ext4", "xfs"]), "ntfs-3g", ["ING1104 a must be one of `ext4`, `xfs`, not the text `ntfs-3g` [ntfs-3g]"]],
  ["one for a list", s.list(s.text()), "b", ["ING1103 a must be a list (of a text), not the text `b` [b] | a list of one is written [b]"]],
  ["wrong entry", s.list(s.text()), "[b, 1]", ['ING1103 a[1] must be a text, not `1` [1] | quote it: "1"']],
  ["empty list", s.list(s.text(), { minItems: 1 }), "[]", ["ING1104 a must have at least 1 entry [[]]"]],
  [
    "list for a map",
    s.map(s.text()),
    "[b]",
    ["ING1103 a must be a map, not a list [[b]] | entries of a map are written `name: …`, without `-` or `[]`"],
  ],
  ["empty map", s.map(s.text(), s.text(), { minProperties: 1 }), "{}", ["ING1104 a is empty: it must have at least 1 entry [a]"]],
  ["map without entries", s.map(s.text()), "", ["ING1103 a must be a map, not empty [a] | remove the key, or write what belongs below it"]],
  [
    "bad name",
    s.map(s.text(), s.text({ pattern: "^[a-z]+$", expected: "lower-case letters" })),
    "{ B: x }",
    ["ING1105 `B` cannot be a name in a: it must be lower-case letters [B]"],
  ],
  ["unknown key, near", user, "{ name: b, shel: /x }", ["ING1101 unknown key `shel` in a [shel] | did you mean `shell`?"]],
  ["unknown key, far", user, "{ name: b, colour: red }", ["ING1101 unknown key `colour` in a [colour] | known here: name, shell"]],
  ["missing key", user, "{ shell: /x }", ["ING1102 a lacks the key `name` [a] | add `name:` with a text: Who it is"]],
  ["nothing for a map with keys that must be", user, "", ["ING1103 a must be `{ name }`, not empty [a] | it needs at least: `name:`"]],
  [
    "nothing for a map with none",
    s.object({ b: s.optional(s.text()) }),
    "",
    ["ING1103 a must be `{ b }`, not empty [a] | write `{}` when there is nothing to say about it"],
  ],
  ["map for a text", s.text(), "{ b: 1, c: 2 }", ["ING1103 a must be a text, not `{ b, c }` [{ b: 1, c: 2 }]"]],
] as const)
  test(`${what}`, () => assert.equal(of(schema, text), [...expected]));

// --- anyOf ------------------------------------------------------------------------------------------------------------------

const value = s.either([
  s.text(),
  s.integer(),
  s.list(s.text()),
  s.object({ from: s.text({ pattern: "/", expected: "an output" }) }),
  s.object({ secret: s.text(), generate: s.optional(s.choice(["hex", "password"])) }),
]);

test("of no form at all: the forms that there are, once", () =>
  assert.equal(of(value, "true"), [
    "ING1103 a must be a text, or a whole number, or a list (of a text), or `{ from }`, or `{ secret }`, not `true` [true]",
  ]));
test("nearly one form: what is wrong with that one", () => {
  assert.equal(of(value, "{ from: b }"), ["ING1104 a.from must be an output, not the text `b` [b]"]);
  assert.equal(of(value, "[1]"), ['ING1103 a[0] must be a text, not `1` [1] | quote it: "1"']);
  assert.equal(of(value, "{ secret: k, generate: hax }"), [
    "ING1104 a.generate must be one of `hex`, `password`, not the text `hax` [hax] | did you mean `hex`?",
  ]);
  assert.equal(of(value, "{ secret: k, generat: hex }"), ["ING1101 unknown key `generat` in a [generat] | did you mean `generate`?"]);
});
test("a map of no known key is not held to be one of the forms", () =>
  assert.match(of(value, "{ form: b }")[0] ?? "", /a must be a text, or .*, not `\{ form \}`/));
test("what is wrong with one value hides nothing of another", () =>
  assert.equal(
    check(s.map(value), "a: true\nb: [1]\nc: { from: x }\nd: null\n").wrong.map((w) => w.split(" must")[0]),
    ["ING1103 a", "ING1103 b[0]", "ING1104 c.from", "ING1103 d"],
  ));

// --- The whole file ---------------------------------------------------------------------------------------------------------

test("everything that is wrong is said at once, and each thing once", () =>
  assert.is(
    check(s.object({ a: port, b: s.list(user), c: s.flag() }), "a: x\nb: [{ name: 1, shell: b }, {}]\nc: yes\nd: 1\n").wrong.length,
    6,
  ));

test("a key that the whole file lacks is said at its beginning", () =>
  assert.equal(check(s.object({ a: s.text(), b: s.optional(s.text()) }), "b: x\n").wrong, [
    "ING1102 the file lacks the key `a` [b: x] | add `a:` with a text",
  ]));

test("a file of another form", () =>
  assert.equal(check(s.object({ a: s.text() }), "- a\n").wrong, [
    "ING1103 the file must be `{ a }`, not a list [- a] | entries of a map are written `name: …`, without `-` or `[]`",
  ]));

test("names with slashes, dots, tildes and percent signs are found in the file", () => {
  const { wrong } = check(s.map(port), "/srv/a: x\n~b/c: x\na.b: x\n50%25: x\n");
  assert.equal(
    wrong.map((w) => w.split(" must")[0]),
    ['ING1103 "/srv/a"', 'ING1103 "~b/c"', 'ING1103 "a.b"', 'ING1103 "50%25"'],
  );
  assert.ok(wrong.every((w) => w.endsWith("[x]")));
});

test("a value that nobody knows is not judged", () => {
  const yaml = parseYaml("a.yaml", "a: { b: x }\nc: x\n");
  const schema = s.object({ a: s.map(port), c: port });
  const found = s.validate(yaml, structuredClone(yaml.value), schema, ajv.compile(schema) as s.Validator, [["a", "b"]]);
  assert.equal(
    found.map((d) => d.message),
    ["c must be a whole number, not the text `x`"],
  );
});

test("defaults are filled in, where nothing was said only", () => {
  const schema = s.object({
    a: s.withDefault(s.list(s.text()), []),
    b: s.withDefault(s.integer(), 7),
    c: s.map(user),
    d: s.optional(s.text()),
  });
  assert.equal(check(schema, "b: 0\nc: { x: { name: y } }\n"), {
    value: { a: [], b: 0, c: { x: { name: "y", shell: "/bin/sh" } } },
    wrong: [],
  });
});

test("a default is nobody else's: changing one value changes no other", () => {
  const schema = s.map(s.object({ list: s.withDefault(s.list(s.text()), []) }));
  const made = check(schema, "a: {}\nb: {}\n").value as Record<string, { list: string[] }>;
  made.a?.list.push("x");
  assert.equal(made.b?.list, []);
});

test("what has a default need not be there; what is optional neither", () =>
  assert.equal(s.object({ a: s.text(), b: s.optional(s.text()), c: s.withDefault(s.text(), "") }).required, ["a"]));

test("a mend comes with its place", () => {
  const yaml = parseYaml("a.yaml", "naem: x\n");
  const [, d] = s.validate(yaml, structuredClone(yaml.value), user, ajv.compile(user) as s.Validator);
  assert.equal(d?.fix, { range: yaml.keyRangeOf(["naem"]), text: "name" });
});

test("a path is written as one would say it", () => {
  assert.is(s.nameOf(["hosts", "web", "users", "ops", "ssh_keys", 0]), "hosts.web.users.ops.ssh_keys[0]");
  assert.is(s.nameOf(["files", "/etc/motd"]), 'files."/etc/motd"');
});

test.run();
