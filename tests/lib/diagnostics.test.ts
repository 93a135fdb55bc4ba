// What a diagnostic looks like to the person who reads it.
import fc from "fast-check";
import * as assert from "uvu/assert";
import { type DiagnosticExtras, diagnostic, format, InputError, nearest } from "../../lib/diagnostics.ts";
import { type Path, parseYaml } from "../../lib/yaml.ts";
import { suite } from "../suite.ts";

const test = suite("diagnostics");

const text = "stack: inloop\nhosts:\n  web:\n    users:\n      ops: { shell: /bin/zsh }\n\n    note: |\n      one\n      two\n";
const esc = String.fromCharCode(27);
const yaml = parseYaml("stacks/inloop.yaml", text);
const shown = (path: Path, extras?: DiagnosticExtras, source = text): string =>
  format(
    diagnostic("ING1234", parseYaml("stacks/inloop.yaml", source).rangeOf(path), "it is wrong", extras),
    new Map([["stacks/inloop.yaml", source]]),
  );

test("file, line, column, severity, code, message; the line before, the line, a caret under the value; the hint", () =>
  assert.is(
    shown(["hosts", "web", "users", "ops", "shell"], { hint: "mend it" }),
    [
      "stacks/inloop.yaml:5:21 error ING1234: it is wrong",
      "  4 |     users:",
      "  5 |       ops: { shell: /bin/zsh }",
      "    |                     ^^^^^^^^",
      "  hint: mend it",
    ].join("\n"),
  ));

test("an empty line before is left out", () =>
  assert.equal(shown(["b"], {}, "a: 1\n\nb: 2\n").split("\n").slice(1), ["  3 | b: 2", "    |    ^"]));

test("of a value over several lines the first is marked to its end", () =>
  assert.equal(shown(["hosts", "web", "users"]).split("\n").slice(1), [
    "  4 |     users:",
    "  5 |       ops: { shell: /bin/zsh }",
    "    |       ^^^^^^^^^^^^^^^^^^^^^^^^",
  ]));

test("nothing has a caret all the same", () => assert.equal(shown(["a"], {}, "a:\nb: 1\n").split("\n").slice(1), ["  1 | a:", "    |  ^"]));

test("a tab is as wide as its caret", () => {
  const lines = shown(["b"], {}, 'a: 1\nb:\t"x"\n').split("\n");
  assert.equal(lines.slice(1), ["  1 | a: 1", '  2 | b: "x"', "    |    ^^^"]);
});

test("numbers of one and two digits stand under each other", () => {
  const many = `${Array.from({ length: 9 }, (_, i) => `a${i}: 1\n`).join("")}b: x\n`;
  assert.equal(shown(["b"], {}, many).split("\n").slice(1), ["   9 | a8: 1", "  10 | b: x", "     |    ^"]);
});

test("a related place has its own frame", () => {
  const out = shown(["stack"], { related: [{ message: "declared here", range: yaml.keyRangeOf(["hosts", "web"]) }] });
  assert.equal(out.split("\n").slice(-4), ["  stacks/inloop.yaml:3:3: declared here", "  2 | hosts:", "  3 |   web:", "    |   ^^^"]);
});

test("a file that is not at hand has no frame", () =>
  assert.is(
    format(diagnostic("ING1234", yaml.rangeOf(["stack"]), "it is wrong"), new Map()),
    "stacks/inloop.yaml:1:8 error ING1234: it is wrong",
  ));

test("Windows' line ends are no part of the frame", () => assert.not.match(shown(["b"], {}, "a: 1\r\nb: 2\r\n"), /\r/));

test("a warning says so; colours only where they are asked for", () => {
  assert.match(shown(["stack"], { severity: "warning" }), /^stacks\/inloop\.yaml:1:8 warning ING1234/);
  const d = diagnostic("ING1234", yaml.rangeOf(["stack"]), "it is wrong", { hint: "mend it" });
  const sources = new Map([["stacks/inloop.yaml", text]]);
  assert.not.ok(format(d, sources).includes(esc));
  assert.ok(format(d, sources, true).includes(`${esc}[31;1merror`));
  assert.is(format(d, sources, true).replaceAll(new RegExp(`${esc}\\[[0-9;]*m`, "g"), ""), format(d, sources));
});

test("an InputError carries all of them, and says each on a line", () => {
  const error = new InputError([diagnostic("ING1", yaml.rangeOf(["stack"]), "a"), diagnostic("ING2", yaml.rangeOf(["hosts"]), "b")]);
  assert.is(error.message, "stacks/inloop.yaml:1:8: a\nstacks/inloop.yaml:3:3: b");
});

for (const [given, names, expected] of [
  ["usr", ["user", "users", "group"], "user"],
  ["Users", ["user", "users"], "users"],
  ["gorups", ["groups", "users"], "groups"],
  ["serivce", ["service", "services"], "service"],
  ["databse", ["database"], "database"],
  ["x", ["y"], "y"],
  ["x", ["yz"], undefined],
  ["firewall", ["files", "users"], undefined],
  ["ab", ["cd"], undefined],
  ["", ["a"], "a"],
  ["a", [], undefined],
] as const)
  test(`nearest to ${given || "nothing"}: ${expected ?? "none"}`, () => assert.is(nearest(given, names), expected));

test("the nearest of names is the name itself when it is there", () => {
  fc.assert(
    fc.property(fc.array(fc.string({ minLength: 1 })), fc.string({ minLength: 1 }), (names, name) => {
      const found = nearest(name, [...names, name]);
      assert.is(found?.toLowerCase(), name.toLowerCase());
    }),
  );
});

test("one slip is always found: a letter more, less, other, or two swapped", () => {
  fc.assert(
    fc.property(
      fc.stringMatching(/^[a-z]{3,12}$/),
      fc.nat(11),
      fc.constantFrom("more", "less", "other", "swapped"),
      (name, place, slip) => {
        const i = place % (name.length - 1);
        const wrong = {
          more: `${name.slice(0, i)}q${name.slice(i)}`,
          less: name.slice(0, i) + name.slice(i + 1),
          other: `${name.slice(0, i)}q${name.slice(i + 1)}`,
          swapped: name.slice(0, i) + (name[i + 1] ?? "") + (name[i] ?? "") + name.slice(i + 2),
        }[slip];
        assert.is(nearest(wrong, [name, "somethingelse"]), name);
      },
    ),
  );
});

test.run();
