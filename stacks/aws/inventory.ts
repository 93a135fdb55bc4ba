// What Ingot knows of a stack on EC2 beside Terraform's state: which image and generation each host was launched with, so that any
// computer with credentials can go on. In the bucket: `stacks/<stack>/inventory.json`.

import type { AwsStack } from "./shape.ts";

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
  /** sha256 of the user-data that it was launched with. */
  userData: string;
  /** Data volume's name → vol-… */
  volumes: Record<string, string>;
  /** ISO 8601. */
  launched: string;
}
