// User-data: small, readable, and the same values to a parser of YAML 1.1 (cloud-init's is PyYAML).
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import fc from "fast-check";
import { load, YAML11_SCHEMA } from "js-yaml";
import * as assert from "uvu/assert";
import { planJson } from "../../cloud-init/compile.ts";
import { dumpYaml, limit, userDataOf } from "../../cloud-init/user-data.ts";
import { sha256 } from "../../lib/digest.ts";
import { toolFolder } from "../../lib/paths.ts";
import { suite } from "../suite.ts";
import { planOf, stackWith } from "./fixtures.ts";

const test = suite("user-data");
fc.configureGlobal({ includeErrorInReport: true });

const inloop = planOf(readFileSync(join(toolFolder, "stacks/inloop.yaml"), "utf8"));

interface CloudConfig {
  hostname: string;
  fqdn: string;
  write_files: { path: string; permissions: string; content: string }[];
}
const read = (text: string): CloudConfig => load(text, { schema: YAML11_SCHEMA }) as CloudConfig;

/** Texts that YAML 1.1 takes for something else when they stand without quotes, or that a scalar's style can lose. */
const nasty = [
  "0644",
  "0o644",
  "0x1f",
  "0b11",
  "1_000",
  "1_000.5",
  "12:30:45",
  "190:20:30",
  "yes",
  "No",
  "ON",
  "off",
  "y",
  "n",
  "true",
  "~",
  "null",
  "Null",
  "",
  " ",
  "  leading",
  "trailing  ",
  "a\n",
  "a\n\n",
  "\na",
  "\n",
  "\n\n",
  "a\nb",
  " a\nb",
  "  a\n b\n",
  "a\n  b\n\n\n",
  "\ta",
  "a\tb",
  "a\t",
  "\t\n",
  "a \nb",
  "a\r\nb",
  "a\rb",
  "\r",
  "\r\n",
  ".inf",
  "-.INF",
  ".nan",
  "1e3",
  "1.",
  ".5",
  "+1",
  "-0",
  "2001-12-14",
  "2001-12-14T21:59:43.10-05:00",
  "<<",
  "=",
  "- a",
  "? a",
  ": a",
  "a: b",
  "a #b",
  "#a",
  "&a",
  "*a",
  "!a",
  "!!str a",
  "|",
  ">",
  "%a",
  "@a",
  "`a",
  "'",
  '"',
  "''",
  '"a"',
  "{a",
  "[a",
  "{}",
  "[]",
  ",",
  "---",
  "...",
  "--- a",
  "a\n---\nb",
  "a\n...\n",
  "\u0000",
  "\u0007",
  "\u001b[0m",
  "\u007f",
  "\u0085",
  "a\u0085b",
  "\u00a0",
  "\u2028",
  "a\u2028b\n",
  "\u2029",
  "\ufeff",
  "\ufeffa",
  "é",
  "日本語",
  "😀",
  "\ufffe",
  "\\",
  "\\n",
  "a\\",
  "C:\\x",
  "x".repeat(300),
  `${"word ".repeat(60)}\n`,
  `${" ".repeat(20)}a\n${" ".repeat(3)}b`,
];
const anyText = fc.oneof(
  fc.constantFrom(...nasty),
  fc.string({ unit: "binary", maxLength: 20 }),
  fc.array(fc.oneof(fc.constantFrom(...nasty), fc.constantFrom("\n", " ", "\t", ":", "#", "-")), { maxLength: 6 }).map((a) => a.join("")),
);

test("any text comes back the same from a YAML 1.1 parser, as value, as key and in a list", () => {
  fc.assert(
    fc.property(anyText, (text) => {
      const value = { content: text, list: [text, { text }], [`k${text}`]: 1 };
      assert.equal(load(dumpYaml(value), { schema: YAML11_SCHEMA }), value);
    }),
    { numRuns: 1000 },
  );
});

test("any text comes back the same from PyYAML", () => {
  const python = "import json, sys, yaml\njson.dump([yaml.safe_load(t) for t in json.load(sys.stdin)], sys.stdout)";
  if (spawnSync("python3", ["-c", "import yaml"]).status !== 0) return; // the image's own is asked by the end-to-end tests
  const texts = [...nasty, ...fc.sample(anyText, 500)];
  const values = texts.map((text) => ({ content: text, list: [text, { text }], [`k${text}`]: 1 }));
  const { stdout, stderr } = spawnSync("python3", ["-c", python], { input: JSON.stringify(values.map(dumpYaml)), encoding: "utf8" });
  assert.is(stderr, "");
  const back = JSON.parse(stdout) as unknown[];
  for (const [i, value] of values.entries()) assert.equal(back[i], value, JSON.stringify(texts[i]));
});

