// What a machine says of itself on its console, and what is not true of it.
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import * as assert from "uvu/assert";
import { brokenOnBoot, type Promised, reportIn } from "../../images/booted.ts";
import { suite } from "../suite.ts";

const test = suite("booted image");

const promised: Promised = {
  packages: { curl: "7.88.1-10", bash: "5.2" },
  users: { postgres: { uid: 110, gid: 110 } },
  groups: { docker: 120 },
  enabled: ["ingot-boot.service"],
  disabled: ["nginx.service"],
  files: { "/usr/lib/ingot/activate": "a".repeat(64) },
};
const right: Record<string, string> = {
  system: "running",
  "machine-id": "0123456789abcdef0123456789abcdef",
  "old-host-keys": "",
  passwords: "",
  "cloud-init": "done",
  "cloud-init-errors": "",
  failed: "",
  packages: "ii \tcurl\t7.88.1-10\nii \tbash\t5.2",
  units: "ingot-boot.service enabled enabled\nnginx.service disabled enabled",
  passwd: "root:x:0:0:root:/root:/bin/bash\npostgres:x:110:110::/var/lib/postgresql:/bin/bash",
  group: "root:x:0:\ndocker:x:120:",
  files: `${"a".repeat(64)}  /usr/lib/ingot/activate`,
};

/** The lines of smoke.sh, in parts of so many characters. */
function lines(facts: Record<string, string>, width = 100): string[] {
  const text = Object.entries(facts).map(([name, content]) => `== ${name}\n${content}\n`);
  const packed = gzipSync(text.join("")).toString("base64");
  const parts = packed.match(new RegExp(`.{1,${width}}`, "g")) ?? [];
  return parts.map((part, i) => `ingot-smoke ${i + 1}/${parts.length} ${part}`);
}
const wrong = (facts: Partial<Record<string, string>>): string[] => {
  const booted = reportIn(lines({ ...right, ...facts } as Record<string, string>).join("\r\n") + "\r\n");
  assert.ok(booted);
  return brokenOnBoot(promised, booted ?? {});
};

test("a report is read whole from among whatever else a console has, in any order and by parts of several rounds; else not at all", () => {
  const parts = lines(right, 40);
  const noise = fc.constantFrom(
    "[  OK  ] Started nginx.service\r",
    "ingot-smoke",
    "ingot-smoke 1/2",
    "",
    "[   12.3] random: crng init done",
  );
  fc.assert(
    fc.property(
      fc.array(noise),
      fc.integer({ min: 0, max: parts.length - 1 }),
      fc.shuffledSubarray(parts, { minLength: parts.length }),
      (others, lost, order) => {
        const spread = order.flatMap((line, i) => [...(others[i] === undefined ? [] : [others[i]]), line]);
        assert.equal(brokenOnBoot(promised, reportIn(`${spread.join("\n")}\n`) ?? {}), []);
        const lacking = parts.filter((_, i) => i !== lost);
        assert.is(reportIn(`${lacking.join("\n")}\n`), undefined);
        // A line that another one has torn is said again in the next round.
        const torn = parts.map((line, i) => (i === lost ? `${line.slice(0, 20)}[   12.3] usb 1-1` : line));
        assert.is(reportIn(`${torn.join("\n")}\n`), undefined);
        assert.equal(brokenOnBoot(promised, reportIn(`${[...torn, ...parts].join("\n")}\n`) ?? {}), []);
      },
    ),
    { numRuns: 50 },
  );
  assert.is(reportIn(""), undefined);
});

test("what is not true is said, each in its words", () => {
  assert.equal(wrong({}), []);
  assert.equal(wrong({ "machine-id": "uninitialized" }), ["it has no machine-id of its own: `uninitialized`"]);
  assert.equal(wrong({ "old-host-keys": "/etc/ssh/ssh_host_rsa_key" }), [
    "it has ssh host keys that are older than its boot: /etc/ssh/ssh_host_rsa_key",
  ]);
  assert.equal(wrong({ passwords: "debian" }), ["it has users with a password or without the need of one: debian"]);
  assert.equal(wrong({ "cloud-init": "" }), ["cloud-init is not done: it wrote no result"]);
  assert.equal(wrong({ "cloud-init-errors": "('ssh', OSError())" }), ["cloud-init failed: ('ssh', OSError())"]);
  assert.equal(wrong({ system: "degraded", failed: "nginx.service" }), ["units failed: nginx.service"]);
  assert.equal(wrong({ system: "maintenance" }), ["the system is maintenance"]);
  assert.equal(wrong({ packages: "ii \tcurl\t7.88.1-11\niU \tbash\t5.2\nii \tnano\t1" }), [
    "packages are not the image's: curl 7.88.1-11 (ii), not 7.88.1-10, bash 5.2 (iU), not 5.2",
    "there are packages that the image has not: nano",
  ]);
  assert.equal(wrong({ passwd: "root:x:0:0::/root:/bin/bash\ntoor:x:0:0::/root:/bin/sh\npostgres:x:111:110::/:/bin/sh" }), [
    "users have not their numbers: postgres",
    "there are more that are root: toor",
  ]);
  assert.equal(wrong({ group: "root:x:0:" }), ["groups have not their numbers: docker"]);
  assert.equal(wrong({ units: "ingot-boot.service disabled\nnginx.service enabled" }), [
    "units are not started at boot: ingot-boot.service",
    "units are started at boot: nginx.service",
  ]);
  assert.equal(wrong({ files: `${"b".repeat(64)}  /usr/lib/ingot/activate` }), ["files are not Ingot's: /usr/lib/ingot/activate"]);
  const { units: _, ...less } = right;
  const report = reportIn(`${lines(less).join("\n")}\n`) ?? {};
  assert.match(brokenOnBoot(promised, report).join(), /the machine said nothing of its units/);
});

test.run();
