// A host on EC2 that comes back elsewhere, as far as this computer can show it: at another address, to which its name in DNS is moved; then, with an Elastic IP,
// in another zone of its stack's own VPC, where it has another subnet than the stack's other host. Who asks for the name asks by DNS, and goes where that says.
// Skipped without the provider.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { toolFolder } from "../../lib/paths.ts";
import type { Rebuild } from "../../stacks/recovery/rebuild.ts";
import { suite } from "../suite.ts";
import { Ec2, editor } from "./ec2.ts";

const test = suite("a host that moves on ec2");
const ec2 = new Ec2("with AMIs");
const one = ec2.hasProvider ? test : test.skip;
const edit = editor(join(ec2.folder, "stacks/kept.yaml"));

const on = async (host: string, script: string): Promise<string> => {
  const outcome = await ec2.ingot(["exec", `kept/${host}`, "--", "sh", "-c", script]);
  assert.is(outcome.code, 0, `${script}\n${ec2.said(outcome)}`);
  return outcome.stdout.trim();
};
const sql = (text: string) => on("db", `cd / && echo "${text}" | runuser -u postgres -- psql -XqAt -v ON_ERROR_STOP=1 shop`);
/** What the SDK says in the namespace. @param body statements that end with `say(...)` */
const asked = (body: string): Promise<unknown> =>
  ec2.ask(`
    import * as e from "@aws-sdk/client-ec2";
    import * as p from "@aws-sdk/client-ssm";
    const ec2 = new e.EC2Client({});
    const ssm = new p.SSMClient({});
    const say = (x) => console.log(JSON.stringify(x));
    const volumes = async () => (await ec2.send(new e.DescribeVolumesCommand({}))).Volumes.filter((v) => v.Tags?.some((t) => /^ingot:(volume|aside)$/.test(t.Key)));
    const own = async (host) => (await ec2.send(new e.DescribeInstancesCommand({ Filters: [{ Name: "tag:ingot:host", Values: [host] }, { Name: "instance-state-name", Values: ["running"] }] })))
      .Reservations.flatMap((r) => r.Instances);
    ${body}`);

interface There {
  id: string;
  address: string;
  within: string;
  zone: string;
}
/** The one machine of a host that runs, as EC2 has it. */
const machine = (host: string) =>
  asked(`
    const [i, ...more] = await own("${host}");
    if (!i || more.length) throw new Error("there are " + (more.length + 1));
    say({ id: i.InstanceId, address: i.PublicIpAddress, within: i.PrivateIpAddress, zone: i.Placement.AvailabilityZone });`) as Promise<There>;

/** Whom one meets who asks for the host's name and goes there: all addresses that were answered, and the id of the machine, as it says itself. */
async function met(): Promise<{ addresses: string[]; id: string }> {
  const { stdout } = await ec2.run(["getent", "ahostsv4", "db.example.org"]);
  const key = join(ec2.folder, "operator");
  const secret = (await asked(
    `say((await ssm.send(new p.GetParameterCommand({ Name: "/ingot/kept/secrets/operator-ssh-key", WithDecryption: true }))).Parameter.Value);`,
  )) as string;
  writeFileSync(key, secret, { mode: 0o600 });
  const options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes", "ConnectTimeout=10"].flatMap((o) => [
    "-o",
    o,
  ]);
  const argv = ["ssh", "-q", "-i", key, ...options, "debian@db.example.org", "cat /var/lib/cloud/data/instance-id"];
  const outcome = await ec2.run(argv);
  assert.is(outcome.code, 0, ec2.said(outcome));
  return { addresses: [...new Set(stdout.split("\n").flatMap((line) => line.split(" ")[0] || []))], id: outcome.stdout.trim() };
}
async function leadsTo({ address, id }: There): Promise<void> {
  assert.equal(await met(), { addresses: [address], id });
}

async function rebuilt(): Promise<{ result: Rebuild; said: string }> {
  const outcome = await ec2.ingot(["rebuild", "kept/db", "--json"]);
  assert.is(outcome.code, 0, ec2.said(outcome));
  return { result: JSON.parse(outcome.stdout) as Rebuild, said: outcome.stderr };
}

