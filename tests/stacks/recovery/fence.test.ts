// When a rebuild takes the old machine for off, by what the target says of it: real ones are ended in e2e/rebuild and e2e/rebuild-two, EC2's in
// stacks/aws/sdk/fence. Here it is one that does not end, which no real machine of this computer can be made to be.
import * as assert from "uvu/assert";
import { RefusedError } from "../../../lib/diagnostics.ts";
import { fence, type Rebuild } from "../../../stacks/recovery/rebuild.ts";
import type { Machine, Target } from "../../../stacks/target.ts";
import { suite } from "../../suite.ts";

const test = suite("fence");
const rebuild: Rebuild = { stack: "shop", host: "db", began: "2026-11-30T10:00:00Z", images: {}, phases: [] };
type State = Machine["state"];

/** @param states of the machines, before they are ended and after @param alone whether one can be ended without the others */
function targetOf([before, after]: [Record<string, State>, Record<string, State>], alone: "alone" | "together") {
  const ended: string[] = [];
  const machines = (): { host: string; state: State }[] =>
    Object.entries(ended.length ? after : before).map(([host, state]) => ({ host, state }));
  const target = {
    find: async () => machines(),
    down: async (stack: string) => void ended.push(stack),
    ...(alone === "alone" && { one: { alone: true, end: async (stack: string, host: string) => void ended.push(`${stack}/${host}`) } }),
  };
  return { target: target as unknown as Target, ended };
}
const refused = (target: Target): Promise<RefusedError | undefined> =>
  fence(target, rebuild).then(
    () => undefined,
    (error: unknown) => {
      assert.instance(error, RefusedError);
      return error as RefusedError;
    },
  );

test("a machine that runs on after it was ended: nobody goes on, and how to prove it is said", async () => {
  for (const state of ["running", "starting", "failed"] as const)
    for (const alone of ["alone", "together"] as const) {
      const error = await refused(targetOf([{ db: "running" }, { db: state }], alone).target);
      assert.is(error?.message, `shop/db is not proven to be off: db is ${state}`);
      assert.is(error?.hint, "end it yourself, then `ingot status shop` must show none");
    }
});

test("what is stopped or gone is off; of the others only those count that could not be left running", async () => {
  const gone = targetOf([{ db: "running", app: "running" }, { app: "running" }], "alone");
  assert.is(await refused(gone.target), undefined);
  assert.equal(gone.ended, ["shop/db"]);
  const stopped = targetOf([{ db: "running" }, { db: "stopped" }], "together");
  assert.is(await refused(stopped.target), undefined);
  assert.equal(stopped.ended, ["shop"]);
  const other = targetOf([{ db: "running", app: "running" }, { app: "running" }], "together");
  assert.is((await refused(other.target))?.message, "shop/db is not proven to be off: app is running");
});

test.run();
