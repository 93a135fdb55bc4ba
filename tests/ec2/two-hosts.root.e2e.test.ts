// Two hosts in a VPC of their own on EC2, as far as this computer can show it: each with its fixed address, a change of each kind with the
// guard's words, what somebody else changes, and two at one state. Skipped without the provider.
import { cpSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { toolFolder } from "../../lib/paths.ts";
import { suite } from "../suite.ts";
import { Ec2, editor } from "./ec2.ts";

const test = suite("two hosts on ec2");
const ec2 = new Ec2();
const one = ec2.hasProvider ? test : test.skip;
const stack = join(ec2.folder, "stacks/two-hosts.yaml");
const edit = editor(stack);

interface Plan {
  hosts: { host: string; fate: string; words: string[] }[];
  changes: { address: string; action: string; words: string }[];
  drift: string[];
  refused: { words: string; unless: string }[];
}
/**
 * The plan, without what the emulator forgets: RunInstances ignores DisableApiTermination, an instance in a VPC of one's own has no groups in
 * what DescribeInstances says, and a rule by group has no description.
 */
async function plan(): Promise<Plan> {
  const outcome = await ec2.ingot(["plan", "two-hosts", "--json"]);
  const said = JSON.parse(outcome.stdout || "{}") as Plan;
  if (!said.changes) throw new Error(ec2.said(outcome));
  const remembered = (words: string): string[] => {
    const text = words
      .replace(
        /disable_api_termination: false → true(, )?|vpc_security_group_ids(, )?|(, )?description: none → service\/records from host_application/g,
        "",
      )
      .replace(/, (\)|$)/, "$1");
    return / \(\)$|: $/.test(text) ? [] : [text];
  };
  return {
    hosts: said.hosts.map((h) => {
      const words = h.words.flatMap(remembered);
      return { ...h, words, fate: h.fate === "changed" && !words.some((w) => w.startsWith("instance ")) ? "stays" : h.fate };
    }),
    changes: said.changes.flatMap((c) => remembered(c.words).map((words) => ({ ...c, words }))),
    drift: said.drift.flatMap(remembered).filter((d) => !/host_application: description/.test(d)),
    refused: said.refused,
  };
}

test.before(async () => {
  if (!ec2.hasProvider) return;
  cpSync(join(toolFolder, "tests/stacks/aws/synth/two-hosts.yaml"), stack);
  // What moto does not model: alarms in the protocol that the provider speaks now, and the Data Lifecycle Manager.
  edit(/snapshots: \{[^}]*\}/, "snapshots: { every: never }, alarms: false");
  edit("type: t3.micro", "type: t3.micro, alarms: false");
  edit("ssh_from: [203.0.113.0/24], ", "");
  // It is in another region: commands that name no stack would ask which one.
  rmSync(join(ec2.folder, "stacks/kano-konnect.yaml"));
  await ec2.start();
  await ec2.register("two-hosts");
  await ec2.hostedZone("example.org");
});
test.after(() => ec2.end());

one("both are launched at their addresses, report, and are verified", async () => {
  const up = await ec2.ingot(["up", "two-hosts"]);
  assert.is(up.code, 0, ec2.said(up));
  for (const host of ["database", "application"]) assert.match(up.stdout, new RegExp(`${host}[\\s\\S]*checks: (\\d+) of \\1 passed`));
  const own = async (host: string) => (await ec2.ingot(["exec", `two-hosts/${host}`, "--", "hostname", "-I"])).stdout.trim();
  assert.equal([await own("database"), await own("application")], ["10.1.1.1", "10.1.1.2"]);
});

one("one reaches the other", async () => {
  await ec2.ingot(["exec", "two-hosts/database", "--", "sh", "-c", "echo kept >/srv/records/kept"]);
  const got = await ec2.ingot(["exec", "two-hosts/application", "--", "curl", "-sf", "--max-time", "10", "http://10.1.1.1:8100/kept"]);
  assert.is(got.stdout, "kept\n", ec2.said(got));
});

one("a second plan is empty", async () => {
  const { changes, drift, refused } = await plan();
  assert.equal({ changes, drift, refused }, { changes: [], drift: [], refused: [] });
});

