// The `cdktf` CLI itself on what `ingot plan --on aws` writes: the stack `image` first, then the stack with the host, launched from its AMI; and the
// states are Ingot's own. Skipped without the provider, and where INGOT_CDKTF does not name the CLI (npm's cdktf-cli, `bundle/bin/cdktf`).
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { toolFolder } from "../../lib/paths.ts";
import { suite } from "../suite.ts";
import { Ec2, type Outcome } from "./ec2.ts";

const test = suite("cdktf deploy");
const ec2 = new Ec2("with AMIs");
const cli = process.env.INGOT_CDKTF;
const one = ec2.hasProvider && cli !== undefined ? test : test.skip;
// The lock of providers asks the registry for their checksums, whatever Terraform's own configuration says of a mirror.
const cdktf = (...args: string[]): Promise<Outcome> => ec2.run([process.execPath, cli ?? "", ...args, "--skip-provider-lock"]);

test.before(async () => {
  if (!ec2.hasProvider || cli === undefined) return;
  const stack = join(ec2.folder, "stacks/inloop.yaml");
  // What moto does not model: alarms in the protocol that the provider speaks now, and the Data Lifecycle Manager.
  const text = readFileSync(stack, "utf8").replace(/^( {4}domain: .*)$/m, "$1\n    aws: { alarms: false, snapshots: { every: never } }");
  writeFileSync(stack, text);
  rmSync(join(ec2.folder, "stacks/kano-konnect.yaml"));
  // As npm has installed them in a project.
  mkdirSync(join(ec2.folder, "node_modules/.bin"), { recursive: true });
  symlinkSync(join(toolFolder, "dist/ingot.js"), join(ec2.folder, "node_modules/.bin/ingot"));
  const settings = JSON.parse(readFileSync(join(toolFolder, "cdktf.json"), "utf8")) as object;
  writeFileSync(
    join(ec2.folder, "cdktf.json"),
    JSON.stringify({ ...settings, app: `node ${join(toolFolder, "dist/cdktf.js")}`, terraformProviders: [] }),
  );
  await ec2.start();
  await ec2.takeBlocks();
});
test.after(() => ec2.end());

one("cdktf deploy image inloop: the AMI, and the host from it", async () => {
  const { ami } = await ec2.bake("inloop");
  // As docs/images-on-aws.md has it, for who launches without `ingot up`.
  const key = join(ec2.folder, "operator");
  execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "operator", "-f", key]);
  await ec2.ask(`
    import { readFileSync } from "node:fs";
    import { SSMClient, PutParameterCommand } from "@aws-sdk/client-ssm";
    const Value = readFileSync("${key}", "utf8");
    console.log(JSON.stringify(await new SSMClient({}).send(new PutParameterCommand({ Name: "/ingot/inloop/secrets/operator-ssh-key", Type: "SecureString", Value }))));`);
  const plan = await ec2.ingot(["plan", "inloop"]);
  assert.is(plan.code, 0, ec2.said(plan));
  const deploy = await cdktf("deploy", "image", "inloop", "--auto-approve");
  assert.is(deploy.code, 0, ec2.said(deploy));
  const launched = await ec2.ask(`
    import { EC2Client, DescribeInstancesCommand } from "@aws-sdk/client-ec2";
    const { Reservations } = await new EC2Client({}).send(new DescribeInstancesCommand({}));
    console.log(JSON.stringify(Reservations.flatMap((r) => r.Instances).map((i) => i.ImageId)));`);
  assert.equal(launched, [ami.id]);
});

one("a second one changes nothing but what the emulator forgets; Ingot's own plan sees the same state", async () => {
  const diff = await cdktf("diff", "inloop");
  assert.match(diff.stdout, /0 to add, 1 to change, 0 to destroy/, ec2.said(diff));
  const plan = JSON.parse((await ec2.ingot(["plan", "inloop", "--json"])).stdout) as { changes: { words: string }[] };
  // moto's RunInstances ignores DisableApiTermination.
  assert.equal(
    plan.changes.map((c) => c.words),
    ["instance web is changed (disable_api_termination: false → true)"],
  );
});

one("the host found no secrets when it booted; `ingot up` goes on from the same state: it brings them, and launches it again", async () => {
  const up = await ec2.ingot(["up", "inloop", "--replace", "web"]);
  assert.is(up.code, 0, ec2.said(up));
  assert.match(up.stdout, /checks: (\d+) of \1 passed/);
});

test.run();
