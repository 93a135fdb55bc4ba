// What the docs say is true: generated pages are those of this code, stacks in them validate, links lead somewhere.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import * as assert from "uvu/assert";
import { compile } from "../../cloud-init/compile.ts";
import { loadStack } from "../../cloud-init/model.ts";
import { surroundingsOf } from "../../cloud-init/surroundings.ts";
import { loadRelease } from "../../images/release.ts";
import { format, InputError } from "../../lib/diagnostics.ts";
import { projectAt, toolFolder } from "../../lib/paths.ts";
import { pages } from "../../scripts/docs.ts";
import { suite } from "../suite.ts";

const test = suite("docs");
const docs = join(toolFolder, "docs");
const written = [
  ...readdirSync(docs, { recursive: true, encoding: "utf8" }).map((f) => join(docs, f)),
  ...["README.md", "CONTRIBUTING.md"].map((f) => join(toolFolder, f)),
].filter((f) => f.endsWith(".md"));
const shown = (file: string): string => relative(toolFolder, file);

test("generated pages are what the code gives now", () => {
  const made = pages();
  const wrong = [...made].filter(([path, content]) => !existsSync(join(docs, path)) || readFileSync(join(docs, path), "utf8") !== content);
  const left = readdirSync(join(docs, "resources")).filter((f) => !made.has(`resources/${f}`));
  assert.equal([...wrong.map(([path]) => path), ...left], [], "`npm run docs` writes them");
});

/** Fenced blocks of a language, with the line that each begins at. */
function blocks(file: string, language: string): { line: number; text: string }[] {
  const text = readFileSync(file, "utf8");
  return [...text.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, "gms"))].map((m) => ({
    line: text.slice(0, m.index).split("\n").length + 1,
    text: m[1] ?? "",
  }));
}

/** A project with Ingot's recipes, applications and keys, where nothing is baked. */
function withProject(look: (folder: string) => void): void {
  const folder = mkdtempSync(join(tmpdir(), "ingot-docs-"));
  try {
    mkdirSync(join(folder, "stacks"));
    for (const path of ["images", "tests", "stacks/keys"]) symlinkSync(join(toolFolder, path), join(folder, path));
    look(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test("every stack in the docs validates", () => {
  withProject((folder) => {
    let found = 0;
    for (const file of written) {
      for (const { line, text } of blocks(file, "yaml").filter((b) => /^stack:/m.test(b.text) && /^hosts:/m.test(b.text))) {
        const stack = join(folder, "stacks/snippet.yaml");
        writeFileSync(stack, text);
        found++;
        try {
          compile(loadStack(stack, surroundingsOf(projectAt(folder))));
        } catch (error) {
          if (!(error instanceof InputError)) throw error;
          assert.unreachable(`${shown(file)}:${line}:\n${error.diagnostics.map((d) => format(d, error.sources)).join("\n")}`);
        }
      }
    }
    assert.ok(found > 0);
  });
});

test("every release in the docs validates", () => {
  withProject((folder) => {
    let found = 0;
    for (const file of written) {
      for (const { line, text } of blocks(file, "yaml").filter((b) => /^recipes:/m.test(b.text) && /^accounts:/m.test(b.text))) {
        const release = join(folder, "release.yaml");
        writeFileSync(release, text);
        found++;
        try {
          assert.ok(loadRelease(projectAt(folder), release).places.length > 0);
        } catch (error) {
          if (!(error instanceof InputError)) throw error;
          assert.unreachable(`${shown(file)}:${line}:\n${error.diagnostics.map((d) => format(d, error.sources)).join("\n")}`);
        }
      }
    }
    assert.ok(found > 0);
  });
});

test("what the docs show of INLOOP's stack stands in it", () => {
  const linesOf = (text: string): string[] =>
    text
      .split("\n")
      .map((l) => l.trim())
      .filter((l) => l && !l.startsWith("#"));
  const stack = linesOf(readFileSync(join(toolFolder, "stacks/inloop.yaml"), "utf8")).join("\n");
  const shownParts = blocks(join(docs, "stacks.md"), "yaml inloop");
  assert.ok(shownParts.length > 0);
  for (const { line, text } of shownParts) assert.ok(stack.includes(linesOf(text).join("\n")), `docs/stacks.md:${line}`);
});

test("links within the docs lead to files and headings that are there", () => {
  const anchorsOf = (file: string): string[] =>
    [...readFileSync(file, "utf8").matchAll(/^#+ (.*)$/gm)].map((m) =>
      (m[1] ?? "")
        .toLowerCase()
        .replace(/[^\p{L}\p{N}\s_-]/gu, "")
        .replaceAll(" ", "-"),
    );
  const broken = written.flatMap((file) =>
    [...readFileSync(file, "utf8").matchAll(/\]\((?![a-z]+:)([^)#]*)(?:#([^)]*))?\)/g)].flatMap(([whole, path, anchor]) => {
      const target = path ? join(dirname(file), path) : file;
      if (!existsSync(target)) return [`${shown(file)}: ${whole}`];
      return anchor && target.endsWith(".md") && !anchorsOf(target).includes(anchor) ? [`${shown(file)}: ${whole}`] : [];
    }),
  );
  assert.equal(broken, []);
});

test.run();
