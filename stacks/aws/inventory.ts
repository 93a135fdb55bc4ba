// What Ingot knows of a stack on EC2 beside Terraform's state: which image and generation each host was launched with, so that any
// computer with credentials can go on. In the bucket: `stacks/<stack>/inventory.json`.

import type { Aws } from "./api.ts";
import { keysBelow, readObject, writeObject } from "./object.ts";
import { type AwsStack, names } from "./shape.ts";

export interface Inventory {
  stack: string;
  region: string;
  /** What was last launched: `down` leaves its volumes, whatever the stack's file says by then. */
  shape: AwsStack;
  /** Empty when the stack is down. */
  hosts: HostRecord[];
}

export interface HostRecord {
  host: string;
  /** i-…, or of a fleet the group's name. */
  instance: string;
  imageDigest: string;
  /** Of the image, for the login's name: "debian". */
  distro: string;
  ami: string;
  /** What it was last told to become, by first boot or `apply`. */
  generation: string;
  /** sha256 of the user-data that says so. */
  userData: string;
  /** Data volume's name → vol-… */
  volumes: Record<string, string>;
  /** ISO 8601. */
  launched: string;
}

/** undefined: the stack was never launched in this region. */
export async function readInventory(aws: Aws, bucket: string, stack: string): Promise<Inventory | undefined> {
  const stored = await readObject(aws, bucket, names.inventory(stack));
  return stored && (JSON.parse(stored.text) as Inventory);
}

/** Call it with the stack's lock held: then nobody else writes. */
export async function writeInventory(aws: Aws, bucket: string, inventory: Inventory): Promise<void> {
  await writeObject(aws, bucket, names.inventory(inventory.stack), `${JSON.stringify(inventory, null, 1)}\n`, "anything");
}

/** Stacks that were launched in this region at some time. */
export async function stacksIn(aws: Aws, bucket: string): Promise<string[]> {
  const keys = await keysBelow(aws, bucket, "stacks/");
  return keys.flatMap((key) => /^stacks\/([^/]+)\/inventory\.json$/.exec(key)?.[1] ?? []).sort();
}
