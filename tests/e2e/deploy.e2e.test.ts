// A new release on a live host: deployed and proven, taken back when it is broken, and back again by hand.
import { cpSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import * as assert from "uvu/assert";
import { sha256 } from "../../lib/digest.ts";
import { toolFolder } from "../../lib/paths.ts";
import { suite } from "../suite.ts";
import { loadSeconds, underLoad } from "./load.ts";
import { type TestProject, testProject } from "./project.ts";

const test = suite("deploy");
let project: TestProject;
const app = () => join(project.folder, "tests/apps/live");
const version = "inloop/urls.py";
const cache = () => join(project.folder, ".ingot/cache");

test.before(async () => {
  project = await testProject(["inloop"]);
  cpSync(join(project.folder, "tests/apps/inloop"), app(), { recursive: true });
  // Of this computer's cache only what was fetched: what is built is built here.
  const wheels = join(toolFolder, ".ingot/cache/wheels");
  mkdirSync(wheels, { recursive: true });
  rmSync(cache());
  mkdirSync(cache());
  symlinkSync(wheels, join(cache(), "wheels"));
  const stack = readFileSync(join(project.folder, "stacks/inloop.yaml"), "utf8");
  writeFileSync(
    join(project.folder, "stacks/live.yaml"),
    stack.replace("stack: inloop", "stack: live").replaceAll("../tests/apps/inloop", "../tests/apps/live"),
  );
});
test.after(() => project?.remove());

const release = async () => (await project.on("live", "readlink /srv/inloop/current")).stdout.trim();
interface Past {
  generations: { generation: string }[];
}
const past = async () => ((await project.json(["history", "live"])) as Past[])[0]?.generations.map((g) => g.generation) ?? [];
let live = "";

test("a new release is built, migrated, live and proven, and under load no request is lost", async () => {
  const up = await project.ingot(["up", "live"]);
  assert.is(up.code, 0, up.stderr);
  let before = await release();
  const machines = (await project.json(["status", "live"])) as { forwards: Record<string, string> }[];
  const port = machines[0]?.forwards[443]?.split(":")[1];
  const began = performance.now();
  const answered = await underLoad(project.folder, `https://inloop.localhost:${port}/`, async () => {
    // One after the other for as long as it lasts.
    for (let deploys = 1; deploys === 1 || performance.now() - began < loadSeconds * 1000 - 10_000; deploys++) {
      writeFileSync(join(app(), version), `${readFileSync(join(app(), version), "utf8")}\n# another\n`);
      const deploy = await project.ingot(["deploy", "live"]);
      assert.is(deploy.code, 0, deploy.stderr);
      assert.match(deploy.stdout, /live: deployed and verified \(\d+ checks\)/);
      live = await release();
      assert.is.not(live, before);
      assert.is((await past()).length, deploys + 1);
      before = live;
    }
  });
  assert.ok(answered > 50, String(answered));
});

test("a release has the same bytes whether its packages were kept from another's build or are installed anew", async () => {
  const built = () => sha256(readFileSync(join(cache(), "releases", `${basename(live)}.tar.zst`)));
  const before = built();
  for (const part of ["packages", "releases"]) rmSync(join(cache(), part), { recursive: true });
  assert.equal(((await project.json(["apply", "live"])) as { changed: string[] }).changed, []);
  assert.is(built(), before);
});

test("a release that cannot start is taken back: the old one serves, and every check holds", async () => {
  writeFileSync(join(app(), "inloop/wsgi.py"), 'raise RuntimeError("this release is broken on purpose")\n');
  const deploy = await project.ingot(["deploy", "live"]);
  assert.is(deploy.code, 1);
  assert.match(deploy.stderr, /service\/gunicorn failed/);
  assert.match(deploy.stderr, /Worker failed to boot|this release is broken on purpose/);
  assert.match(deploy.stderr, /live is again what it was before/);
  assert.is(await release(), live);
  const verify = await project.ingot(["verify", "live"]);
  // The stack's file still asks for the broken release: that it is not live is all that is wrong.
  assert.equal(
    [...verify.stdout.matchAll(/FAILED +(\S+)/g)].map((m) => m[1]),
    ["application/inloop:live"],
  );
});

test("a migration that fails leaves the old release serving", async () => {
  writeFileSync(join(app(), "inloop/wsgi.py"), readFileSync(join(project.folder, "tests/apps/inloop/inloop/wsgi.py"), "utf8"));
  writeFileSync(join(app(), "inloop/board/migrations/0099_broken.py"), 'raise RuntimeError("this migration is broken on purpose")\n');
  const deploy = await project.ingot(["deploy", "live"]);
  assert.is(deploy.code, 1);
  assert.match(deploy.stderr, /this migration is broken on purpose/);
  assert.is(await release(), live);
});

test("rollback goes back to the generation before, and to a named one; the next apply brings the file's again", async () => {
  const [one = "", two = ""] = (await past()).slice(-2);
  const before = (await project.on("live", "ls -1tr /srv/inloop/releases")).stdout.trim().split("\n");
  assert.ok(before.length >= 2);
  const back = await project.ingot(["rollback", "live"]);
  assert.is(back.code, 0, back.stderr);
  assert.is.not(await release(), live);
  assert.equal((await past()).at(-1), one);
  const named = await project.ingot(["rollback", "live", "--to", two.slice(0, 12)]);
  assert.is(named.code, 0, named.stderr);
  assert.is(await release(), live);
  const never = await project.ingot(["rollback", "live", "--to", "ffff"]);
  assert.match(never.stderr, /live\/web has never been ffff/);
});

test.run();
