// What becomes of what a machine says of itself: order, causes, who needs what, and the commands to type. On a booted machine: e2e/doctor.
import { readFileSync } from "node:fs";
import * as assert from "uvu/assert";
import { compile } from "../../../cloud-init/compile.ts";
import type { HostPlan } from "../../../cloud-init/plan.ts";
import { afterStores, type Examined, type Finding, findingsOf, unreachable } from "../../../stacks/recovery/doctor.ts";
import type { CheckResult } from "../../../stacks/verify.ts";
import { modelOfText } from "../../cloud-init/fixtures.ts";
import { suite } from "../../suite.ts";
import { files } from "../aws/synth/fixtures.ts";

const test = suite("findings");
const model = modelOfText(readFileSync(files.inloop, "utf8"));
const [plan] = compile(model).hosts as [HostPlan];
const needs = model.hosts[0]?.after ?? new Map<string, Set<string>>();
const well: Examined = {
  units: [],
  disks: [{ mount: "/", used: 0.4, inodes: 0.1, free: 1e9 }],
  memory: { total: 1e9, available: 5e8, killed: [] },
  certificates: [{ path: "/etc/ssl/ingot/inloop.crt", days: 200 }],
  logs: {},
  backups: [],
};
const wrong = (id: string, resource: string, check: string, message: string): CheckResult => ({
  id,
  host: "web",
  resource,
  seen: "inside",
  check,
  ok: false,
  message,
});
const found = (examined: Partial<Examined>, checks: CheckResult[] = []) => findingsOf(plan, needs, { ...well, ...examined }, checks);

test("a machine that is well has no findings", () => assert.equal(found({}), []));

test("PostgreSQL dead comes before what needs it, which says so", () => {
  const unit = {
    unit: "postgresql@15-main.service",
    state: "failed",
    result: "exit-code",
    status: 1,
    restarts: 0,
    since: null,
    log: ["PANIC"],
  };
  const logs = { "/var/log/postgresql/a.log": ["FATAL: no space"] };
  const all = found({ units: [unit], logs }, [
    wrong("check/home", "check/home", "http", "502"),
    wrong("service/gunicorn", "service/gunicorn", "unit", "gunicorn.service is failed"),
  ]);
  assert.equal(
    all.map((f) => f.resource),
    ["postgresql", "service/gunicorn", "check/home"],
  );
  const [first, second] = all;
  assert.ok(["database/inloop", "application/inloop", "service/huey", "site/inloop"].every((r) => first?.needed.includes(r)));
  assert.equal(first?.log, ["PANIC", "/var/log/postgresql/a.log: FATAL: no space"]);
  assert.ok(second?.because.includes("postgresql"));
});

test("a disk without room comes before the PostgreSQL that died of it, and that before the backups that cannot be made", () => {
  const failed = (unit: string) => ({ unit, state: "failed", result: "exit-code", status: 1, restarts: 0, since: null, log: [] });
  const disk = { mount: "/var/lib/postgresql", used: 0.988, inodes: 0.1, free: 12 * 2 ** 20 };
  const all = found({
    units: [failed("ingot-backup-full.service"), failed("postgresql@15-main.service")],
    disks: [disk],
    backups: ["psql: no such file"],
  });
  assert.equal(
    all.map((f) => [f.severity, f.resource]),
    [
      ["dead", "volume/postgresql"],
      ["dead", "postgresql"],
      ["dead", "backup"],
      ["wrong", "backup"],
    ],
  );
  assert.equal(
    all.map((f) => f.because),
    [[], ["volume/postgresql"], ["postgresql", "volume/postgresql"], ["postgresql", "volume/postgresql"]],
  );
  assert.ok(all[0]?.needed.includes("postgresql"));
  assert.equal(all[2]?.needed, []);
  // An apply would find nothing to change.
  assert.match(all[2]?.next[1] ?? "", /^ingot exec inloop\/web -- systemctl start ingot-backup-full\.service/);
  // With room left it is nobody's cause yet.
  assert.is(found({ units: [failed("postgresql@15-main.service")], disks: [{ ...disk, free: 1e9 }] })[0]?.resource, "postgresql");
});

