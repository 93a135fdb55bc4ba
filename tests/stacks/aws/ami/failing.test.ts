// Each call of copy, share, promote, rollback, prune and of a smoke boot goes wrong in turn: what is said is right, nothing is left but what the next run or `gc` finds, and the
// next run goes on from there. Of a release: release.test.ts.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { CreateKeyCommand } from "@aws-sdk/client-kms";
import * as assert from "uvu/assert";
import { RefusedError } from "../../../../lib/diagnostics.ts";
import { silent } from "../../../../lib/progress.ts";
import { type Ami, findAmis } from "../../../../stacks/aws/ami/ami.ts";
import { historyOf, point, rollback } from "../../../../stacks/aws/ami/channel.ts";
import { copyAmi } from "../../../../stacks/aws/ami/copy.ts";
import { keysOf } from "../../../../stacks/aws/ami/key.ts";
import { removeAmi } from "../../../../stacks/aws/ami/prune.ts";
import { shareAmi, sharedWith } from "../../../../stacks/aws/ami/share.ts";
import { passedAt, smokeBoot } from "../../../../stacks/aws/ami/smoke.ts";
import { type Aws, awsOf } from "../../../../stacks/aws/api.ts";
import { bucketOf, ensureBucket } from "../../../../stacks/aws/bucket.ts";
import { leftovers, removeLeftovers } from "../../../../stacks/aws/gc.ts";
import { readObject, writeObject } from "../../../../stacks/aws/object.ts";
import { clientsAt } from "../../../aws.ts";
import { type Fault, faultWords, faultyProxy } from "../../../faults.ts";
import { type Moto, motoAmis, startMoto } from "../../../moto.ts";
import { suite } from "../../../suite.ts";
import { digestOf, registerAmi } from "./account.ts";

const test = suite("failing calls about AMIs");
const one = motoAmis() ? test : test.skip;
const other = "210987654321";
const to = "eu-west-1";
let moto: Moto;
let aws: Aws;
let there: Aws;
let count = 0;
/** What the machine of each instance says of itself; moto has none. */
const consoles = mkdtempSync(join(tmpdir(), "ingot-consoles-"));
const machine = {
  ...{ system: "running", "machine-id": "0123456789abcdef0123456789abcdef", "old-host-keys": "", passwords: "", "cloud-init": "done" },
  ...{ "cloud-init-errors": "", failed: "", packages: "", units: "", passwd: "root:x:0:0:root:/root:/bin/bash", group: "", files: "" },
};

test.before(async () => {
  if (!motoAmis()) return;
  process.env.INGOT_CONSOLES = consoles;
  process.env.INGOT_LOOK_SECONDS = "0.1";
  moto = await startMoto(motoAmis());
  aws = await awsOf(undefined);
  there = await awsOf(to);
});
test.before.each(() => moto?.reset());
test.after(async () => {
  rmSync(consoles, { recursive: true });
  await moto?.stop();
});

/** Ways to go wrong take turns, unless INGOT_TEST_LONG asks for each at each call. */
const ways = Object.keys(faultWords) as Fault[];

async function fresh(): Promise<Ami> {
  const digest = digestOf((++count).toString(16).padStart(8, "c"));
  const { ami } = await registerAmi(aws, { name: "debian-12", digest });
  const [found] = (await findAmis(aws, { digest })).filter((a) => a.id === ami);
  if (!found) throw new Error("it was registered");
  return found;
}

interface Work<T> {
  /** What there is before. */
  prepare(): Promise<T>;
  /** With clients of the one region and the other. */
  run(at: Aws, other: Aws, made: T): Promise<unknown>;
  /** What must hold after a failure, and after the run that goes on. */
  half?(made: T): Promise<void>;
  whole(made: T): Promise<void>;
}

