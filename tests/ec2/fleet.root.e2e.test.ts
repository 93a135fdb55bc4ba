// A fleet on EC2, as far as this computer can show it: an Auto Scaling group over two zones behind a balancer, secrets in Secrets Manager,
// state on this computer. Skipped without the provider.
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { toolFolder } from "../../lib/paths.ts";
import { suite } from "../suite.ts";
import { Ec2, editor } from "./ec2.ts";

const test = suite("fleet on ec2");
const ec2 = new Ec2();
const one = ec2.hasProvider ? test : test.skip;
const stack = join(ec2.folder, "stacks/fleet.yaml");
const edit = editor(stack);

test.before(async () => {
  if (!ec2.hasProvider) return;
  cpSync(join(toolFolder, "tests/stacks/aws/synth/fleet.yaml"), stack);
  // What moto does not model: alarms in the protocol that the provider speaks now.
  edit("spot: true,", "spot: true, alarms: false,");
  await ec2.start();
  await ec2.register("fleet");
  await ec2.hostedZone("example.org");
});
test.after(() => ec2.end());

one("each of its machines boots, reports and is verified", async () => {
  const up = await ec2.ingot(["up", "fleet"]);
  assert.is(up.code, 0, ec2.said(up));
  assert.is((await ec2.there()).instances.length, 3);
  assert.is([...up.stderr.matchAll(/ {2}i-[0-9a-f]+ launched at/g)].length, 3);
  const status = JSON.parse((await ec2.ingot(["status", "fleet", "--json"])).stdout) as { state: string }[];
  assert.equal(
    status.map((m) => m.state),
    ["running", "running", "running"],
  );
});

one("the second plan is empty, and another command is a new generation for all of them", async () => {
  const plan = async () =>
    JSON.parse((await ec2.ingot(["plan", "fleet", "--json"])).stdout) as {
      hosts: { fate: string; words: string[] }[];
      changes: { words: string }[];
    };
  // moto counts the launch template's own tags among those of what it launches, so that Terraform would write it again, and the group with it.
  assert.equal(
    (await plan()).changes.map((c) => c.words.replace(/ \(.*/, "")),
    ["autoscaling group web is changed", "launch template web is changed"],
  );
  assert.match(JSON.stringify((await plan()).changes), /tag_specifications\)"/);
  const before = readFileSync(stack, "utf8");
  edit("8001, listens", "8001 -p HTTP/1.1, listens");
  const { hosts } = await plan();
  assert.is(hosts[0]?.fate, "changed");
  assert.match(JSON.stringify(hosts) + JSON.stringify((await plan()).changes), /launch template web is changed \([^)]*user_data/);
  writeFileSync(stack, before);
});

one("what would not last on a fleet is refused; exec goes to one of its machines", async () => {
  for (const command of ["apply", "stop"]) {
    const refused = await ec2.ingot([command, "fleet"]);
    assert.is(refused.code, 1, ec2.said(refused));
    assert.match(refused.stderr, /fleet\/web is a fleet/);
  }
  assert.match((await ec2.ingot(["exec", "fleet", "--", "hostname"])).stdout, /^web$/m);
});

one("down ends all of it", async () => {
  const down = await ec2.ingot(["down", "fleet"]);
  assert.is(down.code, 0, ec2.said(down));
  assert.equal(await ec2.there(), { instances: [], volumes: [] }, ec2.said(down));
});

test.run();
