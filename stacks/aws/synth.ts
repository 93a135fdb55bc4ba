// An AwsStack as Terraform's JSON, through CDKTF: the same in gives the same bytes out. target.ts runs Terraform on it; anybody's own CDKTF
// app can use the constructs instead (main.ts shows how).
import { mkdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DataAwsCallerIdentity } from "@cdktf/provider-aws/lib/data-aws-caller-identity/index.js";
import { DataAwsPartition } from "@cdktf/provider-aws/lib/data-aws-partition/index.js";
import { DataAwsRoute53Zone } from "@cdktf/provider-aws/lib/data-aws-route53-zone/index.js";
import { IamRole } from "@cdktf/provider-aws/lib/iam-role/index.js";
import { IamRolePolicyAttachment } from "@cdktf/provider-aws/lib/iam-role-policy-attachment/index.js";
import { KeyPair } from "@cdktf/provider-aws/lib/key-pair/index.js";
import { AwsProvider } from "@cdktf/provider-aws/lib/provider/index.js";
import { App, TerraformStack, TerraformVariable } from "cdktf";
import { Construct } from "constructs";
import { RefusedError } from "../../lib/diagnostics.ts";
import { disksOf } from "./disks.ts";
import { groupOf, openPorts } from "./firewall.ts";
import { Fleet } from "./fleet.ts";
import { Host } from "./host.ts";
import { Network, named } from "./network.ts";
import { type Account, assumedBy } from "./role.ts";
import { broken } from "./rules.ts";
import { type AwsStack, type Extent, id, names } from "./shape.ts";

/** Terraform's JSON syntax: block type → … . Source: "JSON Configuration Syntax" of Terraform's language. */
export type TerraformJson = Record<string, unknown> & { resource?: Record<string, Record<string, Record<string, unknown>>> };

/** What a stack was synthesised from. No secret is in it. */
export interface Synthesised {
  stack: AwsStack;
  extent: Extent;
  options: SynthOptions;
}

export interface SynthOptions {
  /** Data volumes that may be deleted: "host/volume". @default none */
  release?: string[];
  /** Where artifacts, reports and Terraform's state are. @default nobody knows it yet: Terraform is told when it runs */
  bucket?: string;
}

/**
 * Writes `<folder>/cdk.tf.json`, which Terraform reads, and `<folder>/shape.json`, which main.ts makes the same from.
 * @throws RefusedError when rules.ts finds something in it that must not be
 */
export function synthesise(
  stack: AwsStack,
  extent: Extent,
  folder: string,
  options: SynthOptions = {},
): { file: string; json: TerraformJson } {
  const json = jsonOf(stack, extent, options);
  const found = broken(json, stack);
  if (found.length)
    throw new RefusedError(
      `${stack.stack} is not made like this:\n${found.map((b) => `  ${b.address}: ${b.message}`).join("\n")}`,
      "when the stack's file asks for none of it, it is a mistake of Ingot's",
    );
  mkdirSync(folder, { recursive: true });
  const file = join(folder, "cdk.tf.json");
  writeFileSync(file, `${JSON.stringify(json, null, 2)}\n`);
  writeFileSync(join(folder, "shape.json"), `${JSON.stringify({ stack, extent, options } satisfies Synthesised, null, 2)}\n`);
  return { file, json };
}

export function jsonOf(stack: AwsStack, extent: Extent, { release = [] }: SynthOptions = {}): TerraformJson {
  const app = new App({ outdir: tmpdir(), skipValidation: true });
  const terraform = new TerraformStack(app, stack.stack);
  declare(terraform, stack, extent, release);
  terraform.prepareStack();
  const { "//": _, ...json } = terraform.toTerraform() as TerraformJson & { "//"?: unknown };
  return finish(withoutMetadata(json) as TerraformJson, stack);
}

/** What CDKTF writes of itself: where in the program each element was made, and the versions that it was made with. */
function withoutMetadata(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutMetadata);
  if (!value || typeof value !== "object") return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key]) => key !== "//")
      .map(([key, v]) => [key, withoutMetadata(v)]),
  );
}

/** What of a stack's `terraform` block is looked at. */
export interface TerraformBlock {
  required_providers?: Record<string, unknown>;
  backend?: Record<string, Record<string, unknown>>;
}

/**
 * The binding asks for the one version that it was made from; any of that major version is right. It knows no `use_lockfile` either.
 * @param backend where the state is. @default the stack's place in the bucket, or a file beside what is synthesised
 */