one("each kind of change is said in words; what holds data is neither made anew nor deleted by it", async () => {
  const original = readFileSync(stack, "utf8");
  /** What the plan says of a changed file: of each host, and what it refuses. */
  const words = async (from: string | RegExp, to: string): Promise<[database: string[], application: string[], refused: string[]]> => {
    edit(from, to);
    const { hosts, refused } = await plan();
    writeFileSync(stack, original);
    const of = (name: string) =>
      hosts.flatMap((h) => (h.host === name ? [h.fate, ...h.words] : [])).map((w) => w.replace(/\b[0-9a-f]{12}\b/g, "…"));
    return [of("database"), of("application"), refused.map((r) => `${r.words}; ${r.unless}`)];
  };
  const stays = ["stays"];
  const another = "it is to become another generation, … in place of …: `ingot apply two-hosts --on aws`";

  assert.equal(await words("8001, listens", "8001 -p HTTP/1.1, listens"), [stays, ["stays", another], []], "user-data");

  const [, type] = await words("type: t3.micro", "type: t3.medium");
  assert.is(type[0], "changed");
  assert.match(type[1] ?? "", /instance_type: t3.micro → t3.medium.*: the machine is stopped for it and started again, a minute or two$/);

  assert.equal(await words("size: 20GiB", "size: 30GiB"), [
    ["stays", "the data volume database/records is changed (size: 20 → 30): its file system grows with `ingot apply`"],
    stays,
    [],
  ]);
  assert.match((await words("size: 20GiB", "size: 10GiB"))[2].join(), /size: 20 → 10\): a volume cannot shrink; leave `size: 20GiB`/);

  const [more] = await words("size: 20GiB }", "size: 20GiB }\n      more: { mount: /srv/more, size: 5GiB }");
  assert.equal(more.slice(0, 3), ["stays", another, "the data volume database/more is made"]);

  assert.equal((await words("0.0.0.0:8100", "0.0.0.0:8200"))[0], [
    "stays",
    another,
    "port 8100/tcp of service/records from host_application is closed",
    "port 8200/tcp of service/records from host_application is opened",
  ]);
  assert.match((await words("team: infrastructure", "team: web"))[1].join("\n"), /^changed\ninstance application is changed \(.*tags\)/);

  const [moved, , refused] = await words("address: 10.1.1.1", "address: 10.1.1.9");
  assert.equal(moved, ["replaced", "its machine is made anew; its data volumes (records) stay and are attached again"]);
  assert.match(refused.join(), /database holds data \(records\); .*; when it may be made anew: --replace database$/);
  // The other host knows it by its address.
  assert.equal(await words("address: 10.1.1.2", "address: 10.1.1.9"), [["stays", another], ["replaced", "its machine is made anew"], []]);

  const gone = "is no longer in the stack: its machine goes";
  assert.equal((await words(/\n {2}application:[\s\S]*/, "\n"))[1], ["deleted", gone]);
  const [database, application, kept] = await words(/\n {2}database:[\s\S]*\n {2}application:/, "\n  application:");
  assert.equal(
    [database, application],
    [
      ["deleted", gone],
      ["stays", another],
    ],
  );
  assert.equal(kept, [
    "the data volume database/records is deleted, with all data on it; when its data may go: --yes-delete-volume database/records",
  ]);
});

one("what somebody else changed is said, and the next launch takes it back and makes what is new", async () => {
  await ec2.ask(`
    import { EC2Client, DescribeSecurityGroupsCommand, RevokeSecurityGroupIngressCommand, DescribeInstancesCommand, CreateTagsCommand } from "@aws-sdk/client-ec2";
    const ec2 = new EC2Client({});
    const application = { Name: "tag:ingot:host", Values: ["application"] };
    const { SecurityGroups: [group] } = await ec2.send(new DescribeSecurityGroupsCommand({ Filters: [application] }));
    await ec2.send(new RevokeSecurityGroupIngressCommand({ GroupId: group.GroupId, IpPermissions: [group.IpPermissions.find((p) => p.FromPort === 443)] }));
    const { Reservations: [{ Instances: [instance] }] } = await ec2.send(new DescribeInstancesCommand({ Filters: [application] }));
    await ec2.send(new CreateTagsCommand({ Resources: [instance.InstanceId], Tags: [{ Key: "Name", Value: "mine now" }] }));
    console.log("null");`);
  const { drift, changes } = await plan();
  const rule = "aws_vpc_security_group_ingress_rule.application_tcp_443_";
  assert.equal(drift, ["aws_instance.application: tags", `${rule}0_0_0_0_0 is gone`, `${rule}___0 is gone`]);
  assert.equal(
    changes.map((c) => c.action),
    ["update", "create", "create"],
  );
  edit("size: 20GiB", "size: 21GiB");
  edit("8001, listens", "8001 -p HTTP/1.1, listens");
  const [, before] = (await ec2.there()).instances;
  const up = await ec2.ingot(["up", "two-hosts"]);
  assert.is(up.code, 0, ec2.said(up));
  assert.match(up.stderr, /changed by somebody else/);
  assert.is((await ec2.there()).instances[1], before);
  const after = await plan();
  assert.equal([after.drift, after.changes], [[], []]);
  assert.match(after.hosts.find((h) => h.host === "application")?.words.join() ?? "", /another generation/);
});

