// The guard's words for plans as Terraform writes them, and what it never lets through.
import fc from "fast-check";
import * as assert from "uvu/assert";
import { sha256 } from "../../../../lib/digest.ts";
import { guard, say } from "../../../../stacks/aws/guard.ts";
import type { Inventory } from "../../../../stacks/aws/inventory.ts";
import type { AwsStack } from "../../../../stacks/aws/shape.ts";
import type { ResourceChange } from "../../../../stacks/aws/terraform.ts";
import { suite } from "../../../suite.ts";
import { stackOf } from "../synth/fixtures.ts";

const test = suite("guard");
const stack = stackOf("inloop");

/** As it is after a launch of `shape`. */
const inventoryOf = (shape: AwsStack): Inventory => ({
  stack: shape.stack,
  region: shape.region,
  shape,
  hosts: shape.hosts.map((h) => ({
    host: h.host,
    instance: "i-1",
    imageDigest: h.image.digest,
    distro: "debian",
    ami: h.image.id,
    generation: h.generation,
    userData: sha256(h.userData),
    volumes: {},
    launched: "",
  })),
});
const inventory = inventoryOf(stack);

const tags = { "ingot:stack": "inloop", "ingot:host": "web" };
const change = (
  address: string,
  actions: ResourceChange["change"]["actions"],
  before: object | null,
  after: object | null,
  more: object = {},
): ResourceChange => {
  const [type = "", name = ""] = address.split(".");
  const values = (v: object | null) => v && { tags, ...v };
  return { address, type, name, mode: "managed", change: { actions, before: values(before), after: values(after), ...more } };
};
const judge = (changes: ResourceChange[], more: Partial<Parameters<typeof guard>[1]> = {}) =>
  guard({ resource_changes: changes }, { stack, inventory, replace: [], deleteVolumes: [], ...more });
const disk = { tags: { ...tags, "ingot:volume": "postgresql" }, size: 10 };

test("nothing changes: said as such", () => {
  assert.is(say(judge([change("aws_instance.web", ["no-op"], {}, {})])), "inloop/web stays as it is\nnothing changes on EC2");
});

test("another type stops the machine, and that is said", () => {
  const verdict = judge([change("aws_instance.web", ["update"], { instance_type: "t3.small" }, { instance_type: "t3.medium" })]);
  assert.is(verdict.hosts[0]?.fate, "changed");
  assert.match(say(verdict), /instance_type: t3\.small → t3\.medium\): the machine is stopped for it and started again/);
  assert.equal(verdict.refused, []);
});

test("a host with data is made anew only when it is named; its volumes stay", () => {
  const replaced = change(
    "aws_instance.web",
    ["delete", "create"],
    { subnet_id: "a" },
    { subnet_id: "b" },
    { replace_paths: [["subnet_id"]] },
  );
  const verdict = judge([replaced]);
  assert.equal(
    verdict.refused.map((r) => r.unless),
    ["when it may be made anew: --replace web"],
  );
  assert.match(
    verdict.refused[0]?.words ?? "",
    /instance web is made anew \(subnet_id\): web holds data \(docker, inloop, postgresql, backup\)/,
  );
  const named = judge([replaced], { replace: ["web"] });
  assert.equal(named.refused, []);
  assert.match(say(named), /its data volumes \(docker, inloop, postgresql, backup\) stay and are attached again/);
});

test("another zone would leave the data behind: machine and volumes are refused, and the way is said; what is named may go still", () => {
  const zone = (z: string) => ({ availability_zone: `eu-central-1${z}` });
  const paths = { replace_paths: [["availability_zone"]] };
  const moved = [
    change("aws_instance.web", ["delete", "create"], zone("a"), zone("b"), paths),
    change("aws_ebs_volume.web_postgresql", ["delete", "create"], { ...disk, ...zone("a") }, { ...disk, ...zone("b") }, paths),
  ];
  const verdict = judge(moved);
  assert.is(verdict.refused.length, 2);
  assert.match(say(verdict), /its data volumes \(docker, inloop, backup\) stay and are attached again/);
  for (const { words, unless } of verdict.refused) {
    assert.match(words, /is made anew \(availability_zone\).*what is on a volume stays in its zone$/);
    assert.match(unless, /^to move it with its data: `ingot rebuild inloop\/web --on aws`; or write its `zone:` as it was$/);
  }
  assert.equal(
    judge(moved, { replace: ["web"] }).refused.map((r) => r.address),
    ["aws_ebs_volume.web_postgresql"],
  );
  assert.equal(judge(moved, { replace: ["web"], deleteVolumes: ["web/postgresql"] }).refused, []);
});

test("a rebuild into another zone: volumes that are made where there are none, and a machine that was named, are let through", () => {
  const made = judge(
    [
      change("aws_instance.web", ["delete", "create"], {}, {}, { replace_paths: [["availability_zone"], ["subnet_id"]] }),
      change("aws_ebs_volume.web_postgresql", ["create"], null, { tags: disk.tags, snapshot_id: "snap-1" }),
    ],
    { replace: ["web"] },
  );
  assert.equal(made.refused, []);
});

