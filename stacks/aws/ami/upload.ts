// A disk goes to EC2 block by block and becomes a snapshot, with no machine in between: the EBS direct APIs. What was taken is in a journal
// (journal.ts), so that a run that was killed is gone on with. Called by make.ts.
// Sources: EBS direct APIs, API Reference (StartSnapshot, PutSnapshotBlock, CompleteSnapshot); Amazon EBS User Guide, "Encryption outcomes
// for EBS direct APIs" and "Ensure idempotency in StartSnapshot API requests".
import { randomUUID } from "node:crypto";
import { setMaxListeners } from "node:events";
import { statSync } from "node:fs";
import { basename } from "node:path";
import { cancelled, onCancel, sleep } from "../../../lib/cancel.ts";
import { RefusedError } from "../../../lib/diagnostics.ts";
import { short } from "../../../lib/digest.ts";
import type { Project } from "../../../lib/paths.ts";
import { during, type Progress, type Task } from "../../../lib/progress.ts";
import type { Aws } from "../api.ts";
import { call, codeOf } from "../errors.ts";
import { type AmiImage, amiTags, tagList } from "./ami.ts";
import { BlockDigests, type BlockDisk, blockBytes, digestOfBlock, digestOfZeros, linearChecksum, openDisk, zeros } from "./blocks.ts";
import { beginJournal, type Encryption, type Journal, type JournalHead, journalPath, readJournal, type Snapshot } from "./journal.ts";
import { findParent, type Parent, parentAt, rememberBlocks } from "./parent.ts";
import { putter } from "./put.ts";
import { removeSnapshot, snapshotState } from "./snapshot.ts";

export interface UploadJob {
  project: Project;
  aws: Aws;
  bucket: string;
  image: AmiImage;
  /** The raw disk; it must not change meanwhile. */
  disk: string;
  encryption: Encryption;
  progress: Progress;
  /** Seconds for which what passes by itself is waited for (throttling, a broken answer, a snapshot that is not known yet). @default 120 */
  patience?: number;
}

export interface Uploaded {
  snapshot: string;
  /** The run that began it (names.tags.run). */
  run: string;
  /** GiB. */
  gib: number;
  /** Blocks that this run sent, those that were there already from a run before it, and those that the snapshot has of its own in all. */
  blocks: { sent: number; resumed: number; written: number };
  /** The snapshot that it differs from. */
  parent?: string;
}

/** Blocks on their way at once, as AWS's own advice and coldsnap have it; each has a buffer of its own: 32 MiB. */
const atOnce = 64;
/** Seconds: UploadJob.patience. */
const usualPatience = 120;
/** Minutes after which EBS gives up a snapshot to which nothing more is written: a run of tomorrow can still go on with today's. */
const timeoutMinutes = 24 * 60;

/**
 * Gives the snapshot of a disk, whole and verified by EBS; goes on where a run before stopped.
 * @throws RefusedError, Cancelled
 */
export async function uploadDisk(job: UploadJob): Promise<Uploaded> {
  const disk = await openDisk(job.disk);
  try {
    const encrypted = job.encryption !== "account" || (await encryptsByDefault(job.aws));
    const path = journalPath(job.project, { region: job.aws.region, digest: job.image.digest, encryption: job.encryption });
    const begun = (await goOn(job, disk, path, encrypted)) ?? (await begin(job, disk, path, encrypted));
    try {
      await start(job, begun, path, encrypted);
      return await send(job, disk, begun);
    } finally {
      begun.journal.close();
    }
  } finally {
    await disk.close();
  }
}

/** Whether EC2 encrypts every snapshot of this account in this region. */
async function encryptsByDefault(aws: Aws): Promise<boolean> {
  const { GetEbsEncryptionByDefaultCommand } = await import("@aws-sdk/client-ec2");
  const ec2 = await aws.ec2();
  const { EbsEncryptionByDefault } = await call("ask whether the account encrypts by default", () =>
    ec2.send(new GetEbsEncryptionByDefaultCommand({})),
  );
  return EbsEncryptionByDefault === true;
}

interface Begun {
  journal: Journal;
  parent: Parent | undefined;
}

