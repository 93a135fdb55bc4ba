// The sample workflow that rebakes (docs/rebake.yml): its shell is shell, each command of it is one that Ingot has, with options that it knows, and it
// goes on for security updates alone.
import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { load } from "js-yaml";
import * as assert from "uvu/assert";
import { toolFolder } from "../../lib/paths.ts";
import { suite } from "../suite.ts";

const test = suite("sample workflow");
interface Step {
  id?: string;
  name?: string;
  if?: string;
  run?: string;
}
const { jobs } = load(readFileSync(join(toolFolder, "docs/rebake.yml"), "utf8")) as { jobs: { rebake: { steps: Step[] } } };
const { steps } = jobs.rebake;
const scripts = steps.flatMap((s) => (s.run === undefined ? [] : [s.run]));

test("every step's script is one that bash can read", () => {
  assert.ok(scripts.length >= 5);
  for (const script of scripts) execFileSync("bash", ["-n"], { input: script });
});

test("every command of Ingot's in it is there, with these options", () => {
  const commands = scripts.flatMap((script) => [...script.matchAll(/npx ingot ([^|\n]*)/g)].map((m) => (m[1] ?? "").trim().split(/\s+/)));
  assert.ok(commands.length >= 6);
  for (const words of commands) {
    const help = execFileSync(process.execPath, [join(toolFolder, "dist/ingot.js"), words[0] ?? "", "--help"], { encoding: "utf8" });
    if (words[0] === "image") assert.match(help, new RegExp(`ingot image [^\n]*\\b${words[1]}\\b`), words.join(" "));
    for (const option of words.filter((w) => w.startsWith("--") && !["--on", "--json"].includes(w)))
      assert.ok(help.includes(option), `${option} of: ingot ${words.join(" ")}`);
  }
});

test("it goes on when a security update is among what changes, and else ends", () => {
  const folder = mkdtempSync(join(tmpdir(), "ingot-workflow-"));
  try {
    const script = steps.find((s) => s.id === "lock")?.run ?? "";
    const lockSaying = (changed: object[]): string => {
      // Ingot's own answer to `image lock --json` in these words; which packages there are today is the archive's to say.
      const answer = JSON.stringify({ image: "inloop", packages: 280, added: [], removed: [], changed }, null, 2);
      writeFileSync(join(folder, "npx"), `#!/bin/sh\ncat <<'END'\n${answer}\nEND\n`);
      chmodSync(join(folder, "npx"), 0o755);
      const output = join(folder, "output");
      rmSync(output, { force: true });
      const env = { ...process.env, PATH: `${folder}:${process.env.PATH}`, RECIPE: "inloop", GITHUB_OUTPUT: output };
      assert.is(spawnSync("bash", ["-eo", "pipefail", "-c", script], { cwd: folder, env }).status, 0);
      return existsSync(output) ? readFileSync(output, "utf8") : "";
    };
    const update = { name: "zstd", from: "1", to: "2" };
    assert.is(lockSaying([{ ...update, security: true }]), "update=yes\n");
    assert.is(lockSaying([{ ...update, security: false }]), "");
    const later = steps.slice(steps.findIndex((s) => s.id === "lock") + 1);
    assert.ok(later.length >= 5 && later.every((s) => s.if === "steps.lock.outputs.update == 'yes'"));
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test.run();
