// Layers are never stale and never different: inputs are changed one after the other, each is seen in the image, and the image is the one that a
// bake from nothing gives. Here a package and a file; with INGOT_TEST_LONG every kind of input, each proven against nothing.
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import type { Difference } from "../../images/difference.ts";
import type { Manifest } from "../../images/image.ts";
import { lockPath } from "../../images/lock.ts";
import type { ImagePlan } from "../../images/plan.ts";
import type { Prunable } from "../../images/prune.ts";
import { type Project, projectAt, toolFolder } from "../../lib/paths.ts";
import { asRoot, run, tryRun } from "../../lib/run.ts";
import { suite } from "../suite.ts";
import { smallHead, temporaryProject } from "./fixtures.ts";

process.env.INGOT_CACHE ??= projectAt(toolFolder).cache;

/** The recipe, as the changes below have it. */
const recipe = {
  packages: ["sudo", "locales"],
  locales: [] as string[],
  users: "",
  disabled: ["apt-daily.timer"],
  enabled: [] as string[],
  motd: "hello",
  modules: "",
  leave_out: ["man", "info", "lintian", "docs", "translations"],
};
const text = (): string => `${smallHead}packages: [${recipe.packages.join(", ")}]
locales: [${recipe.locales.join(", ")}]
users: {${recipe.users}}
disabled: [${recipe.disabled.join(", ")}]
enabled: [${recipe.enabled.join(", ")}]
leave_out: [${recipe.leave_out.join(", ")}]
files:
  /etc/motd: { content: "${recipe.motd}\\n" }
  /etc/modules: { content: "${recipe.modules}\\n", early: true }
`;

/** A copy of this program whose own files may be changed. */
const tool = mkdtempSync("/var/tmp/ingot-tool-");
for (const part of ["package.json", "dist/ingot.js", "dist/chunks", "cloud-init/host", "images/provision", "lib/undo.sh"])
  cpSync(join(toolFolder, part), join(tool, part), { recursive: true });
symlinkSync(join(toolFolder, "node_modules"), join(tool, "node_modules"));

interface Baked {
  digest: string;
  root: string;
  manifest: Manifest;
  /** What is in the tree, a line each. */
  files: string[];
  /** What the bake said meanwhile. */
  said: string;
}

async function baked(project: Project, ...more: string[]): Promise<Baked> {
  writeFileSync(join(project.images, "small.yaml"), text());
  const { stdout, stderr } = await run([process.execPath, join(tool, "dist/ingot.js"), "bake", "small", "--json", ...more], {
    cwd: project.folder,
  });
  const { digest, root } = JSON.parse(stdout) as { digest: string; root: string };
  const folder = join(project.store, digest);
  return {
    digest,
    root,
    manifest: JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8")) as Manifest,
    files: readFileSync(join(folder, "files"), "utf8").split("\n"),
    said: stderr,
  };
}

/** What a command says as JSON, whether it went well or not. */
async function asked<T>(...args: string[]): Promise<T> {
  writeFileSync(join(work.project.images, "small.yaml"), text());
  const argv = [process.execPath, join(tool, "dist/ingot.js"), "image", ...args, "--json"];
  return JSON.parse((await tryRun(argv, { cwd: work.project.folder })).stdout) as T;
}

async function removeProject({ project, remove }: ReturnType<typeof temporaryProject>): Promise<void> {
  await run(asRoot(["rm", "-rf", "--one-file-system", project.store]));
  remove();
}

/** The same recipe and lock with no layer, in a folder of another name. */
async function sameFromNothing(one: Baked): Promise<void> {
  const empty = temporaryProject({});
  try {
    cpSync(lockPath(work.project, "small"), lockPath(empty.project, "small"));
    const two = await baked(empty.project, "--locked");
    assert.is(two.digest, one.digest);
    const apart = (some: string[], others: Set<string>) => some.filter((line) => !others.has(line));
    assert.equal([apart(one.files, new Set(two.files)), apart(two.files, new Set(one.files))], [[], []]);
    assert.is(two.manifest.tree, one.manifest.tree);
  } finally {
    await removeProject(empty);
  }
}

const layers = (): string[] => {
  const folder = join(work.project.store, "layers");
  return existsSync(folder) ? readdirSync(folder).sort() : [];
};
const fileIn = (image: Baked, path: string): string => readFileSync(join(image.root, path), "utf8");

interface Change {
  what: string;
  change(): void;
  seen(image: Baked): void;
  /** How many layers are made for it. */
  made: number;
}

