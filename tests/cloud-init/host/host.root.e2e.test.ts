// A real machine activates generations: all actions, again, failures, removal, reboot. Needs root, systemd-nspawn and a baked image.
import fc from "fast-check";
import * as assert from "uvu/assert";
import type { StepOutcome } from "../../../stacks/target.ts";
import { bakedRoot } from "../../image.ts";
import { suite } from "../../suite.ts";
import { checks, inloop, makeRelease, makeSecrets } from "./inloop.ts";
import { type Activation, type HandWritten, HostMachine, step } from "./machine.ts";
import { environmentValue } from "./values.ts";

const root = bakedRoot();
const test = suite("host");
const secrets = makeSecrets();
const [first, second] = [makeRelease("1"), makeRelease("2")];
let machine: HostMachine;

const outcomes = (activation: Pick<Activation, "steps">, outcome: StepOutcome) =>
  Object.values(activation.steps)
    .filter((s) => s.outcome === outcome)
    .map((s) => s.step)
    .sort();
const failures = (activation: Activation) =>
  activation.stderr +
  Object.values(activation.steps)
    .map((s) => (s.log === undefined ? "" : `\n${s.step}: ${s.outcome}\n${s.log}`))
    .join("");

async function verify() {
  const { stdout, stderr } = await machine.try(["/usr/lib/ingot/check.py"], JSON.stringify(checks(secrets)));
  const results = JSON.parse(stdout || "[]") as { id: string; ok: boolean; message: string }[];
  assert.is(results.length, checks(secrets).length, stderr);
  assert.equal(
    results.filter((r) => !r.ok).map((r) => `${r.id}: ${r.message}`),
    [],
  );
}

test.before(async () => {
  if (process.getuid?.() !== 0) throw new Error("these tests boot a machine: run them as root");
  if (!root) throw new Error("no baked image: run `ingot bake debian-12`, or set INGOT_TEST_ROOT");
  machine = await HostMachine.boot(root, secrets, { [first.sha256]: first.bytes, [second.sha256]: second.bytes });
});
test.after(() => machine?.end());

test("a generation that uses every action is activated, and the checks hold", async () => {
  const activation = await machine.activate(inloop({ release: first.sha256 }));
  assert.is(activation.code, 0, failures(activation));
  assert.is(activation.end.outcome, "done");
  assert.equal(outcomes(activation, "changed").length, Object.keys(activation.steps).length, JSON.stringify(activation.steps));
  console.log(
    `  first activation: ${activation.end.seconds} s (${Object.values(activation.steps)
      .map((s) => `${s.step} ${s.seconds}`)
      .join(", ")})`,
  );
  await verify();
});

test("the same generation again changes nothing, and runs every step", async () => {
  const { steps } = inloop({ release: first.sha256 });
  const activation = await machine.activate(inloop({ release: first.sha256 }));
  assert.is(activation.code, 0, failures(activation));
  assert.equal(outcomes(activation, "unchanged"), steps.map((s) => s.id).sort());
  console.log(
    `  second activation: ${activation.end.seconds} s for ${steps.length} steps (${Object.values(activation.steps)
      .map((s) => `${s.step} ${s.seconds}`)
      .join(", ")})`,
  );
});

test("a new release migrates, goes live, and restarts its service once", async () => {
  const before = await machine.sh("systemctl show -P MainPID gunicorn nginx");
  const activation = await machine.activate(inloop({ release: second.sha256 }));
  assert.is(activation.code, 0, failures(activation));
  assert.equal(outcomes(activation, "changed"), [
    "application/inloop:live",
    "application/inloop:migrate",
    "application/inloop:release",
    "application/inloop:superuser",
    "service/gunicorn",
  ]);
  const after = await machine.sh("systemctl show -P MainPID gunicorn nginx");
  assert.is(after.split("\n").at(-1), before.split("\n").at(-1), "nginx was not restarted");
  assert.is.not(after.split("\n")[0], before.split("\n")[0], "gunicorn was restarted");
});

