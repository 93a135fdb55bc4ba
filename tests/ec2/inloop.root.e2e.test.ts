// INLOOP on EC2 as far as this computer can show it: its AMI made by the command, of the disk that is made here; the real Terraform and AWS provider
// against moto; and the very bytes of user-data that moto was given booted as a machine, which asks the metadata service, SSM and S3 for the rest and
// reports there. Then another AMI of the recipe is promoted, taken back and pruned. Skipped without the provider.
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { toolFolder } from "../../lib/paths.ts";
import type { Ami } from "../../stacks/aws/ami/ami.ts";
import { suite } from "../suite.ts";
import { Ec2, type Outcome } from "./ec2.ts";

const test = suite("inloop on ec2");
const ec2 = new Ec2("with AMIs");
const one = ec2.hasProvider ? test : test.skip;
const stack = () => join(ec2.folder, "stacks/inloop.yaml");
const recipe = join(ec2.folder, "images/inloop.yaml");
let ami: Ami;

test.before(async () => {
  if (!ec2.hasProvider) return;
  // What moto does not model: alarms in the protocol that the provider speaks now, and the Data Lifecycle Manager.
  const text = readFileSync(stack(), "utf8").replace(/^( {4}domain: .*)$/m, "$1\n    aws: { alarms: false, snapshots: { every: never } }");
  writeFileSync(stack(), text);
  // It is in another region, and AMIs are made where the project's stacks are.
  rmSync(join(ec2.folder, "stacks/kano-konnect.yaml"));
  ec2.ownStore();
  await ec2.start();
  await ec2.takeBlocks();
});
test.after(() => ec2.end());

/** The AMI that an instance was launched from. */
const imageOf = (instance: string) =>
  ec2.ask(`
    import { EC2Client, DescribeInstancesCommand } from "@aws-sdk/client-ec2";
    const { Reservations } = await new EC2Client({}).send(new DescribeInstancesCommand({ InstanceIds: ["${instance}"] }));
    console.log(JSON.stringify(Reservations[0].Instances[0].ImageId));`);

const image = async (...args: string[]) => {
  const done = await ec2.ingot(["image", ...args, "--json"]);
  assert.is(done.code, 0, failed(done));
  return JSON.parse(done.stdout) as Record<string, unknown>;
};

const failed = (outcome: Outcome): string => ec2.said(outcome);

one("bake --on aws --direct ends in an AMI of the disk that is made here, and the next one finds it", async () => {
  const first = await ec2.bake("inloop");
  assert.ok(first.made);
  ami = first.ami;
  assert.equal([ami.recipe, ami.way, ami.state, ami.snapshots], ["inloop", "direct", "available", [first.upload?.snapshot]]);
  const again = await ec2.bake("inloop");
  assert.equal([again.made, again.ami.id], [false, ami.id]);
});

one("before the first launch the plan says what will be made, and makes nothing", async () => {
  const plan = await ec2.ingot(["plan", "inloop"]);
  assert.is(plan.code, 0, failed(plan));
  assert.match(plan.stdout, /inloop\/web is created\n {2}a new machine, t3\.small in eu-central-1a, image [0-9a-f]{12}/);
  assert.equal(await ec2.there(), { instances: [], volumes: [] });
});

