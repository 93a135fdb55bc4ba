// A stack made anew beside itself while a client commits to production: production is not touched, nothing of the drill gets out, nothing of it is
// left, also when it is killed; with production dead; from a backup that is broken.
import { type ChildProcess, spawn } from "node:child_process";
import { copyFileSync, existsSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { projectAt, toolFolder } from "../../lib/paths.ts";
import { asRoot, tryRun } from "../../lib/run.ts";
import { networkName } from "../../stacks/local/names.ts";
import type { Backups } from "../../stacks/recovery/backups.ts";
import type { Drill } from "../../stacks/recovery/drill.ts";
import { suite } from "../suite.ts";
import { type Drills, drillsOf } from "./drill.ts";
import { type TestProject, testProject } from "./project.ts";

const test = suite("drill");
/** Each is a drill or more: in the long suite. */
const long = process.env.INGOT_TEST_LONG ? test : test.skip;
let project: TestProject;
let drills: Drills;
const on = (script: string) => project.must("kept/db", script);
const sql = (text: string) => project.sql("kept/db", "shop", text);
const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
/** What production's machine is on this computer, and the files of its repository with their sums. */
async function production(): Promise<{ machine: string; files: Map<string, string> }> {
  // Without a piece of the log that is just being written, by pgBackRest's name for it.
  const text = await on("cd /srv/backup && find . -type f ! -name '*.pgbackrest.tmp' -print0 | sort -z | xargs -0 sha256sum");
  return { machine: drills.machine("db"), files: new Map(text.split("\n").map((line) => [line.slice(66), line.slice(0, 64)] as const)) };
}

/** Production is what it was; in its repository there is more of its own log, and nothing else is new or another. */
function untouched(before: Awaited<ReturnType<typeof production>>, after: Awaited<ReturnType<typeof production>>): void {
  assert.is(after.machine, before.machine);
  for (const [file, sum] of before.files) assert.is(after.files.get(file), sum, file);
  const more = [...after.files.keys()].filter((f) => !before.files.has(f));
  assert.equal(
    more.filter((f) => !/^\.\/postgresql\/archive\/main\/15-1\/00000001[0-9A-F]{8}\/00000001[0-9A-F]{16}-[0-9a-f]{40}\.zst$/.test(f)),
    [],
  );
}

/** Commits one row after the other until it is killed. */
function writer(): ChildProcess {
  const script = `cd / && exec runuser -u postgres -- sh -c 'while echo "insert into orders select max(id)+1 from orders;"; do sleep 0.05; done | psql -XqAt shop'`;
  return spawn(process.execPath, [join(toolFolder, "dist/ingot.js"), "exec", "kept/db", "--", "sh", "-c", script], {
    cwd: project.folder,
    stdio: "ignore",
  });
}

/** A drill does not go on while its machine, which does, is looked at. */
async function paused<T>(child: ChildProcess, look: () => Promise<T>): Promise<T> {
  child.kill("SIGSTOP");
  try {
    return await look();
  } finally {
    child.kill("SIGCONT");
  }
}

/** A server in production's network that takes every mail, where production's relay is; it says `mail` of each. */
function relay(): { child: ChildProcess; taken: () => number } {
  const network = networkName(projectAt(project.folder), "kept");
  const program = `
import socketserver
class Relay(socketserver.StreamRequestHandler):
    def handle(self):
        say = lambda text: self.wfile.write(text + b"\\r\\n")
        say(b"220 relay ESMTP")
        data = False
        for line in self.rfile:
            line = line.strip()
            if data:
                if line == b".":
                    data = False
                    print("mail", flush=True)
                    say(b"250 taken")
            elif line.upper() == b"DATA":
                data = True
                say(b"354 go on")
            else:
                say(b"250 fine")
socketserver.ThreadingTCPServer(("10.83.0.1", 2525), Relay).serve_forever()
`;
  const [file = "", ...args] = asRoot(["timeout", "1200", "nsenter", `--net=/run/netns/${network}`, "python3", "-c", program]);
  const child = spawn(file, args, { stdio: ["ignore", "pipe", "inherit"] });
  let said = "";
  child.stdout?.on("data", (chunk: Buffer) => (said += chunk.toString()));
  return { child, taken: () => said.split("mail").length - 1 };
}

const backups = async () => {
  const { code, stdout } = await project.ingot(["backups", "kept", "--json"]);
  return { code, ...((JSON.parse(stdout) as (Backups & { drill: Drill | null })[])[0] as Backups & { drill: Drill | null }) };
};

test.before(async () => {
  project = await testProject(["inloop"]);
  drills = drillsOf(project, "kept");
  copyFileSync(join(toolFolder, "tests/e2e/kept.yaml"), join(project.folder, "stacks/kept.yaml"));
  project.edit("stacks/kept.yaml", "      to: /srv/backup\n", "      to: /srv/backup\n      drill: { every: 1d }\n      servers: [mail]\n");
  project.edit("stacks/kept.yaml", "    backup:\n", '    mail: { relay: "10.83.0.1:2525", tls: none }\n    backup:\n');
  const { code, stdout, stderr } = await project.ingot(["up", "kept"]);
  assert.is(code, 0, stdout + stderr);
  await sql("create table orders (id int primary key); insert into orders select generate_series(1,1000);");
  await on("echo picture >/srv/data/media/one");
  // Nobody takes it yet: it waits, and is in the backup.
  await on("printf 'Subject: once\\n\\nonce\\n' | sendmail -f ops@example.org ann@example.net");
  await project.ingot(["backup", "kept"]);
  // What its timers make on the hour is not what is looked for.
  await on("systemctl stop 'ingot-backup-*.timer'");
});
test.after(async () => {
  await project?.remove();
});

test("a drill that was never made is late, and a host without backups is not drilled", async () => {
  const { code, late, drill } = await backups();
  assert.is(code, 1);
  assert.is(drill, null);
  assert.equal(late, ["there was no drill yet, and there is to be one every 24 h"]);
  writeFileSync(join(project.folder, "stacks/bare.yaml"), "stack: bare\nhosts:\n  web: { image: inloop }\n");
  const refused = await project.ingot(["drill", "bare"]);
  assert.is(refused.code, 1);
  assert.match(refused.stderr, /has no `backup:`, so there is nothing to make it from/);
});

test("a drill while a client commits: proven and timed; production is untouched, nothing gets out, nothing is left", async () => {
  const before = await production();
  const rows = Number(await sql("select count(*) from orders"));
  const writing = writer();
  // Somebody who would hear of it if the drill could speak to production, or to this computer.
  await on("systemd-run --quiet --unit=heard sh -c 'cd /run && mkdir -p heard && cd heard && exec python3 -m http.server 7777'");
  const heard = createServer((socket) => socket.end("heard"));
  await new Promise<void>((resolve) => heard.listen(0, "0.0.0.0", resolve));
  const { port } = heard.address() as { port: number };
  const ours = Object.values(networkInterfaces()).flatMap((all) => (all ?? []).filter((a) => a.family === "IPv4").map((a) => a.address));
  assert.match(
    await on("curl -sS --retry 30 --retry-delay 1 --retry-connrefused -o /dev/null -w '%{http_code}' http://10.83.0.10:7777/ 2>/dev/null"),
    /200/,
  );

  // Production's mail gets out once there is somebody who takes it: that relay is what the drill must not reach.
  const mails = relay();
  for (let n = 0; n < 60 && !mails.taken(); n++) {
    await on("postqueue -f");
    await wait(1000);
  }
  assert.is(mails.taken(), 1);

  const running = drills.begin("--max-rto", "1h", "--max-rpo", "60s");
  await drills.activated("db");
  const places = [`10.83.0.10:7777`, ...ours.map((address) => `${address}:${port}`), "192.0.2.1:25", "192.0.2.1:443"];
  const { tried, queue, namespaces, others } = await paused(running.child, async () => ({
    tried: await drills.inside(
      "db",
      `hostname; ip -4 route; for p in ${places.join(" ")}; do curl -sS -m 2 http://$p/ 2>&1 | head -n 1; done; cd /run/ingot/repository/backup; touch x; mount -o remount,bind,rw .; mount -o remount,rw .; touch x && echo written`,
    ),
    // The mail that was in the backup waits here as well, and is tried.
    queue: await drills.inside(
      "db",
      "for i in $(seq 60); do postqueue -f; sleep 1; postqueue -p | grep -q 2525 && break; done; postqueue -p",
    ),
    namespaces: drills.namespaces(),
    others: (await project.json(["status"])) as { host: string }[],
  }));
  const { code, drill, stderr } = await running.ended;
  heard.close();
  mails.child.kill();
  await on("systemctl stop heard");
  writing.kill();

  assert.is(code, 0, `${stderr}${JSON.stringify(drill)}`);
  assert.is(namespaces.length, 2);
  // The same host by name, and the only way is its own network.
  assert.match(tried, new RegExp(`^${await on("hostname")}\n10\\.83\\.0\\.0/24 dev host0 [^\n]*\n`));
  assert.not.match(tried, /heard|written|<html|default/);
  assert.is([...tried.matchAll(/curl: \((7|28)\)/g)].length, places.length, tried);
  assert.match(tried, /Read-only file system/);
  assert.match(queue, /10\.83\.0\.1\]:2525: (Connection refused|Connection timed out|No route to host)[\s\S]*ann@example\.net/);
  assert.is(mails.taken(), 1);
  assert.equal(
    others.map((m) => m.host),
    ["db"],
  );

  const [host] = drill.hosts;
  assert.is(host?.production, "same");
  assert.is(host?.proof?.postgresql?.timeline, 2);
  assert.ok((host?.proof?.postgresql?.amcheck.relations ?? 0) > 300, JSON.stringify(host));
  assert.is((host?.proof?.postgresql?.rows as Record<string, { rows: number }> | undefined)?.["shop:orders"]?.rows, 1000);
  assert.ok(["/srv/data/media", "/var/spool/postfix/deferred"].every((path) => host?.proof?.directories?.paths.includes(path)));
  assert.match(host?.backups.full ?? "", /^\d{8}-\d{6}F$/);
  assert.equal(drill.repository, { db: "shared" });
  assert.ok(drill.checks.passed > 10);
  // 5 s of archive_timeout and of the heartbeat each, and what it takes to copy a piece of the log; on a computer that is busy.
  assert.ok((drill.rpo_seconds ?? 99) < 60, String(drill.rpo_seconds));
  assert.ok((drill.rto_seconds ?? 0) > 3, String(drill.rto_seconds));

  untouched(before, await production());
  drills.nothingLeft();
  assert.ok(Number(await sql("select count(*) from orders")) > rows + 100);
  assert.is(await sql("select count(*) = max(id) from orders"), "t");
  assert.is(await sql("select timeline_id from pg_control_checkpoint()"), "1");
});

