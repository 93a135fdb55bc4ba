// A disk, block by block, against a server of the documented API (tests/ebs-server.ts, with moto behind it): whatever the disk is and
// whatever goes wrong, what is read back is the disk, and nothing is sent twice that was taken.
import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import * as assert from "uvu/assert";
import { RefusedError } from "../../../../lib/diagnostics.ts";
import { sha256 } from "../../../../lib/digest.ts";
import { projectAt } from "../../../../lib/paths.ts";
import { silent } from "../../../../lib/progress.ts";
import { journalPath, resumable } from "../../../../stacks/aws/ami/journal.ts";
import { type Uploaded, type UploadJob, uploadDisk } from "../../../../stacks/aws/ami/upload.ts";
import { type Aws, awsOf } from "../../../../stacks/aws/api.ts";
import { bucketOf, ensureBucket } from "../../../../stacks/aws/bucket.ts";
import { type AwsFront, awsFront } from "../../../aws-front.ts";
import { blockBytes, type EbsCall, type Trouble, zeros } from "../../../ebs-server.ts";
import { type Moto, motoProgram, region, startMoto } from "../../../moto.ts";
import { suite } from "../../../suite.ts";

const test = suite("upload of a disk");
const one = motoProgram() ? test : test.skip;
const folder = mkdtempSync(join(tmpdir(), "ingot-upload-"));
const project = projectAt(join(folder, "project"));
let moto: Moto;
let front: AwsFront;
let aws: Aws;
let bucket: string;
let disks = 0;

test.before(async () => {
  if (!motoProgram()) return;
  moto = await startMoto();
  front = await awsFront(moto.endpoint);
  process.env.AWS_ENDPOINT_URL = front.endpoint;
  aws = await awsOf(region);
  bucket = await bucketOf(aws, undefined);
  await ensureBucket(aws, bucket);
});
test.after(async () => {
  rmSync(folder, { recursive: true });
  front?.stop();
  await moto?.stop();
});
test.before.each(() => {
  if (!front) return;
  front.ebs.trouble = () => undefined;
  front.ebs.encryptionByDefault = false;
  front.ebs.unknownAtFirst = 0;
  front.ebs.pollsUntilCompleted = 1;
  front.ebs.puts.length = 0;
});

/** Bytes of a disk, and what is written where: a few bytes each, so that most of it stays zeros. */
interface Content {
  size: number;
  writes: { at: number; bytes: Uint8Array }[];
}

/** At most 12 blocks, hardly ever a multiple of one. */
const contents: fc.Arbitrary<Content> = fc.integer({ min: 1, max: 12 * blockBytes }).chain((size) =>
  fc.record({
    size: fc.constant(size),
    writes: fc.array(fc.record({ at: fc.nat({ max: size - 1 }), bytes: fc.uint8Array({ minLength: 1, maxLength: 64 }) }), {
      maxLength: 12,
    }),
  }),
);

function diskOf({ size, writes }: Content, name = `disk-${disks++}.raw`): string {
  const path = join(folder, name);
  const file = openSync(path, "w");
  ftruncateSync(file, size);
  for (const { at, bytes } of writes) writeSync(file, bytes.subarray(0, size - at), 0, Math.min(bytes.length, size - at), at);
  closeSync(file);
  return path;
}

/** A disk with data in its first blocks. */
const full = (blocks: number, mark = 1): string =>
  diskOf({
    size: blocks * blockBytes,
    writes: Array.from({ length: blocks }, (_, i) => ({ at: i * blockBytes, bytes: Uint8Array.of(mark, i + 1) })),
  });

let recipes = 0;
const jobOf = (disk: string, more: Partial<UploadJob> = {}): UploadJob => ({
  project,
  aws,
  bucket,
  image: { name: `recipe-${recipes++}`, digest: sha256(disk) },
  disk,
  encryption: "account",
  progress: silent,
  patience: 5,
  ...more,
});

/** Reads the whole volume back and compares. */
function assertSame(uploaded: Uploaded, disk: string, what = ""): void {
  const snapshot = front.ebs.snapshots.get(uploaded.snapshot);
  assert.is(snapshot?.state, "completed", what);
  if (!snapshot) return;
  assert.is(snapshot.gib, 1, what);
  const blocks = blocksOf(disk);
  for (let i = 0; i < snapshot.gib * 2048; i++) {
    const there = front.ebs.block(snapshot, i);
    const wanted = blocks[i] ?? zeros;
    if (there !== wanted && !there.equals(wanted)) assert.unreachable(`block ${i} is another ${what}`);
  }
}

const blocksOf = (disk: string): Buffer[] => {
  const content = readFileSync(disk);
  return Array.from({ length: Math.ceil(content.length / blockBytes) }, (_, i) => {
    const block = Buffer.alloc(blockBytes);
    content.copy(block, 0, i * blockBytes);
    return block;
  });
};
const withData = (disk: string): number => blocksOf(disk).filter((b) => !b.equals(zeros)).length;
const putsTo = (snapshot: string): number[] => front.ebs.puts.filter((p) => p.snapshot === snapshot).map((p) => p.index);

