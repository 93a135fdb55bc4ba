// The stack plan: everything that the targets, the host and the checks are told. Plain data, the same for every target;
// compile.ts makes it, nothing downstream reads YAML again. `ingot plan --json` prints it.

import type { Diagnostic, Range } from "../lib/diagnostics.ts";
import type { Json } from "../lib/digest.ts";
import type { AwsHostDeclaration, AwsStackDeclaration } from "./aws.ts";

export interface StackPlan {
  stack: string;
  /** The stack's file, relative to the project. */
  file: string;
  /** The hosts' own network ("10.1.1.0/24"), when the stack gives one. */
  network?: string;
  hosts: HostPlan[];
  warnings: Diagnostic[];
  /** Of the `aws` target alone; defaults where the stack is silent. */
  aws: AwsStackDeclaration;
}

export interface HostPlan {
  stack: string;
  host: string;
  fqdn: string;
  hostname: string;
  /** Its fixed address in the stack's network. */
  address?: string;
  /** So many machines of the same plan; such a host has no data. */
  count?: number;
  /** What its machine may use where the target has no instance types. */
  limits?: Limits;
  /** Of the `aws` target alone; defaults where the host is silent. */
  aws: AwsHostDeclaration;
  /** Name of the recipe, and the digest of the image when it has been baked. */
  image: { name: string; digest?: string };
  generation: Generation;
  /** What cloud-init is told beside it, once. */
  cloudConfig?: Record<string, Json>;
  artifacts: ArtifactUse[];
  secrets: SecretUse[];
  volumes: VolumePlan[];
  /** It runs containers of its own, which are kept here (`/var/lib/docker`). */
  containers?: string;
  shared?: SharedFolder[];
  /** What may be reached from outside the host. Anything else that listens there is a failed check. */
  ports: Port[];
  /** Where each step and resource was declared; kept out of the generation, so that a comment does not change its digest. */
  origins: Record<string, Range>;
  /** Names by which the host's sites answer on this computer's loopback: `*.localhost`. */
  localNames: string[];
  wants: Need[];
  /** Seen from outside, over the network; what is seen from inside is the generation's. */
  checks: Check[];
}

/** An exported directory that this host has, or mounts. A target without NFS gives all of them one folder, at /run/ingot/shared/<host>/<export>:
 * `data/` in it is the directory, and `exported` is there once its host has made what is in it. */
export interface SharedFolder {
  /** The host that exports it. */
  host: string;
  export: string;
}

export interface Limits {
  /** Processors' time. */
  cpus?: number;
  /** Bytes; no swap beside it. */
  memory?: number;
}

/** Who reaches a port: anybody, the stack's other hosts, or these of them, by name. */
export type Reach = "world" | "stack" | string[];

export interface Port {
  port: number;
  protocol: "tcp" | "udp";
  from: Reach;
  resource: string;
}

/** What the image must have. Checked against its manifest before anything is launched. */
export type Need =
  | { need: "package"; name: string; resource: string }
  | { need: "unit"; name: string; resource: string }
  | { need: "binary"; path: string; resource: string }
  | { need: "locale"; name: string; resource: string };

/** A data volume: found on the machine as /dev/disk/by-id/ingot-<name>; on EC2 by its serial, here a file-backed disk. */
export interface VolumePlan {
  name: string;
  mount: string;
  /** Bytes. */
  size: number;
  filesystem: "ext4" | "xfs";
}

/** Bytes that the host finds at /run/ingot/artifacts/<sha256>: an application's release, an image for Docker. */
export interface ArtifactUse {
  /** The resource it belongs to: `application/inloop`. */
  resource: string;
  /** What it is made from, known before it is made (cloud-init/release.ts); of what is made elsewhere, its name. */
  id: string;
  /** All zeros until it has been built. */
  sha256: string;
  /** Absolute path of the file on this computer, there or not yet; empty until what is at `url` has been fetched. */
  path: string;
  url?: string;
}

/** A secret that this host reads. `generate` says how the store makes it when it is not there. */
export interface SecretUse {
  name: string;
  generate?: GenerateSecret;
  resource: string;
}
/** `password`: 32 characters of [A-Za-z0-9]; `hex64`: 64 hex characters; `ssh-ed25519`: an OpenSSH private key without passphrase;
 * `ssh-public`: of the secret of the same name without `.pub`, an OpenSSH private key that is made with it, the public half;
 * `tls-ecdsa`: a PEM private key on P-256. */
export type GenerateSecret = "password" | "hex64" | "ssh-ed25519" | "ssh-public" | "tls-ecdsa";

/**
 * All that a host is to become: `/var/lib/ingot/generations/<digest>/` on the host. `plan.json` there is canonicalJson({ steps,
 * files, checks }) with `files` as path → {sha256, mode}; its sha256 is the digest. Contents lie beside it in `files/<sha256>`.
 */