one("a launch that is killed in the middle leaves Terraform's state in order, and the next one goes on", async () => {
  const { child, ended } = ec2.begin([process.execPath, join(toolFolder, "dist/ingot.js"), "up", "inloop", "--on", "aws"]);
  const log = join(ec2.folder, ".ingot/aws/inloop/terraform.log");
  const until = performance.now() + 400_000;
  while (!(existsSync(log) && readFileSync(log, "utf8").includes("aws_instance.web: Creating"))) {
    assert.ok(performance.now() < until, "Terraform never came to the instance");
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  child.kill("SIGKILL");
  await ended;
  const { instances } = await ec2.there();
  assert.ok(instances.length <= 1);
});

one("up launches it, follows its own report to the end, and verifies it through ssh", async () => {
  const up = await ec2.ingot(["up", "inloop"]);
  assert.is(up.code, 0, failed(up));
  assert.match(up.stderr, /changed +web: |changed +application\/inloop/);
  assert.match(up.stdout, /checks: (\d+) of \1 passed/);
  // Of the one that was killed nothing is there twice.
  const { instances } = await ec2.there();
  assert.is(instances.length, 1);
  assert.is(await imageOf(instances[0] ?? ""), ami.id);
});

one("a second plan is empty but for what the emulator forgets", async () => {
  const plan = JSON.parse((await ec2.ingot(["plan", "inloop", "--json"])).stdout) as {
    changes: { address: string; words: string }[];
    refused: unknown[];
  };
  assert.equal(plan.refused, []);
  // moto's RunInstances ignores DisableApiTermination.
  assert.equal(
    plan.changes.map((c) => c.words),
    ["instance web is changed (disable_api_termination: false → true)"],
  );
});

one("status, exec, cp, logs and apply work on it", async () => {
  const status = JSON.parse((await ec2.ingot(["status", "inloop", "--json"])).stdout) as { state: string; host: string }[];
  assert.equal(
    status.map((m) => [m.host, m.state]),
    [["web", "running"]],
  );
  const exec = await ec2.ingot([
    "exec",
    "inloop",
    "--",
    "sh",
    "-c",
    'id -un; echo "$1"; cat /run/ingot/facts/facts.json',
    "sh",
    "it's $HOME",
  ]);
  const [who, said, facts = "{}"] = exec.stdout.split("\n");
  assert.equal([who, said, (JSON.parse(facts) as { target: string }).target], ["root", "it's $HOME", "aws"]);
  const logs = await ec2.ingot(["logs", "inloop", "application/inloop"]);
  assert.match(logs.stdout, /migrat/i, failed(logs));
  const applied = JSON.parse((await ec2.ingot(["apply", "inloop", "--json"])).stdout) as { ok: boolean; changed: string[] };
  assert.equal(applied, { ...applied, ok: true, changed: [] });
});

one("no secret is in user-data, in Terraform's state and plan, or on the machine where others may read it", async () => {
  const secret = await ec2.ingot(["exec", "inloop", "--", "cat", "/var/lib/ingot/secrets/django"]);
  assert.match(secret.stdout, /^[0-9a-f]{64}$/);
  const found = await ec2.run(["grep", "-rlF", secret.stdout.trim(), join(ec2.folder, ".ingot/aws"), join(ec2.folder, "ec2")]);
  assert.equal(
    found.stdout.split("\n").filter((f) => f && !/\/(upper|root)\/var\/lib\/ingot\/(secrets|applications)\//.test(f)),
    [],
  );
});

one("what holds data is not replaced unless it is named; then its data is on the new machine", async () => {
  await ec2.ingot(["exec", "inloop", "--", "sh", "-c", "runuser -u huey -- sh -c 'echo kept >/var/lib/inloop/kept'"]);
  const before = await ec2.there();
  const zone = readFileSync(stack(), "utf8");
  writeFileSync(stack(), zone.replace("aws: { alarms", "aws: { zone: b, alarms"));
  const refused = await ec2.ingot(["up", "inloop"]);
  assert.is(refused.code, 1);
  assert.match(refused.stderr, /--yes-delete-volume web\/inloop/);
  writeFileSync(stack(), zone);
  const again = await ec2.ingot(["up", "inloop", "--replace", "web"]);
  assert.is(again.code, 0, failed(again));
  const after = await ec2.there();
  assert.equal(after.volumes, before.volumes);
  assert.is.not(after.instances[0], before.instances[0]);
  assert.is((await ec2.ingot(["exec", "inloop", "--", "cat", "/var/lib/inloop/kept"])).stdout, "kept\n");
});

one("another AMI of the recipe is sent as what changed; a channel goes to it and back; pruned is the one that nobody uses", async () => {
  await image("promote", "inloop", "candidate");
  // What becomes stable is booted before, as a machine of its image here, and found to be that.
  const stable = (await image("promote", "inloop", "stable")) as { ami: string; smoke: { passed: string } };
  assert.is(stable.ami, ami.id);
  assert.match(stable.smoke.passed, /^\d{4}-/);
  assert.is((await ec2.there()).instances.length, 1, "the instance of the smoke boot is gone");

  const was = readFileSync(recipe, "utf8");
  writeFileSync(recipe, `${was}files:\n  /etc/motd: { content: "another\\n" }\n`);
  const next = await ec2.bake("inloop");
  assert.equal([next.made, next.upload?.parent], [true, ami.snapshots[0]]);
  assert.is.not(next.ami.digest, ami.digest);
  const promoted = (await image("promote", next.ami.id, "candidate")) as { ami: string; from: string };
  assert.equal([promoted.ami, promoted.from], [next.ami.id, ami.id]);
  writeFileSync(recipe, was);
  const back = (await image("rollback", "inloop", "candidate")) as { ami: string; from: string };
  assert.equal([back.ami, back.from], [ami.id, next.ami.id]);
  const history = (await image("history", "inloop", "candidate")) as { candidate: { ami: string; how: string }[] };
  assert.equal(
    history.candidate.map((h) => [h.ami, h.how]),
    [
      [ami.id, "rolled back to version 1"],
      [next.ami.id, "promoted"],
      [ami.id, "promoted"],
    ],
  );

  const [instance] = (await ec2.there()).instances;
  const uses = (await image("prune", "--keep", "0")) as { prunable: { id: string }[]; kept: { id: string; why: string[] }[] };
  assert.equal(
    uses.prunable.map((p) => p.id),
    [next.ami.id],
  );
  assert.match(String(uses.kept.find((k) => k.id === ami.id)?.why), new RegExp(`instance ${instance}.*channel inloop/candidate`));
  const held = await ec2.ingot(["image", "prune", ami.id, "--yes"]);
  assert.is(held.code, 1);
  assert.match(held.stderr, /is in use: instance i-/);
  const pruned = (await image("prune", "--keep", "0", "--yes")) as { removed: { id: string }[]; snapshots: string[] };
  assert.equal([pruned.removed.map((r) => r.id), pruned.snapshots], [[next.ami.id], next.ami.snapshots]);
  const left = (await image("list")) as { amis: { id: string; channels: string[] }[] };
  assert.equal(
    left.amis.map((a) => [a.id, a.channels]),
    [[ami.id, ["candidate", "stable"]]],
  );
});

one("down leaves the volumes, and nothing else", async () => {
  const before = await ec2.there();
  const down = await ec2.ingot(["down", "inloop"]);
  assert.is(down.code, 0, failed(down));
  assert.equal(await ec2.there(), { instances: [], volumes: before.volumes });
  assert.is((await ec2.ingot(["status", "inloop"])).code, 1);
  const gone = await ec2.ingot([
    "down",
    "inloop",
    "--yes-delete-volume",
    "web/backup",
    "--yes-delete-volume",
    "web/docker",
    "--yes-delete-volume",
    "web/inloop",
    "--yes-delete-volume",
    "web/postgresql",
  ]);
  assert.is(gone.code, 0, failed(gone));
  assert.equal(await ec2.there(), { instances: [], volumes: [] });
});

test.run();
