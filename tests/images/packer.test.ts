// The Packer template: what must be in it, that Debian's Packer 1.6 takes it (`packer validate`, where it is installed), and that every option of
// the one for current Packer is among those that its plugins know (packer-options.json). No current Packer was run on it.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { type AmazonEbs, kindOf, type PackerKind, packerTemplate, plugins, type Qemu } from "../../images/packer.ts";
import { toolFolder } from "../../lib/paths.ts";
import { suite } from "../suite.ts";
import { recipeOf, smallHead, smallRecipe } from "./fixtures.ts";

const test = suite("packer");
const recipe = recipeOf(smallRecipe);
const aws: AmazonEbs = {
  region: "eu-central-1",
  instanceType: "t3.medium",
  size: 8,
  sshFrom: ["198.51.100.7/32"],
  address: "public_ip",
  encrypted: { key: "alias/images" },
  name: "ingot/small/0123",
  tags: { "ingot:image": "0123", "ingot:run": "r1" },
  minutes: 90,
};
const qemu: Qemu = {
  disk: "/var/tmp/debian.raw",
  format: "raw",
  size: 4,
  user: "root",
  key: "/var/tmp/key",
  seed: "/var/tmp/seed",
  accelerator: "tcg",
  console: "/var/tmp/console.log",
  output: "/var/tmp/out",
};
const provisioning = {
  sent: "/home/me/my project/.ingot/aws/packer/small/ingot-sent",
  facts: "/home/me/my project/.ingot/aws/packer/small/facts.tar.gz",
  prove: { folder: "/home/me/my project", argv: ["node", "/opt/ingot.js", "image", "prove", "small", "0123", "facts"] },
};
const template = (kind: PackerKind, more: Partial<AmazonEbs> = {}) =>
  packerTemplate(recipe, kind, provisioning, { aws: { ...aws, ...more }, qemu });

interface Ebs extends Record<string, unknown> {
  source_ami_filter: { filters: { name: string }; owners: string[] };
  launch_block_device_mappings: Record<string, unknown>[];
}
const ebs = (kind: PackerKind, more: Partial<AmazonEbs> = {}) => template(kind, more).builders[0] as Ebs;

test("a killed run ends by itself, and nobody but the caller reaches the builder", () => {
  const { shutdown_behavior, user_data, temporary_security_group_source_cidrs } = ebs("1.6");
  assert.equal([shutdown_behavior, user_data], ["terminate", "#!/bin/sh\nshutdown -P +90\n"]);
  assert.equal(temporary_security_group_source_cidrs, ["198.51.100.7/32"]);
});

test("everything that is made has the tags by which it is found again", () => {
  const builder = ebs("1.6");
  for (const tags of ["tags", "snapshot_tags", "run_tags", "run_volume_tags"]) assert.equal(builder[tags], aws.tags, tags);
  assert.is(builder.ami_name, aws.name);
});

test("the source is the distribution's own image, or what is said", () => {
  const { owners, filters } = ebs("1.6").source_ami_filter;
  assert.equal([owners, filters.name], [["136693071363"], "debian-12-amd64-*"]);
  const ubuntu = recipeOf(`image: small
distro: ubuntu
release: jammy
architecture: arm64
packages: [sudo]
`);
  const [builder] = packerTemplate(ubuntu, "1.6", provisioning, { aws }).builders as Ebs[];
  assert.equal(
    [builder?.source_ami_filter.owners, builder?.source_ami_filter.filters.name, builder?.ssh_username],
    [["099720109477"], "ubuntu/images/hvm-ssd*/ubuntu-jammy-22.04-arm64-server-*", "ubuntu"],
  );
  const given = ebs("1.6", { source: { ami: "ami-0123456789abcdef0", user: "ops" } });
  assert.equal([given.source_ami, given.ssh_username, given.source_ami_filter], ["ami-0123456789abcdef0", "ops", undefined]);
});

test("encryption is the volume's, so that the AMI is not copied for it", () => {
  const of = (encrypted: AmazonEbs["encrypted"]) => {
    const [disk] = ebs("1.6", { encrypted }).launch_block_device_mappings;
    return [disk?.encrypted, disk?.kms_key_id];
  };
  assert.equal(
    [of({ key: "alias/images" }), of({}), of(undefined)],
    [
      [true, "alias/images"],
      [true, undefined],
      [undefined, undefined],
    ],
  );
  assert.is(ebs("1.6").encrypt_boot, undefined);
});

