// What the constructs are told: plain data, resolved from the stack plan and from what the account has (AMI, uploads). The same in
// gives the same bytes of Terraform out; nothing here knows CDKTF. shapeOf() makes it; synth.ts builds it, guard.ts speaks of it.
import type { HostPlan, Port, Restore, StackPlan } from "../../cloud-init/plan.ts";
import { RefusedError } from "../../lib/diagnostics.ts";
import { addressOf, networkOf, numberOf } from "../../lib/ipv4.ts";
import { backupSettings } from "../recovery/backups.ts";

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
  /** A VPC of the stack's own; `cidr` is its first subnet: the stack's `network:` (10.1.1.0/24 when it gives none), or one bit wider. */
  /** The subnet of `zone` (default: of the first there is) is the network itself; that of another zone lies beside it, where its letter says, whichever
   * zones there are: a host that goes into another one leaves the others' where they are. */
  | { kind: "own"; cidr: string; zone?: string };

export interface AwsHost {
  host: string;
  fqdn: string;
  /** A fleet: an Auto Scaling group of so many. undefined: one instance. */
  count?: number;
  /** Full names, such as eu-central-1a; one for a single host. */
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
  /** It takes a lost machine's place. */
  restore?: Restore;
  /** Names of the secrets that it reads; it may read no other. */
  secretNames: string[];
  /** sha256 of the artifacts and spilled files that it reads. */
  artifacts: string[];
  files: string[];
  /** Where in S3 it keeps its backups by the rights of its role. */
  backups?: { bucket: string; prefix: string };
  /** The image has the SSM agent: its role may be managed by it. */
  agent: boolean;
  dns?: { zone: string; names: string[] };
  /** undefined: none. */
  snapshots?: { everyHours: number; keep: number };
  alarms: boolean;
  /** Of a fleet: path of the target group's health check, and the port that it asks (80 or 443, else the first declared to the world). */
  health?: { path: string; port: number };
}

export interface AwsImage {
  /** ami-…; "" in a stack that is only looked at, while the recipe's AMI is still to be made. */
  id: string;
  /** The recipe that it is made from, where the stack names no AMI of its own. */
  recipe?: string;
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

/** How an operator gets to a host's ssh: straight, or through SSM, whose agent on it calls out and needs no open port. */
export type Way = "ssh" | "ssm";
export const wayTo = ({ agent, address, sshFrom }: Pick<AwsHost, "agent" | "address" | "sshFrom">): Way =>
  agent && (address === "private" || sshFrom.length === 0) ? "ssm" : "ssh";

/** Stands in a plan for the operator's key until a launch makes one. EC2 does not take it. */
export const keyToBe = `ssh-ed25519 ${Buffer.from("\0\0\0\vssh-ed25519\0\0\0 made by the first `ingot up`      ").toString("base64")}`;

/** Names in the account that several rooms must agree on. `bucket` prefixes end with "/". */
export const names = {
  /** SSM parameter with the host's AwsFacts. */
  facts: (stack: string, host: string) => `/ingot/${stack}/${host}/facts`,
  /** A secret's name in the Parameter Store, and in Secrets Manager. */
  parameter: (stack: string, secret: string) => `/ingot/${stack}/secrets/${secret}`,
  secret: (stack: string, secret: string) => `ingot/${stack}/${secret}`,
  state: (stack: string) => `stacks/${stack}/terraform.tfstate`,
  /** Of the stack that makes AMIs (stacks/image.ts). */
  imageState: "images/terraform.tfstate",
  inventory: (stack: string) => `stacks/${stack}/inventory.json`,
  lock: (stack: string) => `stacks/${stack}/lock.json`,
  /** By image digest, in `amis`: `lock.json` and what a run that makes its AMI writes down. */
  amis: "images/",
  amiLock: (digest: string) => `images/${digest}/lock.json`,
  /** SSM parameter that holds the id of a recipe's AMI; all of them are below `channels`. */
  channel: (recipe: string, channel: string) => `/ingot/images/${recipe}/${channel}`,
  channels: "/ingot/images/",
  /** Digests of the blocks of a snapshot that was uploaded (ami/parent.ts). */
  amiBlocks: (digest: string, snapshot: string) => `images/${digest}/blocks/${snapshot}.json`,
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
    /** Of AMIs, their snapshots and what makes them: the recipe, the way (AmiWay), and the run that is to answer for it. */
    recipe: "ingot:recipe",
    way: "ingot:way",
    run: "ingot:run",
    /** Of an AMI: when an instance of it was seen to be right (ISO 8601). */
    smoke: "ingot:smoke",
    volume: "ingot:volume",
    mount: "ingot:mount",
    /** Of a volume that a rebuild has put aside: when (ISO 8601). */
    aside: "ingot:aside",
    /** Of a snapshot by which a rebuild brings a volume into another zone: when that rebuild was begun (ISO 8601). */
    copy: "ingot:copy",
    /** "stack/host": whose volumes' snapshots are taken by the clock. */
    snapshots: "ingot:snapshots",
  },
  /** The statement of a role by which a host keeps its backups in S3. */
  backups: "Backups",
  /** The secret that is the operator's ssh key, one for a stack. */
  operatorKey: "operator-ssh-key",
} as const;

