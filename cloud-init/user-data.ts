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
  /** What it has no room for: the machine fetches it by its sha256 and verifies it. Largest first; empty where nothing may be fetched. */
  spilled: Spilled[];
  /** Bytes of the readable form by resource, largest first. */
  byResource: { resource: string; bytes: number }[];
}

export interface Spilled {
  sha256: string;
  bytes: Uint8Array;
  resource: string;
}

/** EC2's limit in bytes, before base64. Source: Amazon EC2 User Guide, "Run commands when you launch an EC2 instance with user data input". */
export const limit = 16_384;

/**
 * The user-data of a host. The activator and the actions are the image's and so are no part of it.
 * @param over what happens to more than `limit` bytes, compressed: they stay (somebody refuses them), or the largest files are left out
 */
export function userDataOf(plan: HostPlan, over: "stays" | "spills" = "stays"): UserData {
  const { generation } = plan;
  const planFile: Spilled = { sha256: generation.digest, bytes: Buffer.from(planJson(generation)), resource: "hostname" };
  const files = [...new Map(generation.files.map((f) => [sha256(f.content), f]))].map(
    ([hash, f]): Spilled => ({ sha256: hash, bytes: Buffer.from(f.content), resource: f.resource }),
  );
  // The plan goes last: it says what everything else is.
  const largest = [...files].sort((a, b) => b.bytes.length - a.bytes.length || (a.sha256 < b.sha256 ? -1 : 1)).concat(planFile);
  const spilled: Spilled[] = [];
  for (;;) {
    const text = cloudConfig(
      plan,
      [planFile, ...files].filter((f) => !spilled.includes(f)),
    );
    const compressed = Buffer.byteLength(text) > limit;
    const bytes = compressed ? gzipSync(text, { level: 9 }) : Buffer.from(text);
    const next = largest[spilled.length];
    if (bytes.length <= limit || over === "stays" || !next) return { bytes, text, compressed, spilled, byResource: bytesByResource(plan) };
    spilled.push(next);
  }
}

function cloudConfig(plan: HostPlan, contents: Spilled[]): string {
  const { digest } = plan.generation;
  const folder = `/var/lib/ingot/generations/${digest}`;
  const config = {
    hostname: plan.hostname,
    fqdn: plan.fqdn,
    ...plan.cloudConfig,
    write_files: [
      ...contents.map(({ sha256: hash, bytes }) => ({
        path: hash === digest ? `${folder}/plan.json` : `${folder}/files/${hash}`,
        permissions: "0600",
        content: Buffer.from(bytes).toString("utf8"),
      })),
      { path: "/var/lib/ingot/next", permissions: "0600", content: `${digest}\n` },
    ],
  };
  return `#cloud-config\n# ${plan.stack}/${plan.host}: made by Ingot; every value in it comes from ${plan.stack}.yaml.\n${dumpYaml(config)}`;
}

/** YAML that a YAML 1.1 parser (PyYAML) reads to the same values: js-yaml quotes what either version would take for something else. */
export const dumpYaml = (value: unknown): string => dump(value, { lineWidth: -1, noRefs: true });

function bytesByResource({ generation, cloudConfig: raw }: HostPlan): UserData["byResource"] {
  const bytes = new Map<string, number>();
  const count = (resource: string, n: number) => bytes.set(resource, (bytes.get(resource) ?? 0) + n);
  if (raw) count("cloud-config", Buffer.byteLength(dumpYaml(raw)));
  for (const file of generation.files) count(file.resource, Buffer.byteLength(file.content) + file.path.length + 250);
  for (const { resource, ...step } of generation.steps) count(resource, JSON.stringify(step).length);
  for (const { resource, ...check } of generation.checks) count(resource, JSON.stringify(check).length);
  return [...bytes].map(([resource, n]) => ({ resource, bytes: n })).sort((a, b) => b.bytes - a.bytes);
}