export interface Generation {
  digest: string;
  steps: Step[];
  files: GeneratedFile[];
  checks: Check[];
}

/** A configuration file or systemd unit that is Ingot's alone: root's own, no secret in it. The activator installs it before the steps
 * and removes it when a later generation has it no more. Units are files below /etc/systemd/system. */
export interface GeneratedFile {
  path: string;
  mode: "0644" | "0755" | "0600" | "0440";
  content: string;
  resource: string;
}

/** One idempotent unit of work; a systemd oneshot unit on the host. */
export interface Step {
  /** `<kind>/<name>` or `<kind>/<name>:<part>`, unique in the host. Characters: [A-Za-z0-9._/:@-]. */
  id: string;
  resource: string;
  after: string[];
  /** A file in cloud-init/host/actions (without .sh). */
  action: string;
  args: Record<string, Arg>;
  /** `probe`: the action asks the system. `stamp`: the hash of action and arguments, kept in `stampIn`. */
  done: "probe" | "stamp";
  /** What the stamp is the hash of, in place of action and arguments: work that others of its kind do not repeat. */
  stampOf?: string[];
  /** Where the stamp lies: the host, or the database that the work was done on, so that a restored database keeps it. */
  stampIn?: { database: string };
  timeoutSeconds: number;
}

/** An argument reaches the action as environment variable ARG_<NAME>: a list as lines, a flag as true or false, `{ secret }` as
 * the path of the file that holds it, `{ value }` as the path of a root-only file with the rendered value. */
export type Arg = string | number | boolean | string[] | { secret: string } | { render: Rendered };

/** A file with secrets in it, rendered on the host (cloud-init/host/render.py) into /run/ingot/rendered/<sha256 of this>. */
export type Rendered = { format: "env"; values: Record<string, Part[]> } | { format: "text"; value: Part[] };
/** A piece of a value: text as it is, or a secret: percent-encoded where it stands inside a url, as a literal inside of Python's code, as its
 * hash where that is all that is asked for. */
export type Part = string | { secret: string; encode?: "url" | "python" | "sha256" };

/** One assertion about a running host. `seen` says from where: `inside` runs on the host, all in one call; the others over the network. */
export interface Check {
  id: string;
  resource: string;
  seen: "inside" | "operator" | "stranger";
  /** A function of cloud-init/host/check.py. From outside, verify adds the machine's address, and puts the pin of a key in place of
   * `pin: { publicKeyOf: <secret> }`. */
  check: string;
  args: Record<string, Json>;
}

/** What only the target knows about one machine; the host finds it at /run/ingot/facts/facts.json. On EC2 the host writes that file
 * itself (cloud-init/host/facts.py): instance and address from the metadata service, the rest from the SSM parameter
 * `/ingot/<stack>/<host>/facts`, whose value is `AwsFacts`. */
export interface MachineFacts {
  instance: string;
  target: "container" | "vm" | "aws";
  address: string;
  /** Volume name → serial of its disk. */
  volumes: Record<string, string>;
  /** So many times longer than elsewhere a step may take: a processor that is computed by a program (QEMU's TCG) is slow. */
  patience?: number;
  /** The machine takes a lost one's place: what its backups hold is restored wherever there is nothing yet. */
  restore?: Restore;
  /** Where the secrets are, on the machine: a folder with a file for each. On EC2 an SSM path ("ssm:/ingot/inloop/") or a prefix in
   * Secrets Manager ("secretsmanager:ingot/inloop/") that the secret's name is appended to. */
  secrets: string;
  /** On EC2: "s3://bucket/prefix/"; the artifact's sha256 is appended. Elsewhere artifacts lie at /run/ingot/artifacts already. */
  artifacts?: string;
  /** On EC2: "s3://bucket/prefix/"; the sha256 of what user-data had no room for (`spilled`) is appended. */
  files?: string;
  /** On EC2: "s3://bucket/prefix/"; `<instance>.jsonl` is appended. The host writes its steps.jsonl there as it grows. */
  report?: string;
}

/** What is restored: all of it, as late as can be, or as it was at a time, or in a backup. */
export interface Restore {
  /** ISO 8601, to the second. */
  at?: string;
  /** In a drill: a folder in which are production's repositories to be read, on this machine or on the one that keeps them. The drill's own lie
   * over them. */
  over?: string;
  /** In a drill, of a machine that keeps the backups of others: those folders, by host. */
  kept?: Record<string, string>;
  /** pgBackRest's label; of a host without PostgreSQL, restic's short id. */
  backup?: string;
}

/** The part of the facts that Ingot's side knows on EC2: JSON in an SSM parameter, made by Terraform (volume ids) and readable to the host. */
export type AwsFacts = Pick<MachineFacts, "volumes" | "secrets" | "artifacts" | "files" | "report" | "restore">;
