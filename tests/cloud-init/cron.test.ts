// cron's expressions as systemd's calendar events, with systemd itself saying when they come.
import { spawnSync } from "node:child_process";
import fc from "fast-check";
import * as assert from "uvu/assert";
import { CronError, calendarsOf } from "../../cloud-init/cron.ts";
import { suite } from "../suite.ts";

const test = suite("cron");

const table: [string, string[]][] = [
  ["*/10 * * * *", ["*-*-* *:0..59/10:00"]],
  ["30 3 * * *", ["*-*-* 3:30:00"]],
  ["0 9-17/2 * * mon-fri", ["Mon,Tue,Wed,Thu,Fri *-*-* 9..17/2:0:00"]],
  ["15,45 0 1 jan,jul *", ["*-1,7-1 0:15,45:00"]],
  ["0 0 * * 0", ["Sun *-*-* 0:0:00"]],
  ["0 0 * * 7", ["Sun *-*-* 0:0:00"]],
  ["0 4 1 * 1", ["*-*-1 4:0:00", "Mon *-*-* 4:0:00"]],
  ["0 4 */2 * 1", ["Mon *-*-1..31/2 4:0:00"]],
  ["0 4 29 2 *", ["*-2-29 4:0:00"]],
  ["0 4 31 2 1", ["*-2-31 4:0:00", "Mon *-2-* 4:0:00"]],
  ["@hourly", ["*-*-* *:0:00"]],
  ["@weekly", ["Sun *-*-* 0:0:00"]],
];
for (const [cron, calendars] of table) test(cron, () => assert.equal(calendarsOf(cron), calendars));

for (const wrong of [
  "",
  "* * * *",
  "* * * * * *",
  "60 * * * *",
  "* 24 * * *",
  "* * 0 * *",
  "* * * 13 *",
  "* * * * 8",
  "*/0 * * * *",
  "5-1 * * * *",
  "a * * * *",
  "1/2/3 * * * *",
  "@never",
  "0 0 30 2 *",
  "0 0 31 feb,4,6-11/5 *",
])
  test(`\`${wrong}\` is none`, () =>
    assert.throws(
      () => calendarsOf(wrong),
      (e: unknown) => e instanceof CronError,
    ));

test("systemd takes whatever is made of an expression", () => {
  if (spawnSync("systemd-analyze", ["--version"]).status !== 0) return; // a computer without systemd
  const part = (from: number, to: number) =>
    fc.oneof(
      fc.constant("*"),
      fc.integer({ min: from, max: to }).map(String),
      fc
        .tuple(fc.integer({ min: from, max: to }), fc.integer({ min: from, max: to }))
        .map(([a, b]) => `${Math.min(a, b)}-${Math.max(a, b)}`),
      fc.integer({ min: 1, max: to }).map((n) => `*/${n}`),
    );
  const expression = fc.tuple(part(0, 59), part(0, 23), part(1, 28), part(1, 12), part(0, 7)).map((p) => p.join(" "));
  fc.assert(
    fc.property(fc.array(expression, { minLength: 5, maxLength: 5 }), (expressions) => {
      const events = expressions.flatMap(calendarsOf);
      const said = spawnSync("systemd-analyze", ["calendar", ...events], { encoding: "utf8" });
      assert.is(said.status, 0, `${expressions.join("; ")}: ${events.join("; ")}\n${said.stderr}`);
    }),
    { numRuns: 40 },
  );
});

test.run();
