// What is synthesised, held whole: a golden file for each stack, each extent, and each way of keeping secrets.
import { join } from "node:path";
import type { AwsStack, Extent } from "../../../../stacks/aws/shape.ts";
import { jsonOf } from "../../../../stacks/aws/synth.ts";
import { golden } from "../../../cloud-init/fixtures.ts";
import { suite } from "../../../suite.ts";
import { here, stackOf } from "./fixtures.ts";

const test = suite("synth: goldens");

const inloop = stackOf("inloop", { agent: { web: true }, spilled: { web: ["f".repeat(64)] } });
const restored = {
  ...inloop,
  hosts: inloop.hosts.map((h) => ({ ...h, volumes: h.volumes.map((v) => ({ ...v, snapshot: "snap-0a1b2c3d" })) })),
};
const cases: [string, AwsStack, Extent, string[]][] = [
  ["inloop", inloop, "all", []],
  ["inloop-data", inloop, "data", ["web/inloop"]],
  ["inloop-nothing", inloop, "nothing", []],
  ["inloop-secrets-manager", { ...restored, secrets: "secrets-manager" }, "all", []],
  ["patchwork", stackOf("patchwork"), "all", []],
  ["patchwork-single", stackOf("patchwork-single"), "all", []],
  ["kano-konnect", stackOf("kano-konnect", { region: "eu-west-1" }), "all", []],
  ["inloop-split", stackOf("inloop-split"), "all", []],
  ["two-hosts", stackOf("two-hosts"), "all", []],
  ["two-hosts-in-given-subnets", { ...stackOf("two-hosts"), network: { kind: "subnets", subnets: ["subnet-0a1b2c3d"] } }, "all", []],
  ["fleet", stackOf("fleet"), "all", []],
];

for (const [name, stack, extent, release] of cases) {
  test(`${name} becomes what golden/${name}.json says`, () => {
    golden(join(here, "golden", `${name}.json`), `${JSON.stringify(jsonOf(stack, extent, { release }), null, 2)}\n`);
  });
}

test.run();
