// The Packer template of an image: an instance of the distribution's own AMI (`amazon-ebs`), or a machine in QEMU (`qemu`), makes the image's tree
// by the scripts that a bake runs here, and boots it from then on. Legacy JSON, which Packer 1.6 and those of today both read. Data in, data out:
// packer-folder.ts writes what is sent, stacks/aws/ami/packer.ts runs it.
import { shell } from "../lib/quote.ts";
import { distros } from "./distro.ts";
import type { Recipe } from "./recipe-schema.ts";

/** What the installed Packer can be told: 1.6 (Debian's) has the builders in itself; those of today take more, and have them as plugins. */
export type PackerKind = "1.6" | "current";

/** @param version "1.6.6" */
export const kindOf = (version: string): PackerKind => (/^(0|1\.[0-6])\./.test(version) ? "1.6" : "current");

export interface Provisioning {
  /** The folder that is sent to the builder, absolute; its name is that of the folder there. */
  sent: string;
  /** Where what was found out about the finished tree is written, absolute. */
  facts: string;
  /** What holds these facts against the truths here, before the tree is put into the builder's place: a command, and where it is run. */
  prove: { folder: string; argv: string[] };
}

/** An instance in EC2, from which an AMI is made. */
export interface AmazonEbs {
  region: string;
  /** An AMI of the recipe's release; undefined: the newest of the distribution's own. */
  source?: { ami: string; user: string };
  instanceType: string;
  /** GiB of its root, and of the AMI's. */
  size: number;
  /** CIDRs from which its port 22 is open while it lives: the caller's address. */
  sshFrom: string[];
  /** Its address that is called. */
  address: "public_ip" | "private_ip";
  subnet?: string;
  /** undefined: as the account has it by default; `{}`: with its default key. */
  encrypted?: { key?: string };
  /** ami_name, and what AMI, snapshots, instance, volume, key and security group are tagged with. */
  name: string;
  tags: Record<string, string>;
  /** Minutes after which an instance ends itself that nobody has ended. */
  minutes: number;
  /** Another EC2 than Amazon's: an emulator. */
  endpoint?: string;
}

/** A machine on this computer. */
export interface Qemu {
  /** A disk that boots by BIOS, with cloud-init: the distribution's cloud image, or one of Ingot's (images/disk.ts). Absolute; never written to. */
  disk: string;
  format: "raw" | "qcow2";
  /** GiB. */
  size: number;
  /** Who logs in, and the private key whose public half the seed has. */
  user: string;
  key: string;
  /** NoCloud's files, absolute: user-data and meta-data. */
  seed: string;
  accelerator: "kvm" | "tcg";
  /** What it says on its serial console is written here, absolute. */
  console: string;
  /** Must not be there yet, absolute. */
  output: string;
}

export interface Template {
  /** Packer leaves what begins with an underscore alone. */
  _comment: string;
  min_packer_version: string;
  builders: Record<string, unknown>[];
  provisioners: Record<string, unknown>[];
}

/** @param builders each makes one image of the recipe, by its name: `packer build -only=aws` */
export function packerTemplate(
  recipe: Recipe,
  kind: PackerKind,
  provisioning: Provisioning,
  builders: { aws?: AmazonEbs; qemu?: Qemu },
): Template {
  const { aws, qemu } = builders;
  return {
    _comment: `The image ${recipe.image}, made by Packer. Written by Ingot: made anew with each run.`,
    min_packer_version: "1.6.0",
    builders: [...(aws ? [amazonEbs(recipe, kind, aws)] : []), ...(qemu ? [qemuBuilder(qemu)] : [])],
    provisioners: provisionersOf(recipe, provisioning, qemu ? "qemu" : undefined),
  };
}

/**
 * For `packer init`, which reads no legacy JSON: beside the template, it brings the plugins that Packer from 1.7 on does not have in itself.
 * Source: https://developer.hashicorp.com/packer/docs/commands/init
 */
export const plugins = `# The plugins of the template beside this, for Packer from 1.7 on: packer init plugins.pkr.hcl
packer {
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = ">= 1.2.0, < 2.0.0"
    }
    qemu = {
      source  = "github.com/hashicorp/qemu"
      version = ">= 1.0.0, < 2.0.0"
    }
  }
}
`;

/** Where scripts and programs lie on the builder (images/packer/build.sh). */
const there = { sent: "/var/tmp", folder: "/var/lib/ingot-build" };