test("what a killed launch left half made is made anew; a machine that the inventory knows is not", () => {
  const tainted = { ...change("aws_instance.web", ["delete", "create"], {}, {}), action_reason: "replace_because_tainted" };
  assert.equal(judge([tainted], { inventory: undefined }).refused, []);
  assert.is(judge([tainted]).refused.length, 1);
  assert.is(judge([{ ...tainted, action_reason: "replace_because_cannot_update" }], { inventory: undefined }).refused.length, 1);
});

test("a data volume goes only when it is named", () => {
  const gone = change("aws_ebs_volume.web_postgresql", ["delete"], disk, null);
  assert.match(judge([gone]).refused[0]?.unless ?? "", /--yes-delete-volume web\/postgresql/);
  assert.equal(judge([gone], { deleteVolumes: ["web/postgresql"] }).refused, []);
  assert.is(judge([gone], { deleteVolumes: ["web/other"] }).refused.length, 1);
});

test("a volume grows and never shrinks", () => {
  const sized = (size: number) => change("aws_ebs_volume.web_postgresql", ["update"], disk, { ...disk, size });
  assert.equal(judge([sized(20)]).refused, []);
  assert.match(say(judge([sized(20)])), /the data volume web\/postgresql is changed \(size: 10 → 20\)/);
  assert.match(judge([sized(5)]).refused[0]?.words ?? "", /a volume cannot shrink/);
});

test("what Terraform overlooks is told from the digests: another image, another generation, other bytes alone", () => {
  const host = stack.hosts[0];
  if (!host) throw new Error("no host");
  const after = (more: Partial<typeof host>) => say(judge([], { stack: { ...stack, hosts: [{ ...host, ...more }] } }));
  assert.match(
    after({ image: { ...host.image, id: "ami-2", digest: "2".repeat(64) } }),
    /the image is 111111111111 and stays, the stack's is 222222222222: `ingot up inloop --on aws --replace web`/,
  );
  assert.match(after({ generation: "5".repeat(64) }), /`ingot apply inloop --on aws`/);
  assert.match(after({ userData: "b3RoZXI=" }), /nothing has to be done/);
});

test("drift is what a plan would take back, and nothing that Terraform has only read anew", () => {
  const drifted = (address: string) =>
    change(address, ["update"], { instance_type: "t3.small", public_ip: "" }, { instance_type: "t3.large", public_ip: "1.2.3.4" });
  const back = change("aws_instance.web", ["update"], { instance_type: "t3.large" }, { instance_type: "t3.small" });
  const verdict = guard(
    { resource_changes: [back], resource_drift: [drifted("aws_instance.web"), drifted("aws_eip.web")] },
    { stack, inventory, replace: [], deleteVolumes: [] },
  );
  assert.equal(verdict.drift, ["aws_instance.web: instance_type: t3.small → t3.large"]);
});

test("a host that is out of the stack is said to go, and its volumes are not among what may", () => {
  const without = { ...stack, hosts: [] };
  const verdict = judge(
    [change("aws_instance.web", ["delete"], {}, null), change("aws_ebs_volume.web_postgresql", ["delete"], disk, null)],
    { stack: without },
  );
  assert.equal(
    verdict.hosts.map((h) => [h.host, h.fate]),
    [["web", "deleted"]],
  );
  assert.equal(
    verdict.refused.map((r) => r.address),
    ["aws_ebs_volume.web_postgresql"],
  );
});

test("a thing with data that Ingot does not know is never let go", () => {
  for (const type of ["aws_db_instance", "aws_s3_bucket", "aws_efs_file_system", "aws_ebs_volume"])
    assert.is(
      judge([change(`${type}.a`, ["delete"], { tags: {} }, null)], { replace: ["web"], deleteVolumes: ["web/postgresql"] }).refused.length,
      1,
      type,
    );
});

test("no plan, whatever else is in it, loses a data volume that was not named", () => {
  const actions = fc.constantFrom<ResourceChange["change"]["actions"]>(
    ["no-op"],
    ["create"],
    ["update"],
    ["delete"],
    ["delete", "create"],
    ["create", "delete"],
  );
  const volume = fc.record({ host: fc.constantFrom("web", "db"), name: fc.constantFrom("postgresql", "inloop", "media"), actions });
  fc.assert(
    fc.property(
      fc.array(volume, { maxLength: 6 }),
      fc.array(fc.constantFrom<string>("web/postgresql", "web/media", "db/inloop"), { maxLength: 2 }),
      (volumes, named) => {
        const verdict = judge(
          volumes.map(({ host, name, actions: a }) =>
            change(
              `aws_ebs_volume.${host}_${name}`,
              a,
              { tags: { "ingot:host": host, "ingot:volume": name } },
              a.includes("create") ? disk : null,
            ),
          ),
          { deleteVolumes: named },
        );
        const lost = volumes.filter((v) => v.actions.includes("delete") && !named.includes(`${v.host}/${v.name}`));
        assert.is(verdict.refused.length, lost.length);
      },
    ),
  );
});

test.run();