test.before(async () => {
  if (!ec2.hasProvider) return;
  const text = readFileSync(join(toolFolder, "tests/e2e/kept.yaml"), "utf8")
    .replaceAll("MiB", "GiB")
    .replace("stack: kept\n", "stack: kept\nnetwork: 10.1.1.0/24\n")
    .replace(
      "    image: inloop\n",
      "    image: inloop\n    hostname: db\n    domain: example.org\n    aws: { alarms: false, snapshots: { every: never }, address: dynamic, dns: { zone: example.org } }\n",
    );
  const front = "  front:\n    image: debian-12\n    address: 10.1.1.20\n    aws: { alarms: false }\n";
  writeFileSync(join(ec2.folder, "stacks/kept.yaml"), `${text.trimEnd()}\n${front}`);
  await ec2.start();
  await ec2.takeNames();
  await ec2.register("kept");
  await ec2.hostedZone("example.org");
  const up = await ec2.ingot(["up", "kept"]);
  assert.is(up.code, 0, ec2.said(up));
  await sql(
    "create table orders (id int primary key); alter table orders owner to shop; insert into orders select generate_series(1,1000)",
  );
  await on("db", "echo picture >/srv/data/media/one; echo mine >/srv/scratch/x; sync");
  const backup = await ec2.ingot(["backup", "kept", "--full"]);
  assert.is(backup.code, 0, ec2.said(backup));
});
test.after(() => ec2.end());

one("its name leads to it, which verify proves", async () => {
  const { address } = await machine("db");
  await leadsTo(await machine("db"));
  const verify = await ec2.ingot(["verify", "kept", "--json"]);
  const { checks } = JSON.parse(verify.stdout) as { checks: { id: string; message: string }[] };
  const [named, ...more] = checks.filter((c) => c.id.startsWith("dns/"));
  assert.equal([named?.id, named?.message, more], ["dns/db.example.org", `${address}, say the 4 name servers of example.org`, []]);
});

one("machine and data volume are gone: the new machine has another address, and the name leads there, to nobody else", async () => {
  await sql("insert into orders values (1001); select pg_switch_wal()");
  await on("db", "sleep 2; sync");
  const old = await machine("db");
  const other = await machine("front");
  const dry = await ec2.ingot(["rebuild", "kept/db", "--dry-run"]);
  assert.match(
    dry.stdout,
    new RegExp(
      `^address: another public one: db\\.example\\.org \\(${old.address} now\\) is moved to it as the machine is launched; who has asked before may hold the old one for 60 s`,
      "m",
    ),
  );
  await asked(`
    await ec2.send(new e.ModifyInstanceAttributeCommand({ InstanceId: "${old.id}", DisableApiTermination: { Value: false } }));
    await ec2.send(new e.TerminateInstancesCommand({ InstanceIds: ["${old.id}"] }));
    const { VolumeId } = (await volumes()).find((v) => v.Tags.some((t) => t.Key === "ingot:volume" && t.Value === "data"));
    await ec2.send(new e.DetachVolumeCommand({ VolumeId })).catch(() => {});
    await ec2.send(new e.DeleteVolumeCommand({ VolumeId }));
    say(VolumeId);`);
  const { result, said } = await rebuilt();
  const now = await machine("db");
  assert.is.not(now.address, old.address);
  await leadsTo(now);
  assert.equal(result.named, [`db.example.org: ${now.address}, say the 4 name servers of example.org`]);
  assert.match(said, new RegExp(`db\\.example\\.org: ${now.address.replaceAll(".", "\\.")}, say`));
  assert.is(await sql("select count(*) from orders"), "1001");
  assert.equal(await machine("front"), other);
});

one("powered off and on it has another address: its name does not lead there, which is said, until the next launch moves it", async () => {
  const before = await machine("db");
  const stop = await ec2.ingot(["stop", "kept"]);
  assert.is(stop.code, 0, ec2.said(stop));
  const start = await ec2.ingot(["start", "kept"]);
  assert.is(start.code, 1, ec2.said(start));
  const after = await machine("db");
  assert.is.not(after.address, before.address);
  assert.match(start.stderr, /kept\/db has another address than before it was off: `ingot up kept --on aws` moves db\.example\.org to it/);
  assert.match(
    start.stderr,
    new RegExp(`FAILED +db: dns/db\\.example\\.org, .* it is to be ${after.address}: ns-2048\\..* says ${before.address},`),
  );
  // With an Elastic IP that does not happen: the launch that moves the name may give it one as well.
  edit("address: dynamic", "address: elastic");
  const up = await ec2.ingot(["up", "kept"]);
  assert.is(up.code, 0, ec2.said(up));
  const kept = await machine("db");
  assert.is(kept.id, before.id);
  assert.is.not(kept.address, after.address);
  await leadsTo(kept);
});