/** @param switchedOff the builder, if there is one, whose machine nobody switches off when all is done: Packer refuses to be told of one that is not there */
function provisionersOf(recipe: Recipe, { sent, facts, prove }: Provisioning, switchedOff: "qemu" | undefined): Record<string, unknown>[] {
  const folder = `${there.sent}/${sent.slice(sent.lastIndexOf("/") + 1)}`;
  const root = "$([ $(id -u) = 0 ] || echo sudo -n)";
  const place = `${root} python3 -B ${there.folder}/packer/place.py ${there.folder}/packer/grub.cfg`;
  return [
    { type: "file", source: sent, destination: there.sent },
    { type: "shell", inline: [`${root} sh ${folder}/packer/build.sh ${folder} ${recipe.release}`] },
    { type: "file", direction: "download", source: `${there.folder}/facts.tar.gz`, destination: facts },
    { type: "shell-local", command: `cd ${shell(prove.folder)} && ${prove.argv.map(shell).join(" ")}` },
    // Nothing is written any more afterwards: Packer leaves its script where it is, in memory.
    { type: "shell", inline: [place], skip_clean: true, ...(switchedOff && { override: { [switchedOff]: { inline: [`${place} off`] } } }) },
  ];
}

function amazonEbs(recipe: Recipe, kind: PackerKind, aws: AmazonEbs): Record<string, unknown> {
  const { owner, name, user, rootDevice } = distros[recipe.distro].cloudImage;
  const source = aws.source
    ? { source_ami: aws.source.ami, ssh_username: aws.source.user }
    : {
        source_ami_filter: {
          filters: { name: name(recipe.release, recipe.architecture), "root-device-type": "ebs", "virtualization-type": "hvm" },
          owners: [owner],
          most_recent: true,
        },
        ssh_username: user,
      };
  const { encrypted } = aws;
  return {
    type: "amazon-ebs",
    name: "aws",
    region: aws.region,
    ...source,
    instance_type: aws.instanceType,
    ...(aws.subnet !== undefined && { subnet_id: aws.subnet }),
    ...(aws.address === "public_ip" && aws.subnet !== undefined && { associate_public_ip_address: true }),
    ssh_interface: aws.address,
    temporary_security_group_source_cidrs: aws.sshFrom,
    // The tree that takes the builder's place has no login keys in it; here in case that it never comes to that.
    ssh_clear_authorized_keys: true,
    // Whoever was to end it may have died: then it ends itself, and that is its end.
    user_data: `#!/bin/sh\nshutdown -P +${aws.minutes}\n`,
    shutdown_behavior: "terminate",
    // Encrypted when it is launched, so that no copy has to be made of the AMI. Of gp3, 1.6 wants to know everything.
    launch_block_device_mappings: [
      {
        device_name: rootDevice,
        volume_type: "gp3",
        volume_size: aws.size,
        iops: 3000,
        throughput: 125,
        delete_on_termination: true,
        ...(encrypted && { encrypted: true, ...(encrypted.key !== undefined && { kms_key_id: encrypted.key }) }),
      },
    ],
    ena_support: true,
    ami_name: aws.name,
    tags: aws.tags,
    snapshot_tags: aws.tags,
    run_tags: aws.tags,
    run_volume_tags: aws.tags,
    // Packer 1.6 knows none of these: stacks/aws/ami/packer.ts does them through the SDK.
    ...(kind === "current" && {
      metadata_options: { http_endpoint: "enabled", http_tokens: "required", http_put_response_hop_limit: 1 },
      imds_support: "v2.0",
      temporary_key_pair_type: "ed25519",
    }),
    ...(aws.endpoint !== undefined && {
      custom_endpoint_ec2: aws.endpoint,
      skip_metadata_api_check: true,
      skip_region_validation: true,
      ...(kind === "current" && { skip_credential_validation: true }),
    }),
  };
}

function qemuBuilder(qemu: Qemu): Record<string, unknown> {
  return {
    type: "qemu",
    name: "qemu",
    iso_url: qemu.disk,
    iso_checksum: "none",
    disk_image: true,
    format: qemu.format,
    disk_size: `${qemu.size * 1024}M`,
    skip_compaction: true,
    accelerator: qemu.accelerator,
    headless: true,
    memory: 2048,
    http_directory: qemu.seed,
    // cloud-init's NoCloud asks where the serial number says (its documentation, "NoCloud").
    qemuargs: [
      ["-smbios", "type=1,serial=ds=nocloud-net;s=http://{{ .HTTPIP }}:{{ .HTTPPort }}/"],
      ["-serial", `file:${qemu.console}`],
    ],
    ssh_username: qemu.user,
    ssh_private_key_file: qemu.key,
    ssh_timeout: "15m",
    // It is on its way already.
    shutdown_command: "true",
    shutdown_timeout: "5m",
    output_directory: qemu.output,
    vm_name: `disk.${qemu.format}`,
  };
}
