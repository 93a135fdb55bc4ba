// Stacks as synth.ts is told them: from YAML, with an account's answers put in their place.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { compile } from "../../../../cloud-init/compile.ts";
import type { StackPlan } from "../../../../cloud-init/plan.ts";
import { toolFolder } from "../../../../lib/paths.ts";
import { type AwsStack, type Resolved, shapeOf } from "../../../../stacks/aws/shape.ts";
import { modelOfText } from "../../../cloud-init/fixtures.ts";

export const here = join(toolFolder, "tests/stacks/aws/synth");

/** The files, by the names of their goldens. */
export const files = {
  inloop: join(toolFolder, "stacks/inloop.yaml"),
  patchwork: join(toolFolder, "stacks/patchwork.yaml"),
  "patchwork-single": join(toolFolder, "stacks/patchwork-single.yaml"),
  "kano-konnect": join(toolFolder, "stacks/kano-konnect.yaml"),
  "inloop-split": join(toolFolder, "stacks/inloop-split.yaml"),
  "two-hosts": join(here, "two-hosts.yaml"),
  fleet: join(here, "fleet.yaml"),
} as const;
export type Name = keyof typeof files;

export const planOfText = (text: string): StackPlan => compile(modelOfText(text));

/** What an account might answer. */
export function resolvedFor(plan: StackPlan, more: Partial<Resolved> = {}): Resolved {
  const each = <T>(value: T): Record<string, T> => Object.fromEntries(plan.hosts.map((h) => [h.host, value]));
  return {
    region: "eu-central-1",
    images: each({ id: "ami-0123456789abcdef0", digest: "1".repeat(64), architecture: "x86_64", rootDevice: "/dev/xvda" }),
    userData: each(Buffer.from("#cloud-config\nhostname: stands-in\n")),
    operatorKey: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0bcNvXZJ1mLhX3yq0mU6h1lq3d6u2oQ7r9wq1fJtZk operator",
    agent: each(false),
    spilled: each([]),
    ...more,
  };
}

/** The stack of a text. Generations are made alike, so that a golden file speaks of this room only. */
export function stackOfText(text: string, more: Partial<Resolved> = {}): AwsStack {
  const plan = planOfText(text);
  const stack = shapeOf(plan, resolvedFor(plan, more));
  return { ...stack, hosts: stack.hosts.map((h) => ({ ...h, generation: "0".repeat(64) })) };
}

export const stackOf = (name: Name, more?: Partial<Resolved>): AwsStack => stackOfText(readFileSync(files[name], "utf8"), more);
