// The real Packer (Debian's 1.6.6) makes an AMI on moto, with the very template that it would have on EC2. The instance that it launches has a body:
// a machine on this computer (builders.ts), so that everything it does there is really done. What is on its disk in the end is held, path by path,
// against a local bake of the same recipe.
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import * as assert from "uvu/assert";
import { fetchDebs } from "../../images/archive.ts";
import { bake } from "../../images/bake.ts";
import type { Image } from "../../images/image.ts";
import { loadRecipe } from "../../images/recipe.ts";
import { toolsLockOf, toolsRecipe } from "../../images/tools.ts";
import { projectAt, toolFolder } from "../../lib/paths.ts";
import { silent } from "../../lib/progress.ts";
import type { Ami } from "../../stacks/aws/ami/ami.ts";
import { suite } from "../suite.ts";
import { Ec2, type Outcome } from "./ec2.ts";

const test = suite("packer");
/** Each is another run of Packer's: in the long suite. */
const long = process.env.INGOT_TEST_LONG ? test : test.skip;
const ec2 = new Ec2();
const project = projectAt(ec2.folder);
const address = "172.31.255.254/32";
let image: Image;

/** Debian's own, as DescribeImages has it: of its account, by its name. */
const debian = [
  {
    ami_id: "ami-0000000000000debe",
    name: "debian-12-amd64-20261101-2000",
    description: "Debian 12",
    owner_id: "136693071363",
    public: true,
    virtualization_type: "hvm",
    architecture: "x86_64",
    state: "available",
    image_type: "machine",
    hypervisor: "xen",
    root_device_name: "/dev/xvda",
    root_device_type: "ebs",
    sriov: "simple",
    platform: null,
    creation_date: "2026-11-01T20:00:00.000Z",
  },
];

test.before(async () => {
  process.env.INGOT_CACHE ??= projectAt(toolFolder).cache;
  // A store of its own, so that nothing of these recipes is in the repository's.
  rmSync(project.store);
  mkdirSync(project.store);
  cpSync(join(toolFolder, "tests/ec2/images"), project.images, { recursive: true });
  // Those of the repository say another region.
  rmSync(project.stacks, { recursive: true });
  mkdirSync(project.stacks);
  const cloud = await bake(project, "cloud", { locked: true, progress: silent });
  image = (await bake(project, "packed", { locked: true, progress: silent })).image;
  // Where Packer runs, nobody can be asked.
  const recipe = loadRecipe(project, "packed");
  const tools = toolsLockOf(project, "builder", recipe);
  if (!tools) throw new Error("the builder's programs have no lock, or one of others: ingot image lock debian-12");
  await fetchDebs(project, toolsRecipe("builder", recipe), tools, silent);
  writeFileSync(join(ec2.folder, "amis.json"), JSON.stringify(debian));
  await ec2.start({ program: "builders", more: { image: cloud.image.root } }, { MOTO_AMIS_PATH: join(ec2.folder, "amis.json") });
});
test.after(async () => {
  await ec2.end().catch((error: unknown) => console.error(error));
});

const command = [join(toolFolder, "dist/ingot.js"), "bake", "packed", "--on", "aws", "--ssh-from", address, "--json"];
const begin = () => ec2.begin([process.execPath, ...command]);

interface Account {
  instances: { id: string; state: string; tokens: string; behavior: string; tags: Record<string, string> }[];
  volumes: { id: string; type: string; encrypted: boolean; tags: Record<string, string> }[];
  keys: { name: string; tags: Record<string, string> }[];
  groups: { name: string; from: string[]; tags: Record<string, string> }[];
  images: { name: string; tags: Record<string, string> }[];
  snapshots: { id: string; tags: Record<string, string> }[];
}

/** All that there is of ours in the account. */
const account = async (): Promise<Account> =>
  (await ec2.ask(`
    import * as sdk from "@aws-sdk/client-ec2";
    const ec2 = new sdk.EC2Client({});
    const tags = (x) => Object.fromEntries((x.Tags ?? []).map((t) => [t.Key, t.Value]));
    const of = async (name, input = {}) => ec2.send(new sdk[name + "Command"](input));
    const instances = [];
    for (const i of (await of("DescribeInstances")).Reservations.flatMap((r) => r.Instances)) {
      const behavior = await of("DescribeInstanceAttribute", { InstanceId: i.InstanceId, Attribute: "instanceInitiatedShutdownBehavior" });
      instances.push({ id: i.InstanceId, state: i.State.Name, tokens: i.MetadataOptions?.HttpTokens, behavior: behavior.InstanceInitiatedShutdownBehavior?.Value, tags: tags(i) });
    }
    console.log(JSON.stringify({
      instances,
      volumes: (await of("DescribeVolumes")).Volumes.map((v) => ({ id: v.VolumeId, type: v.VolumeType, encrypted: v.Encrypted, tags: tags(v) })),
      keys: (await of("DescribeKeyPairs")).KeyPairs.map((k) => ({ name: k.KeyName, tags: tags(k) })),
      groups: (await of("DescribeSecurityGroups")).SecurityGroups.filter((g) => g.GroupName !== "default").map((g) => ({ name: g.GroupName, from: g.IpPermissions.flatMap((p) => p.IpRanges.map((r) => r.CidrIp + ":" + p.FromPort)), tags: tags(g) })),
      images: (await of("DescribeImages", { Owners: ["self"] })).Images.map((i) => ({ name: i.Name, tags: tags(i) })),
      snapshots: (await of("DescribeSnapshots", { OwnerIds: ["self"] })).Snapshots.map((s) => ({ id: s.SnapshotId, tags: tags(s) })),
    }));`)) as Account;