test("a failed step stops its dependents and nothing else; its log is in the report; the repair finishes the rest", async () => {
  const steps: HandWritten["steps"] = [
    step("command/bad", "application-command", {
      release: "/srv/inloop/current",
      user: "root",
      command: ["sh", "-c", "echo one; echo two >&2; exit 7"],
    }),
    step("directory//srv/after", "directory", { path: "/srv/after" }, { after: ["command/bad"] }),
    step("directory//srv/after/that", "directory", { path: "/srv/after/that" }, { after: ["directory//srv/after"] }),
    step("directory//srv/beside", "directory", { path: "/srv/beside" }),
  ];
  const base = inloop({ release: second.sha256 });
  const activation = await machine.activate({ ...base, steps: [...base.steps, ...steps] });
  assert.is(activation.code, 1);
  assert.is(activation.end.outcome, "failed");
  assert.is(activation.steps["command/bad"]?.outcome, "failed");
  assert.is(activation.steps["command/bad"]?.log, "one\ntwo\n(exit code 7)");
  assert.equal(outcomes(activation, "not-run"), ["directory//srv/after", "directory//srv/after/that"]);
  assert.equal(outcomes(activation, "changed"), ["directory//srv/beside"]);
  assert.match(await machine.sh("cat /var/lib/ingot/next; readlink /var/lib/ingot/current"), new RegExp(`^${activation.end.generation}\n`));
  const good = steps.map((s) =>
    s.id === "command/bad"
      ? step("command/bad", "application-command", { release: "/srv/inloop/current", user: "root", command: ["true"] })
      : s,
  );
  const repaired = await machine.activate({ ...base, steps: [...base.steps, ...good] });
  assert.is(repaired.code, 0, failures(repaired));
  assert.equal(outcomes(repaired, "changed"), ["command/bad", "directory//srv/after", "directory//srv/after/that"]);
  assert.is(await machine.sh("readlink /var/lib/ingot/current; test ! -e /var/lib/ingot/next"), `generations/${repaired.end.generation}`);
});

test("a step that hangs ends by its time limit with what it has said", async () => {
  const hang = step(
    "command/hang",
    "application-command",
    { release: "/srv/inloop/current", user: "root", command: ["sh", "-c", "trap '' TERM; echo waiting; sleep 100; sleep 100"] },
    { timeoutSeconds: 8 },
  );
  const polite = {
    ...step("command/polite", "application-command", {
      release: "/srv/inloop/current",
      user: "root",
      command: ["sh", "-c", "echo also; exec sleep 100"],
    }),
    timeoutSeconds: 8,
  };
  const base = inloop({ release: second.sha256 });
  const activation = await machine.activate({ ...base, steps: [...base.steps, hang, polite] });
  assert.is(activation.code, 1);
  for (const [id, log] of [
    ["command/hang", "waiting"],
    ["command/polite", "also"],
  ] as const) {
    assert.is(activation.steps[id]?.outcome, "timeout", JSON.stringify(activation.steps[id]));
    assert.match(activation.steps[id]?.log ?? "", log);
  }
  assert.is(await machine.sh("pgrep -c sleep || true; systemctl show -P MainPID huey | xargs ps -o comm= -p"), "1\nsleep");
});

test("what the new generation lacks is stopped and removed", async () => {
  const activation = await machine.activate(inloop({ release: second.sha256, withoutWorker: true }));
  assert.is(activation.code, 0, failures(activation));
  assert.is(
    await machine.sh(
      "ls -d /etc/systemd/system/huey.service /etc/systemd/system/huey.service.d /etc/systemd/system/multi-user.target.wants/huey.service 2>/dev/null || true; systemctl is-active huey || true",
    ),
    "inactive",
  );
  const back = await machine.activate(inloop({ release: second.sha256 }));
  assert.is(back.code, 0, failures(back));
  assert.equal(outcomes(back, "changed"), ["service/huey"]);
});

test("settings are reloaded or restarted as they need, wrong ones are refused with the old ones left", async () => {
  const pid = "head -1 /data/15/main/postmaster.pid";
  const before = await machine.sh(pid);
  const reloaded = await machine.activate(inloop({ release: second.sha256, settings: "work_mem = 6MB" }));
  assert.is(reloaded.code, 0, failures(reloaded));
  assert.is(await machine.sh(pid), before);
  const wrong = await machine.activate(inloop({ release: second.sha256, settings: "work_mem = 6MB\nno_such_thing = 1" }));
  assert.is(wrong.code, 1);
  assert.match(wrong.steps["postgresql/main"]?.log ?? "", /no_such_thing/);
  const restarted = await machine.activate(inloop({ release: second.sha256, settings: "work_mem = 5MB\nshared_buffers = 32MB" }));
  assert.is(restarted.code, 0, failures(restarted));
  assert.is.not(await machine.sh(pid), before);
  assert.is(await machine.sh("cd /; runuser -u postgres -- psql -Atc 'show shared_buffers'"), "32MB");
});

