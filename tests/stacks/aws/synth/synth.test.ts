// What holds of everything that is synthesised: the same goes in and the same comes out, and what a host may do is what it needs.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import * as assert from "uvu/assert";
import { toolFolder } from "../../../../lib/paths.ts";
import { broken } from "../../../../stacks/aws/rules.ts";
import { type AwsStack, addresses, type Extent, id } from "../../../../stacks/aws/shape.ts";
import { jsonOf, synthesise } from "../../../../stacks/aws/synth.ts";
import { suite } from "../../../suite.ts";
import { stackOf, stackOfText } from "./fixtures.ts";

const test = suite("synth");
const text = (stack: AwsStack, extent: Extent = "all") => `${JSON.stringify(jsonOf(stack, extent), null, 2)}\n`;
const inloop = () => stackOf("inloop");
const pair = () => stackOf("two-hosts");
const fleet = () => stackOf("fleet");

test("what `down` leaves has the volumes and nothing else", () => {
  const json = jsonOf(inloop(), "data");
  assert.equal(Object.keys(json.resource ?? {}), ["aws_ebs_volume"]);
  assert.equal(Object.keys(json.resource?.aws_ebs_volume ?? {}), ["web_docker", "web_inloop", "web_postgresql", "web_backup"]);
  assert.is(jsonOf(inloop(), "nothing").resource, undefined);
});

test("a data volume can be destroyed only once it is released", () => {
  const prevented = (release: string[]) =>
    Object.entries(jsonOf(inloop(), "all", { release }).resource?.aws_ebs_volume ?? {}).map(([name, v]) => [
      name,
      (v.lifecycle as { prevent_destroy?: boolean }).prevent_destroy,
    ]);
  assert.equal(prevented([]), [
    ["web_docker", true],
    ["web_inloop", true],
    ["web_postgresql", true],
    ["web_backup", true],
  ]);
  assert.equal(prevented(["web/inloop"]), [
    ["web_docker", true],
    ["web_inloop", false],
    ["web_postgresql", true],
    ["web_backup", true],
  ]);
});

test("twice gives the same bytes, wherever it is written, and names no folder", () => {
  const written = [0, 1].map(() => {
    const folder = mkdtempSync(join(tmpdir(), "ingot-synth-"));
    const bytes = readFileSync(synthesise(pair(), "all", folder).file, "utf8");
    rmSync(folder, { recursive: true });
    return bytes;
  });
  assert.is(written[0], written[1]);
  assert.not.match(written[0] ?? "", new RegExp(`${toolFolder}|${tmpdir()}/`));
});