test("what would not fit is refused with its sizes, before anything is made", async () => {
  const note = "/srv/backup/backups.postgresql.json";
  await on(`cp -a ${note} /root/note && python3 - <<'END'
import json
found = json.load(open("${note}"))
found[-1]["bytes"] = 1 << 50
json.dump(found, open("${note}", "w"))
END`);
  const { code, stderr } = await project.ingot(["drill", "kept"]);
  await on(`mv /root/note ${note}`);
  assert.is(code, 1);
  assert.match(
    stderr,
    /a drill of kept wants \d+ MiB beside production \(db: PostgreSQL 1073741824 MiB, its log \d+ MiB, directories \d+ MiB, a new backup \d+ MiB\), and there are \d+ MiB below /,
  );
  assert.not.ok(existsSync(drills.state("drills")));
});

long("what is too old stays while somebody reads it, and goes with the first backup after that", async () => {
  const fulls = async () => ((await backups()).postgresql ?? []).filter((b) => b.type === "full").length;
  const full = async () => assert.is((await project.ingot(["backup", "kept/db", "--full"])).code, 0);
  await on("systemd-run --quiet --unit=reader flock --shared /run/ingot/backup-reading.lock sleep infinity");
  for (let n = 0; n < 3; n++) await full();
  assert.ok((await fulls()) >= 4);
  await on("systemctl stop reader");
  await full();
  assert.is(await fulls(), 2);
});