/** A host's or volume's name as a Terraform identifier, which begins with no digit. */
export const id = (host: string, part?: string): string => {
  const name = /^[0-9]/.test(host) ? `_${host}` : host;
  // Names hold single `_`, and begin with none: doubled in the first part, an odd one divides the two.
  return part === undefined ? name : `${name.replaceAll("_", "__")}_${part}`;
};

/** Of a name in DNS, which may begin with `*.`. */
export const recordId = (host: string, name: string): string => id(host, name.replaceAll(".", "_").replaceAll("*", "any"));

/** On everything that is a host's: by them it is found again, in the account and in Terraform's plan. */
export const tagsOf = (stack: string, { host }: AwsHost): Record<string, string> => ({
  Name: `${stack}/${host}`,
  [names.tags.stack]: stack,
  [names.tags.host]: host,
});

/** Addresses of what Terraform makes, in the synthesised file: the guard, `-replace` and `-target` find them by these. */
export const addresses = {
  instance: (host: string) => `aws_instance.${id(host)}`,
  fleet: (host: string) => `aws_autoscaling_group.${id(host)}`,
  volume: (host: string, volume: string) => `aws_ebs_volume.${id(host, volume)}`,
  attachment: (host: string, volume: string) => `aws_volume_attachment.${id(host, volume)}`,
  record: (host: string, name: string) => `aws_route53_record.${recordId(host, name)}`,
  /** What a running host may read, and where it finds it. */
  permissions: (host: string) => [`aws_iam_role_policy.${id(host)}`, `aws_ssm_parameter.${id(host)}`],
} as const;

/** What the account says of a plan's hosts, by host. */
export interface Resolved {
  region: string;
  images: Record<string, AwsImage>;
  userData: Record<string, Uint8Array>;
  operatorKey: string;
  agent: Record<string, boolean>;
  /** sha256 of what user-data had no room for. */
  spilled: Record<string, string[]>;
  /** Of hosts that take a lost machine's place. */
  restores?: Record<string, Restore>;
  /** By host: the snapshots that lost volumes are made from, by volume. */
  snapshots?: Record<string, Record<string, string>>;
}

const GiB = 2 ** 30;

export const networkKind = ({ aws, network }: StackPlan): AwsNetwork["kind"] =>
  typeof aws.network === "object" ? "subnets" : aws.network === "own" || network !== undefined ? "own" : "default";

/** @throws RefusedError for what EC2 cannot give */
export function shapeOf(plan: StackPlan, resolved: Resolved): AwsStack {
  const { aws } = plan;
  const network: AwsNetwork =
    typeof aws.network === "object"
      ? { kind: "subnets", subnets: aws.network.subnets }
      : networkKind(plan) === "own"
        ? { kind: "own", ...ownNetwork(plan, resolved.region) }
        : { kind: "default" };
  const hidden = plan.hosts.find((h) => h.aws.address === "private");
  if (hidden && network.kind !== "subnets")
    throw new RefusedError(
      `${plan.stack}/${hidden.host} has \`address: private\`, and the subnet has no way out but by a public address: it could not fetch its secrets, nor report`,
      "write `address: dynamic` (its ports are open to nobody but who is declared), or name subnets that have a NAT gateway: `aws: { network: { subnets: [...] } }`",
    );
  const closed = plan.hosts.find((h) => h.aws.ssh_from.length === 0 && !resolved.agent[h.host]);
  if (closed)
    throw new RefusedError(
      `${plan.stack}/${closed.host} has \`ssh_from: []\`, and its image no SSM agent: nobody could come in, not even to verify it`,
      "say from where: `ssh_from: [203.0.113.0/24]`; or put the package amazon-ssm-agent into the image's recipe",
    );
  return {
    stack: plan.stack,
    region: resolved.region,
    state: aws.state,
    secrets: aws.secrets,
    network,
    tags: aws.tags,
    ...(aws.alarms_to !== undefined && { alarmsTo: aws.alarms_to }),
    operatorKey: resolved.operatorKey,
    hosts: plan.hosts.map((host) => hostShape(host, resolved)),
  };
}

/** Its names in DNS. */
export const namesOf = ({ fqdn, aws: { dns } }: Pick<HostPlan, "fqdn" | "aws">): string[] =>
  dns?.names.length ? dns.names : dns ? [fqdn] : [];
/** Seconds for which who has asked for a host's name may hold the answer; a change is with all of Route53's servers as soon. Source: Amazon Route 53
 * Developer Guide, "ChangeResourceRecordSets", propagation. */
export const recordSeconds = 60;

