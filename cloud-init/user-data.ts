// What cloud-init is told: hostname, and the generation as files. One readable `#cloud-config`; gzip only above the limit.
import { gzipSync } from "node:zlib";
import { dump } from "js-yaml";
import { sha256 } from "../lib/digest.ts";
import { planJson } from "./compile.ts";
import type { HostPlan } from "./plan.ts";

export interface UserData {
  /** The bytes that the machine gets. */
  bytes: Uint8Array;
  /** The readable `#cloud-config`. */
  text: string;
  compressed: boolean;
  /** Bytes of the readable form by resource, largest first. */
  byResource: { resource: string; bytes: number }[];
}

/** EC2's limit in bytes, before base64. Source: Amazon EC2 User Guide, "Run commands when you launch an EC2 instance with user data input". */
export const limit = 16_384;

/** The user-data of a host. The activator and the actions are the image's and so are no part of it. */
export function userDataOf(plan: HostPlan): UserData {
  const { generation } = plan;
  const folder = `/var/lib/ingot/generations/${generation.digest}`;
  const contents = new Map(generation.files.map((f) => [sha256(f.content), f]));
  const config = {
    hostname: plan.hostname,
    fqdn: plan.fqdn,
    write_files: [
      { path: `${folder}/plan.json`, permissions: "0600", content: planJson(generation) },
      ...[...contents].map(([hash, file]) => ({ path: `${folder}/files/${hash}`, permissions: "0600", content: file.content })),
      { path: "/var/lib/ingot/next", permissions: "0600", content: `${generation.digest}\n` },
    ],
  };
  const text = `#cloud-config\n# ${plan.stack}/${plan.host}: made by Ingot; every value in it comes from ${plan.stack}.yaml.\n${dumpYaml(config)}`;
  const compressed = Buffer.byteLength(text) > limit;
  return { bytes: compressed ? gzipSync(text, { level: 9 }) : Buffer.from(text), text, compressed, byResource: bytesByResource(plan) };
}

/** YAML that a YAML 1.1 parser (PyYAML) reads to the same values: js-yaml quotes what either version would take for something else. */
export const dumpYaml = (value: unknown): string => dump(value, { lineWidth: -1, noRefs: true });

function bytesByResource({ generation }: HostPlan): UserData["byResource"] {
  const bytes = new Map<string, number>();
  const count = (resource: string, n: number) => bytes.set(resource, (bytes.get(resource) ?? 0) + n);
  for (const file of generation.files) count(file.resource, Buffer.byteLength(file.content) + file.path.length + 250);
  for (const { resource, ...step } of generation.steps) count(resource, JSON.stringify(step).length);
  for (const { resource, ...check } of generation.checks) count(resource, JSON.stringify(check).length);
  return [...bytes].map(([resource, n]) => ({ resource, bytes: n })).sort((a, b) => b.bytes - a.bytes);
}