test("it is one cloud-config that brings the generation, and nothing that cloud-init would run", () => {
  const { text } = userDataOf(inloop);
  assert.ok(text.startsWith("#cloud-config\n"));
  const config = read(text);
  assert.equal(Object.keys(config).sort(), ["fqdn", "hostname", "write_files"]);
  assert.is(config.hostname, "inloop");
  assert.is(config.fqdn, "inloop.inf.example.org");
  const folder = `/var/lib/ingot/generations/${inloop.generation.digest}`;
  const contents = new Map(config.write_files.map((f) => [f.path, f.content]));
  assert.is(sha256(contents.get(`${folder}/plan.json`) ?? ""), inloop.generation.digest);
  assert.is(contents.get("/var/lib/ingot/next"), `${inloop.generation.digest}\n`);
  for (const file of config.write_files) {
    assert.is(file.permissions, "0600");
    assert.equal(Object.keys(file), ["path", "permissions", "content"], "no owner, no defer: users do not exist yet");
    const [, hash] = /\/files\/([0-9a-f]{64})$/.exec(file.path) ?? [];
    if (hash) assert.is(sha256(file.content), hash);
  }
  for (const file of inloop.generation.files) assert.is(contents.get(`${folder}/files/${sha256(file.content)}`), file.content);
  assert.is(config.write_files.at(-1)?.path, "/var/lib/ingot/next", "written last: what it names is there by then");
});

test("files with any content keep the digest that the host checks", () => {
  fc.assert(
    fc.property(anyText, (content) => {
      const plan = planOf(
        stackWith(
          `files:\n  /etc/x: { content: ${JSON.stringify(content).replaceAll("\u007f", "\\x7f").replaceAll("\u0085", "\\x85").replaceAll("\u2028", "\\u2028").replaceAll("\u2029", "\\u2029").replaceAll("\ufeff", "\\ufeff").replaceAll("\ufffe", "\\ufffe")} }\n`,
        ),
      );
      const back = read(userDataOf(plan).text);
      assert.is(sha256(back.write_files[0]?.content ?? ""), plan.generation.digest);
      assert.ok(back.write_files.some((f) => f.content === content));
    }),
    { numRuns: 200 },
  );
});

test("a content that several files have is carried once", () => {
  const plan = planOf(stackWith("files:\n  /etc/a: { content: same }\n  /etc/b: { content: same }\n"));
  assert.is(read(userDataOf(plan).text).write_files.filter((f) => f.content === "same").length, 1);
});

test("up to the limit it stays readable; above it is compressed, and says so", () => {
  const plan = (size: number) => planOf(stackWith(`files:\n  /etc/x: { content: "${"x".repeat(size)}" }\n`));
  const base = userDataOf(plan(1)).bytes.length;
  const full = userDataOf(plan(1 + limit - base));
  assert.is(full.bytes.length, limit);
  assert.is(full.compressed, false);
  assert.is(Buffer.from(full.bytes).toString(), full.text);
  const above = userDataOf(plan(2 + limit - base));
  assert.is(above.compressed, true);
  assert.is(gunzipSync(above.bytes).toString(), above.text);
  assert.ok(above.bytes.length < limit);
});

test("bytes are counted, not characters", () => {
  const { compressed } = userDataOf(planOf(stackWith(`files:\n  /etc/x: { content: "${"é".repeat(limit / 2)}" }\n`)));
  assert.is(compressed, true);
});

test("the same plan gives the same bytes", () => {
  const again = planOf(readFileSync(join(toolFolder, "stacks/inloop.yaml"), "utf8"));
  assert.equal(userDataOf(inloop).bytes, userDataOf(again).bytes);
});

test("the bytes by resource are those of the largest first, and name every resource that takes some", () => {
  const { byResource } = userDataOf(inloop);
  assert.equal(
    byResource.map((r) => r.bytes),
    byResource.map((r) => r.bytes).sort((a, b) => b - a),
  );
  const names = new Set(byResource.map((r) => r.resource));
  for (const { resource } of [...inloop.generation.steps, ...inloop.generation.files]) assert.ok(names.has(resource), resource);
  const sum = byResource.reduce((n, r) => n + r.bytes, 0);
  const size = Buffer.byteLength(userDataOf(inloop).text);
  assert.ok(sum > size * 0.7 && sum < size * 1.3, `${sum} of ${size}`);
});

test("INLOOP fits", () => assert.ok(userDataOf(inloop).bytes.length <= limit));

test("the plan on the host is canonical: keys sorted, no white space", () => {
  const text = planJson(inloop.generation);
  assert.is(text, JSON.stringify(JSON.parse(text)));
  assert.equal(Object.keys(JSON.parse(text)), ["checks", "files", "steps"]);
});

test.run();