/** What a run before this one began, where that can be gone on with. What cannot is removed from the account. */
async function goOn(job: UploadJob, disk: BlockDisk, path: string, encrypted: boolean): Promise<Begun | undefined> {
  const { aws, bucket, progress } = job;
  const journal = readJournal(path);
  if (!journal) return undefined;
  const { head, snapshot } = journal;
  const same =
    head.disk === identityOf(job.disk) && head.gib === disk.gib && JSON.stringify(head.encryption) === JSON.stringify(job.encryption);
  const state = snapshot && (await snapshotState(aws, snapshot.id)).state;
  const alive = state === undefined ? snapshot === undefined : journal.sealed ? state !== "error" : state === "pending";
  const parent = head.parent && (await parentAt(aws, bucket, head.parent.digest, head.parent.snapshot, disk.count));
  // An account that has begun to encrypt takes no unencrypted parent, and then no part of it is enough.
  const fits = head.parent ? parent !== undefined && !encrypted : !encrypted || snapshot === undefined || snapshot.extent === "every block";
  if (same && alive && fits) {
    if (snapshot) progress.say(`going on with ${snapshot.id}, which has ${journal.accepted.size} blocks already`);
    return { journal, parent };
  }
  journal.close();
  if (snapshot && state !== undefined) {
    progress.say(
      `${snapshot.id} of a run before cannot be gone on with (${!same ? "the disk is another" : `it is ${state}`}): it is removed`,
    );
    await removeSnapshot(aws, snapshot.id);
  }
  return undefined;
}

async function begin(job: UploadJob, disk: BlockDisk, path: string, encrypted: boolean): Promise<Begun> {
  const { aws, bucket, image, encryption } = job;
  const parent = encrypted ? undefined : await findParent(aws, bucket, image.name, disk.gib, disk.count);
  const head: JournalHead = {
    version: 1,
    disk: identityOf(job.disk),
    digest: image.digest,
    region: aws.region,
    gib: disk.gib,
    encryption,
    ...(parent && { parent: { snapshot: parent.snapshot, digest: parent.digest } }),
    token: randomUUID(),
    run: randomUUID(),
  };
  return { journal: beginJournal(path, head), parent };
}

/** A disk of the store is never written to: its name says what it is of, and the time that it was not made anew. */
function identityOf(path: string): string {
  const { size, mtimeMs } = statSync(path);
  return `${basename(path)} ${size} ${mtimeMs}`;
}

/** Asks for the snapshot, unless a run before did and knows its id. */
async function start(job: UploadJob, begun: Begun, path: string, encrypted: boolean): Promise<void> {
  if (begun.journal.snapshot) return;
  try {
    begun.journal.started(await startSnapshot(job, begun.journal.head, encrypted));
  } catch (error) {
    const { head } = begun.journal;
    // The parent was removed meanwhile, or the token stands for another request: anew, and whole.
    const anew =
      codeOf(error) === "ConflictException" || (head.parent && /^(ValidationException|ResourceNotFoundException)$/.test(codeOf(error)));
    if (!anew) throw error;
    begun.journal.close();
    begun.parent = undefined;
    begun.journal = beginJournal(path, { ...head, parent: undefined, token: randomUUID() });
    begun.journal.started(await startSnapshot(job, begun.journal.head, encrypted));
  }
}

async function startSnapshot({ aws, image }: UploadJob, head: JournalHead, encrypted: boolean): Promise<Snapshot> {
  const { StartSnapshotCommand } = await import("@aws-sdk/client-ebs");
  const ebs = await aws.ebs();
  const answer = await call("begin a snapshot", () =>
    ebs.send(
      new StartSnapshotCommand({
        VolumeSize: head.gib,
        ClientToken: head.token,
        Description: `Ingot: ${image.name} ${short(image.digest)}`,
        Tags: tagList(amiTags(image, "direct", head.run)),
        Timeout: timeoutMinutes,
        ...(head.parent && { ParentSnapshotId: head.parent.snapshot }),
        ...(head.encryption !== "account" && { Encrypted: true }),
        ...(typeof head.encryption === "object" && { KmsKeyArn: head.encryption.key }),
      }),
    ),
  );
  if (!answer.SnapshotId) throw new RefusedError("could not begin a snapshot: EBS gave no id");
  // The answer counts: the account may have begun to encrypt since it was asked.
  return { id: answer.SnapshotId, extent: encrypted || answer.KmsKeyArn !== undefined ? "every block" : "what differs" };
}