test("ownership comes before all else, with what mends it", () => {
  const all = found({ units: [{ unit: "x.service", state: "failed", result: "signal", status: 9, restarts: 0, since: null, log: [] }] }, [
    wrong(
      "d",
      "directory//var/lib/inloop/media",
      "contents",
      "/var/lib/inloop/media/a: owner is root, expected huey; /var/lib/inloop/media/b: mode is 0777, expected 0755 at most",
    ),
  ]);
  assert.is(all[0]?.resource, "directory//var/lib/inloop/media");
  assert.equal(all[0]?.next.slice(1), [
    "ingot exec inloop/web -- chown huey /var/lib/inloop/media/a",
    "ingot exec inloop/web -- chmod 0755 /var/lib/inloop/media/b",
  ]);
  // A unit that nobody declared is looked at by hand.
  assert.match(all[1]?.next[0] ?? "", /systemctl status --no-pager x\.service/);
});

test("disks, memory, certificates and backups: what will be, and what is", () => {
  const of = (examined: Partial<Examined>) => found(examined).map((f) => [f.severity, f.what]);
  assert.equal(of({ disks: [{ mount: "/srv", used: 0.93, inodes: 0.2, free: 1 }] }), [["soon", "/srv is 93 % full (space)"]]);
  assert.equal(of({ disks: [{ mount: "/srv", used: 0.5, inodes: 0.999, free: 1 }] }), [["dead", "/srv is 100 % full (inodes)"]]);
  assert.equal(of({ disks: [{ mount: "/srv", error: "Input/output error" }] }), [["dead", "/srv cannot be read: Input/output error"]]);
  const next = (mount: string) => found({ disks: [{ mount, used: 0.93, inodes: 0.2, free: 1 }] })[0]?.next.join();
  assert.match(next("/var/lib/inloop") ?? "", /another `size:` of the volume/);
  assert.match(next("/") ?? "", /the disk of the computer that runs it/);
  assert.equal(of({ memory: { total: 100, available: 3, killed: [] } }), [["soon", "3 % of the memory is left"]]);
  assert.is(of({ memory: { total: 100, available: 50, killed: ["Out of memory: Killed process 7"] } })[0]?.[0], "wrong");
  assert.equal(of({ certificates: [{ path: "/etc/ssl/ingot/inloop.crt", days: 5 }] }), [
    ["soon", "/etc/ssl/ingot/inloop.crt expires in 5 days"],
  ]);
  assert.is(of({ certificates: [{ path: "/etc/ssl/ingot/inloop.crt", days: -3 }] })[0]?.[0], "dead");
  const [late] = found({ backups: ["the last full backup is 200 h old"] });
  assert.equal([late?.severity, late?.next], ["wrong", ["ingot logs inloop/web backup", "ingot backup inloop/web"]]);
});

test("of a machine that cannot be asked everything is dead; where there are backups a rebuild is offered", () => {
  assert.match(unreachable(plan, undefined, "is not there", [], true).next.join(), /ingot rebuild inloop\/web --dry-run/);
  assert.match(unreachable(plan, undefined, "is not there", [], false).next.join(), /ingot up inloop/);
});

test("late backups come after the dead machine that keeps them, and say so", () => {
  const stack = compile(modelOfText(readFileSync("tests/e2e/kept-store.yaml", "utf8")));
  const late: Finding = { host: "db", severity: "wrong", resource: "backup", what: "late", needed: [], because: [], log: [], next: [] };
  const [vault] = stack.hosts as [HostPlan];
  const off = unreachable(vault, undefined, "is off", [], false);
  assert.equal(
    afterStores([late, off], stack).map((f) => [f.host, f.because]),
    [
      ["vault", []],
      ["db", ["vault:backup-store"]],
    ],
  );
  assert.equal(afterStores([late], stack), [late]);
  assert.equal(afterStores([{ ...late, host: "vault" }, off], stack)[0]?.because, []);
});

test.run();
