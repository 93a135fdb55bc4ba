// What is made of a drill: its RTO and RPO, when it is late, what it says. On booted machines: e2e/drill.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import * as assert from "uvu/assert";
import { secondsIn } from "../../../lib/duration.ts";
import { startOf } from "../../../lib/ledger.ts";
import { besideOf, projectAt, toolFolder } from "../../../lib/paths.ts";
import { text } from "../../../scripts/drill.ts";
import { machineFolder } from "../../../stacks/local/machine.ts";
import { machineName, networkName } from "../../../stacks/local/names.ts";
import { nspawnArguments } from "../../../stacks/local/nspawn.ts";
import { volumeFile } from "../../../stacks/local/volume.ts";
import type { BackupSettings } from "../../../stacks/recovery/backups.ts";
import {
  bucketsOf,
  type Drill,
  type DrilledHost,
  drillsOf,
  drillText,
  lateDrill,
  missed,
  mustHaveRoom,
  remember,
  rpoOf,
  rtoOf,
  secretsToRead,
} from "../../../stacks/recovery/drill.ts";
import type { Target } from "../../../stacks/target.ts";
import { suite } from "../../suite.ts";
import { planOfText } from "../aws/synth/fixtures.ts";

const test = suite("drills");
const host: DrilledHost = {
  host: "db",
  image: "a".repeat(64),
  generation: "b".repeat(64),
  production: "same",
  steps: [{ step: "backup:restore", seconds: 11.8 }],
  proof: {
    postgresql: {
      backup: "20261130-023428F",
      timeline: 2,
      age_seconds: 3.9,
      rows: { "shop:orders": { rows: 50000 } },
      amcheck: { relations: 816, pages: 2436, seconds: 0.6 },
      page_sums: true,
      verify_seconds: 0.4,
    },
    directories: { copy: "fdb511f2", paths: ["/srv/data/media"], age_seconds: 1800, check_seconds: 0.4 },
    wrong: [],
  },
  backups: { full: "20261130-023502F" },
};
const drill: Drill = {
  stack: "kept",
  began: "2026-11-30T02:00:00Z",
  phases: [
    { phase: "repository", seconds: 0.1 },
    { phase: "image", seconds: 0.2 },
    { phase: "launch", seconds: 19.1 },
    { phase: "prove", seconds: 100 },
    { phase: "write", seconds: 0.4 },
    { phase: "backup", seconds: 200 },
    { phase: "checks", seconds: 1.1 },
    { phase: "end", seconds: 2 },
  ],
  rto_seconds: 20.8,
  rpo_seconds: 3.9,
  repository: { db: "shared" },
  hosts: [host],
  checks: { passed: 18, failed: [] },
  ok: true,
  wrong: [],
};
const began = Date.parse(drill.began) / 1000;
const settings: BackupSettings = { to: "/srv/backup", directories: [], held: [], times: {}, drill_seconds: 86_400 };

test("RTO is what a rebuild needs until every check holds: neither the proofs nor the drill's own backup are of it", () => {
  assert.is(rtoOf(drill), 20.8);
  assert.is(rtoOf({ phases: drill.phases.filter((p) => p.phase !== "checks") }), null);
});

test("RPO is the worst host's: of PostgreSQL, and of directories where there is none", () => {
  const files: DrilledHost = { ...host, proof: { wrong: [], directories: { copy: "1", paths: [], age_seconds: 40, check_seconds: 0 } } };
  assert.is(rpoOf([host]), 3.9);
  assert.is(rpoOf([host, files]), 40);
  assert.is(rpoOf([{}]), null);
});

test("what is slower or older than it may be is said; what is not known is not taken for good", () => {
  assert.equal(missed(drill, {}), []);
  assert.equal(missed(drill, { rto: 21, rpo: 4 }), []);
  assert.equal(missed(drill, { rto: 20, rpo: 3 }), [
    "RTO: 20.8 s, and at most 20 s were asked for",
    "RPO: 3.9 s, and at most 3 s were asked for",
  ]);
  assert.equal(missed({ rto_seconds: 1, rpo_seconds: null }, { rpo: 3 }), ["RPO: not known, and at most 3 s were asked for"]);
});