test("the last drill is shown, and late once it is older than it may be", async () => {
  const fresh = await backups();
  assert.equal([fresh.code, fresh.late], [0, []]);
  assert.ok(fresh.drill?.ok);
  const { stdout } = await project.ingot(["status", "kept"]);
  // On a computer that is very busy it does not answer in time, which is said.
  const asked =
    /kept\/db: (backed up \d+ \w+ ago, RPO now \d+ \w+, nothing late|nothing is known of its backups \(.* within 5 s\)); drilled \d+ \w+ ago: RTO \d+ \w+, RPO \d+ s/;
  assert.match(stdout, asked);
  const file = drills.state("recovery/drills/kept.jsonl");
  const then = new Date(Date.now() - 3 * 86_400_000).toISOString();
  writeFileSync(file, readFileSync(file, "utf8").replace(/"began":"[^"]*"/, `"began":"${then}"`));
  const stale = await backups();
  assert.equal([stale.code, stale.late], [1, ["the last drill was 3 days ago, and there is to be one every 24 h"]]);
  rmSync(file);
});

long("slower than asked for: exit code 1, and so it is remembered", async () => {
  const { code, drill } = await drills.drilled("--max-rto", "1s");
  assert.is(code, 1);
  assert.match(drill.wrong.join(), /^RTO: [\d.]+ s, and at most 1 s were asked for$/);
  assert.match((await backups()).late.join(), /the last drill, .* ago, failed: RTO/);
});

/** What a drill says when one of its phases has ended. */
const marks = [
  "look into production's repositories",
  "started at",
  "backup:restore",
  "first boot of kept",
  "prove what was restored",
  "done   write",
  "back up",
];

long("killed anywhere, the next command undoes it, and production goes on; the next drill is right", async () => {
  const before = await production();
  for (const mark of marks) await drills.killedAt(mark);
  untouched(before, await production());
  const { code, drill } = await drills.drilled();
  assert.is(code, 0, JSON.stringify(drill));
});

long("stopped by Ctrl-C it takes itself away; a second one and a rebuild are refused meanwhile", async () => {
  const { child, ended } = project.begin(["drill", "kept"]);
  for (let n = 0; n < 600 && !drills.leader("drills/kept/machines/kept/db"); n++) await wait(50);
  for (const command of [
    ["drill", "kept"],
    ["rebuild", "kept/db"],
  ]) {
    const second = await project.ingot(command);
    assert.is(second.code, 1);
    assert.match(second.stderr, /drill kept \(process \d+\) is at it already/);
  }
  child.kill("SIGINT");
  assert.is((await ended).code, 130);
  drills.nothingLeft();
});

long("a backup that is broken makes a drill fail, which says what is wrong", async () => {
  await on(
    "cd /srv/backup/postgresql/backup/main && for f in *F/bundle/1; do cp -a $f /root/$(echo $f | tr / _); for at in $(seq 1000 40000 $(stat -c %s $f)); do printf XXXXXXXX | dd of=$f bs=1 seek=$at conv=notrunc status=none; done; done",
  );
  const { code, drill } = await drills.drilled();
  assert.is(code, 1);
  assert.match(drill.wrong.join(), /stacks\/kept\.yaml:\d+: backup:restore failed[\s\S]*pgbackrest restore: ERROR/);
  drills.nothingLeft();
  await on("cd /srv/backup/postgresql/backup/main && for f in *F/bundle/1; do cp -a /root/$(echo $f | tr / _) $f; done");
});

long(
  "with production dead: from its disk, and from a copy where the disk's journal would have to be brought in; neither is written to",
  async () => {
    await sql("insert into orders select max(id)+1 from orders");
    await wait(8000);
    const disk = drills.state("volumes/kept/db/backup.img");
    const sum = async () => (await tryRun(["sha256sum", disk])).stdout;
    // As a computer whose power fails leaves it. A machine that is killed has its file systems unmounted by the kernel.
    await on("sync /srv/backup");
    await tryRun(["cp", "--sparse=always", disk, `${disk}.crashed`]);
    const [pid = ""] = (drills.leader("machines/kept/db") ?? "").split(" ");
    await tryRun(asRoot(["kill", "-9", pid]));
    for (let i = 0; i < 100 && existsSync(`/proc/${pid}`); i++) await wait(100);
    for (const how of ["read-only", "copy"]) {
      const before = await sum();
      const { code, drill } = await drills.drilled();
      assert.is(code, 0, JSON.stringify(drill));
      assert.equal(drill.repository, { db: how });
      assert.is(await sum(), before);
      // Nothing has been written since it died, and that is what would be lost.
      assert.ok((drill.rpo_seconds ?? 0) > 5, String(drill.rpo_seconds));
      drills.nothingLeft();
      renameSync(disk, `${disk}.whole`);
      renameSync(`${disk}.crashed`, disk);
      renameSync(`${disk}.whole`, `${disk}.crashed`);
    }
    assert.equal(project.left().filter((line) => line.includes("backup.img")).length, 1); // production's own, until it is down
    await project.ingot(["down", "kept"]);
    const { code, stdout, stderr } = await project.ingot(["up", "kept"]);
    assert.is(code, 0, stdout + stderr);
    assert.is(await sql("select count(*) = max(id) from orders"), "t");
  },
);

test.run();