const changes: Change[] = [
  {
    what: "a package is added",
    change: () => recipe.packages.push("dbus"),
    seen: (image) => assert.ok(image.manifest.packages.dbus),
    made: 1,
  },
  {
    what: "a file is changed",
    change: () => void (recipe.motd = "goodbye"),
    seen: (image) => assert.is(fileIn(image, "etc/motd"), "goodbye\n"),
    made: 0,
  },
  {
    what: "a unit is disabled",
    change: () => recipe.disabled.push("apt-daily-upgrade.timer"),
    seen: (image) => assert.is(image.manifest.units["apt-daily-upgrade.timer"], "disabled"),
    made: 0,
  },
  {
    what: "one of Ingot's own files is changed",
    change: () => appendFileSync(join(tool, "cloud-init/host/activate"), "# changed\n"),
    seen: (image) => assert.match(fileIn(image, "usr/lib/ingot/activate"), /# changed\n$/),
    made: 0,
  },
  {
    what: "one of Ingot's own files is gone, another has come",
    change: () => {
      rmSync(join(tool, "cloud-init/host/actions/link.sh"));
      writeFileSync(join(tool, "cloud-init/host/actions/new.sh"), "#!/bin/sh\n");
    },
    seen: (image) => {
      assert.not.ok(existsSync(join(image.root, "usr/lib/ingot/actions/link.sh")));
      assert.ok(image.manifest.files["/usr/lib/ingot/actions/new.sh"]);
    },
    made: 0,
  },
  {
    what: "the script of the configuration is changed",
    change: () => appendFileSync(join(tool, "images/provision/configure.sh"), 'echo configured >"$root/etc/configured"\n'),
    seen: (image) => assert.is(fileIn(image, "etc/configured"), "configured\n"),
    made: 0,
  },
  {
    what: "the script that cleans each layer is changed",
    change: () => appendFileSync(join(tool, "images/provision/clean.sh"), "echo cleaned >etc/cleaned\n"),
    seen: (image) => assert.is(fileIn(image, "etc/cleaned"), "cleaned\n"),
    made: 3,
  },
  {
    what: "another package is added",
    change: () => {
      recipe.packages.push("openssh-server");
      recipe.enabled.push("ssh.service");
    },
    seen: (image) => assert.is(image.manifest.units["ssh.service"], "enabled"),
    made: 1,
  },
  {
    what: "a package of the second stage is removed",
    change: () => void (recipe.packages = recipe.packages.filter((p) => p !== "dbus")),
    seen: (image) => {
      assert.is(image.manifest.packages.dbus, undefined);
      assert.ok(image.manifest.packages["openssh-server"]);
    },
    made: 1,
  },
  {
    what: "an early file is changed",
    change: () => void (recipe.modules = "loop"),
    seen: (image) => assert.is(fileIn(image, "etc/modules"), "loop\n"),
    made: 2,
  },
  {
    what: "a user is added",
    change: () => void (recipe.users = "keeper: { uid: 650, home: /var/lib/keeper }"),
    seen: (image) => assert.is(image.manifest.users.keeper?.uid, 650),
    made: 2,
  },
  {
    what: "a locale is added",
    change: () => recipe.locales.push("de_DE.UTF-8"),
    seen: (image) => assert.ok(image.manifest.locales.includes("de_DE.utf8")),
    made: 2,
  },
  {
    what: "the script of the packages is changed",
    change: () => appendFileSync(join(tool, "images/provision/packages.sh"), 'echo unpacked >"$root/etc/unpacked"\n'),
    seen: (image) => assert.is(fileIn(image, "etc/unpacked"), "unpacked\n"),
    made: 2,
  },
  {
    what: "a package of the first stage is removed",
    change: () => void (recipe.packages = recipe.packages.filter((p) => p !== "sudo")),
    seen: (image) => assert.is(image.manifest.packages.sudo, undefined),
    made: 1,
  },
  {
    what: "manual pages are left out no more",
    change: () => void recipe.leave_out.shift(),
    seen: (image) => assert.ok(existsSync(join(image.root, "usr/share/man/man1/dpkg.1.gz"))),
    made: 2,
  },
  {
    what: "the script of the first layer is changed",
    change: () => appendFileSync(join(tool, "images/provision/base.sh"), "echo begun >etc/begun\n"),
    seen: (image) => assert.is(fileIn(image, "etc/begun"), "begun\n"),
    made: 2,
  },
];

const test = suite("layers");
let work: ReturnType<typeof temporaryProject>;

test.before(() => {
  work = temporaryProject({});
});
test.after(async () => {
  await removeProject(work);
  rmSync(tool, { recursive: true });
});

test("from nothing", async () => {
  const image = await baked(work.project);
  assert.is(layers().length, 2);
  assert.is(fileIn(image, "etc/motd"), "hello\n");
  assert.not.match(image.said, "baking small: about");
});

const long = process.env.INGOT_TEST_LONG !== undefined;
for (const { what, change, seen, made } of long ? changes : changes.slice(0, 2))
  test(`${what}: only what follows is made anew${long ? ", and it is what nothing gives" : ""}`, async () => {
    const before = layers();
    change();
    const image = await baked(work.project);
    seen(image);
    assert.is(layers().filter((key) => !before.includes(key)).length, made);
    if (long) await sameFromNothing(image);
  });

if (!long) test("what came of it is what a bake from nothing gives", async () => sameFromNothing(await baked(work.project)));

test("plan says what a bake would do and why; diff and plan say what it has changed", async () => {
  const before = await baked(work.project);
  recipe.motd = "planned";
  const plan = await asked<ImagePlan>("plan", "small");
  assert.is(plan.action, "bake");
  assert.equal(plan.because, ["file /etc/motd changed"]);
  assert.equal(
    plan.steps.map((s) => s.title),
    ["configuration"],
  );
  assert.type(plan.seconds, "number");
  const after = await baked(work.project);
  assert.is(after.digest, plan.digest);
  assert.match(after.said, `baking small: about ${plan.seconds?.toFixed(0)} s, by the last bakes\n`);
  const again = await asked<ImagePlan>("plan", "small", "--against", before.digest);
  assert.is(again.action, "skip");
  const difference = await asked<Difference>("diff", before.digest, after.digest);
  assert.equal(again.difference, difference);
  assert.equal(
    difference.files.changed.map((f) => f.name),
    ["/etc/motd"],
  );
  assert.equal([difference.files.added, difference.files.removed, difference.packages.changed], [[], [], []]);
  recipe.packages.push("acl");
  assert.is((await asked<ImagePlan>("plan", "small")).action, "lock and bake");
  recipe.packages.pop();
});

test("a damaged layer is found, and made anew with what is on it", async () => {
  const image = await baked(work.project);
  const [key] = layers().filter((k) => existsSync(join(work.project.store, "layers", k, "root/etc/os-release")));
  assert.ok(key);
  // In place, as a failing disk or a careless hand would: the image shares the file.
  for (const k of layers())
    await run(asRoot(["sh", "-c", 'printf x >>"$1"', "sh", join(work.project.store, "layers", k, "root/usr/bin/env")]));
  const verified = await asked<{ digest: string; ok: boolean; said: string[] }[]>("verify", image.digest);
  assert.is(verified[0]?.ok, false);
  assert.match(verified[0]?.said.join("\n") ?? "", /^ {2}file \/usr\/bin\/env: size /);
  recipe.motd = "after the damage";
  const again = await baked(work.project);
  assert.is(fileIn(again, "etc/motd"), "after the damage\n");
  const env = (b: Baked) => b.files.find((line) => line.endsWith("\t/usr/bin/env"));
  assert.ok(env(again));
  assert.is(env(again), env(image));
  if (long) await sameFromNothing(again);
});

test("a half-written layer is none", async () => {
  for (const k of layers()) rmSync(join(work.project.store, "layers", k, "layer.json"));
  recipe.motd = "after the loss";
  const image = await baked(work.project);
  assert.is(fileIn(image, "etc/motd"), "after the loss\n");
});

test("verify finds an image as it was baked, prune leaves what the recipe comes to", async () => {
  const image = await baked(work.project);
  assert.equal(await asked("verify", "small"), [{ name: "small", digest: image.digest, ok: true, said: [] }]);
  const { prunable } = await asked<{ prunable: Prunable[] }>("prune");
  assert.ok(prunable.some((p) => p.kind === "image") && prunable.some((p) => p.kind === "layer") === long);
  assert.not.ok(prunable.some((p) => p.id === image.digest));
  // One that a machine has is kept, whichever target made it.
  const old = prunable.find((p) => p.kind === "image")?.id;
  const machine = join(work.project.machines, "shop/web");
  mkdirSync(machine, { recursive: true });
  writeFileSync(join(machine, "machine.json"), JSON.stringify({ stack: "shop", host: "web", target: "vm", imageDigest: old }));
  assert.not.ok((await asked<{ prunable: Prunable[] }>("prune")).prunable.some((p) => p.id === old));
  rmSync(work.project.machines, { recursive: true });
  assert.equal((await asked<{ removed: Prunable[] }>("prune", "--yes")).removed, prunable);
  const kept = image.manifest.layers.toSorted();
  assert.equal(layers(), kept);
  assert.equal(readdirSync(work.project.store).toSorted(), [image.digest, "layers"].toSorted());
  assert.is((await baked(work.project)).digest, image.digest);
  assert.equal(await asked("prune"), { prunable: [] });
});

test.run();