const refused = async (work: Promise<unknown>): Promise<RefusedError> => {
  const error = await work.then(
    () => undefined,
    (e: unknown) => e,
  );
  assert.instance(error, RefusedError, String(error));
  return error as RefusedError;
};

one("whatever the disk: it is read back as it was, and only blocks with data were sent", async () => {
  await fc.assert(
    fc.asyncProperty(contents, async (content) => {
      const disk = diskOf(content);
      const uploaded = await uploadDisk(jobOf(disk));
      assertSame(uploaded, disk);
      assert.is(uploaded.blocks.sent, withData(disk));
      assert.equal(
        putsTo(uploaded.snapshot).sort((a, b) => a - b),
        [...new Set(putsTo(uploaded.snapshot))].sort((a, b) => a - b),
      );
      assert.is(putsTo(uploaded.snapshot).length, withData(disk));
    }),
    { numRuns: 12 },
  );
});

one("a second version of a recipe is sent as what changed, zeros included, and is whole", async () => {
  await fc.assert(
    fc.asyncProperty(contents, contents, fc.boolean(), async (content, other, shrinks) => {
      // The same disk with something more written, or with nothing but that.
      const first = diskOf(content);
      const second = diskOf({
        size: content.size,
        writes: [...(shrinks ? [] : content.writes), ...other.writes.filter((w) => w.at < content.size)],
      });
      const image = { name: `delta-${recipes++}`, digest: sha256(first) };
      const before = await uploadDisk(jobOf(first, { image }));
      const after = await uploadDisk(jobOf(second, { image: { ...image, digest: sha256(second) } }));
      assert.is(after.parent, before.snapshot);
      assertSame(after, second);
      const [a, b] = [blocksOf(first), blocksOf(second)];
      const changed = a.flatMap((block, i) => (b[i] && block.equals(b[i]) ? [] : [i]));
      assert.equal(
        putsTo(after.snapshot).sort((x, y) => x - y),
        changed,
      );
    }),
    { numRuns: 10 },
  );
});

one("encrypted: every block of the volume is written, since what is left out reads as noise", async () => {
  const disk = diskOf({ size: 3 * blockBytes + 17, writes: [{ at: 5, bytes: Uint8Array.of(1) }] });
  const key = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555";
  const uploaded = await uploadDisk(jobOf(disk, { encryption: { key } }));
  assert.is(front.ebs.snapshots.get(uploaded.snapshot)?.encrypted, true);
  assert.match(front.ebs.snapshots.get(uploaded.snapshot)?.request ?? "", key);
  assert.is(putsTo(uploaded.snapshot).length, 2048);
  assertSame(uploaded, disk);
});

one("an account that encrypts by default: every block, and no parent, without being asked", async () => {
  const first = full(3);
  const image = { name: "by-default", digest: sha256(first) };
  await uploadDisk(jobOf(first, { image }));
  front.ebs.encryptionByDefault = true;
  const second = full(3, 2);
  const uploaded = await uploadDisk(jobOf(second, { image: { ...image, digest: sha256(second) } }));
  assert.is(uploaded.parent, undefined);
  assert.is(putsTo(uploaded.snapshot).length, 2048);
  assertSame(uploaded, second);
});

one("lost answers, throttling, broken answers, a snapshot not known at first: nobody hears of it, and the disk is whole", async () => {
  const troubles: Trouble[] = ["lost", "cut", "throttled", "broken"];
  await fc.assert(
    fc.asyncProperty(
      contents,
      fc.array(fc.constantFrom(...troubles, undefined), { maxLength: 20 }),
      fc.constantFrom(...troubles, undefined),
      fc.nat({ max: 3 }),
      async (content, plan, once, unknown) => {
        const queue = [...plan];
        const met = new Set<string>();
        front.ebs.unknownAtFirst = unknown;
        // Beginning and sealing go wrong once each; blocks as the plan has it.
        front.ebs.trouble = ({ name }: EbsCall) => {
          if (name === "PutSnapshotBlock") return queue.shift();
          if (met.has(name)) return undefined;
          met.add(name);
          return once;
        };
        const disk = diskOf(content);
        const uploaded = await uploadDisk(jobOf(disk, { patience: 60 }));
        assertSame(uploaded, disk);
        // Only an answer that was lost makes a block go twice.
        assert.ok(putsTo(uploaded.snapshot).length <= withData(disk) + plan.filter((t) => t === "lost").length);
      },
    ),
    { numRuns: 5 },
  );
});

one("at most 64 blocks are on their way at once", async () => {
  front.ebs.delay = 300;
  await uploadDisk(jobOf(full(150)));
  front.ebs.delay = 0;
  assert.ok(front.ebs.most > 8 && front.ebs.most <= 64, String(front.ebs.most));
});

