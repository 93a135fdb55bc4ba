// What the constructs are told: plain data, resolved from the stack plan and from what the account has (AMI, uploads). The same in
// gives the same bytes of Terraform out; nothing here knows CDKTF. shapeOf() makes it; synth.ts builds it, guard.ts speaks of it.
import type { Port } from "../../cloud-init/plan.ts";

/** One stack on EC2. */
export interface AwsStack {
  stack: string;
  region: string;
  /** `s3`: in the bucket (Terraform variable `bucket`), locked by use_lockfile; `local`: terraform.tfstate beside the synthesised file. */
  state: "s3" | "local";
  secrets: "parameter-store" | "secrets-manager";
  network: AwsNetwork;
  /** On everything; Name, ingot:stack and ingot:host are added by the constructs. */
  tags: Record<string, string>;
  alarmsTo?: string;
  /** The operator's public key ("ssh-ed25519 …"), whose private half lies in the secrets' store: EC2's key pair. */
  operatorKey: string;
  hosts: AwsHost[];
}

export type AwsNetwork =
  | { kind: "default" }
  /** Subnets that are there; hosts take them in turn. */
  | { kind: "subnets"; subnets: string[] }
  /** A VPC of the stack's own; `cidr` is the stack's `network:` (10.1.1.0/24 when it gives none). */
  | { kind: "own"; cidr: string };

export interface AwsHost {
  host: string;
  fqdn: string;
  /** A fleet: an Auto Scaling group of so many. undefined: one instance. */
  count?: number;
  /** Full names, such as eu-central-1a; one for a single host. Empty: EC2 chooses (only for a host without data). */
  zones: string[];
  type: string;
  spot: boolean;
  image: AwsImage;
  /** Base64 of the bytes that the instance gets. */
  userData: string;
  /** Digest of the generation in it. */
  generation: string;
  /** Fixed private address. */
  privateAddress?: string;
  address: "elastic" | "dynamic" | "private";
  sshFrom: string[];
  ports: Port[];
  /** GiB. */
  rootSize: number;
  volumes: AwsVolume[];
  /** Names of the secrets that it reads; it may read no other. */
  secretNames: string[];
  /** sha256 of the artifacts and spilled files that it reads. */
  artifacts: string[];
  files: string[];
  /** The image has the SSM agent: its role may be managed by it. */
  agent: boolean;
  dns?: { zone: string; names: string[] };
  snapshots: { everyHours: number; keep: number };
  /** Of a fleet: path of the target group's health check, and the port that it asks (80 or 443, else the first declared to the world). */
  health?: { path: string; port: number };
}

export interface AwsImage {
  /** ami-… */
  id: string;
  /** The recipe's digest, when the AMI is tagged with it. */
  digest: string;
  architecture: "x86_64" | "arm64";
  /** Device name of the root volume, as the AMI has it. */
  rootDevice: string;
}

export interface AwsVolume {
  name: string;
  mount: string;
  /** GiB. */
  size: number;
  /** A snapshot that it is made from. */
  snapshot?: string;
}

/** What of a stack is to be there after an apply. `data`: only what holds data (`down`: volumes stay); `nothing`: all goes. */
export type Extent = "all" | "data" | "nothing";

/** Names in the account that several rooms must agree on. `bucket` prefixes end with "/". */
export const names = {
  /** SSM parameter with the host's AwsFacts. */
  facts: (stack: string, host: string) => `/ingot/${stack}/${host}/facts`,
  /** A secret's name in the Parameter Store, and in Secrets Manager. */
  parameter: (stack: string, secret: string) => `/ingot/${stack}/secrets/${secret}`,
  secret: (stack: string, secret: string) => `ingot/${stack}/${secret}`,
  state: (stack: string) => `stacks/${stack}/terraform.tfstate`,
  inventory: (stack: string) => `stacks/${stack}/inventory.json`,
  lock: (stack: string) => `stacks/${stack}/lock.json`,
  /** `<instance>.jsonl` is appended by the host. */
  reports: (stack: string, host: string) => `stacks/${stack}/reports/${host}/`,
  artifacts: "artifacts/",
  files: "files/",
  ledger: "ledger/",
  /** Tags: the instance's own are readable to it through the metadata service. */
  tags: {
    stack: "ingot:stack",
    host: "ingot:host",
    generation: "ingot:generation",
    image: "ingot:image",
    volume: "ingot:volume",
    mount: "ingot:mount",
  },
  /** The secret that is the operator's ssh key, one for a stack. */
  operatorKey: "operator-ssh-key",
} as const;

/** Addresses of what Terraform makes, in the synthesised file: the guard and `-replace` find them by these. Host and volume names are
 * made fit for an identifier by `id` ("-" and "_" stay, both are allowed). */
export const addresses = {
  instance: (host: string) => `aws_instance.${host}`,
  fleet: (host: string) => `aws_autoscaling_group.${host}`,
  volume: (host: string, volume: string) => `aws_ebs_volume.${host}_${volume}`,
} as const;