export function finish(
  json: TerraformJson,
  stack: Pick<AwsStack, "stack" | "state" | "region">,
  backend = backendOf(stack),
): TerraformJson {
  const { required_providers } = (json.terraform ?? {}) as TerraformBlock;
  return {
    ...json,
    terraform: {
      required_version: ">= 1.10",
      required_providers: { ...required_providers, aws: { source: "hashicorp/aws", version: ">= 6.0, < 7.0" } },
      backend: backend.s3 ? { s3: { ...backend.s3, use_lockfile: true } } : backend,
    },
  };
}

/** The bucket and, elsewhere than at AWS, the endpoint are told to `terraform init`. */
function backendOf({ stack, state, region }: Pick<AwsStack, "stack" | "state" | "region">): Record<string, Record<string, unknown>> {
  return state === "s3" ? { s3: { key: names.state(stack), region, encrypt: true } } : { local: { path: "terraform.tfstate" } };
}

/** Everything of the stack, in a TerraformStack of the caller's. */
export function declare(scope: TerraformStack, stack: AwsStack, extent: Extent, release: string[] = []): void {
  const { region, hosts } = stack;
  new AwsProvider(scope, "aws", { region, defaultTags: [{ tags: { ...stack.tags, [names.tags.stack]: stack.stack } }] });
  const bucket = named(
    new TerraformVariable(scope, "bucket", { type: "string", description: "The bucket of artifacts and reports" }),
    "bucket",
  );
  if (extent === "nothing") return;
  const disks = new Map(hosts.map((host) => [host.host, disksOf(scope, stack.stack, host, release)]));
  if (extent === "data") return;

  const account: Account = {
    partition: named(new DataAwsPartition(scope, "partition"), "current").partition,
    region,
    number: named(new DataAwsCallerIdentity(scope, "account"), "current").accountId,
    bucket: bucket.stringValue,
  };
  const network = new Network(scope, "network", {
    network: stack.network,
    zones: [...new Set(hosts.flatMap((h) => h.zones))].sort(),
    name: stack.stack,
  });
  const key = named(new KeyPair(scope, "operator", { keyNamePrefix: `ingot-${stack.stack}-`, publicKey: stack.operatorKey }), "operator");
  const snapshotRole = hosts.some((h) => h.snapshots && h.volumes.length) ? snapshotRoleOf(scope, stack.stack, account) : undefined;
  const groups = new Map(
    hosts.map((host) => [host.host, groupOf(new Construct(scope, `firewall-${host.host}`), stack.stack, host, network.vpcId)]),
  );
  for (const host of hosts) {
    const group = groups.get(host.host);
    if (!group) continue;
    openPorts(
      new Construct(scope, `ports-${host.host}`),
      stack.stack,
      host,
      group,
      new Map([...groups].filter(([other]) => other !== host.host)),
    );
    const zoneId = host.dns && named(new DataAwsRoute53Zone(scope, `zone-${host.host}`, { name: host.dns.zone }), id(host.host)).zoneId;
    const common = {
      stack: stack.stack,
      host,
      secrets: stack.secrets,
      account,
      group,
      keyName: key.keyName,
      alarmsTo: stack.alarmsTo,
      zoneId,
    };
    if (host.count !== undefined && host.health)
      new Fleet(scope, host.host, {
        ...common,
        count: host.count,
        health: host.health,
        vpcId: network.vpcId,
        subnets: host.zones.map((zone) => network.subnetOf(zone)),
      });
    else
      new Host(scope, host.host, {
        ...common,
        subnet: network.subnetOf(host.zones[0] ?? ""),
        volumes: disks.get(host.host) ?? new Map(),
        snapshotRole,
      });
  }
}

function snapshotRoleOf(scope: TerraformStack, stack: string, { partition }: Account): string {
  const role = named(
    new IamRole(scope, "snapshots", {
      namePrefix: `ingot-${stack}-snapshots-`.slice(0, 38),
      assumeRolePolicy: assumedBy("dlm.amazonaws.com"),
      description: `Snapshots of the data volumes of ${stack}`,
    }),
    "snapshots",
  );
  named(
    new IamRolePolicyAttachment(scope, "snapshots-policy", {
      role: role.name,
      policyArn: `arn:${partition}:iam::aws:policy/service-role/AWSDataLifecycleManagerServiceRole`,
    }),
    "snapshots",
  );
  return role.arn;
}