async function send(job: UploadJob, disk: BlockDisk, { journal, parent }: Begun): Promise<Uploaded> {
  const { aws, bucket, image, progress, patience = usualPatience } = job;
  const { snapshot } = journal;
  if (!snapshot) throw new Error("a snapshot was begun");
  const resumed = journal.accepted.size;
  const digests = BlockDigests.zeros(disk.count);
  const sent = await during(progress, `upload ${image.name} to ${snapshot.id}`, (task) =>
    sendBlocks(job, disk, journal, snapshot, parent, digests, task),
  );
  await during(progress, `wait for ${snapshot.id}`, async () => {
    const doubt = await complete(aws, snapshot.id, journal);
    await untilCompleted(aws, snapshot.id, doubt && { error: doubt, seconds: patience * 5 });
  });
  if (snapshot.extent === "what differs") await rememberBlocks(aws, bucket, image.digest, snapshot.id, disk.gib, digests);
  return {
    snapshot: snapshot.id,
    run: journal.head.run,
    gib: disk.gib,
    blocks: { sent, resumed, written: journal.accepted.size },
    ...(parent && { parent: parent.snapshot }),
  };
}

/** Sends every block that the snapshot is to have and has not; fills in all digests. Gives how many were sent. */
async function sendBlocks(
  { aws, patience = usualPatience, progress }: UploadJob,
  disk: BlockDisk,
  journal: Journal,
  { id, extent }: Snapshot,
  parent: Parent | undefined,
  digests: BlockDigests,
  task: Task,
): Promise<number> {
  const wanted = (index: number, digest: Buffer): boolean =>
    extent === "every block" || !digest.equals(parent ? parent.digests.at(index) : digestOfZeros);
  const meter = meterOf(task, progress, extent === "every block" ? disk.count : disk.expected);
  const stopping = new AbortController();
  setMaxListeners(atOnce + 1, stopping.signal);
  const forget = onCancel(() => stopping.abort());
  const put = await putter(aws, id, atOnce, stopping.signal);
  const began = performance.now();
  let next = 0;
  let sent = 0;
  let failed = false;
  const lane = async () => {
    const buffer = Buffer.alloc(blockBytes);
    for (let index = next++; index < disk.count && !failed; index = next++) {
      const known = journal.accepted.get(index);
      if (known) {
        digests.set(index, known);
        meter.passed("data");
        continue;
      }
      // Everything was sent, and what was left out is as it was.
      const block = await disk.read(index, buffer);
      const digest = block === zeros ? digestOfZeros : digestOfBlock(block);
      digests.set(index, digest);
      if (journal.sealed || !wanted(index, digest)) {
        meter.passed(block === zeros ? "zeros" : "data");
        continue;
      }
      await persistently(
        () => put(index, block, digest),
        began,
        patience,
        () => failed,
      );
      journal.accept(index, digest);
      sent++;
      meter.sent();
    }
  };
  try {
    const lanes = Array.from({ length: atOnce }, () =>
      lane().catch((error: unknown) => {
        // What is on its way may arrive, and then need not be sent by the next run.
        failed = true;
        throw error;
      }),
    );
    const ended = await Promise.allSettled(lanes);
    cancelled();
    const wrong = ended.flatMap((e) => (e.status === "rejected" && !isAbort(e.reason) ? [e.reason as unknown] : []));
    if (wrong.length) await call(`write to ${id}`, () => Promise.reject(wrong[0]));
    return sent;
  } finally {
    forget();
    put.close();
    meter.end();
  }
}

const isAbort = (error: unknown): boolean => error instanceof Error && error.name === "AbortError";

/**
 * Does it again and again while what is wrong passes by itself, and nobody gave up.
 * @param began when the upload did, as performance.now() has it
 */
async function persistently(work: () => Promise<void>, began: number, patience: number, gaveUp: () => boolean): Promise<void> {
  let since: number | undefined;
  for (let tries = 0; ; tries++) {
    try {
      await work();
      return;
    } catch (error) {
      const now = performance.now();
      // A snapshot that was just begun is not known everywhere at once.
      const early = codeOf(error) === "ResourceNotFoundException" && now - began < patience * 1000;
      if (gaveUp() || isAbort(error) || !(early || passes(error)) || now - (since ??= now) > patience * 1000) throw error;
      // "Full jitter": AWS Architecture Blog, "Exponential Backoff And Jitter".
      await sleep(Math.random() * Math.min(10, 0.1 * 2 ** tries));
    }
  }
}