test("a new password of a role reaches the role and the application, and no log", async () => {
  const password = "another-Passw0rd-of-the-role";
  machine.secret("database/inloop", password);
  secrets["database/inloop"] = password;
  const activation = await machine.activate(inloop({ release: second.sha256, settings: "work_mem = 5MB\nlog_statement = all" }));
  assert.is(activation.code, 0, failures(activation));
  assert.ok(outcomes(activation, "changed").includes("role/inloop"));
  assert.ok(outcomes(activation, "changed").includes("service/gunicorn"));
  assert.not.match(await machine.sh("journalctl -b -o cat"), new RegExp(`SCRAM-SHA-256\\$|${password}`));
  const settled = await machine.activate(inloop({ release: second.sha256 }));
  assert.is(settled.code, 0, failures(settled));
  await verify();
});

test("two activations at once: the second says so and does nothing", async () => {
  const base = inloop({ release: second.sha256 });
  // The first stands still until the second is over.
  const waits = step("command/waits", "application-command", {
    release: "/srv/inloop/current",
    user: "root",
    command: ["sh", "-c", "touch /srv/begun; until [ -e /srv/over ]; do sleep 0.1; done; rm /srv/begun /srv/over"],
  });
  await machine.lay({ ...base, steps: [...base.steps, waits] });
  const running = machine.try(["/usr/lib/ingot/activate"]);
  await machine.sh("until [ -e /srv/begun ]; do sleep 0.1; done");
  const other = await machine.try(["/usr/lib/ingot/activate"]);
  await machine.sh("touch /srv/over");
  assert.equal([(await running).code, other.code], [0, 3]);
  assert.match(other.stderr, /another activation is running/);
});

test("a generation that differs from its hashes is refused, and nothing is touched", async () => {
  const digest = await machine.lay({ steps: [], files: { "/etc/ingot-test": { content: "as declared\n" } } });
  await machine.sh(`for f in /var/lib/ingot/generations/${digest}/files/*; do echo changed >$f; done`);
  const { code, stderr } = await machine.try(["/usr/lib/ingot/activate"]);
  assert.is(code, 1);
  assert.match(stderr, /for \/etc\/ingot-test\) differs from its name/);
  assert.is(machine.report().end.outcome, "failed");
  await machine.sh("test ! -e /etc/ingot-test; rm /var/lib/ingot/next; systemctl is-active gunicorn");
});

test("any value that an environment may have is read back by systemd", async () => {
  const values = fc.sample(environmentValue, 400);
  const named = Object.fromEntries(values.map((value, i) => [`INGOT_${i}`, [value]]));
  const { code, stderr } = await machine.try(
    ["/usr/lib/ingot/render.py", "/run/ingot/environment"],
    JSON.stringify({ format: "env", values: named }),
  );
  assert.is(code, 0, stderr);
  const { stdout } = await machine.try([
    "systemd-run",
    "--quiet",
    "--wait",
    "--pipe",
    "-p",
    "EnvironmentFile=/run/ingot/environment",
    "env",
    "-0",
  ]);
  const read = new Map(stdout.split("\0").map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]));
  assert.equal(
    values.map((_, i) => read.get(`INGOT_${i}`)),
    values,
  );
});

test("whoever owns a folder cannot lead root elsewhere from it", async () => {
  await machine.sh("rm -rf /var/lib/inloop/trap; runuser -u huey -- ln -s /etc /var/lib/inloop/trap");
  const base = inloop({ release: second.sha256 });
  const activation = await machine.activate({
    ...base,
    steps: [
      ...base.steps,
      step("directory//var/lib/inloop/trap/x", "directory", { path: "/var/lib/inloop/trap/x", owner: "huey" }),
      step("file//var/lib/inloop/trap/y", "file", { path: "/var/lib/inloop/trap/y", owner: "huey", source: "/etc/hostname" }),
    ],
  });
  assert.is(activation.code, 1);
  for (const id of ["directory//var/lib/inloop/trap/x", "file//var/lib/inloop/trap/y"]) {
    assert.match(activation.steps[id]?.log ?? "", /\/var\/lib\/inloop\/trap is a symlink/);
  }
  await machine.sh("test ! -e /etc/x; test ! -e /etc/y; rm /var/lib/inloop/trap");
});