one("apply brings the running hosts to it: the new generation, and the grown volume's file system", async () => {
  const size = async () =>
    Number((await ec2.ingot(["exec", "two-hosts/database", "--", "df", "--output=size", "-B1M", "/srv/records"])).stdout.split("\n")[1]);
  const before = await size();
  const apply = await ec2.ingot(["apply", "two-hosts"]);
  assert.is(apply.code, 0, ec2.said(apply));
  assert.equal(
    (await plan()).hosts.flatMap((h) => h.words),
    [],
  );
  assert.ok((await size()) > before + 900, `${before} MiB, and then ${await size()}`);
});

one("two at one stack: the second waits and says for whom; a Terraform by hand is waited for too", async () => {
  const [first, second] = await Promise.all([ec2.ingot(["stop", "two-hosts"]), ec2.ingot(["stop", "two-hosts"])]);
  assert.equal([first.code, second.code], [0, 0], ec2.said(first) + ec2.said(second));
  assert.is([first, second].filter((o) => /waiting: .+@.+ is at two-hosts \(stop, since/.test(o.stderr)).length, 1);
  const machines = JSON.parse((await ec2.ingot(["status", "two-hosts", "--json"])).stdout) as { state: string }[];
  assert.equal(
    machines.map((m) => m.state),
    ["stopped", "stopped"],
  );
  const start = await ec2.ingot(["start", "two-hosts"]);
  assert.is(start.code, 0, ec2.said(start));
  assert.is((await ec2.ingot(["exec", "two-hosts/database", "--", "cat", "/srv/records/kept"])).stdout, "kept\n");

  // The lock that Terraform itself leaves beside its state while somebody is at it.
  const lock = (command: string) =>
    ec2.ask(`
      import { S3Client, PutObjectCommand, DeleteObjectCommand } from "@aws-sdk/client-s3";
      const s3 = new S3Client({ forcePathStyle: true });
      const Bucket = "ingot-123456789012-eu-central-1", Key = "stacks/two-hosts/terraform.tfstate.tflock";
      const Body = JSON.stringify({ ID: "4f2c", Operation: "OperationTypeApply", Who: "ops@bastion", Version: "1.11.0", Created: "2026-11-24T10:00:00Z", Path: "x" });
      await s3.send(${command});
      console.log("null");`);
  await lock("new PutObjectCommand({ Bucket, Key, Body })");
  const waiting = ec2.ingot(["plan", "two-hosts"]);
  await new Promise((resolve) => setTimeout(resolve, 8000));
  await lock("new DeleteObjectCommand({ Bucket, Key })");
  assert.is((await waiting).code, 0, ec2.said(await waiting));
  await lock("new PutObjectCommand({ Bucket, Key, Body })");
  const refused = await ec2.ingot(["plan", "two-hosts"]);
  assert.is(refused.code, 1);
  assert.match(refused.stderr, /ops@bastion/);
  assert.match(refused.stderr, /another Terraform is at this state/);
  await lock("new DeleteObjectCommand({ Bucket, Key })");
});

one("a host that is taken out of the stack goes alone; down leaves the volume, and up has its data again", async () => {
  const whole = readFileSync(stack, "utf8");
  edit(/\n {2}application:[\s\S]*/, "\n");
  const up = await ec2.ingot(["up", "two-hosts"]);
  assert.is(up.code, 0, ec2.said(up));
  assert.is((await ec2.there()).instances.length, 1);
  writeFileSync(stack, whole);
  const { volumes } = await ec2.there();
  assert.is((await ec2.ingot(["down", "two-hosts"])).code, 0);
  assert.equal(await ec2.there(), { instances: [], volumes });
  const again = await ec2.ingot(["up", "two-hosts"]);
  assert.is(again.code, 0, ec2.said(again));
  assert.is((await ec2.ingot(["exec", "two-hosts/database", "--", "cat", "/srv/records/kept"])).stdout, "kept\n");
  const down = await ec2.ingot(["down", "two-hosts", "--yes-delete-volume", "database/records"]);
  assert.is(down.code, 0, ec2.said(down));
  assert.equal(await ec2.there(), { instances: [], volumes: [] });
  const gc = await ec2.ingot(["gc"]);
  assert.match(gc.stdout, /nothing was left behind/, ec2.said(gc));
});

test.run();
