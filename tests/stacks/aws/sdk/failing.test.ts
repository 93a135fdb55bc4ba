// Each call of the SDK's side of a launch goes wrong in turn: what is said is right, nothing is left behind but what `gc` finds, and the next
// launch goes on from there.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ListMultipartUploadsCommand } from "@aws-sdk/client-s3";
import * as assert from "uvu/assert";
import { RefusedError } from "../../../../lib/diagnostics.ts";
import { toolFolder } from "../../../../lib/paths.ts";
import { silent } from "../../../../lib/progress.ts";
import { type Aws, awsOf } from "../../../../stacks/aws/api.ts";
import { type Leftover, leftovers, removeLeftovers } from "../../../../stacks/aws/gc.ts";
import { readInventory } from "../../../../stacks/aws/inventory.ts";
import { readObject, writeObject } from "../../../../stacks/aws/object.ts";
import { parameterStore, secretsManager } from "../../../../stacks/aws/secrets.ts";
import { clientsAt, registerImage } from "../../../aws.ts";
import { type Fault, faultWords, faultyProxy } from "../../../faults.ts";
import { type Moto, motoAmis, region, startMoto } from "../../../moto.ts";
import { suite } from "../../../suite.ts";
import { launch } from "./launch.ts";

const test = suite("failing calls");
const one = motoAmis() ? test : test.skip;
const digest = "d".repeat(64);
const folder = mkdtempSync(join(tmpdir(), "ingot-failing-"));
const file = join(folder, "artifact");
let moto: Moto;
let calls = 0;

const at = (endpoint: string, milliseconds?: number): Aws => clientsAt(endpoint, region, milliseconds);

/** In the short suite every third call, in each round another third. */
const step = process.env.INGOT_TEST_LONG ? 1 : 3;
const callsOf = (round: number): number[] =>
  Array.from({ length: calls }, (_, i) => i + 1).filter((call) => call % step === (round + 1) % step);

/** Of a round's calls as many at a time as moto has use for. */
async function each(round: number, work: (call: number) => Promise<void>): Promise<void> {
  const left = callsOf(round);
  const worker = async () => {
    for (let call = left.shift(); call !== undefined; call = left.shift()) await work(call);
  };
  await Promise.all([worker(), worker(), worker(), worker()]);
}

/**
 * After a failure: the next launch does it all, once, and leaves nothing unfinished.
 * @param left kinds of what may lie about before, where nobody could take it back: `gc` finds it
 */
async function goesOn(bucket: string, left: Leftover["kind"][] = []): Promise<void> {
  const what = bucket;
  const aws = at(moto.endpoint);
  const unfinished = async () => (await (await aws.s3()).send(new ListMultipartUploadsCommand({ Bucket: bucket }))).Uploads ?? [];
  await expire(bucket);
  // The account is shared by all launches of this test, which know nothing of each other.
  const own = async () => (await leftovers(aws, bucket)).filter((l) => l.stack === undefined || l.stack === bucket);
  const found = (await own()).filter((l) => l.kind !== "lock");
  assert.equal(
    found.filter((l) => l.kind !== "parameter" && l.kind !== "secret" && !left.includes(l.kind)),
    [],
    what,
  );
  await removeLeftovers(aws, bucket, found, [], silent);
  await launch(aws, bucket, digest, file);
  assert.equal(await own(), [], what);
  assert.equal(await unfinished(), [], what);
  assert.ok(await readInventory(aws, bucket, bucket), what);
  for (const store of [parameterStore(aws), secretsManager(aws)]) assert.is(await store.get(bucket, "web/key"), "generated", what);
}

/** An account with nothing in it but the image: what others left would be looked through at every step. */
async function afresh(): Promise<void> {
  await moto.reset();
  await registerImage(moto.endpoint, digest);
}

