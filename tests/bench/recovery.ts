// `npm run bench -- recovery`: how long INLOOP's host takes to be back after all its disks are gone, by phase and amount of data, beside
// pgBackRest's own restore of the same files; and what a lost disk costs of what was committed. Machines of the container target.
import { copyFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { toolFolder } from "../../lib/paths.ts";
import { type TestProject, testProject } from "../e2e/project.ts";
import { writer } from "../e2e/writer.ts";
import { say, shown, verdict } from "./figures.ts";

/** @param argv `data <GiB> …` or `loss <kills>`; both without it, with 1 GiB and ten kills */
export async function recovery([what, ...rest]: string[]): Promise<void> {
  const numbers = rest.map(Number);
  if ((what !== undefined && what !== "data" && what !== "loss") || numbers.some((n) => !(n > 0)))
    throw new Error("npm run bench -- recovery [data <GiB> … | loss <kills>]");
  if (what !== "loss") await data(numbers.length ? numbers : [1]);
  if (what !== "data") await loss(numbers[0] ?? 10);
}

async function done(project: TestProject, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await project.ingot(args);
  if (code !== 0) throw new Error(`ingot ${args.join(" ")}:\n${stdout}${stderr}`);
  return stdout;
}

/** Seconds that a command takes. */
async function timed(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return (performance.now() - began) / 1000;
}

// --- How long --------------------------------------------------------------------------------------------------------------

interface Took {
  gigabytes: number;
  launch: number;
  alone: number;
  /** The new machine's own restore, counting of rows included. */
  restore: number;
  phases: { phase: string; seconds: number }[];
  total: number;
}

async function data(sizes: number[]): Promise<void> {
  const took: Took[] = [];
  for (const gigabytes of sizes) {
    const one = await destroyed(gigabytes);
    took.push(one);
    // The next one may be too large for this computer's disk.
    say(
      `${gigabytes} GiB: back after ${shown(one.total)} s, launched after ${shown(phaseOf(one, "launch"))} s; pgBackRest alone: ${shown(one.alone)} s`,
    );
  }
  const phases = took[0]?.phases.map((p) => p.phase) ?? [];
  console.log(`| PostgreSQL's data, GiB | ${phases.join(" | ")} | all, s | first launch, s | of it restored in, s | pgBackRest alone, s |`);
  console.log(`|---|${phases.map(() => "---|").join("")}---|---|---|---|`);
  for (const t of took)
    console.log(
      `| ${t.gigabytes} | ${t.phases.map((p) => shown(p.seconds)).join(" | ")} | ${shown(t.total)} | ${shown(t.launch)} | ${shown(t.restore)} | ${shown(t.alone)} |`,
    );
  console.log("\n| what must be | is |\n|---|---|");
  for (const t of took) {
    const launched = phaseOf(t, "launch");
    console.log(
      `| ${t.gigabytes} GiB: back on its feet within 1.25 × pgBackRest's own restore and a launch | ${shown(launched)} s: ${verdict(launched / (1.25 * t.alone + t.launch), 1)} |`,
    );
    if (t.gigabytes === 1)
      console.log(`| INLOOP with 1 GiB is back within 60 s | ${shown(t.total)} s: ${t.total <= 60 ? "held" : "MISSED"} |`);
  }
  console.log("");
}

const phaseOf = (took: Took, phase: string): number => took.phases.find((p) => p.phase === phase)?.seconds ?? 0;

async function destroyed(gigabytes: number): Promise<Took> {
  const project = await testProject(["inloop"]);
  const web = "inloop/web";
  const cluster = "/var/lib/postgresql/15/main";
  try {
    const stack = "stacks/inloop.yaml";
    project.edit(
      stack,
      "postgresql: { mount: /var/lib/postgresql, size: 10GiB",
      `postgresql: { mount: /var/lib/postgresql, size: ${gigabytes * 2 + 9}GiB`,
    );
    say("first launch of inloop");
    const launch = await timed(() => done(project, "up", "inloop"));
    say(`${gigabytes} GiB of rows`);
    // Eight sums of 32 letters are a row of some 290 bytes, which is packed to about half. They are frozen, as rows are that have been there for
    // long: others are written to the log once more when they are first read.
    const sums = Array.from({ length: 8 }, (_, i) => `md5(i::text || '${i}')`).join(" || ");
    const rows = Math.round((gigabytes * 2 ** 30) / 300);
    const psql = "cd / && runuser -u postgres -- psql -qX -v ON_ERROR_STOP=1 -d inloop";
    await project.must(
      web,
      `(${psql} -c "copy (select i, ${sums} from generate_series(1, ${rows}) i) to stdout") | (${psql} -1 -c "create table filler (id bigint, text text)" -c "copy filler from stdin with (freeze)")`,
    );
    await project.sql(web, "inloop", "checkpoint");
    say("full backup");
    await done(project, "backup", "inloop", "--full");
    say("power and disks go");
    await project.cutPower(web);
    for (const volume of ["docker", "inloop", "postgresql"]) rmSync(project.disk(web, volume));
    const result = JSON.parse(await done(project, "rebuild", web, "--json")) as {
      began: string;
      seconds: Took["phases"];
      restored: { began: string; ended: string; postgresql: string };
    };
    const counted = Number(await project.sql(web, "inloop", "select count(*) from filler"));
    if (counted !== rows) throw new Error(`${counted} of ${rows} rows are back`);
    say("pgBackRest alone, twice");
    await project.must(web, "systemctl stop postgresql@15-main && sync && fstrim /srv/backup");
    const restore = `runuser -u postgres -- pgbackrest --config=/etc/ingot/backup/pgbackrest.conf --stanza=main --set=${result.restored.postgresql} --process-max=$(nproc) restore`;
    const alone: number[] = [];
    for (let i = 0; i < 2; i++) {
      // What is removed is given back to this computer's disk, once it is written down: the volume's file holds it otherwise.
      await project.must(web, `find ${cluster} -mindepth 1 -delete && sync && fstrim /var/lib/postgresql`);
      alone.push(await timed(() => project.must(web, `cd / && ${restore} && sync -f ${cluster}`)));
    }
    return {
      gigabytes,
      launch,
      alone: Math.min(...alone),
      restore: (Date.parse(result.restored.ended) - Date.parse(result.restored.began)) / 1000,
      phases: result.seconds,
      total: result.seconds.reduce((sum, p) => sum + p.seconds, 0),
    };
  } finally {
    await project.remove();
  }
}

// --- How much --------------------------------------------------------------------------------------------------------------

async function loss(kills: number): Promise<void> {
  const rows: string[] = [];
  for (const [what, archiveSeconds, bar] of [
    ["the default settings", 60, 60],
    ["`archive_seconds: 5`", 5, 5],
  ] as const) {
    const lost = await lostOver(kills, archiveSeconds);
    const [middle = 0] = lost.seconds.slice(Math.floor(lost.seconds.length / 2));
    const most = lost.seconds.at(-1) ?? 0;
    rows.push(
      `| ${what} | ${kills} | ${lost.told} | ${lost.rows} | ${shown(lost.seconds[0] ?? 0)} | ${shown(middle)} | ${shown(most)} | at most ${bar} s: ${most <= bar ? "held" : "MISSED"} |`,
    );
  }
  console.log(
    "| with | disks lost | rows committed | of them lost | s lost, least | median | most | must be |\n|---|---|---|---|---|---|---|---|",
  );
  for (const row of rows) console.log(row);
  console.log("");
}

/** Disks lost while a client commits; of each, the time between the first commit that is gone and the end. */
async function lostOver(kills: number, archiveSeconds: number): Promise<{ seconds: number[]; rows: number; told: number }> {
  const project = await testProject(["inloop"]);
  const db = "kept/db";
  const found = { seconds: [] as number[], rows: 0, told: 0 };
  try {
    copyFileSync(join(toolFolder, "tests/e2e/kept.yaml"), join(project.folder, "stacks/kept.yaml"));
    if (archiveSeconds !== 5) project.edit("stacks/kept.yaml", "archive_seconds: 5", `archive_seconds: ${archiveSeconds}`);
    await done(project, "up", "kept");
    await project.sql(db, "shop", "create table orders (id int primary key); insert into orders values (1); select pg_switch_wal()");
    // The table itself is in the repository before it is first counted in.
    await new Promise((resolve) => setTimeout(resolve, 5000));
    for (let kill = 1; kill <= kills; kill++) {
      const { child, told, wrong } = writer(project.folder, db);
      // At every moment of the time between two pieces of the log.
      const wait = 5 + archiveSeconds * (0.2 + (kill - 1) / kills);
      await new Promise((resolve) => setTimeout(resolve, wait * 1000));
      if (!told.length) throw new Error(`nothing was committed: ${wrong()}`);
      await project.cutPower(db);
      const died = Date.now() / 1000;
      child.kill();
      project.ruin(db, "data");
      await done(project, "rebuild", db);
      const last = Number(await project.sql(db, "shop", "select max(id) from orders"));
      const gone = told.filter((row) => row.id > last);
      const seconds = gone[0] ? died - gone[0].at : 0;
      found.seconds.push(seconds);
      found.rows += gone.length;
      found.told += told.length;
      say(`${kill} of ${kills}: ${gone.length} of ${told.length} commits lost, ${shown(seconds)} s`);
    }
  } finally {
    await project.remove();
  }
  found.seconds.sort((a, b) => a - b);
  return found;
}