async function until(what: string, seconds: number, condition: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = Date.now() + seconds * 1000; !(await condition()); await delay(300))
    if (Date.now() > end) throw new Error(`not within ${seconds} s: ${what}`);
}

const machines = (): string[] => readdirSync(join(ec2.folder, "ec2"));

test("a real run ends in a tagged AMI, and what is on its disk is what a local bake gives, path by path", async () => {
  const running = begin();
  await until("the builder is there", 600, async () => (await account()).instances.length > 0);
  const during = await account();
  const outcome: Outcome = await running.ended;
  assert.is(outcome.code, 0, ec2.said(outcome));
  if (process.env.INGOT_TEST_TIMES) console.log(outcome.stderr);
  const { ami, made } = JSON.parse(outcome.stdout) as { ami: Ami; made: boolean };
  assert.is(made, true);
  const { digest } = image;
  const run = during.instances[0]?.tags["ingot:run"] ?? "";
  const tags = {
    Name: `packed ${digest.slice(0, 12)}`,
    "ingot:image": digest,
    "ingot:recipe": "packed",
    "ingot:way": "packer",
    "ingot:run": run,
  };
  assert.match(run, /^[0-9a-f-]{36}$/);

  // While it was made.
  assert.equal(during.groups[0]?.from, [`${address}:22`]);

  const after = await account();
  assert.equal(
    after.images.map((i) => [i.name, i.tags]),
    [[`ingot/packed/${digest}`, tags]],
  );
  assert.is(ami.digest, digest);
  assert.is(ami.way, "packer");
  assert.equal(
    after.snapshots.filter((s) => ami.snapshots.includes(s.id)).map((s) => s.tags),
    [tags],
  );
  // Nothing else is left of it.
  assert.equal([after.keys, after.groups], [[], []]);
  assert.equal(
    after.instances.map((i) => i.state),
    ["terminated"],
  );

  const [machine = ""] = machines();
  const folder = join(ec2.folder, "ec2", machine);
  await until("the machine is off", 300, () => existsSync(join(folder, "off")));
  const listing = execFileSync("python3", ["-B", join(toolFolder, "images/provision/listing.py"), join(folder, "root")], {
    maxBuffer: 2 ** 28,
  }).toString();
  const baked = readFileSync(join(image.root, "../files"), "utf8");
  assert.equal(different(baked, listing), []);
  const manifest = JSON.parse(readFileSync(join(project.state, "aws/packer/packed/manifest.json"), "utf8")) as { tree: string };
  assert.is(manifest.tree, image.manifest.tree);

  const again = await begin().ended;
  assert.is(again.code, 0, ec2.said(again));
  assert.equal((JSON.parse(again.stdout) as { made: boolean }).made, false);
  // The next tests make it anew.
  await ec2.ask(`
    import { EC2Client, DeregisterImageCommand } from "@aws-sdk/client-ec2";
    await new EC2Client({}).send(new DeregisterImageCommand({ ImageId: "${ami.id}" }));
    console.log("null");`);
});

test("facts that break a truth, and those of another image, are not proven", async () => {
  const facts = join(project.state, "aws/packer/packed/facts.tar.gz");
  const prove = (digest: string, archive: string) =>
    ec2.run([process.execPath, join(toolFolder, "dist/ingot.js"), "image", "prove", "packed", digest, archive]);
  const right = await prove(image.digest, facts);
  assert.is(right.code, 0, right.stderr);
  const other = await prove("0".repeat(64), facts);
  assert.is(other.code, 1);
  assert.match(other.stderr, "packed has changed since Packer began");
  const folder = join(ec2.folder, "facts");
  mkdirSync(folder);
  execFileSync("tar", ["--extract", "--gzip", "--file", facts, "--directory", folder]);
  writeFileSync(join(folder, "passwords"), "root\n");
  execFileSync("tar", ["--create", "--gzip", "--file", `${folder}.tar.gz`, "--directory", folder, "."]);
  const broken = await prove(image.digest, `${folder}.tar.gz`);
  assert.is(broken.code, 1);
  assert.match(broken.stderr, "users with a password or without the need of one: root");
});