test("its continuation cdktn gives the same as cdktf", async () => {
  const folder = mkdtempSync(join(toolFolder, "dist/.cdktn-"));
  try {
    await build({
      absWorkingDir: toolFolder,
      stdin: {
        contents:
          'import { jsonOf } from "./stacks/aws/synth.ts"; import { readFileSync } from "node:fs"; console.log(JSON.stringify(jsonOf(JSON.parse(readFileSync(0, "utf8")), "all"), null, 2));',
        resolveDir: toolFolder,
        loader: "ts",
      },
      outfile: join(folder, "synth.mjs"),
      bundle: true,
      platform: "node",
      format: "esm",
      logLevel: "error",
      alias: { cdktf: "cdktn", "@cdktf/provider-aws": "@cdktn/provider-aws" },
      banner: { js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);' },
    });
    for (const stack of [inloop(), pair(), fleet()])
      assert.is(execFileSync(process.execPath, [join(folder, "synth.mjs")], { input: JSON.stringify(stack) }).toString(), text(stack));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test("nothing that is synthesised breaks a rule", () => {
  for (const stack of [inloop(), pair(), fleet()]) assert.equal(broken(jsonOf(stack, "all"), stack), []);
});

test("ports between hosts are opened by group, and only to the stack's other hosts", () => {
  const rules = jsonOf(pair(), "all").resource?.aws_vpc_security_group_ingress_rule ?? {};
  const inner = Object.values(rules).filter((r) => r.from_port === 8100);
  const idOf = (host: string) => `\${aws_security_group.${host}.id}`;
  assert.equal(
    inner.map((r) => [r.security_group_id, r.referenced_security_group_id, r.cidr_ipv4]),
    [[idOf("database"), idOf("application"), undefined]],
  );
});

test("a host may read its own secrets, artifacts and facts, write its own reports, and nothing else", () => {
  const { Statement } = JSON.parse(String(jsonOf(inloop(), "all").resource?.aws_iam_role_policy?.web?.policy)) as {
    Statement: { Sid: string; Action: string[]; Resource: string[] }[];
  };
  assert.equal(
    Statement.map((s) => [s.Sid, s.Action]),
    [
      ["Parameters", ["ssm:GetParameter", "ssm:GetParameters"]],
      ["Artifacts", ["s3:GetObject"]],
      ["Reports", ["s3:PutObject"]],
    ],
  );
  const parameters = Statement[0]?.Resource.map((r) => r.replace(/^.*:parameter/, "")) ?? [];
  assert.equal(
    parameters.filter((p) => !p.startsWith("/ingot/inloop/")),
    [],
  );
  assert.ok(parameters.includes("/ingot/inloop/secrets/django"));
  assert.not.ok(parameters.some((p) => p.includes("*") || p.includes("operator")));
});

/** A host that keeps its backups in a bucket. */
const inBucket = (more: { s3?: string; host?: string } = {}): AwsStack =>
  stackOfText(`stack: shop
hosts:
  db:
    image: inloop
    users: { shop: { system: true } }
    services: { shop: { user: shop, command: sleep 9, listens: "0.0.0.0:8100", open_to: world } }
    directories: { /srv/media: {} }
    aws: { ssh_from: [203.0.113.0/24] }${more.host ?? ""}
    backup: { to: { s3: { bucket: shop-backups, region: eu-west-1${more.s3 ?? ""} } }, directories: [/srv/media] }
`);
function backupRights(stack: AwsStack) {
  const policy = String(jsonOf(stack, "all").resource?.aws_iam_role_policy?.db?.policy).replaceAll(
    /\$\{data\.aws_partition[^}]*\}/g,
    "aws",
  );
  return (JSON.parse(policy) as { Statement: { Sid: string }[] }).Statement.filter((s) => s.Sid.startsWith("Backups"));
}

test("a host that keeps its backups in a bucket may list and change what is below its own prefix there, and nothing else", () => {
  assert.equal(backupRights(inBucket()), [
    {
      Sid: "BackupsListed",
      Effect: "Allow",
      Action: ["s3:ListBucket"],
      Resource: ["arn:aws:s3:::shop-backups"],
      Condition: { StringLike: { "s3:prefix": ["shop/db", "shop/db/*"] } },
    },
    {
      Sid: "Backups",
      Effect: "Allow",
      Action: ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:DeleteObject"],
      Resource: ["arn:aws:s3:::shop-backups/shop/db/*"],
    },
  ]);
  assert.equal(broken(jsonOf(inBucket(), "all"), inBucket()), []);
  assert.equal(backupRights(inBucket({ s3: ", access_key: { secret: key }, secret_key: { secret: hidden }" })), []);
});

test("the machines of a fleet cannot all write to one bucket", () => {
  assert.throws(() => inBucket({ host: "\n    count: 2" }), /one machine alone may write to shop-backups\/shop\/db/);
});

test("Network, Host and declare are parts of anybody's own CDKTF app", () => {
  const folder = mkdtempSync(join(tmpdir(), "ingot-app-"));
  try {
    mkdirSync(join(folder, "node_modules/@ingot-host"), { recursive: true });
    symlinkSync(toolFolder, join(folder, "node_modules/@ingot-host/ingot"));
    for (const name of ["cdktf", "constructs", "@cdktf"])
      symlinkSync(join(toolFolder, "node_modules", name), join(folder, "node_modules", name));
    writeFileSync(join(folder, "shape.json"), JSON.stringify(pair()));
    writeFileSync(
      join(folder, "main.mjs"),
      `import { readFileSync } from "node:fs";
      import { App, TerraformStack } from "cdktf";
      import { SecurityGroup } from "@cdktf/provider-aws/lib/security-group/index.js";
      import { AwsProvider } from "@cdktf/provider-aws/lib/provider/index.js";
      import { declare, Host, Network } from "@ingot-host/ingot/constructs";
      const shape = JSON.parse(readFileSync("shape.json", "utf8"));
      const app = new App();
      declare(new TerraformStack(app, "whole"), shape, "all");
      const parts = new TerraformStack(app, "parts");
      new AwsProvider(parts, "aws", { region: "eu-central-1" });
      const network = new Network(parts, "network", { network: { kind: "own", cidr: "10.7.0.0/24" }, zones: ["eu-central-1b"], name: "mine" });
      const group = new SecurityGroup(parts, "group", { vpcId: network.vpcId });
      const account = { partition: "aws", region: "eu-central-1", number: "123456789012", bucket: "mine" };
      const host = { ...shape.hosts[1], dns: undefined, alarms: false };
      new Host(parts, "web", { stack: "mine", host, secrets: "parameter-store", account, subnet: network.subnetOf("eu-central-1b"), group, keyName: "mine", volumes: new Map() });
      app.synth();`,
    );
    execFileSync(process.execPath, ["main.mjs"], { cwd: folder });
    const made = (name: string) =>
      JSON.parse(readFileSync(join(folder, "cdktf.out/stacks", name, "cdk.tf.json"), "utf8")) as {
        resource: Record<string, Record<string, Record<string, unknown>>>;
      };
    const kinds = (json: { resource?: object }) => Object.keys(json.resource ?? {}).sort();
    assert.equal(kinds(made("whole")), kinds(jsonOf(pair(), "all")));
    const { resource } = made("parts");
    assert.equal(Object.keys(resource.aws_instance ?? {}), ["application"]);
    assert.is(resource.aws_instance?.application?.private_ip, "10.1.1.2");
    assert.is(Object.values(resource.aws_subnet ?? {})[0]?.cidr_block, "10.7.0.0/24");
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("a fixed address that EC2 keeps for itself makes the subnet one bit wider, or is refused", () => {
  const subnetOf = (network: string, address: string) =>
    stackOfText(`stack: a\nnetwork: ${network}\nhosts:\n  a: { image: debian-12, address: ${address} }\n`).network as { cidr: string };
  assert.is(subnetOf("10.1.1.0/24", "10.1.1.1").cidr, "10.1.0.0/23");
  assert.is(subnetOf("10.1.1.0/24", "10.1.1.10").cidr, "10.1.1.0/24");
  assert.throws(() => subnetOf("10.1.0.0/24", "10.1.0.1"), /keeps the first four addresses/);
});

test("in a VPC of its own a zone's subnet is where its letter says, whichever other zones there are; those with addresses are in one zone", () => {
  const own = (hosts: string, network = "10.1.1.0/24") =>
    stackOfText(`stack: a\nnetwork: ${network}\nhosts:\n${hosts}`.replaceAll("{ ", "{ image: debian-12, "));
  const subnets = (hosts: string, network?: string) =>
    Object.values(jsonOf(own(hosts, network), "all").resource?.aws_subnet ?? {}).map((s) => [s.availability_zone, s.cidr_block]);
  const [a, b, c] = [
    ["eu-central-1a", "10.1.1.0/24"],
    ["eu-central-1b", "10.1.2.0/24"],
    ["eu-central-1c", "10.1.3.0/24"],
  ];
  assert.equal(subnets("  x: { aws: {} }\n"), [a]);
  assert.equal(subnets("  x: { aws: {zone: b} }\n"), [b]);
  assert.equal(subnets("  x: { aws: {} }\n  y: { aws: {zone: c} }\n"), [a, c]);
  assert.equal(subnets("  x: { aws: {zone: b} }\n  y: { aws: {zone: c} }\n"), [b, c]);
  // The network itself is where the addresses of it are.
  assert.equal(subnets("  x: { address: 10.1.1.10, aws: {zone: b} }\n  y: { aws: {} }\n"), [
    ["eu-central-1a", "10.1.0.0/24"],
    ["eu-central-1b", "10.1.1.0/24"],
  ]);
  assert.throws(
    () => own("  x: { address: 10.1.1.10, aws: {zone: b} }\n  y: { address: 10.1.1.11 }\n"),
    /a: x, y have addresses of 10\.1\.1\.0\/24, and are in eu-central-1b and eu-central-1a: a subnet is in one zone/,
  );
  assert.throws(() => subnets("  x: { aws: {} }\n  y: { aws: {zone: c} }\n", "10.1.0.0/17"), /10\.1\.0\.0\/17 is too large for subnets in/);
});

test("a host that could reach nothing is refused; in subnets of one's own it may be private", () => {
  const text = (network: string) =>
    `stack: a\naws: { network: ${network} }\nhosts:\n  a: { image: debian-12, aws: { address: private } }\n`;
  for (const network of ["own", "default"]) assert.throws(() => stackOfText(text(network)), /no way out but by a public address/);
  assert.is(stackOfText(text("{ subnets: [subnet-0a1b2c3d] }")).hosts[0]?.address, "private");
});

test("names of hosts and volumes never meet in one address", () => {
  const pairs = ["a", "a_b", "a_", "a__b", "1", "_1".slice(1), "a-b"].flatMap((host) =>
    ["b", "c", "b_c", "1"].map((volume) => id(host, volume)),
  );
  assert.is(
    new Set(pairs).size,
    new Set(["a", "a_b", "a_", "a__b", "1", "a-b"].flatMap((h) => ["b", "c", "b_c", "1"].map((v) => `${h} ${v}`))).size,
  );
  assert.match(addresses.instance("1a"), /^aws_instance\._1a$/);
});

test.run();