test("a volume that is not blank is refused and left as it is", async () => {
  const steps = [
    step("volume/other", "volume", { device: "/dev/disk/by-id/ingot-data", mount: "/other", filesystem: "xfs", unit: "data.mount" }),
    step("postgresql/other", "postgresql", { unit: "postgresql@15-main.service", version: 15, data: "/srv/inloop", mount: "" }),
  ];
  const base = inloop({ release: second.sha256 });
  const activation = await machine.activate({ ...base, steps: [...base.steps, ...steps] });
  assert.is(activation.code, 1);
  assert.match(activation.steps["volume/other"]?.log ?? "", /holds ext4, declared is xfs; nothing was written/);
  assert.match(
    activation.steps["postgresql/other"]?.log ?? "",
    /\/srv\/inloop is neither empty nor a cluster of PostgreSQL; nothing was changed/,
  );
});

test("a service that dies right after its start fails its step with the end of its journal", async () => {
  const unit = (body: string) => `[Service]\n${body}\nRestart=always\n[Install]\nWantedBy=multi-user.target\n`;
  const activation = await machine.activate({
    ...inloop({ release: second.sha256 }),
    files: {
      ...inloop({ release: second.sha256 }).files,
      "/etc/systemd/system/dies.service": { content: unit("ExecStart=/bin/sh -c 'echo I cannot; exit 1'") },
      "/etc/systemd/system/deaf.service": { content: unit("ExecStart=/bin/sleep infinity") },
    },
    steps: [
      step("service/dies", "service", { unit: "dies.service" }),
      step("service/deaf", "service", { unit: "deaf.service", listens: "127.0.0.1:9999", timeout: 2 }),
    ],
  });
  assert.match(activation.steps["service/dies"]?.log ?? "", /keeps dying right after its start[\s\S]*I cannot/);
  assert.match(activation.steps["service/deaf"]?.log ?? "", /is not up after 2 s: nothing listens on 127.0.0.1:9999/);
  const again = await machine.activate(inloop({ release: second.sha256 }));
  assert.is(again.code, 0, failures(again));
  assert.is(await machine.sh("systemctl is-active dies deaf || true"), "inactive\ninactive");
});

test("a cluster on a disk that moved to another machine is taken over with its data", async () => {
  // Another machine: no configuration, no record, no unit enabled.
  await machine.sh(
    "systemctl stop postgresql@15-main gunicorn; systemctl disable --quiet postgresql@15-main; rm -rf /etc/postgresql/15 /var/lib/ingot/services /var/lib/ingot/stamps",
  );
  const activation = await machine.activate(inloop({ release: second.sha256 }));
  assert.is(activation.code, 0, failures(activation));
  assert.is(activation.steps["application/inloop:migrate"]?.outcome, "unchanged", "its stamp came with the database");
  await verify();
});

test("after a reboot the services are back without Ingot, even when the facts are gone", async () => {
  const report = await machine.sh("cat /var/lib/ingot/report.jsonl");
  machine.secret("../facts.json", "{}");
  await machine.reboot();
  await verify();
  assert.is(
    await machine.sh(
      "ls /run/systemd/system | grep ingot-step || true; systemctl is-active ingot-boot || true; cat /var/lib/ingot/report.jsonl",
    ),
    `inactive\n${report}`,
  );
  machine.secret("../facts.json", JSON.stringify({ secrets: "/run/ingot/facts/secrets" }));
  const again = await machine.activate(inloop({ release: second.sha256 }));
  assert.is(again.code, 0, failures(again));
  assert.equal(outcomes(again, "changed"), []);
});

test("an unfinished activation is tried again at the next boot", async () => {
  await machine.lay(inloop({ release: second.sha256 }));
  await machine.reboot();
  assert.is(machine.report().end.outcome, "done");
  await machine.sh("test ! -e /var/lib/ingot/next; ! systemctl --failed --no-legend | grep .");
});

test.run();