test.before(async () => {
  if (!motoAmis()) return;
  moto = await startMoto(motoAmis());
  await afresh();
  writeFileSync(file, "x".repeat(5000));
  const proxy = await faultyProxy(moto.endpoint, 0, "denied");
  await launch(at(proxy.endpoint), "smooth", digest, file);
  proxy.stop();
  calls = proxy.count();
});
test.after(async () => {
  rmSync(folder, { recursive: true });
  await moto?.stop();
});

one("a launch has its calls: one of each kind at least", () => assert.ok(calls >= 20, String(calls)));

/** Refusals differ in their words alone: they take turns, unless INGOT_TEST_LONG asks for each of them at each call. */
const refusals = ["throttled", "broken", "denied"] as const;
const rounds: [name: string, faultAt: (call: number) => Fault][] = [
  ...(process.env.INGOT_TEST_LONG
    ? refusals.map((fault): [string, () => Fault] => [fault, () => fault])
    : [["refused", (call: number) => refusals[Math.ceil(call / step) % 3] ?? "denied"] as [string, (call: number) => Fault]]),
  ["silent", () => "silent"],
  ["lost", () => "lost"],
];
for (const [round, [name, faultAt]] of rounds.entries()) {
  one(`${name}: each call in turn ends the launch with the right words, and the next goes on`, async () => {
    await afresh();
    await each(round, async (call) => {
      const fault = faultAt(call);
      const bucket = `${fault}-${call}`;
      const proxy = await faultyProxy(moto.endpoint, call, fault);
      const error = await launch(at(proxy.endpoint, fault === "silent" ? 1000 : undefined), bucket, digest, file).then(
        () => undefined,
        (e: unknown) => e,
      );
      proxy.stop();
      assert.instance(error, RefusedError, `${bucket}: ${error}`);
      assert.match((error as RefusedError).message, faultWords[fault], bucket);
      assert.ok((error as RefusedError).hint, bucket);
      // Whose beginning was done, and its answer lost, has a name that nobody here ever knew.
      await goesOn(bucket, fault === "lost" ? ["upload"] : []);
    });
  });
}

one("an answer that gets lost once is asked for again, and nobody hears of it", async () => {
  await afresh();
  for (const call of callsOf(0)) {
    const bucket = `once-${call}`;
    const proxy = await faultyProxy(moto.endpoint, call, "lost");
    process.env.AWS_ENDPOINT_URL = proxy.endpoint;
    try {
      await launch(await awsOf(region), bucket, digest, file);
    } finally {
      process.env.AWS_ENDPOINT_URL = moto.endpoint;
      proxy.stop();
    }
    await goesOn(bucket, ["upload"]);
  }
});

one("killed at each call in turn, the next launch goes on; what was in the air is found by gc", async () => {
  await afresh();
  await each(1, async (call) => {
    const bucket = `killed-${call}`;
    const proxy = await faultyProxy(moto.endpoint, call, "silent");
    const program = join(toolFolder, "dist/tests/stacks/aws/sdk/launch.js");
    const child = spawn(process.execPath, [program, bucket, digest, file], {
      stdio: "ignore",
      env: { ...process.env, ...moto.env, AWS_ENDPOINT_URL: proxy.endpoint },
    });
    const ended = new Promise((resolve) => child.once("exit", resolve));
    const first = await Promise.race([proxy.met.then(() => "met"), ended.then(() => "ended")]);
    assert.is(first, "met", `${bucket}: the launch ended before its call ${call}`);
    child.kill("SIGKILL");
    await ended;
    proxy.stop();
    await goesOn(bucket, ["upload"]);
  });
});

/** As if the lease of a run that is over had ended: nobody waits a minute for it here. */
async function expire(bucket: string): Promise<void> {
  const aws = at(moto.endpoint);
  const key = `stacks/${bucket}/lock.json`;
  const there = await readObject(aws, bucket, key);
  if (there)
    await writeObject(aws, bucket, key, JSON.stringify({ ...JSON.parse(there.text), until: new Date(0).toISOString() }), "anything");
}

test.run();
