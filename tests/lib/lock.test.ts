// One at a time, and free again whatever became of its holder.
import { randomUUID } from "node:crypto";
import * as assert from "uvu/assert";
import { RefusedError } from "../../lib/diagnostics.ts";
import { lock, lockOneWhenFree, lockWhenFree } from "../../lib/lock.ts";
import { suite } from "../suite.ts";
import { part, start } from "./processes.ts";

const [, , , given = ""] = process.argv;

if (part === "hold") {
  await lock(given, "the other run");
  console.log("held");
  setInterval(() => {}, 1000);
} else {
  const test = suite("lock");
  const refused = async (work: Promise<unknown>): Promise<RefusedError> => {
    const error = await work.then(
      () => undefined,
      (e: unknown) => e,
    );
    assert.instance(error, RefusedError);
    return error as RefusedError;
  };

  test("the second is refused, and told who holds it", async () => {
    const name = randomUUID();
    const first = await lock(name, "up of inloop");
    const error = await refused(lock(name, "another up"));
    assert.is(error.message, `up of inloop (process ${process.pid}) is at it already`);
    assert.ok(error.hint);
    first.release();
  });

  test("it can be taken again once it is released; other names are other locks", async () => {
    const name = randomUUID();
    const first = await lock(name, "a");
    const other = await lock(`${name} `, "b");
    first.release();
    (await lock(name, "c")).release();
    other.release();
  });

  test("of many at the same time one wins", async () => {
    const name = randomUUID();
    const all = await Promise.allSettled(Array.from({ length: 10 }, (_, i) => lock(name, `run ${i}`)));
    const won = all.filter((r) => r.status === "fulfilled");
    assert.is(won.length, 1);
    for (const r of won) r.value.release();
  });

  test("of several it takes one that is free, and waits when none is", async () => {
    const names = [randomUUID(), randomUUID()];
    const said: string[] = [];
    const [one, two] = [await lockOneWhenFree(names, "one", () => {}), await lockOneWhenFree(names, "two", () => {})];
    const third = lockOneWhenFree(names, "three", (holder) => {
      said.push(holder);
      two.release();
    });
    (await third).release();
    assert.equal(said, [`one (process ${process.pid})`]);
    one.release();
  });

  test("another process holds it until it is killed, by SIGKILL too", async () => {
    const name = randomUUID();
    const holder = start(import.meta.url, "hold", [name]);
    assert.is(await holder.line(), "held");
    const error = await refused(lock(name, "this run"));
    assert.is(error.message, `the other run (process ${holder.child.pid}) is at it already`);
    holder.child.kill("SIGKILL");
    assert.is(await holder.end(), "SIGKILL");
    (await lock(name, "this run")).release();
  });

  test("who waits is told for whom, once, and gets it as soon as it is free", async () => {
    const name = randomUUID();
    const first = await lock(name, "build of shop");
    const said: string[] = [];
    const second = lockWhenFree(name, "another", (holder) => said.push(holder));
    await new Promise((resolve) => setTimeout(resolve, 450));
    first.release();
    (await second).release();
    assert.equal(said, [`build of shop (process ${process.pid})`]);
  });

  test("a lock does not keep its process alive", async () => {
    const { spawnSync } = await import("node:child_process");
    const { fileURLToPath } = await import("node:url");
    const { status } = spawnSync(process.execPath, [fileURLToPath(import.meta.url), "leave"], { timeout: 120_000 });
    assert.is(status, 0);
  });

  if (part === "leave") await lock(randomUUID(), "leaving");
  else test.run();
}