/** Where a single host is, and its volumes with it. */
const letterOf = ({ aws }: HostPlan): string => aws.zone ?? "a";
const zoneOf = (region: string, letter: string): string => `${region}${letter}`;
export const zoneOfHost = (region: string, host: HostPlan): string => zoneOf(region, letterOf(host));

function hostShape(host: HostPlan, resolved: Resolved): AwsHost {
  const { aws } = host;
  const image = resolved.images[host.host];
  const userData = resolved.userData[host.host];
  if (!image || !userData) throw new Error(`nothing is resolved of ${host.host}`);
  const letters = host.count === undefined ? [letterOf(host)] : (aws.zones ?? [letterOf(host)]);
  const open = host.ports.filter((p) => p.from === "world" && p.protocol === "tcp" && p.port !== 22).map((p) => p.port);
  const asked = [443, 80].find((p) => open.includes(p)) ?? open[0];
  if (host.count !== undefined && asked === undefined)
    throw new RefusedError(
      `${host.stack}/${host.host} has \`count: ${host.count}\`, and no port that the world may reach: nothing would share the work among its machines`,
      "give it a site or a service that listens, or leave `count:` out",
    );
  const bucket = backupSettings(host)?.s3;
  if (host.count !== undefined && bucket)
    throw new RefusedError(
      `${host.stack}/${host.host} has \`count: ${host.count}\`, and one machine alone may write to ${bucket.bucket}/${bucket.prefix}`,
      "leave its `backup:` out, or `count:`",
    );
  return {
    host: host.host,
    fqdn: host.fqdn,
    ...(host.count !== undefined && { count: host.count }),
    zones: letters.map((letter) => zoneOf(resolved.region, letter)),
    type: aws.type,
    spot: aws.spot,
    image,
    userData: Buffer.from(userData).toString("base64"),
    generation: host.generation.digest,
    ...(host.address !== undefined && { privateAddress: host.address }),
    address: aws.address,
    sshFrom: aws.ssh_from,
    ports: host.ports,
    rootSize: Number(aws.root.replace("GiB", "")),
    volumes: host.volumes.map(({ name, mount, size }) => ({
      name,
      mount,
      size: Math.ceil(size / GiB),
      ...snapshotOf(resolved.snapshots?.[host.host]?.[name] ?? aws.restore[name]),
    })),
    ...(resolved.restores?.[host.host] && { restore: resolved.restores[host.host] }),
    secretNames: host.secrets.map((s) => s.name).sort(),
    artifacts: host.artifacts.map((a) => a.sha256).sort(),
    files: [...(resolved.spilled[host.host] ?? [])].sort(),
    ...(bucket && bucket.access_key === undefined && { backups: { bucket: bucket.bucket, prefix: bucket.prefix } }),
    agent: resolved.agent[host.host] ?? false,
    ...(aws.dns && { dns: { zone: aws.dns.zone, names: namesOf(host) } }),
    ...(aws.snapshots.every !== "never" && {
      snapshots: { everyHours: Number(aws.snapshots.every.replace("h", "")), keep: aws.snapshots.keep },
    }),
    alarms: aws.alarms,
    ...(host.count !== undefined && asked !== undefined && { health: { path: aws.health, port: asked } }),
  };
}

const snapshotOf = (snapshot: string | undefined): { snapshot?: string } => (snapshot === undefined ? {} : { snapshot });

const usualNetwork = "10.1.1.0/24";
/**
 * The subnet of a VPC of the stack's own. EC2 keeps the first four addresses of a subnet and its last one (Amazon VPC User Guide,
 * "Subnet CIDR blocks"); where a host is to have one of them, the subnet is made one bit wider, which frees those at one end.
 */
function ownNetwork({ stack, network = usualNetwork, hosts }: StackPlan, region: string): { cidr: string; zone: string } {
  const [base, given] = network.split("/");
  const placed = hosts.filter((h) => h.address !== undefined);
  const fixed = placed.flatMap((h) => h.address ?? []);
  const zones = [...new Set(placed.map((h) => zoneOfHost(region, h)))];
  if (zones.length > 1)
    throw new RefusedError(
      `${stack}: ${placed.map((h) => h.host).join(", ")} have addresses of ${network}, and are in ${zones.join(" and ")}: a subnet is in one zone`,
      "write the same `zone:` for all hosts with an `address:`",
    );
  for (const bits of [Number(given), Number(given) - 1]) {
    const { first, count } = networkOf(`${base}/${bits}`);
    const kept = (address: string) => numberOf(address) < first + 4 || numberOf(address) === first + count - 1;
    if (bits >= 17 && bits <= 28 && !fixed.some(kept))
      return { cidr: `${addressOf(first)}/${bits}`, zone: zones[0] ?? zoneOf(region, "a") };
  }
  throw new RefusedError(
    `${stack}: EC2 keeps the first four addresses and the last one of a subnet for itself, and ${fixed.join(", ")} cannot all be had in ${network}`,
    "networks of 17 to 28 bits go; begin at the fifth address",
  );
}
