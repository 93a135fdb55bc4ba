// Each rule with what breaks it: a stack that asks for it, or the JSON as a mistaken construct would have written it.
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import * as assert from "uvu/assert";
import { compile } from "../../../../cloud-init/compile.ts";
import { userDataOf } from "../../../../cloud-init/user-data.ts";
import { RefusedError } from "../../../../lib/diagnostics.ts";
import { type Broken, broken } from "../../../../stacks/aws/rules.ts";
import { jsonOf, synthesise, type TerraformJson } from "../../../../stacks/aws/synth.ts";
import { modelOfText, stackWith } from "../../../cloud-init/fixtures.ts";
import { suite } from "../../../suite.ts";
import { files, type Name, stackOf, stackOfText } from "./fixtures.ts";

const test = suite("synth: rules");

type Values = Record<string, unknown>;

for (const name of Object.keys(files) as Name[]) {
  test(`${name} breaks no rule`, () => {
    const stack = stackOf(name);
    assert.equal(broken(jsonOf(stack, "all"), stack), []);
    assert.equal(broken(jsonOf({ ...stack, secrets: "secrets-manager" }, "all"), stack), []);
  });
}

test("INLOOP's own user-data holds no plain secret", () => {
  const [host] = compile(modelOfText(readFileSync(files.inloop, "utf8"))).hosts;
  if (!host) throw new Error("no host");
  const stack = stackOf("inloop", { userData: { web: userDataOf(host, "spills").bytes } });
  assert.equal(broken(jsonOf(stack, "all"), stack), []);
});

test("Kano-Konnect's instance gets the bytes of user-data that a machine on this computer gets", () => {
  const [host] = compile(modelOfText(readFileSync(files["kano-konnect"], "utf8"))).hosts;
  if (!host) throw new Error("no host");
  const here = Buffer.from(userDataOf(host, "stays").bytes);
  const stack = stackOf("kano-konnect", { userData: { webserver: userDataOf(host, "spills").bytes } });
  const json = jsonOf(stack, "all");
  assert.equal(broken(json, stack), []);
  const instance = json.resource?.aws_instance?.webserver as { user_data_base64: string };
  assert.is(instance.user_data_base64, here.toString("base64"));
});

/** What is said of INLOOP after `change` was done to the resource at `address`; one that is not there is made. */
function after(address: string, change: (values: Values) => void, name: Name = "inloop"): Broken[] {
  const stack = stackOf(name);
  const json: TerraformJson = structuredClone(jsonOf(stack, "all"));
  const [type = "", resource = ""] = address.split(".");
  const all = ((json.resource ??= {})[type] ??= {});
  change((all[resource] ??= {}));
  return broken(json, stack);
}
const only = (found: Broken[], rule: Broken["rule"], address: string, message: RegExp): void => {
  assert.equal(
    found.map((b) => [b.rule, b.address]),
    [[rule, address]],
  );
  assert.match(found[0]?.message ?? "", message);
};
const policy = (statement: Values): string => JSON.stringify({ Version: "2012-10-17", Statement: [{ Effect: "Allow", ...statement }] });