/** Counts the calls of a run that goes well, then lets each of them go wrong. */
async function eachCall<T>(work: Work<T>): Promise<number> {
  const counting = await faultyProxy(moto.endpoint, 0, "denied");
  const made = await work.prepare();
  await work.run(clientsAt(counting.endpoint), clientsAt(counting.endpoint, to), made);
  counting.stop();
  await work.whole(made);
  const calls = counting.count();
  assert.ok(calls > 0);
  for (let call = 1; call <= calls; call++)
    for (const fault of process.env.INGOT_TEST_LONG ? ways : [ways[call % ways.length] ?? "lost"]) {
      const what = `${fault} at call ${call} of ${calls}`;
      const made = await work.prepare();
      const proxy = await faultyProxy(moto.endpoint, call, fault);
      const wait = fault === "silent" ? 1000 : undefined;
      const error = await work.run(clientsAt(proxy.endpoint, undefined, wait), clientsAt(proxy.endpoint, to, wait), made).then(
        () => undefined,
        (e: unknown) => e,
      );
      proxy.stop();
      assert.instance(error, RefusedError, `${what}: ${error}`);
      assert.match((error as RefusedError).message, faultWords[fault], what);
      assert.ok((error as RefusedError).hint, what);
      await work.half?.(made);
      await work.run(aws, there, made);
      await work.whole(made);
    }
  return calls;
}

one("copy, with a key: one copy in the end, with its tags and its key", async () => {
  const calls = await eachCall<{ ami: Ami; key: string }>({
    async prepare() {
      await moto.reset();
      return { ami: await fresh(), key: (await (await there.kms()).send(new CreateKeyCommand({}))).KeyMetadata?.Arn ?? "" };
    },
    run: (at, other, { ami, key }) => copyAmi(at, ami, other, { key }, "do", silent),
    async whole({ ami, key }) {
      const [copy, ...more] = await findAmis(there);
      assert.is(more.length, 0);
      assert.equal(copy?.tags, ami.tags);
      assert.equal(copy && (await keysOf(there, copy)), [key]);
    },
  });
  assert.ok(calls >= 6, String(calls));
});

one("share: both permissions in the end", async () => {
  await eachCall<Ami>({
    prepare: fresh,
    run: (at, _, ami) => shareAmi(at, ami, { accounts: [other], organizations: [], units: [] }, "share", "do"),
    async whole(ami) {
      assert.equal((await sharedWith(aws, ami)).accounts, [other]);
      const again = await shareAmi(aws, ami, { accounts: [other], organizations: [], units: [] }, "share", "do");
      assert.equal(again.changed, []);
    },
  });
});

one("promote and rollback: the channel names the one or the other, and what was asked for in the end", async () => {
  const before = await fresh();
  const now = async () => (await historyOf(aws, "debian-12", "candidate"))[0]?.ami;
  await point(aws, before, "candidate", "promoted", "do");
  let last = before.id;
  await eachCall<Ami>({
    prepare: fresh,
    run: (at, _, ami) => point(at, ami, "candidate", "promoted", "do"),
    async half(ami) {
      assert.ok([last, ami.id].includes((await now()) ?? ""));
    },
    async whole(ami) {
      assert.is(await now(), ami.id);
      last = ami.id;
    },
  });
  await eachCall<{ from: Ami; back: Ami }>({
    async prepare() {
      const [back, from] = [await fresh(), await fresh()];
      for (const ami of [back, from]) await point(aws, ami, "candidate", "promoted", "do");
      return { back, from };
    },
    // The run that goes on finds it done where only the answer was lost: asked again, it would go further back.
    run: async (at, _, { back }) => ((await now()) === back.id ? undefined : rollback(at, "debian-12", "candidate", "do")),
    whole: async ({ back }) => assert.is(await now(), back.id),
  });
});

