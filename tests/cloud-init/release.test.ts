// A release is known by what it is made from, before it is made: what changes its id, and what must not.
import { chmodSync, cpSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { releaseAt, releaseId } from "../../cloud-init/release.ts";
import { application } from "../../cloud-init/resources/application.ts";
import { type Project, projectAt } from "../../lib/paths.ts";
import { suite } from "../suite.ts";
import { around, modelOfText, stackWith } from "./fixtures.ts";

const test = suite<{ project: Project; source: string }>("release");

test.before.each((context) => {
  const project = projectAt(mkdtempSync(join(tmpdir(), "ingot-release-")));
  const source = join(project.folder, "app");
  mkdirSync(project.stacks);
  mkdirSync(join(source, "shop"), { recursive: true });
  writeFileSync(join(source, "manage.py"), "#!/usr/bin/python3\n", { mode: 0o755 });
  writeFileSync(join(source, "shop/views.py"), "views = 1\n", { mode: 0o644 });
  writeFileSync(join(source, "requirements.lock"), "django==1\n");
  Object.assign(context, { project, source });
});
test.after.each(({ project }) => rmSync(project.folder, { recursive: true }));

const keys = (more = "") =>
  `users:\n  shop: { system: true }\napplications:\n  shop:\n    source: ../app\n    user: shop\n    python: requirements.lock\n    static: { collect: manage.py collectstatic }\n    env: { LEVEL: info, KEY: { secret: key } }\n${more}`;

/** The release of the stack's application; `base`: digest of the image without Ingot's own files. */
function release(project: Project, text = keys(), base = "d".repeat(64), digest = "0".repeat(64)) {
  const model = modelOfText(stackWith(text), project.stacks, {
    ...around,
    image: (name) => {
      const offer = around.image(name);
      return offer && { ...offer, base, digest };
    },
  });
  const [host] = model.hosts;
  const app = host?.get(application, "shop");
  if (!host || !app) throw new Error("no application");
  return releaseAt(project, releaseId(host, app));
}
const id = (project: Project, text?: string, base?: string, digest?: string): string => release(project, text, base, digest).id;

test("the same sources give the same release, wherever they lie", ({ project, source }) => {
  const was = id(project);
  assert.match(was, /^[0-9a-f]{16}$/);
  assert.is(id(project), was);
  const elsewhere = projectAt(mkdtempSync(join(tmpdir(), "ingot-release-")));
  mkdirSync(elsewhere.stacks);
  cpSync(source, join(elsewhere.folder, "app"), { recursive: true });
  assert.is(id(elsewhere), was);
  rmSync(elsewhere.folder, { recursive: true });
});

const changes: [string, (source: string) => void][] = [
  ["a byte", (s) => writeFileSync(join(s, "shop/views.py"), "views = 2\n")],
  ["a new file", (s) => writeFileSync(join(s, "shop/urls.py"), "")],
  ["a file less", (s) => rmSync(join(s, "shop/views.py"))],
  ["another name", (s) => renameSync(join(s, "shop/views.py"), join(s, "shop/view.py"))],
  ["another folder", (s) => renameSync(join(s, "shop"), join(s, "store"))],
  ["a program that is none any more", (s) => chmodSync(join(s, "manage.py"), 0o644)],
  ["the lock", (s) => writeFileSync(join(s, "requirements.lock"), "django==2\n")],
  ["a hidden file", (s) => writeFileSync(join(s, ".env.example"), "A=1\n")],
];
for (const [what, change] of changes)
  test(`it changes with the sources: ${what}`, ({ project, source }) => {
    const was = id(project);
    change(source);
    assert.is.not(id(project), was);
  });

test("the order of names and contents cannot be mixed up", ({ project, source }) => {
  writeFileSync(join(source, "a"), "b");
  writeFileSync(join(source, "c"), "d");
  const was = id(project);
  writeFileSync(join(source, "a"), "d");
  writeFileSync(join(source, "c"), "b");
  assert.is.not(id(project), was);
});

const fill = (folder: string): void => {
  mkdirSync(folder);
  writeFileSync(join(folder, "file"), "anything");
};
const same: [string, (source: string) => void][] = [
  ["version control", (s) => fill(join(s, ".git"))],
  ["Python's caches", (s) => fill(join(s, "shop/__pycache__"))],
  ["a virtualenv of the developer's", (s) => fill(join(s, ".venv"))],
  ["node_modules", (s) => fill(join(s, "node_modules"))],
  ["times", (s) => utimesSync(join(s, "manage.py"), 1, 1)],
  ["write permissions", (s) => chmodSync(join(s, "shop/views.py"), 0o664)],
  ["an empty folder", (s) => mkdirSync(join(s, "empty"))],
];
for (const [what, change] of same)
  test(`it stays with ${what}`, ({ project, source }) => {
    const was = id(project);
    change(source);
    assert.is(id(project), was);
  });

test("it changes with how it is built: lock file, static files, environment, image", ({ project, source }) => {
  writeFileSync(join(source, "other.lock"), "django==1\n");
  const seen = new Set([id(project)]);
  for (const text of [
    keys().replace("requirements.lock", "other.lock"),
    keys().replace("    python: requirements.lock\n", "").replace("collectstatic", "gather"),
    keys().replace("collectstatic", "collectstatic --noinput"),
    keys().replace("manage.py collectstatic }", "manage.py collectstatic, compress: [css] }"),
    keys().replace("LEVEL: info", "LEVEL: debug"),
  ])
    seen.add(id(project, text));
  seen.add(id(project, keys(), "e".repeat(64)));
  assert.is(seen.size, 7);
});

test("it stays when only what the host does with it changes", ({ project }) => {
  const was = id(project);
  assert.is(id(project, keys("    before_live: [manage.py migrate]\n")), was);
  assert.is(id(project, keys("services:\n  shop: { user: shop, application: shop, command: gunicorn shop }\n")), was);
  assert.is(id(project, keys(), undefined, "1".repeat(64)), was, "Ingot's own files in the image have no part in a build");
  // Another secret is the same placeholder while static files are collected.
  assert.is(id(project, keys().replace("secret: key", "secret: other")), was);
});

test("without static files the environment is no part of it", ({ project }) => {
  const text = keys().replace("    static: { collect: manage.py collectstatic }\n", "");
  assert.is(id(project, text.replace("info", "debug")), id(project, text));
});

test("a link is known by where it points, and one that points nowhere is no crash", ({ project, source }) => {
  symlinkSync("shop", join(source, "link"));
  const was = id(project);
  rmSync(join(source, "link"));
  symlinkSync("nowhere", join(source, "link"));
  assert.is.not(id(project), was);
});

test("its sha256 is all zeros until it has been built, and then the one that was written down", ({ project }) => {
  const before = release(project);
  assert.is(before.sha256, "0".repeat(64));
  assert.is(before.path, join(project.cache, "releases", `${before.id}.tar.zst`));
  mkdirSync(join(project.cache, "releases"), { recursive: true });
  writeFileSync(before.path, "archive");
  writeFileSync(before.path.replace(".tar.zst", ".json"), JSON.stringify({ sha256: "b".repeat(64) }));
  assert.is(release(project).sha256, "b".repeat(64));
});

test.run();