/** Whether it may well be right when it is asked for again. */
function passes(error: unknown): boolean {
  const { $metadata, Reason } = error as { $metadata?: { httpStatusCode?: number }; Reason?: string };
  const status = $metadata?.httpStatusCode ?? 0;
  return (
    status >= 500 ||
    status === 429 ||
    Reason === "CONFLICTING_BLOCK_UPDATE" ||
    /Throttl|ConcurrentLimitExceeded|RequestTimeout|TimeoutError|ECONNRESET|ECONNREFUSED|EPIPE|ETIMEDOUT|EAI_AGAIN|ENOTFOUND|ENETUNREACH|EHOSTUNREACH|InternalServer|ServiceUnavailable/.test(
      codeOf(error),
    ) ||
    (error instanceof Error && /socket hang up/.test(error.message))
  );
}

/**
 * Seals the snapshot: EBS compares count and checksum with what it was sent. Gives the error that it ended with where that may only say that
 * an earlier call was done whose answer got lost.
 */
async function complete(aws: Aws, id: string, journal: Journal): Promise<Error | undefined> {
  const { CompleteSnapshotCommand } = await import("@aws-sdk/client-ebs");
  const again = journal.sealed;
  if (again && (await snapshotState(aws, id)).state === "completed") return undefined;
  journal.seal();
  const ebs = await aws.ebs();
  try {
    await call(`complete ${id}`, () =>
      ebs.send(
        new CompleteSnapshotCommand({
          SnapshotId: id,
          ChangedBlocksCount: journal.accepted.size,
          Checksum: linearChecksum(journal.accepted),
          ChecksumAlgorithm: "SHA256",
          ChecksumAggregationMethod: "LINEAR",
        }),
      ),
    );
    return undefined;
  } catch (error) {
    const { attempts = 1 } = ((error as Error).cause as { $metadata?: { attempts?: number } } | undefined)?.$metadata ?? {};
    if (codeOf(error) === "ValidationException" && (again || attempts > 1)) return error as Error;
    throw error;
  }
}

/** @param doubt what is thrown when it is still pending after so many seconds */
async function untilCompleted(aws: Aws, id: string, doubt: { error: Error; seconds: number } | undefined): Promise<void> {
  const began = performance.now();
  for (let i = 0; ; i++) {
    const { state, message } = await snapshotState(aws, id);
    if (state === "completed") return;
    if (state !== "pending")
      throw new RefusedError(`${id} is ${state ?? "gone"}${message ? `: ${message}` : ""}`, "the same command begins another one");
    if (doubt && performance.now() - began > doubt.seconds * 1000) throw doubt.error;
    await sleep(Math.min(0.5 * 1.5 ** i, 10));
  }
}

interface Meter {
  /** A block that is there already, or need not be. */
  passed(kind: "zeros" | "data"): void;
  sent(): void;
  end(): void;
}

const mebibytes = (blocks: number): string => `${((blocks * blockBytes) / 2 ** 20).toFixed(0)} MiB`;

/** Shows bytes, rate, and how long it may still take. @param expected blocks with something to send or to compare, roughly */
function meterOf(task: Task, progress: Progress, expected: number): Meter {
  const began = performance.now();
  let sent = 0;
  let done = 0;
  const show = () => {
    const seconds = (performance.now() - began) / 1000;
    const rate = sent / Math.max(seconds, 0.001);
    const left = done ? (seconds * Math.max(0, expected - done)) / done : undefined;
    const text = `${mebibytes(sent)} sent, ${mebibytes(rate)}/s`;
    task.note(text);
    return left === undefined
      ? text
      : `${text}, ${Math.min(100, Math.floor((100 * done) / Math.max(1, expected)))} %, about ${left.toFixed(0)} s left`;
  };
  const often = setInterval(() => task.note(show()), 500).unref();
  const seldom = setInterval(() => progress.detail(`  ${show()}`), 10_000).unref();
  return {
    passed(kind) {
      if (kind === "data") done++;
    },
    sent() {
      sent++;
      done++;
    },
    end() {
      clearInterval(often);
      clearInterval(seldom);
      show();
    },
  };
}