one("a block that is refused ends the upload in words, and the next run sends what is missing", async () => {
  const disk = full(100);
  const job = jobOf(disk);
  front.ebs.trouble = ({ name, index }) => (name === "PutSnapshotBlock" && index === 80 ? "refused" : undefined);
  const error = await refused(uploadDisk(job));
  assert.match(error.message, /could not write to snap-[0-9a-f]+: ValidationException: The block is refused/);
  const taken = front.ebs.puts.length;
  assert.ok(taken > 0 && taken < 100, String(taken));
  front.ebs.trouble = () => undefined;
  const uploaded = await uploadDisk(job);
  assertSame(uploaded, disk);
  // What was in the air when the first run stopped may have been taken without its answer being read.
  assert.ok(uploaded.blocks.resumed >= taken - 64 && uploaded.blocks.resumed <= taken, JSON.stringify([uploaded.blocks, taken]));
  assert.is(uploaded.blocks.sent + uploaded.blocks.resumed, 100);
  assert.is([...front.ebs.snapshots.values()].filter((s) => s.tags["ingot:image"] === job.image.digest).length, 1);
});

/** Uploads until the block of this index is refused. */
async function broken(job: UploadJob, index: number): Promise<string> {
  front.ebs.trouble = (call) => (call.name === "PutSnapshotBlock" && call.index === index ? "refused" : undefined);
  await refused(uploadDisk(job));
  front.ebs.trouble = () => undefined;
  const [id] = [...front.ebs.snapshots.values()].filter((s) => s.tags["ingot:image"] === job.image.digest).map((s) => s.id);
  return id ?? "";
}

one("a torn last line of the journal counts as not written", async () => {
  const disk = full(100);
  const job = jobOf(disk);
  const id = await broken(job, 90);
  const path = journalPath(project, { region, digest: job.image.digest, encryption: "account" });
  const text = readFileSync(path, "utf8");
  const known = resumable(project, region).get(id) ?? 0;
  writeFileSync(path, text.slice(0, -10));
  assert.is(resumable(project, region).get(id), known - 1);
  const uploaded = await uploadDisk(job);
  assert.is(uploaded.snapshot, id);
  assert.is(uploaded.blocks.resumed, known - 1);
  assertSame(uploaded, disk);
});

one("a disk that was made anew begins anew, and what was begun of the other is removed", async () => {
  const disk = full(80);
  const job = jobOf(disk);
  const id = await broken(job, 70);
  utimesSync(disk, new Date(), new Date(statSync(disk).mtimeMs + 10_000));
  const uploaded = await uploadDisk(job);
  assert.is.not(uploaded.snapshot, id);
  assert.is(uploaded.blocks.resumed, 0);
  assert.not.ok(front.ebs.snapshots.has(id));
  assertSame(uploaded, disk);
});

one("a snapshot that EBS gave up, or that somebody removed, begins anew", async () => {
  for (const how of ["error", "gone"] as const) {
    const disk = full(80);
    const job = jobOf(disk);
    const id = await broken(job, 70);
    const snapshot = front.ebs.snapshots.get(id);
    if (how === "error" && snapshot) snapshot.state = "error";
    else await (await aws.ec2()).send(new (await import("@aws-sdk/client-ec2")).DeleteSnapshotCommand({ SnapshotId: id }));
    const uploaded = await uploadDisk(job);
    assert.is.not(uploaded.snapshot, id, how);
    assert.not.ok(front.ebs.snapshots.has(id), how);
    assertSame(uploaded, disk, how);
  }
});

one("a parent that was removed meanwhile: the whole disk is sent", async () => {
  const first = full(5);
  const image = { name: "orphan", digest: sha256(first) };
  const parent = await uploadDisk(jobOf(first, { image }));
  const second = full(6, 2);
  front.ebs.trouble = ({ name, count }) => {
    if (name === "StartSnapshot" && count > 0) front.ebs.snapshots.delete(parent.snapshot);
    return undefined;
  };
  const uploaded = await uploadDisk(jobOf(second, { image: { ...image, digest: sha256(second) } }));
  assert.is(uploaded.parent, undefined);
  assertSame(uploaded, second);
});

one("the seal is given once: a run that was stopped while it waited only waits", async () => {
  const disk = full(4);
  const job = jobOf(disk);
  front.ebs.trouble = ({ name }) => (name === "CompleteSnapshot" ? "broken" : undefined);
  assert.match((await refused(uploadDisk(job))).message, /could not complete snap-[0-9a-f]+: AWS failed/);
  front.ebs.trouble = () => undefined;
  const before = front.ebs.puts.length;
  const uploaded = await uploadDisk(job);
  assert.is(front.ebs.puts.length, before);
  assertSame(uploaded, disk);
});

one("EBS compares the whole: a snapshot that it gives up is said with its reason", async () => {
  const disk = full(4);
  front.ebs.pollsUntilCompleted = 1000;
  front.ebs.trouble = ({ name, snapshot }) => {
    const one = front.ebs.snapshots.get(snapshot);
    if (name === "CompleteSnapshot" && one) Object.assign(one, { state: "error", message: "the key is disabled" });
    return name === "CompleteSnapshot" ? "lost" : undefined;
  };
  const error = await refused(uploadDisk(jobOf(disk)));
  assert.match(error.message, /could not complete|is error/);
});

test.run();
