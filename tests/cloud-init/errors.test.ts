// docs/errors.md has every code, and a code has one meaning.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { toolFolder } from "../../lib/paths.ts";
import { suite } from "../suite.ts";
import { here } from "./fixtures.ts";

const test = suite("errors");

/** Codes in the sources, with the files that say them. Comments may speak of codes too: those count for nothing. */
const used = new Map<string, Set<string>>();
for (const room of ["lib", "images", "cloud-init", "stacks", "scripts"]) {
  for (const file of readdirSync(join(toolFolder, room), { recursive: true, encoding: "utf8" }).filter((f) => f.endsWith(".ts"))) {
    const text = readFileSync(join(toolFolder, room, file), "utf8");
    for (const [, code = ""] of text.matchAll(/"(ING\d{4})"/g)) used.set(code, (used.get(code) ?? new Set()).add(`${room}/${file}`));
  }
}
const page = readFileSync(join(toolFolder, "docs/errors.md"), "utf8");
const documented = [...page.matchAll(/^### (ING\d{4}) (.+)$/gm)].map((m) => ({ code: m[1] ?? "", title: m[2] ?? "" }));

test("every code is in docs/errors.md, once, and no other is", () => {
  assert.equal(
    documented.map((d) => d.code),
    [...used.keys()].sort(),
  );
});

test("every code has a title of its own and a word on what to do", () => {
  assert.is(new Set(documented.map((d) => d.title)).size, documented.length);
  const bodies = page.split(/^### .*$/m).slice(1);
  for (const [i, body] of bodies.entries()) assert.ok((body.split(/^## /m)[0] ?? "").trim().length > 20, documented[i]?.code);
});

test("a code belongs to one room: it has one meaning", () => {
  const shared = [...used].filter(([, files]) => new Set([...files].map((f) => f.split("/")[0])).size > 1);
  assert.equal(
    shared.map(([code, files]) => `${code}: ${[...files].join(", ")}`),
    [],
  );
});

test("each hundred of codes is named at the top of the page", () => {
  for (const { code } of documented) assert.ok(page.includes(`| ${code.slice(0, 5)}xx |`), code);
});

test("every code of a stack has a wrong stack that shows it", () => {
  const shown = new Set(
    readdirSync(join(here, "wrong"))
      .filter((f) => f.endsWith(".txt"))
      .flatMap((f) => [...readFileSync(join(here, "wrong", f), "utf8").matchAll(/ (ING\d{4}): /g)].map((m) => m[1])),
  );
  // What only a baked image can tell (model.test.ts), environments (variables.test.ts), recipes (tests/images), and machines (tests/stacks, tests/e2e).
  const elsewhere = /^ING(1208|1303|143[567]|1443|1507|17\d\d|30\d\d)$/;
  assert.equal(
    [...used.keys()].filter((code) => !shown.has(code) && !elsewhere.test(code)),
    [],
  );
});

test.run();
