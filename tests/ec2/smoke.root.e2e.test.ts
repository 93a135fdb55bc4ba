// A smoke boot on EC2, as far as this computer can show it: the instance is a real machine, booted of the baked image with the bytes of user-data that
// moto was given, and its console is what GetConsoleOutput gives. What becomes stable has passed it; what does not pass it is not promoted.
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import type { Manifest } from "../../images/image.ts";
import { toolFolder } from "../../lib/paths.ts";
import { region } from "../moto.ts";
import { suite } from "../suite.ts";
import { Ec2 } from "./ec2.ts";

const test = suite("smoke boot on ec2");
const ec2 = new Ec2("with AMIs");
const wrong = "f".repeat(64);
let digest = "";

/** Registers an AMI of debian-12 with this digest, as `ingot bake` does. */
const register = (of: string) =>
  ec2.ask(`
    import { EC2Client, RegisterImageCommand } from "@aws-sdk/client-ec2";
    const tags = { "ingot:image": "${of}", "ingot:recipe": "debian-12", "ingot:way": "direct", "ingot:run": "1" };
    const Tags = Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
    const { ImageId } = await new EC2Client({}).send(new RegisterImageCommand({ Name: "ingot/debian-12/${of}", Architecture: "x86_64", RootDeviceName: "/dev/xvda", VirtualizationType: "hvm", TagSpecifications: [{ ResourceType: "image", Tags }] }));
    console.log(JSON.stringify(ImageId));`) as Promise<string>;

const image = (...args: string[]) => ec2.ingot(["image", ...args, "--region", region]);

/** An image of this computer's that has the same tree as debian-12's, and promises something else. */
function promiseMore(): void {
  const shared = join(toolFolder, ".ingot/images");
  const store = ec2.ownStore();
  const manifest = JSON.parse(readFileSync(join(shared, digest, "manifest.json"), "utf8")) as Manifest;
  const [file = ""] = Object.keys(manifest.files);
  mkdirSync(join(store, wrong));
  symlinkSync(join(shared, digest, "root"), join(store, wrong, "root"));
  writeFileSync(
    join(store, wrong, "manifest.json"),
    JSON.stringify({
      ...{ ...manifest, digest: wrong, packages: { ...manifest.packages, curl: "9.0-1", emacs: "1.0" } },
      ...{
        users: { ...manifest.users, backup: { ...manifest.users.backup, uid: 999 } },
        files: { ...manifest.files, [file]: "0".repeat(64) },
      },
    }),
  );
}

test.before(async () => {
  await ec2.start();
  const { code, stdout, stderr } = await ec2.run([process.execPath, join(toolFolder, "dist/ingot.js"), "bake", "debian-12", "--json"]);
  assert.is(code, 0, stderr);
  digest = (JSON.parse(stdout) as { digest: string }).digest;
  promiseMore();
});
test.after(() => ec2.end());

test("what is to become stable is booted, says what it is, is found right, and its instance goes", async () => {
  const ami = await register(digest);
  const plan = await image("promote", "debian-12", "stable", "--dry-run");
  assert.match(plan.stdout, /would be booted and looked at first/, ec2.said(plan));
  const promoted = await image("promote", "debian-12", "stable", "--json");
  assert.is(promoted.code, 0, ec2.said(promoted));
  const said = JSON.parse(promoted.stdout) as {
    ami: string;
    outcome: string;
    smoke: { instance: string; passed: string; seconds: number };
  };
  assert.equal([said.ami, said.outcome], [ami, "pointed"]);
  assert.match(said.smoke.instance, /^i-/);
  assert.equal((await ec2.there()).instances, []);
  const shown = JSON.parse((await image("show", "debian-12/stable", "--json")).stdout) as { id: string; smoke: string };
  assert.equal([shown.id, shown.smoke], [ami, said.smoke.passed]);
  if (process.env.INGOT_TEST_TIMES) console.log(`smoke boot: ${said.smoke.seconds.toFixed(1)} s`);
});

test("it is booted once: the next promotion has its tag", async () => {
  const again = await image("promote", "debian-12", "stable");
  assert.match(again.stdout, /is debian-12 \w+ \(ami-\w+\) already/, ec2.said(again));
});

test("what is not the image that its digest says is found out, in words, and does not become stable", async () => {
  await register(wrong);
  const refused = await image("promote", wrong, "stable");
  assert.is(refused.code, 1, ec2.said(refused));
  assert.match(
    refused.stderr,
    /boots, and is not what it was baked to be: packages are not the image's: curl 7\S+ \(ii\), not 9.0-1, emacs is missing, not 1.0/,
  );
  assert.match(refused.stderr, /users have not their numbers: backup; files are not Ingot's: \/usr\/lib\//);
  assert.equal((await ec2.there()).instances, []);
  const history = JSON.parse((await image("history", "debian-12", "stable", "--json")).stdout) as { stable: unknown[] };
  assert.is(history.stable.length, 1);
});

test("one that says nothing in time is ended, with the end of its console", async () => {
  const child = ec2.begin(
    [process.execPath, join(toolFolder, "dist/ingot.js"), "image", "promote", wrong, "stable", "--region", region, "--on", "aws"],
    {
      INGOT_SMOKE_SECONDS: "2",
    },
  );
  const refused = await child.ended;
  assert.is(refused.code, 1, ec2.said(refused));
  assert.match(refused.stderr, /said nothing of itself in 2 s\n {2}hint: the end of its console:\n/);
  assert.equal((await ec2.there()).instances, []);
});

test.run();