test("what Packer 1.6 does not know is for current Packer alone", () => {
  const added = Object.keys(ebs("current")).filter((key) => !(key in ebs("1.6")));
  assert.equal(added, ["metadata_options", "imds_support", "temporary_key_pair_type"]);
  assert.equal(["0.12.5", "1.6.6", "1.7.0", "1.16.0"].map(kindOf), ["1.6", "1.6", "current", "current"]);
});

test("both builders are provisioned alike, and the tree is proven before it is placed", () => {
  const { provisioners } = template("1.6");
  assert.equal(
    provisioners.map((p) => p.type),
    ["file", "shell", "file", "shell-local", "shell"],
  );
  assert.is(provisioners[3]?.command, "cd '/home/me/my project' && node /opt/ingot.js image prove small 0123 facts");
  assert.match(String(provisioners[4]?.inline), /place\.py/);
});

test("every option of the template for current Packer is one that its plugins know", () => {
  const { options } = JSON.parse(readFileSync(join(toolFolder, "tests/images/packer-options.json"), "utf8")) as {
    options: Record<string, string[]>;
  };
  const unknown = (of: string, value: Record<string, unknown>) =>
    Object.keys(value)
      .filter((key) => !["type", "name", "override"].includes(key) && !options[of]?.includes(key))
      .map((key) => `${of}: ${key}`);
  for (const more of [{}, { endpoint: "http://127.0.0.1:5000", subnet: "subnet-1", source: { ami: "ami-1", user: "ops" } }]) {
    const { builders, provisioners } = template("current", more);
    const [one] = builders as Ebs[];
    assert.equal(
      [
        ...[...builders, ...provisioners].flatMap((part) => unknown(String(part.type), part)),
        ...unknown("metadata_options", one?.metadata_options as Record<string, unknown>),
        ...unknown("source_ami_filter", one?.source_ami_filter ?? {}),
        ...(one?.launch_block_device_mappings ?? []).flatMap((disk) => unknown("launch_block_device_mappings", disk)),
      ],
      [],
    );
  }
  assert.match(plugins, /source {2}= "github.com\/hashicorp\/amazon"/);
});

const packer = spawnSync("packer", ["version"], { encoding: "utf8", env: { ...process.env, CHECKPOINT_DISABLE: "1" } });
const there = packer.status === 0 && kindOf(/v([\d.]+)/.exec(packer.stdout)?.[1] ?? "9") === "1.6" ? test : test.skip;

for (const [what, more] of [
  ["as it is", {}],
  [
    "of another EC2, in a subnet, of a given AMI",
    { endpoint: "http://127.0.0.1:1", subnet: "subnet-1", source: { ami: "ami-1", user: "ops" } },
  ],
  ["without encryption", { encrypted: undefined, address: "private_ip" }],
] as [string, Partial<AmazonEbs>][])
  there(`Packer 1.6 takes the template: ${what}`, () => {
    const folder = mkdtempSync(join(tmpdir(), "ingot-packer-"));
    try {
      for (const part of ["ingot-sent", "seed"]) mkdirSync(join(folder, part));
      for (const file of ["disk.raw", "key"]) writeFileSync(join(folder, file), "");
      const places = { ...provisioning, sent: join(folder, "ingot-sent"), facts: join(folder, "facts.tar.gz") };
      const local = {
        ...qemu,
        disk: join(folder, "disk.raw"),
        key: keyIn(folder),
        seed: join(folder, "seed"),
        output: join(folder, "out"),
      };
      const alone = packerTemplate(recipe, "1.6", places, { aws: { ...aws, ...more } });
      writeFileSync(join(folder, "alone.json"), JSON.stringify(alone));
      const whole = packerTemplate(recipeOf(`${smallHead}packages: [sudo]\n`), "1.6", places, { aws: { ...aws, ...more }, qemu: local });
      writeFileSync(join(folder, "template.json"), JSON.stringify(whole));
      const env = { ...process.env, CHECKPOINT_DISABLE: "1", AWS_ACCESS_KEY_ID: "test", AWS_SECRET_ACCESS_KEY: "test" };
      for (const file of ["template.json", "alone.json"]) {
        const { status, stdout, stderr } = spawnSync("packer", ["validate", file], { cwd: folder, encoding: "utf8", env });
        assert.is(status, 0, stdout + stderr);
      }
      // And one that is wrong is not taken: this test would see it.
      writeFileSync(join(folder, "wrong.json"), JSON.stringify({ ...whole, builders: [{ ...whole.builders[0], no_such_option: 1 }] }));
      assert.is.not(spawnSync("packer", ["validate", "wrong.json"], { cwd: folder, env }).status, 0);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

/** Packer reads the key when it validates. */
function keyIn(folder: string): string {
  const file = join(folder, "id");
  spawnSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", file]);
  return file;
}

test.run();