test("a stack that opens a database's port to the world is refused, by port and host, and nothing is written", () => {
  const asks = (port: number) =>
    stackOfText(
      stackWith(
        `users:\n  hello: { system: true }\nservices:\n  hello: { user: hello, command: python3 -m http.server ${port}, listens: "0.0.0.0:${port}", open_to: world }\n`,
      ),
    );
  const folder = mkdtempSync(join(tmpdir(), "ingot-rules-"));
  try {
    for (const port of [5432, 3306, 6379, 5672, 27017, 11211, 15672, 9200]) {
      assert.throws(
        () => synthesise(asks(port), "all", folder),
        (error: unknown) => error instanceof RefusedError && error.message.includes(`port ${port} `) && error.message.includes("of web "),
      );
      assert.not.ok(existsSync(join(folder, "cdk.tf.json")));
    }
    synthesise(asks(8001), "all", folder);
    assert.ok(existsSync(join(folder, "cdk.tf.json")));
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("a range that holds a database's port is a public database too", () => {
  const found = after("aws_vpc_security_group_ingress_rule.web_tcp_443_0_0_0_0_0", (r) =>
    Object.assign(r, { from_port: 5000, to_port: 5500 }),
  );
  assert.equal(
    found.map((b) => b.rule),
    ["database-port", "undeclared-port"],
  );
});

test("a port that nothing declares is not open to the world", () => {
  const rule = {
    cidr_ipv6: "::/0",
    ip_protocol: "tcp",
    from_port: 8443,
    to_port: 8443,
    security_group_id: `\${aws_security_group.web.id}`,
  };
  const address = "aws_vpc_security_group_ingress_rule.more";
  only(
    after(address, (r) => Object.assign(r, rule)),
    "undeclared-port",
    address,
    /port 8443 of web .*nothing declares/,
  );
  assert.equal(
    after(address, (r) => Object.assign(r, { ...rule, cidr_ipv6: undefined, cidr_ipv4: "203.0.113.0/24" })),
    [],
  );
});

test("a port declared for the stack's other hosts is not open to the world", () => {
  const address = "aws_vpc_security_group_ingress_rule.database_tcp_8100_host_application";
  only(
    after(address, (r) => Object.assign(r, { cidr_ipv4: "0.0.0.0/0" }), "two-hosts"),
    "undeclared-port",
    address,
    /8100 of database/,
  );
});

test("ssh is open to whom the stack says, and to nobody else", () => {
  const address = "aws_vpc_security_group_ingress_rule.application_tcp_22_203_0_113_0_24";
  only(
    after(address, (r) => Object.assign(r, { cidr_ipv4: "0.0.0.0/0" }), "two-hosts"),
    "undeclared-port",
    address,
    /port 22 of application/,
  );
});

test("rules inside a security group, and all protocols at once, are seen as well", () => {
  const found = after("aws_security_group.web", (g) =>
    Object.assign(g, { ingress: [{ protocol: "-1", from_port: 0, to_port: 0, cidr_blocks: ["0.0.0.0/0"] }] }),
  );
  assert.ok(found.some((b) => b.rule === "database-port" && b.message.includes("5432")));
  assert.ok(found.some((b) => b.rule === "undeclared-port" && b.message.includes("ports 0 to 65535 of web")));
});

for (const [options, message] of [
  [{ http_tokens: "optional", http_put_response_hop_limit: 1 }, /IMDSv1/],
  [{ http_tokens: "required", http_put_response_hop_limit: 2 }, /hop_limit/],
] as const) {
  test(`metadata options ${JSON.stringify(options)} are refused`, () => {
    only(
      after("aws_instance.web", (i) => Object.assign(i, { metadata_options: options })),
      "metadata",
      "aws_instance.web",
      message,
    );
    only(
      after("aws_launch_template.web", (t) => Object.assign(t, { metadata_options: [options] }), "fleet"),
      "metadata",
      "aws_launch_template.web",
      message,
    );
  });
}

test("an instance without metadata options has IMDSv1, and is refused", () => {
  assert.is(after("aws_instance.web", (i) => delete i.metadata_options).length, 2);
});

test("a disk that is not encrypted is refused, whichever it is", () => {
  only(
    after("aws_ebs_volume.web_inloop", (v) => delete v.encrypted),
    "encryption",
    "aws_ebs_volume.web_inloop",
    /not be encrypted/,
  );
  only(
    after("aws_instance.web", (i) => delete i.root_block_device),
    "encryption",
    "aws_instance.web",
    /not be encrypted/,
  );
  only(
    after("aws_instance.web", (i) => Object.assign(i, { ebs_block_device: [{ device_name: "/dev/sdz" }] })),
    "encryption",
    "aws_instance.web",
    /not be encrypted/,
  );
  only(
    after("aws_launch_template.web", (t) => Object.assign(t, { block_device_mappings: [{ ebs: { encrypted: "false" } }] }), "fleet"),
    "encryption",
    "aws_launch_template.web",
    /not be encrypted/,
  );
});

for (const [what, statement, message] of [
  ["any action", { Action: "*", Resource: "arn:aws:s3:::b/k" }, /the action \*/],
  ["all of a service's actions", { Action: ["s3:Get*"], Resource: ["arn:aws:s3:::b/k"] }, /s3:Get\*/],
  ["any resource", { Action: ["s3:GetObject"], Resource: ["*"] }, /s3:GetObject on \*/],
  ["every artifact", { Action: ["s3:GetObject"], Resource: ["arn:aws:s3:::b/artifacts/*"] }, /on arn:aws:s3:::b\/artifacts\/\*/],
  [
    "every secret",
    { Action: ["secretsmanager:GetSecretValue"], Resource: ["arn:aws:secretsmanager:r:1:secret:ingot/inloop/*"] },
    /inloop\/\*/,
  ],
  ["all hosts' reports", { Action: ["s3:PutObject"], Resource: ["arn:aws:s3:::b/stacks/inloop/reports/*"] }, /reports\/\*/],
  ["a whole bucket of backups", { Sid: "Backups", Action: ["s3:PutObject"], Resource: ["arn:aws:s3:::b/*"] }, /on arn:aws:s3:::b\/\*/],
  ["all but something", { NotAction: ["iam:PassRole"], Resource: ["arn:aws:s3:::b/k"] }, /all but/],
] as const) {
  test(`a policy that allows ${what} is refused`, () => {
    only(
      after("aws_iam_role_policy.web", (p) => Object.assign(p, { policy: policy(statement) })),
      "permissions",
      "aws_iam_role_policy.web",
      message,
    );
  });
}

test("a policy of AWS's own that no host needs is refused", () => {
  only(
    after("aws_iam_role_policy_attachment.more", (a) => Object.assign(a, { policy_arn: "arn:aws:iam::aws:policy/AdministratorAccess" })),
    "permissions",
    "aws_iam_role_policy_attachment.more",
    /AdministratorAccess/,
  );
});

test("a bucket that anybody reads is refused", () => {
  only(
    after("aws_s3_bucket_acl.more", (a) => Object.assign(a, { acl: "public-read" })),
    "public-bucket",
    "aws_s3_bucket_acl.more",
    /public-read/,
  );
  const open = { policy: policy({ Principal: { AWS: "*" }, Action: "s3:GetObject", Resource: "arn:aws:s3:::b/k" }) };
  only(
    after("aws_s3_bucket_policy.more", (p) => Object.assign(p, open)),
    "public-bucket",
    "aws_s3_bucket_policy.more",
    /anybody/,
  );
  const closed = { block_public_acls: true, block_public_policy: true, ignore_public_acls: true, restrict_public_buckets: false };
  only(
    after("aws_s3_bucket_public_access_block.more", (p) => Object.assign(p, closed)),
    "public-bucket",
    "aws_s3_bucket_public_access_block.more",
    /restrict_public_buckets/,
  );
});

for (const [what, text] of [
  ["a private key", "-----BEGIN OPENSSH PRIVATE KEY-----\n"],
  ["an access key", "aws_access_key_id = AKIAIOSFODNN7EXAMPLE\n"],
  ["a url with a password", "DATABASE_URL=postgresql://inloop:hunter2@db/inloop\n"],
] as const) {
  test(`user-data with ${what} is refused, gzipped or not`, () => {
    for (const bytes of [Buffer.from(`#cloud-config\n${text}`), gzipSync(`#cloud-config\n${text}`)]) {
      const base64 = bytes.toString("base64");
      only(
        after("aws_instance.web", (i) => Object.assign(i, { user_data_base64: base64 })),
        "secret-in-user-data",
        "aws_instance.web",
        /\{ secret: name \}/,
      );
      only(
        after("aws_launch_template.web", (t) => Object.assign(t, { user_data: base64 }), "fleet"),
        "secret-in-user-data",
        "aws_launch_template.web",
        /\{ secret: name \}/,
      );
    }
  });
}

test("what is found again by its tags has them", () => {
  only(
    after("aws_instance.web", (i) => Object.assign(i, { tags: { Name: "web" } })),
    "tags",
    "aws_instance.web",
    /ingot:stack, ingot:host, ingot:generation, ingot:image/,
  );
  only(
    after("aws_ebs_volume.web_inloop", (v) => delete (v.tags as Values)["ingot:mount"]),
    "tags",
    "aws_ebs_volume.web_inloop",
    /ingot:mount/,
  );
  only(
    after("aws_launch_template.web", (t) => delete t.tag_specifications, "fleet"),
    "tags",
    "aws_launch_template.web",
    /Name/,
  );
});

test("a host with data is not ended by one call", () => {
  only(
    after("aws_instance.web", (i) => delete i.disable_api_termination),
    "termination-protection",
    "aws_instance.web",
    /disable_api_termination/,
  );
  assert.equal(
    after("aws_instance.application", (i) => delete i.disable_api_termination, "two-hosts"),
    [],
  );
});

test.run();
