// The host-side renderer: what goes in comes out again, read by sh; and what cannot come out is refused. No root, no machine.
// The same values through real systemd: host.root.e2e.test.ts.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import fc from "fast-check";
import * as assert from "uvu/assert";
import type { Rendered } from "../../../cloud-init/plan.ts";
import { suite } from "../../suite.ts";
import { hostFolder } from "./machine.ts";
import { environmentValue } from "./values.ts";

const test = suite("render");
const folder = mkdtempSync(join(tmpdir(), "ingot-render-"));
test.after(() => rmSync(folder, { recursive: true }));

function render(rendered: Rendered, secrets: Record<string, string> = {}) {
  const store = mkdtempSync(join(folder, "secrets-"));
  for (const [name, value] of Object.entries(secrets)) {
    mkdirSync(dirname(join(store, name)), { recursive: true });
    writeFileSync(join(store, name), value);
  }
  const path = join(folder, "rendered");
  rmSync(path, { force: true });
  const { status, stderr } = spawnSync("/usr/bin/python3", [join(hostFolder, "render.py"), path, store], {
    input: JSON.stringify(rendered),
    encoding: "utf8",
  });
  return { status, stderr, text: status === 0 ? readFileSync(path, "utf8") : "", path };
}

/** The file read by `.` of sh: every name with its value. */
function readBySh(path: string, names: string[]): string[] {
  const out = execFileSync("dash", ["-c", `. "$0"; for n in "$@"; do eval "printf '%s\\0' \\"\\$$n\\""; done`, path, ...names], {
    encoding: "utf8",
  });
  return out.split("\0").slice(0, -1);
}

test("any value that an environment may have is read back by sh", () => {
  fc.assert(
    fc.property(fc.array(environmentValue, { minLength: 1, maxLength: 20 }), (values) => {
      const named = values.map((value, i) => [`V${i}`, [value]] as const);
      const { status, stderr, path } = render({ format: "env", values: Object.fromEntries(named.map(([n, v]) => [n, [...v]])) });
      assert.is(status, 0, stderr);
      assert.equal(
        readBySh(
          path,
          named.map(([n]) => n),
        ),
        values,
      );
    }),
    { numRuns: 60 },
  );
});

test("a secret is put in as it is, or percent-encoded inside a url", () => {
  fc.assert(
    fc.property(environmentValue, environmentValue, (text, secret) => {
      const value = secret.replace(/\n$/, ""); // one newline at the end is the file's
      const { path } = render(
        { format: "env", values: { A: [text, { secret: "a/b" }], B: ["postgres://u:", { secret: "a/b", encode: "url" }, "@h/d"] } },
        { "a/b": secret },
      );
      const [a, b] = readBySh(path, ["A", "B"]);
      assert.is(a, text + value);
      assert.is(decodeURIComponent(/^postgres:\/\/u:([A-Za-z0-9_.~%-]*)@h\/d$/.exec(b ?? "")?.[1] ?? "no"), value);
    }),
    { numRuns: 40 },
  );
});

test("the file is its owner's alone", () => {
  const { path } = render({ format: "text", value: ["a ", { secret: "s" }, "\n"] }, { s: "b" });
  assert.is(readFileSync(path, "utf8"), "a b\n");
  assert.is(statSync(path).mode & 0o777, 0o600);
});

for (const [what, rendered, message] of [
  ["a carriage return", { format: "env", values: { A: ["a\rb"] } }, /A: an environment file cannot carry the control character U\+000D/],
  ["an escape", { format: "env", values: { A: ["\u001b"] } }, /U\+001B/],
  ["a NUL", { format: "env", values: { A: ["\0"] } }, /U\+0000/],
  ["a noncharacter", { format: "env", values: { A: ["\uffff"] } }, /systemd refuses the character U\+FFFF/],
  ["a name that is none", { format: "env", values: { "A-B": ["x"] } }, /not a name of an environment variable: 'A-B'/],
  ["a value that Linux cannot pass on", { format: "env", values: { A: ["x".repeat(131072)] } }, /A: longer than/],
  ["a secret that is not there", { format: "env", values: { A: [{ secret: "gone" }] } }, /secret gone: No such file/],
  ["a step upwards", { format: "env", values: { A: [{ secret: "../x" }] } }, /not a name of a secret/],
] as [string, Rendered, RegExp][]) {
  test(`refused: ${what}`, () => {
    const { status, stderr } = render(rendered);
    assert.is(status, 1);
    assert.match(stderr, message);
  });
}

test.run();