one("prune: what is left in between has its tags, and gc finds it and removes it", async () => {
  const bucket = await bucketOf(aws, undefined);
  const snapshots = async () => (await leftovers(aws, bucket)).filter((l) => String(l.kind) === "snapshot");
  let seen = 0;
  await eachCall<{ ami: Ami; snapshot: string }>({
    async prepare() {
      const { ami, snapshot } = await registerAmi(
        aws,
        { name: "debian-12", digest: digestOf((++count).toString(16).padStart(8, "d")) },
        { bareSnapshot: true },
      );
      const [found] = (await findAmis(aws)).filter((a) => a.id === ami);
      if (!found) throw new Error("it was registered");
      return { ami: found, snapshot };
    },
    run: (at, _, { ami }) => removeAmi(at, ami, silent),
    async half({ ami, snapshot }) {
      const gone = (await findAmis(aws)).every((a) => a.id !== ami.id);
      const left = (await snapshots()).map((l) => l.name);
      const { DescribeSnapshotsCommand } = await import("@aws-sdk/client-ec2");
      const { Snapshots = [] } = await (await aws.ec2()).send(
        new DescribeSnapshotsCommand({ Filters: [{ Name: "snapshot-id", Values: [snapshot] }] }),
      );
      // Where the AMI is there, the next prune finds both; where it has gone, gc finds the snapshot.
      assert.equal(left, gone && Snapshots.length ? [snapshot] : [], ami.id);
      if (!left.length) return;
      seen++;
      await removeLeftovers(aws, bucket, await snapshots(), [], silent);
      assert.equal(await snapshots(), []);
    },
    async whole({ ami, snapshot }) {
      assert.ok((await findAmis(aws)).every((a) => a.id !== ami.id));
      assert.not.ok(JSON.stringify(await snapshots()).includes(snapshot));
    },
  });
  assert.ok(seen > 0, "some failure left a snapshot");
});

one("a smoke boot: no instance runs on but what gc finds, and the next run boots one and passes", async () => {
  const bucket = await bucketOf(aws, undefined);
  writeFileSync(
    join(consoles, "console.log"),
    gzipSync(
      Object.entries(machine)
        .map(([name, line]) => `== ${name}\n${line}\n`)
        .join(""),
    )
      .toString("base64")
      .replace(/^(.*)$/, "ingot-smoke 1/1 $1\n"),
  );
  const running = async () => {
    const { DescribeInstancesCommand } = await import("@aws-sdk/client-ec2");
    const Filters = [{ Name: "instance-state-name", Values: ["pending", "running"] }];
    const { Reservations = [] } = await (await aws.ec2()).send(new DescribeInstancesCommand({ Filters }));
    return Reservations.flatMap((r) => r.Instances ?? []).map((i) => i.InstanceId ?? "");
  };
  const promised = { packages: {}, users: {}, groups: {}, enabled: [], disabled: [], files: {} };
  await ensureBucket(aws, bucket); // its own calls are those of a launch (sdk/failing.test.ts)
  let seen = 0;
  await eachCall<Ami>({
    prepare: fresh,
    run: (at, _, ami) => smokeBoot(at, ami, promised, {}, silent),
    async half(ami) {
      // As if the lease of a lock that could not be let go had ended: nobody waits a minute for it here.
      const key = `images/${ami.digest}/lock.json`;
      const held = await readObject(aws, bucket, key);
      if (held)
        await writeObject(aws, bucket, key, JSON.stringify({ ...JSON.parse(held.text), until: new Date(0).toISOString() }), "anything");
      const left = await leftovers(aws, bucket);
      assert.equal(
        left.filter((l) => l.kind === "instance").map((l) => l.name),
        await running(),
      );
      seen += (await running()).length;
      await removeLeftovers(aws, bucket, left, [], silent);
      assert.equal(await running(), []);
    },
    async whole(ami) {
      const [now] = await findAmis(aws, { digest: ami.digest });
      assert.ok(now && passedAt(now));
      assert.equal(await running(), []);
    },
  });
  assert.ok(seen > 0, "some failure left an instance");
});

test.run();
