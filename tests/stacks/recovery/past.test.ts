// Which past a rebuild can bring back, from what is known of the backups. On booted machines: e2e/rebuild-sources, rebuild and backup-store.
import * as assert from "uvu/assert";
import type { BackupSettings } from "../../../stacks/recovery/backups.ts";
import { chosenOf, gapIn, type Known, notThere } from "../../../stacks/recovery/past.ts";
import { choosing, mayChoose, type Rebuild } from "../../../stacks/recovery/rebuild.ts";
import { suite } from "../../suite.ts";

const test = suite("the past of a rebuild");
const seconds = (at: string) => Date.parse(at) / 1000;
const backup = (label: string, ended: string) => ({ label, ended: seconds(ended), bytes: 1, wal: "000000010000000000000002" });
const known: Known = {
  postgresql: [backup("20261124-030000F", "2026-11-24T03:00:12Z"), backup("20261125-030000F", "2026-11-25T03:00:14Z")],
  directories: [
    { id: "1a2b3c4d", of: "directories", at: seconds("2026-11-24T04:00:00Z") },
    { id: "5e6f7a8b", of: "directories", at: seconds("2026-11-25T04:00:00Z") },
  ],
  gap: null,
};
const settings: BackupSettings = {
  to: "/srv/backup",
  directories: ["/srv/media"],
  held: [],
  times: {},
  postgresql: { data: "/srv/data", archive_seconds: 60, tables: [] },
};
const files: BackupSettings = { to: "/srv/backup", directories: ["/srv/media"], held: [], times: {} };

test("the latest is there as soon as there is a backup", () => {
  assert.is(notThere(known, settings, {}), undefined);
  assert.equal(notThere({ postgresql: [], directories: [] }, settings, {}), {
    message: "there is no backup of PostgreSQL",
    hint: "there are none",
  });
});

test("a backup that is named: of PostgreSQL's, or of the copies of a host without; others are said", () => {
  assert.is(notThere(known, settings, { backup: "20261124-030000F" }), undefined);
  assert.is(notThere(known, files, { backup: "5e6f7a8b" }), undefined);
  assert.equal(notThere(known, settings, { backup: "20261124-030000" }), {
    message: "there is no backup 20261124-030000",
    hint: "there are 20261124-030000F (it ended 2026-11-24T03:00:12Z), 20261125-030000F (it ended 2026-11-25T03:00:14Z); copies of directories from 2026-11-24T04:00:00Z to 2026-11-25T04:00:00Z",
  });
  assert.is(notThere(known, settings, { backup: "5e6f7a8b" })?.message, "there is no backup 5e6f7a8b");
  assert.is(
    notThere(known, files, { backup: "nope" })?.hint,
    "there are 1a2b3c4d (of 2026-11-24T04:00:00Z), 5e6f7a8b (of 2026-11-25T04:00:00Z)",
  );
});

test("a time: not before the first backup has ended, and not before the first copy", () => {
  assert.is(chosenOf(known, { at: "2026-11-25T03:00:13Z" })?.label, "20261124-030000F");
  assert.is(chosenOf(known, { at: "2026-11-25T03:00:14Z" })?.label, "20261125-030000F");
  assert.is(
    notThere(known, settings, { at: "2026-11-24T03:00:00Z" })?.message,
    "there is no backup of PostgreSQL from before 2026-11-24T03:00:00Z",
  );
  assert.is(
    notThere(known, settings, { at: "2026-11-24T03:30:00Z" })?.message,
    "there is no copy of directories from before 2026-11-24T03:30:00Z",
  );
  assert.is(notThere(known, settings, { at: "2026-11-24T04:00:00Z" }), undefined);
  // What was never copied has nothing to bring back, at whatever time.
  assert.is(notThere({ ...known, directories: [] }, settings, { at: "2026-11-24T03:30:00Z" }), undefined);
});

test("a time after a gap in the log is not there, the latest neither; one before it, and a backup by its name, are", () => {
  const gapped: Known = { ...known, gap: { piece: "0000000000000009", until: seconds("2026-11-25T10:31:07Z") } };
  for (const past of [{}, { at: "2026-11-25T10:31:08Z" }]) {
    const why = notThere(gapped, settings, past);
    assert.match(why?.message ?? "", /has a gap: its piece 0000000000000009 .* possible up to 2026-11-25T10:31:07Z/);
    assert.match(why?.hint ?? "", /^--at 2026-11-25T10:31:07Z; there are 2026/);
  }
  assert.is(notThere(gapped, settings, { at: "2026-11-25T10:31:07Z" }), undefined);
  assert.is(notThere(gapped, settings, { backup: "20261125-030000F" }), undefined);
});

test("a gap is told from the names of the pieces: across files' names of 256, timelines, and what is older than the backup", () => {
  const file = (name: string) => `15-1/${name.slice(0, 16)}/${name}-${"a".repeat(40)}.zst`;
  const names = ["000000010000000000000001", "0000000100000000000000FE", "0000000100000000000000FF", "000000010000000100000000"];
  assert.is(gapIn(names.map(file), "0000000100000000000000FE"), undefined);
  assert.is(gapIn([...names, "000000020000000100000001"].map(file), "0000000100000000000000FE"), undefined);
  assert.equal(gapIn([...names, "000000010000000100000002", "000000010000000100000005"].map(file), "0000000100000000000000FE"), {
    piece: "0000000100000001",
    before: file("000000010000000100000000"),
  });
  assert.equal(gapIn(names.map(file), names[0] ?? "")?.piece, "0000000000000002");
  assert.is(gapIn(["15-1/0000000100000000/000000010000000000000002.00000028.backup"], "000000010000000000000001"), undefined);
});

test("a rebuild may choose another past until its machine is up; what it put aside is kept in mind, and put aside again under another name", () => {
  const began = "2026-11-30T02:00:00Z";
  const done = (...names: Rebuild["phases"][number]["phase"][]) => names.map((phase) => ({ phase, began, ended: began }));
  const rebuild: Rebuild = {
    stack: "shop",
    host: "db",
    at: "2026-01-01T00:00:00Z",
    began,
    images: {},
    source: { attached: ["backup"], restored: [{ volume: "data", because: "x", aside: "/d/data.img.aside" }], pictured: [], empty: [] },
    phases: [...done("hold", "fence", "source"), { phase: "launch", began }],
  };
  assert.ok(mayChoose(rebuild));
  assert.not.ok(mayChoose({ ...rebuild, phases: done("hold", "fence", "source", "launch") }));
  const other = choosing(rebuild, { backup: "20261124-030000F" });
  assert.equal([other.at, other.backup, other.source, other.aside], [undefined, "20261124-030000F", undefined, ["/d/data.img.aside"]]);
  assert.equal(
    other.phases.map((p) => p.phase),
    ["hold"],
  );
  assert.ok((other.chosen ?? "") > began);
});

test.run();
