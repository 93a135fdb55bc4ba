// Each call of the making of an AMI goes wrong in turn: what is said is right, nothing is left behind but what `gc` finds, and the next run
// goes on from there. The calls are EC2's, S3's and the EBS direct APIs', through tests/faults.ts before moto and its front.
import * as assert from "uvu/assert";
import { RefusedError } from "../../../../lib/diagnostics.ts";
import { silent } from "../../../../lib/progress.ts";
import { findAmis } from "../../../../stacks/aws/ami/ami.ts";
import { resumable } from "../../../../stacks/aws/ami/journal.ts";
import { makeAmi } from "../../../../stacks/aws/ami/make.ts";
import { type Aws, awsOf } from "../../../../stacks/aws/api.ts";
import { type Leftover, leftovers } from "../../../../stacks/aws/gc.ts";
import { clientsAt } from "../../../aws.ts";
import { type AwsFront, awsFront } from "../../../aws-front.ts";
import { type Fault, faultWords, faultyProxy } from "../../../faults.ts";
import { type Moto, motoProgram, region, startMoto } from "../../../moto.ts";
import { suite } from "../../../suite.ts";
import { type Tiny, tinyProject } from "./tiny.ts";

const test = suite("failing calls of an AMI's making");
const one = motoProgram() ? test : test.skip;
const bucket = `ingot-123456789012-${region}`;
/** All on their way at once: which of them goes wrong differs, and is the same. */
const blocks = 4;
let moto: Moto;
let front: AwsFront;
let tiny: Tiny;
let calls = 0;

const make = (aws: Aws) => makeAmi(tiny.project, aws, "small", { way: "direct", bucket, encryption: "account", progress: silent });

/** An account and a project with nothing in them. */
async function afresh(): Promise<void> {
  front?.stop();
  tiny?.remove();
  await moto.reset();
  front = await awsFront(moto.endpoint);
  front.ebs.pollsUntilCompleted = 0;
  tiny = tinyProject(blocks);
}

test.before(async () => {
  if (!motoProgram()) return;
  moto = await startMoto();
  await afresh();
  const proxy = await faultyProxy(front.endpoint, 0, "denied");
  await make(clientsAt(proxy.endpoint));
  proxy.stop();
  calls = proxy.count();
});
test.after(async () => {
  front?.stop();
  tiny?.remove();
  await moto?.stop();
});

one("a making has its calls", () => assert.ok(calls >= 20, String(calls)));

/**
 * What gc finds before the next run is of this run's making; after it, nothing is left, and there is one AMI, whole.
 * @param twice blocks that may have been sent a second time
 */
async function goesOn(what: string, twice: number): Promise<void> {
  const aws = clientsAt(front.endpoint);
  await tiny.expire(aws);
  const allowed = new Set<Leftover["kind"]>(["lock", "snapshot"]);
  const found = await leftovers(aws, bucket, resumable(tiny.project, region));
  assert.equal(
    found.filter((l) => !allowed.has(l.kind)),
    [],
    what,
  );
  // Every snapshot without an AMI is found.
  const used = new Set((await findAmis(aws)).flatMap((a) => a.snapshots));
  const bare = [...front.ebs.snapshots.keys()].filter((id) => !used.has(id));
  assert.equal(
    found
      .filter((l) => l.kind === "snapshot")
      .map((l) => l.name)
      .sort(),
    bare.sort(),
    what,
  );
  const { ami } = await make(aws);
  assert.is(ami.state, "available", what);
  // A lock that could not be let go at the very end is nobody's any more, and who finds the AMI needs none.
  const left = await leftovers(aws, bucket);
  assert.equal(
    left.filter((l) => l.kind !== "lock"),
    [],
    what,
  );
  assert.is(front.ebs.snapshots.size, 1, what);
  assert.is(front.images.length, 1, what);
  assert.ok(front.ebs.puts.length <= blocks + twice, `${what}: ${front.ebs.puts.length} blocks`);
  const [snapshot] = front.ebs.snapshots.values();
  assert.is(snapshot?.blocks.size, blocks, what);
}

/** In the short suite every third call, in each round another third. */
const step = process.env.INGOT_TEST_LONG ? 1 : 3;
const refusals = ["throttled", "broken", "denied"] as const;
const rounds: [name: string, faultAt: (call: number) => Fault][] = [
  ...(process.env.INGOT_TEST_LONG
    ? refusals.map((fault): [string, () => Fault] => [fault, () => fault])
    : [["refused", (call: number) => refusals[Math.ceil(call / step) % 3] ?? "denied"] as [string, (call: number) => Fault]]),
  ["silent", () => "silent"],
  ["lost", () => "lost"],
];
for (const [round, [name, faultAt]] of rounds.entries()) {
  one(`${name}: each call in turn ends the making with the right words, or is got over; the next run goes on`, async () => {
    let [ended, all] = [0, 0];
    for (let call = 1 + (round % step); call <= calls; call += step) {
      all++;
      await afresh();
      const fault = faultAt(call);
      const proxy = await faultyProxy(front.endpoint, call, fault);
      const error = await make(clientsAt(proxy.endpoint, region, fault === "silent" ? 1000 : undefined)).then(
        () => undefined,
        (e: unknown) => e,
      );
      proxy.stop();
      const what = `${fault} at call ${call} of ${calls}`;
      if (error !== undefined) {
        ended++;
        assert.instance(error, RefusedError, `${what}: ${error}`);
        assert.match((error as RefusedError).message, faultWords[fault], what);
        assert.ok((error as RefusedError).hint, what);
      }
      await goesOn(what, fault === "lost" ? 1 : 0);
    }
    // Blocks are sent again by themselves; whatever else fails, with clients that try once, ends the run.
    assert.ok(ended >= all - blocks - 4, `${ended} of ${all}`);
  });
}

one("an answer that gets lost once is asked for again, and nobody hears of it", async () => {
  for (let call = 1; call <= calls; call += step) {
    await afresh();
    const proxy = await faultyProxy(front.endpoint, call, "lost");
    process.env.AWS_ENDPOINT_URL = proxy.endpoint;
    try {
      assert.is((await make(await awsOf(region))).ami.state, "available", `call ${call}`);
    } finally {
      process.env.AWS_ENDPOINT_URL = moto.endpoint;
      proxy.stop();
    }
    assert.equal(await leftovers(clientsAt(front.endpoint), bucket), [], `call ${call}`);
    assert.is(front.images.length, 1, `call ${call}`);
    assert.is(front.ebs.snapshots.size, 1, `call ${call}`);
  }
});

one("killed at each call in turn, the next run goes on; what was in the air is found by gc", async () => {
  for (let call = Math.min(2, step); call <= calls; call += step) {
    await afresh();
    const proxy = await faultyProxy(front.endpoint, call, "silent");
    const { child, ended } = tiny.begin(["bake", "small", "--on", "aws", "--direct"], proxy.endpoint);
    const first = await Promise.race([proxy.met.then(() => "met"), ended.then((e) => e.stderr)]);
    assert.is(first, "met", `call ${call}`);
    child.kill("SIGKILL");
    await ended;
    proxy.stop();
    // What was in the air when it died may have arrived.
    await goesOn(`killed at call ${call} of ${calls}`, blocks);
  }
});

test.run();