one("in another zone of the stack's own VPC, without an `address:`: its data comes along, its Elastic IP and its name stay", async () => {
  await sql("insert into orders values (1002)");
  await on("db", "echo now >/srv/scratch/y; sync");
  const [old, other] = [await machine("db"), await machine("front")];
  assert.is(old.zone, "eu-central-1a");
  edit("alarms: false, snapshots", "zone: b, alarms: false, snapshots");
  const dry = await ec2.ingot(["rebuild", "kept/db", "--dry-run"]);
  assert.match(
    dry.stdout,
    /^volume data: in eu-central-1a, and the host is to be in another zone: a snapshot is taken once the machine is off/m,
  );
  assert.match(dry.stdout, new RegExp(`^address: the Elastic IP ${old.address} goes to the new machine; db\\.example\\.org is that$`, "m"));
  const { result } = await rebuilt();
  assert.equal([result.source?.attached, result.source?.restored, result.source?.empty], [[], [], []]);
  assert.equal(result.source?.pictured.map((p) => p.volume).sort(), ["backup", "data", "scratch"]);
  const now = await machine("db");
  assert.is.not(now.id, old.id);
  assert.equal([now.zone, now.address], ["eu-central-1b", old.address]);
  await leadsTo(now);
  // It is in a subnet beside the other host's, and says so itself; that one has stayed as it was, and gets there.
  assert.match(now.within, /^10\.1\.2\./);
  assert.is(await on("db", "hostname -I"), now.within);
  assert.equal(await machine("front"), other);
  assert.is(await on("front", "hostname -I"), "10.1.1.20");
  await on("front", `python3 -c 'import socket; socket.create_connection(("${now.within}", 22), 10)'`);
  // Disks of the new volumes, which are there; the old ones are kept.
  const disks = (await asked(`
    const all = await volumes();
    const named = (v, key) => v.Tags.find((t) => t.Key === key)?.Value;
    say({
      there: all.filter((v) => named(v, "ingot:volume")).map((v) => [named(v, "ingot:volume"), v.AvailabilityZone, v.SnapshotId]).sort(),
      aside: all.filter((v) => named(v, "ingot:aside") && v.AvailabilityZone === "eu-central-1a").map((v) => v.VolumeId),
    });`)) as { there: string[][]; aside: string[] };
  assert.equal(disks.there, (result.source?.pictured ?? []).map((p) => [p.volume, "eu-central-1b", p.snapshot]).sort());
  for (const { aside } of result.source?.pictured ?? [])
    assert.ok(disks.aside.includes(aside ?? ""), `${aside} is not among ${disks.aside}`);
  assert.is(await sql("select count(*) from orders"), "1002");
  assert.is(await on("db", "cat /srv/data/media/one /srv/scratch/x /srv/scratch/y"), "picture\nmine\nnow");
  const plan = await ec2.ingot(["plan", "kept", "--json"]);
  const { changes, refused } = JSON.parse(plan.stdout) as { changes: { address: string; words: string }[]; refused: unknown[] };
  assert.equal(refused, []);
  // moto forgets the termination protection, and the groups of an instance in a VPC of one's own (tests/ec2/two-hosts).
  assert.equal(
    changes.filter((c) => !/disable_api_termination|vpc_security_group_ids/.test(c.words)),
    [],
  );
});

one("down takes the name with it", async () => {
  const down = await ec2.ingot(["down", "kept"]);
  assert.is(down.code, 0, ec2.said(down));
  assert.equal((await ec2.there()).instances, []);
  assert.is((await ec2.run(["getent", "ahostsv4", "db.example.org"])).code, 2);
});

test.run();
