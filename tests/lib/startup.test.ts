// `validate` answers at once because it loads little: neither zx nor a schema library, nor what only other commands need.
// Held by what is loaded, not by a clock. scripts/build.mjs splits the code; a static import in the wrong place joins it again.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import * as assert from "uvu/assert";
import { toolFolder } from "../../lib/paths.ts";
import { suite } from "../suite.ts";

const test = suite("start-up");
const binary = fileURLToPath(new URL("../../ingot.js", import.meta.url));
const folder = dirname(binary);

/** The modules that a command loads beside Node's own: chunks of ours, and packages by their name. */
function loadedBy(args: string[]): string[] {
  const coverage = mkdtempSync(join(tmpdir(), "ingot-coverage-"));
  try {
    const { status, stderr } = spawnSync(process.execPath, [binary, ...args], {
      cwd: toolFolder,
      encoding: "utf8",
      env: { ...process.env, NODE_V8_COVERAGE: coverage },
    });
    assert.is(status, 0, stderr);
    return readdirSync(coverage).flatMap((file) => {
      const { result } = JSON.parse(readFileSync(join(coverage, file), "utf8")) as { result: { url: string }[] };
      return result
        .filter(({ url }) => url.startsWith("file:"))
        .map(({ url }) => {
          const path = fileURLToPath(url);
          return /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1] ?? relative(folder, path);
        });
    });
  } finally {
    rmSync(coverage, { recursive: true });
  }
}

/** The sources of ours in a chunk, by its source map. */
const sourcesOf = (chunk: string): string[] =>
  (JSON.parse(readFileSync(`${join(folder, chunk)}.map`, "utf8")) as { sources: string[] }).sources.map((s) =>
    relative(toolFolder, join(dirname(join(folder, chunk)), s)),
  );

const loaded = loadedBy(["validate", "stacks/inloop.yaml"]);
const sources = loaded.filter((m) => m.endsWith(".js")).flatMap(sourcesOf);

test("validate loads its own code, and no package but what is bundled", () => {
  assert.ok(sources.includes("scripts/validate.ts"), `${sources}`);
  assert.ok(sources.includes("cloud-init/model.ts"));
  assert.equal(
    loaded.filter((m) => !m.endsWith(".js")),
    [],
  );
});

test("validate loads no library that runs programs, compiles schemas or tests", () => {
  // ajv's run-time helpers are part of the validators that it compiled.
  const heavy = /node_modules\/(zx|cdktf|@cdktf|constructs|@aws-sdk|@smithy|ajv\/(?!lib\/runtime\/)|esbuild|uvu|fast-check|typescript)/;
  assert.equal(
    sources.filter((s) => heavy.test(s)),
    [],
  );
  assert.not.ok(loaded.includes("zx"));
});

test("validate loads nothing of the rooms that launch machines and bake images", () => {
  assert.equal(
    sources.filter((s) => /^(stacks\/|lib\/run\.ts|images\/(bake|archive)\.ts)/.test(s)),
    [],
  );
});

test("what validate loads is small", () => {
  const bytes = loaded.filter((m) => m.endsWith(".js")).reduce((n, m) => n + readFileSync(join(folder, m)).length, 0);
  assert.ok(bytes < 1_850_000, `${bytes} bytes`);
});

for (const command of [["plan", "inloop"], ["status"], ["render", "inloop", "--json"]])
  test(`${command[0]} loads nothing of CDKTF, nor of AWS, on this computer`, () => {
    const all = loadedBy(command);
    assert.equal(
      [...all, ...all.filter((m) => m.endsWith(".js")).flatMap(sourcesOf)].filter((m) =>
        /cdktf|constructs|aws-sdk|@smithy|^stacks\/aws\//.test(m),
      ),
      [],
    );
  });

test("--help loads none of the commands", () => {
  const help = loadedBy(["--help"])
    .filter((m) => m.endsWith(".js"))
    .flatMap(sourcesOf);
  assert.equal(
    help.filter((s) => /^(images|cloud-init|stacks)\//.test(s)),
    [],
  );
});

test.run();
