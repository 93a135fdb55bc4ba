// `npm run bench -- amis`: a disk that is uploaded directly, beside reading and hashing the same disk, and beside coldsnap where it is
// installed (`cargo install coldsnap`). Everything is on loopback: what is measured is this computer's work, not a network's.
import { spawn } from "node:child_process";
import { randomFillSync } from "node:crypto";
import { closeSync, existsSync, ftruncateSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { toolFolder } from "../../lib/paths.ts";
import { run } from "../../lib/run.ts";
import { environmentFor } from "../moto.ts";

const [MiB, GiB] = [2 ** 20, 2 ** 30];
const blockBytes = 524_288;
const say = (text: string) => void process.stderr.write(`${text}\n`);

interface Measured {
  seconds: number;
  /** Seconds of this process on processors. */
  cpu: number;
  blocks: number;
  /** MiB, at most. */
  memory: number;
}

type Taken = Record<"read" | "skip" | "upload" | "encrypted" | "coldsnap", Measured[]>;

/** @param argv how many rounds; three without it */
export async function amis([given = "3"]: string[]): Promise<void> {
  const rounds = Number(given);
  if (!(rounds >= 1)) throw new Error(`how many rounds? not ${given}`);
  const folder = mkdtempSync("/var/tmp/ingot-bench-amis-");
  const drain = spawn(process.execPath, [join(toolFolder, "dist/tests/bench/ebs-drain.js")], { stdio: ["pipe", "pipe", "inherit"] });
  try {
    const port = await new Promise<string>((resolve) => drain.stdout.once("data", (chunk: Buffer) => resolve(chunk.toString().trim())));
    const env = environmentFor(`http://127.0.0.1:${port}`);
    const disk = join(folder, "disk.raw");
    say("making a disk of 4 GiB with 1.2 GiB of data");
    makeDisk(disk);
    // A name of its own has no parent to differ from.
    const measure = async (what: string, path = disk, ...more: string[]): Promise<Measured> => {
      const program = join(toolFolder, "dist/tests/bench/ami-upload.js");
      const { stdout } = await run([process.execPath, program, what, path, mkdtempSync(join(folder, "p-")), ...more], { env });
      return JSON.parse(stdout) as Measured;
    };
    const taken: Taken = { read: [], skip: [], upload: [], encrypted: [], coldsnap: [] };
    const coldsnap = coldsnapProgram();
    // So that all begin with the file in memory.
    await measure("read");
    for (let round = 1; round <= rounds; round++) {
      for (const what of ["read", "skip"] as const) taken[what].push(await measure(what));
      taken.upload.push(await measure("upload", disk, `full-${round}`));
      taken.encrypted.push(await measure("upload", disk, `encrypted-${round}`, "default"));
      if (coldsnap) taken.coldsnap.push(await withColdsnap(coldsnap, disk, env));
      say(`round ${round} of ${rounds} is over`);
    }
    await measure("upload", disk, "delta");
    const changed = join(folder, "changed.raw");
    const blocks = await change(disk, changed);
    const delta = await measure("upload", changed, "delta");
    report(taken, delta, blocks, coldsnap);
  } finally {
    drain.stdin.end();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Runs of data of 1 to 16 MiB with holes between them, as an ext4 of a small system has them. */
function makeDisk(path: string): void {
  const file = openSync(path, "w");
  ftruncateSync(file, 4 * GiB);
  const buffer = Buffer.alloc(16 * MiB);
  const wanted = 1228 * MiB;
  const runs = 160;
  let written = 0;
  for (let i = 0; i < runs; i++) {
    const size = i === runs - 1 ? Math.floor((wanted - written) / 4096) * 4096 : (1 + ((i * 7) % 15)) * MiB;
    const bytes = Math.min(size, buffer.length, wanted - written);
    if (bytes <= 0) break;
    randomFillSync(buffer, 0, bytes);
    writeSync(file, buffer, 0, bytes, Math.floor((i * 4 * GiB) / runs / 4096) * 4096);
    written += bytes;
  }
  closeSync(file);
}

/**
 * As a small package's installation changes a disk: its files (2 MiB in one place), dpkg's status written anew, and 4 KiB here and there: inodes,
 * bitmaps, folders, the journal. Gives how many blocks of 512 KiB are others.
 */
async function change(from: string, to: string): Promise<number> {
  await run(["cp", "--sparse=always", from, to]);
  const file = openSync(to, "r+");
  const bytes = Buffer.alloc(2 * MiB);
  const write = (size: number, at: number) => writeSync(file, randomFillSync(bytes, 0, size), 0, size, at);
  write(2 * MiB, 1000 * MiB + 8192);
  write(1300 * 1024, 1700 * MiB + 4096);
  for (let i = 0; i < 40; i++) write(4096, ((i * 97) % 4000) * MiB + 12_288);
  closeSync(file);
  const [a, b] = [openSync(from, "r"), openSync(to, "r")];
  const [one, other] = [Buffer.alloc(blockBytes), Buffer.alloc(blockBytes)];
  let changed = 0;
  for (let i = 0; i < (4 * GiB) / blockBytes; i++) {
    readSync(a, one, 0, blockBytes, i * blockBytes);
    readSync(b, other, 0, blockBytes, i * blockBytes);
    if (!one.equals(other)) changed++;
  }
  for (const f of [a, b]) closeSync(f);
  return changed;
}

/** coldsnap of crates.io, by AWS Labs. */
function coldsnapProgram(): string | undefined {
  const named = [process.env.INGOT_COLDSNAP, join(homedir(), ".cargo/bin/coldsnap")];
  return named.find((path): path is string => path !== undefined && existsSync(path));
}

async function withColdsnap(program: string, disk: string, env: Record<string, string>): Promise<Measured> {
  const began = performance.now();
  await run([program, "upload", "--no-progress", disk], { env });
  return { seconds: (performance.now() - began) / 1000, cpu: 0, blocks: 0, memory: 0 };
}

const median = (values: number[]): number => values.sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;

function report(taken: Taken, delta: Measured, changed: number, coldsnap: string | undefined): void {
  const seconds = (what: keyof Taken) => median(taken[what].map((m) => m.seconds));
  const row = (title: string, what: keyof Taken) => {
    const [first] = taken[what];
    if (!first) return;
    const of = (part: "seconds" | "cpu" | "memory") => median(taken[what].map((m) => m[part]));
    const memory = of("memory");
    console.log(
      `| ${title} | ${of("seconds").toFixed(2)} | ${of("cpu") ? of("cpu").toFixed(2) : ""} | ${first.blocks || ""} | ${memory ? memory.toFixed(0) : ""} |`,
    );
  };
  console.log("| a disk of 4 GiB, 1.2 GiB of it data | s | s of processors | blocks | memory at most, MiB |\n|---|---|---|---|---|");
  row("read, every block hashed", "read");
  row("read, blocks with data hashed, holes asked for", "skip");
  row("uploaded: blocks with data", "upload");
  row("uploaded encrypted: every block", "encrypted");
  row("coldsnap upload", "coldsnap");
  const held = (holds: boolean) => (holds ? "held" : "MISSED");
  const ratio = seconds("read") / seconds("upload");
  const memory = Math.max(...[...taken.upload, ...taken.encrypted].map((m) => m.memory));
  console.log("\n| what must be | is |\n|---|---|");
  console.log(`| upload at least 0.8 × as fast as reading and hashing the disk | ${ratio.toFixed(2)}: ${held(ratio >= 0.8)} |`);
  console.log(`| beside hashing the blocks with data alone (no bar) | ${(seconds("skip") / seconds("upload")).toFixed(2)} |`);
  console.log(`| encrypted, beside reading and hashing (no bar) | ${(seconds("read") / seconds("encrypted")).toFixed(2)} |`);
  console.log(`| memory below 200 MiB | ${memory.toFixed(0)} MiB: ${held(memory < 200)} |`);
  console.log(
    `| a small change sends at most 1.3 × the changed blocks | ${delta.blocks} of ${changed}: ${held(delta.blocks <= changed * 1.3)} |`,
  );
  if (!coldsnap) console.log("\ncoldsnap is not installed: `cargo install coldsnap`, or INGOT_COLDSNAP=<program>");
}
