// What the tests of this room launch: a plan that asks for next to nothing, and user-data that stands in for Ingot's activator.
import { mkdirSync, mkdtempSync } from "node:fs";
import { join } from "node:path";
import { awsHostSchema, awsStackSchema } from "../../cloud-init/aws.ts";
import type { HostPlan, StackPlan } from "../../cloud-init/plan.ts";
import type { UserData } from "../../cloud-init/user-data.ts";
import type { Image } from "../../images/image.ts";
import { type Project, projectAt } from "../../lib/paths.ts";
import { defaultsOf } from "../../lib/schema.ts";
import type { HostInput } from "../../stacks/target.ts";
import { bakedRoot } from "../image.ts";
import { manifestOf } from "../images/fixtures.ts";

/** Where a plan is only looked at, no image is needed. */
export const testRoot: string = bakedRoot() ?? "/no/image/was/baked";

/** In a folder whose name holds a space and a colon: mounts and command lines must bear it. */
export function temporaryProject(): Project {
  const folder = mkdtempSync("/var/tmp/ingot test: ");
  for (const part of ["images", "stacks"]) mkdirSync(join(folder, part));
  return projectAt(folder);
}

export function stackOf(stack: string, hosts: HostInput[]): StackPlan {
  return { stack, file: `stacks/${stack}.yaml`, hosts: hosts.map((h) => h.plan), warnings: [], aws: defaultsOf(awsStackSchema) };
}

export function hostInput(stack: string, host: string, text: string, more: Partial<HostPlan> = {}): HostInput {
  const plan: HostPlan = {
    stack,
    host,
    hostname: host,
    fqdn: `${host}.example.org`,
    aws: defaultsOf(awsHostSchema),
    image: { name: "test" },
    generation: { digest: "0".repeat(64), steps: [], files: [], checks: [] },
    artifacts: [],
    secrets: [],
    volumes: [],
    ports: [],
    origins: {},
    localNames: [],
    wants: [],
    checks: [],
    ...more,
  };
  const userData: UserData = { bytes: Buffer.from(text), text, compressed: false, spilled: [], byResource: [] };
  const image: Image = {
    name: "test",
    digest: "1".repeat(64),
    root: testRoot,
    manifest: manifestOf({ name: "test", digest: "1".repeat(64) }),
  };
  return { plan, image, userData, secrets: {} };
}

/** User-data with a stand-in for the activator, which does `before` (lines of a shell script) and reports one step. */
export function activating(before: string[] = [], outcome: "done" | "failed" = "done"): string {
  const script = [
    "#!/bin/sh",
    "set -eu",
    ": >/run/ingot/report/steps.jsonl",
    ...before,
    `echo '{"step":"file/hello","outcome":"changed","seconds":0.1}' >>/run/ingot/report/steps.jsonl`,
    `echo '{"generation":"${"0".repeat(64)}","outcome":"${outcome}","seconds":0.2}' >>/run/ingot/report/steps.jsonl`,
    "rm /var/lib/ingot/next",
    "",
  ].join("\n");
  return `#cloud-config\n${JSON.stringify({
    write_files: [
      { path: "/etc/hello", content: "hello from user-data\n" },
      { path: "/usr/lib/ingot/activate", permissions: "0755", content: script },
      { path: "/var/lib/ingot/next", content: "" },
    ],
  })}\n`;
}