test("a drill is late where one is asked for: never made, failed, too long ago", () => {
  assert.equal(lateDrill([], { ...settings, drill_seconds: undefined }), []);
  assert.equal(lateDrill([], settings), ["there was no drill yet, and there is to be one every 24 h"]);
  assert.equal(lateDrill([drill], settings, began + 86_000), []);
  assert.equal(lateDrill([drill], settings, began + 3 * 86_400), ["the last drill was 3 days ago, and there is to be one every 24 h"]);
  assert.equal(lateDrill([drill, { ...drill, ok: false, wrong: ["amcheck: x"] }], settings, began + 60), [
    "the last drill, 60 s ago, failed: amcheck: x",
  ]);
});

test("the last drill in short, and a whole one for people", () => {
  assert.is(drillText([]), "never drilled");
  assert.is(drillText([drill], began + 7200), "drilled 2 h ago: RTO 21 s, RPO 4 s");
  assert.is(drillText([{ ...drill, ok: false }], began + 7200), "the drill of 2 h ago failed");
  const said = text(drill);
  assert.match(said, /kept\/db: image aaaaaaaaaaaa, generation bbbbbbbbbbbb, as production's/);
  assert.match(said, /rows, counted at the same point as then: the same \(shop:orders 50000\)/);
  assert.match(said, /kept can be made anew: RTO 20.8 s, RPO 3.9 s$/);
  const failed = text({ ...drill, ok: false, wrong: ["db: amcheck: x"], checks: { passed: 17, failed: ["db: y"] } });
  assert.match(failed, /checks: 17 of 18 passed\nWRONG db: amcheck: x\nthe drill of kept FAILED$/);
});

test("drills are kept in their order, a hundred of a stack", () => {
  const folder = mkdtempSync(join(tmpdir(), "ingot-drills-"));
  try {
    const project = projectAt(folder);
    for (let n = 0; n < 103; n++) remember(project, { ...drill, rto_seconds: n });
    const found = drillsOf(project, "kept");
    assert.equal([found.length, found[0]?.rto_seconds, found.at(-1)?.rto_seconds], [100, 3, 102]);
    assert.equal(drillsOf(project, "other"), []);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("a drill has other names on this computer than its production, and other folders, but the same images and secrets", () => {
  const project = projectAt("/p");
  const beside = besideOf(project, "kept");
  assert.is.not(networkName(beside, "kept"), networkName(project, "kept"));
  assert.is.not(machineName(beside, "kept", "db"), machineName(project, "kept", "db"));
  assert.equal(
    [beside.machines, beside.volumes, beside.ledger].map((f) => f.startsWith("/p/.ingot/drills/kept/")),
    [true, true, true],
  );
  assert.equal([beside.store, beside.secrets, beside.stacks], [project.store, project.secrets, project.stacks]);
});

test("its machine has production's host name, and what it restores from read-only", () => {
  const argv = nspawnArguments({ name: "ingot-x-db", hostname: "db", folder: "/m", shared: [], repositories: { backup: "/r:1" } });
  assert.ok(argv.includes("--hostname=db"));
  assert.ok(argv.includes("--bind-ro=/r\\:1:/run/ingot/repository/backup"));
});

test("a secret that is missing is not made for a drill", async () => {
  const store = secretsToRead({ get: async () => undefined, create: async () => "x", placeOf: () => "/s/backup" }, new Set());
  try {
    await store.create("kept", "backup", "new");
    assert.unreachable();
  } catch (error) {
    assert.match(String(error), /kept has no secret backup/);
  }
});

test("a bucket that a drill's machine would not find is refused, and says why", () => {
  const stack = (hosts: string, keys = true) => `stack: shop
network: 10.1.9.0/24
hosts:
  db:
    image: inloop
    address: 10.1.9.1
    ${hosts}
    postgresql: {}
    backup:
      to: { s3: { bucket: shop-backups, ${keys ? 'endpoint: "https://objects.example.org:9000", access_key: { secret: a }, secret_key: { secret: s }' : "region: eu-central-1"} } }
      postgresql: {}
  other: { image: inloop, address: 10.1.9.2 }
`;
  const here = (text: string) => bucketsOf(planOfText(text)).map((b) => [b.plan.host, b.place]);
  const at = (address: string) => stack(`etc_hosts: { ${address}: [objects.example.org] }`);
  assert.equal(here(at("10.1.9.254")), [["db", "10.1.9.254:9000"]]);
  const begins = "the backups of shop/db are in s3://shop-backups/shop/db, ";
  for (const [text, why] of [
    [stack("", false), "which its machine opens by its role, and only on EC2 has it one"],
    [at("10.1.9.254").replace('endpoint: "https://objects.example.org:9000"', "region: eu-central-1"), "at AWS itself"],
    [stack(""), "and a drill's machine has nobody to ask where objects.example.org is"],
    [at("10.2.0.1"), "at 10.2.0.1, and no way leads there from the network of its machines"],
    [at("10.1.9.2"), "which the stack's own host other serves, and a drill makes that one anew"],
  ] as const)
    assert.throws(
      () => bucketsOf(planOfText(text)),
      (error: Error) => error.message.startsWith(begins + why),
      why,
    );
});

test("beside virtual machines the copy of the disk with the backups wants room, once; one that an older Ingot launched is refused", async () => {
  const plan = planOfText(readFileSync(join(toolFolder, "tests/e2e/kept-store.yaml"), "utf8"));
  const folder = mkdtempSync(join(tmpdir(), "ingot-drills-"));
  const project = projectAt(folder);
  const vault = machineFolder(project, "kept-store", "vault");
  const disk = volumeFile(project, "kept-store", "vault", "backups");
  for (const made of [join(vault, "run"), join(vault, "../run"), dirname(disk)]) mkdirSync(made, { recursive: true });
  const machine = { stack: "kept-store", host: "vault", target: "vm", volumes: ["backups"], state: "running" };
  writeFileSync(join(vault, "machine.json"), JSON.stringify(machine));
  writeFileSync(join(vault, "../run/holder"), `${process.pid} ${startOf(process.pid)}`);
  writeFileSync(disk, Buffer.alloc(3 * 2 ** 20, 1));
  truncateSync(disk, 2 ** 40);
  // What the machine says of the backups that it keeps: the last one is a pebibyte.
  const noted = { code: 0, stderr: "", stdout: JSON.stringify([{ label: "F", ended: 0, wal: "", bytes: 2 ** 50, stored: 0 }]) };
  const answers = { find: async () => [machine], connect: () => ({ exec: async () => noted }) };
  const asked = () => mustHaveRoom(project, answers as unknown as Target, plan).then(() => "", String);
  try {
    writeFileSync(join(vault, "run/argv"), "qemu\0-mon\0chardev=events,mode=control\0");
    assert.match(await asked(), /kept-store\/vault was launched by an older Ingot, and its disk cannot be copied while it runs/);
    writeFileSync(join(vault, "run/argv"), "qemu\0-chardev\0socket,id=qmp,path=qmp,server=on,wait=off\0");
    assert.match(await asked(), /\(db: PostgreSQL 1073741824 MiB, .*; a copy of vault's disk backups 3 MiB\), and there are/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("durations as people write them", () => {
  assert.equal(["90s", "5m", "12h", "30d", "2w"].map(secondsIn), [90, 300, 43_200, 2_592_000, 1_209_600]);
  for (const wrong of ["", "5", "0s", "5 m", "1.5h", "-3d", "5M", "1h30m"]) assert.is(secondsIn(wrong), undefined, wrong);
});

test.run();