/** Waits until a run has done a part of its work. */
function done(running: ReturnType<typeof begin>, title: string): Promise<void> {
  let said = "";
  return new Promise((resolve, reject) => {
    running.child.stderr?.on("data", (chunk: Buffer) => {
      said += chunk.toString();
      if (said.includes(`done   ${title}`)) resolve();
    });
    running.child.on("close", () => reject(new Error(`it ended before it had done "${title}":\n${said}`)));
  });
}

/** What of runs is in the account, by its tags: everything that costs something or is in somebody's way. */
async function left(): Promise<string[]> {
  const { instances, keys, groups, images } = await account();
  const of = (what: string, all: { tags: Record<string, string> }[]) => all.filter((a) => a.tags["ingot:run"]).map(() => what);
  const alive = instances.filter((i) => i.state !== "terminated");
  return [...of("instance", alive), ...of("key", keys), ...of("group", groups), ...of("image", images)];
}

long("SIGTERM in the middle: Packer ends in order, and nothing is left", async () => {
  const running = begin();
  await done(running, "wait for its ssh");
  assert.equal(await left(), ["instance", "key", "group"]);
  running.child.kill("SIGTERM");
  const outcome = await running.ended;
  assert.is(outcome.code, 143, ec2.said(outcome));
  const { keys, groups, instances } = await account();
  assert.equal([keys, groups, instances.filter((i) => i.state !== "terminated")], [[], [], []]);
});

long("kill -9 of ingot: Packer hears of it, and ends in order", async () => {
  const running = begin();
  await done(running, "look at what was sent");
  running.child.kill("SIGKILL");
  await until("nothing of it is left", 90, async () => (await left()).length === 0);
  const { keys, groups } = await account();
  assert.equal([keys, groups], [[], []]);
});

long("kill -9 of all of it: what is left has the run's tag, and the instance ends itself", async () => {
  const running = begin();
  await done(running, "wait for its ssh");
  running.child.kill("SIGKILL");
  for (const pid of packers()) process.kill(pid, "SIGKILL");
  await running.ended;
  await delay(2000);
  assert.equal(await left(), ["instance", "key", "group"]);
  const { instances } = await account();
  const lost = instances.filter((i) => i.state === "running");
  assert.equal(
    lost.map((i) => i.behavior),
    ["terminate"],
  );
  // moto does not see that a machine switches itself off; that it will, the machine knows.
  const scheduled = join(ec2.folder, "ec2", lost[0]?.id ?? "", "seed/user-data");
  assert.match(readFileSync(scheduled, "utf8"), /^shutdown -P \+90$/m);

  // Once the killed run's lock is over, it is nobody's.
  const kinds = async (...more: string[]) => {
    const gc = await ec2.ingot(["gc", "--json", ...more]);
    assert.is(gc.code, 0, ec2.said(gc));
    return (JSON.parse(gc.stdout) as { found: { kind: string }[] }).found.map((f) => f.kind);
  };
  const all = ["instance", "key pair", "security group"];
  await until("gc finds it", 150, async () => {
    const found = await kinds();
    return all.every((kind) => found.includes(kind));
  });
  await kinds("--yes");
  assert.equal(await left(), []);
});

/** Processes of Packer's that were begun by this test, with their children: by the template's path, and by the session that they share. */
function packers(): number[] {
  const processes = readdirSync("/proc")
    .filter((f) => /^\d+$/.test(f))
    .flatMap((pid) => {
      try {
        const session = readFileSync(`/proc/${pid}/stat`, "utf8").replace(/.*\) /, "").split(" ")[3];
        return [{ pid: Number(pid), session, command: readFileSync(`/proc/${pid}/cmdline`, "utf8") }];
      } catch {
        return [];
      }
    });
  const own = processes.filter((p) => p.command.includes(`${ec2.folder}/.ingot/aws/packer`));
  const sessions = new Set(own.filter((p) => p.command.startsWith("packer")).map((p) => p.session));
  return processes.filter((p) => own.includes(p) || sessions.has(p.session)).map((p) => p.pid);
}

/** Lines that only one of them has. */
function different(one: string, other: string): string[] {
  const [a, b] = [one, other].map((text) => new Set(text.split("\n")));
  return [
    ...[...(a ?? [])].filter((l) => !b?.has(l)).map((l) => `- ${l}`),
    ...[...(b ?? [])].filter((l) => !a?.has(l)).map((l) => `+ ${l}`),
  ].slice(0, 40);
}

test.run();
