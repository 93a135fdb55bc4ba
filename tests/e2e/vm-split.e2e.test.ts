// INLOOP on two hosts in QEMU, by UEFI: their kernels are their own, so the media folder is served and mounted by NFS (in containers one folder
// stands for it, inloop-split.e2e.test.ts). In the long suite.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { suite } from "../suite.ts";
import { Browser } from "./inloop.ts";
import { type TestProject, testProject } from "./project.ts";
import { eventually, holds, launched, rebooted, unchanged } from "./vm.ts";

const test = suite("inloop on two hosts in QEMU");
const long = process.env.INGOT_TEST_LONG ? test : test.skip;
const media = "/var/lib/inloop/media";
let project: TestProject;
let browser: Browser;
const web = async (script: string) => (await project.on("inloop-split/web", script)).stdout.trim();
const worker = async (script: string) => (await project.on("inloop-split/worker", script)).stdout.trim();
/** Takes a lock of a file's, if it is free, and keeps it for so many seconds. */
const lockFor = `import fcntl, sys, time
file = open(sys.argv[1], "r+")
try:
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    print("free", flush=True)
    time.sleep(float(sys.argv[2]))
except BlockingIOError:
    print("taken")`;

test.before(async () => {
  if (!process.env.INGOT_TEST_LONG) return;
  process.env.INGOT_ON = "vm";
  project = await testProject(["inloop"]);
});
test.after(async () => {
  await project?.remove();
});

long("both are launched and every check holds; the worker has the folder by NFS 4.2, and nothing else of NFS is open", async () => {
  const { machines } = await launched(project, "inloop-split", "uefi");
  browser = new Browser(machines.find((m) => m.host === "web")?.forwards ?? {});
  assert.match(
    await worker(`findmnt --noheadings --output SOURCE,FSTYPE,OPTIONS --mountpoint ${media}`),
    /^10\.1\.5\.10:\/var\/lib\/inloop\/media\s+nfs4\s+\S*vers=4\.2,\S*hard,\S*sec=sys/,
  );
  assert.is(await web("cat /proc/fs/nfsd/versions"), "-3 +4 +4.1 +4.2");
  assert.is(await web("ls /run/ingot/shared 2>&1 | grep -c 'No such file'"), "1");
  assert.is(await web("ss --listening --numeric --tcp --udp --no-header | grep -cE ':(111|20048) '"), "0");
});

long("what one writes the other reads, with the same owner; the worker's root is nobody; a lock of one holds for the other", async () => {
  await worker(`runuser -u huey -- sh -c 'umask 027; echo fetched >${media}/git/HEAD'`);
  assert.is(await web(`runuser -u huey -- cat ${media}/git/HEAD`), "fetched");
  assert.is(await web(`stat -c '%U:%G %a %u' ${media}/git/HEAD`), `huey:huey 640 ${await worker("id -u huey")}`);
  await web(`runuser -u gunicorn -- sh -c 'umask 027; echo mine >${media}/solutions/mine'`);
  // By the folder's ACL, which is the server's.
  const mine = "cat $f && stat -c %U $f".replaceAll("$f", `${media}/solutions/mine`);
  assert.is(await worker(`runuser -u huey -- sh -c '${mine}'`), "mine\ngunicorn");
  const refused = await project.on("inloop-split/worker", `runuser -u huey -- touch ${media}/solutions/x || cat ${media}/git/HEAD`);
  assert.is(refused.stdout, "");
  assert.match(refused.stderr, /solutions\/x': Permission denied[\s\S]*git\/HEAD: Permission denied/);
  const lock = (seconds: number) => `runuser -u huey -- python3 -c '${lockFor}' ${media}/git/HEAD ${seconds}`;
  const held = worker(lock(3600));
  assert.is(await eventually(() => web(lock(0)), /taken/), "taken");
  await worker("pkill --uid huey --full fcntl.lockf");
  assert.is(await held, "free");
  assert.is(await web(lock(0)), "free");
});

long("what is uploaded on one host is run in a container on the other, and the result comes back", async () => {
  const password = readFileSync(join(project.folder, ".ingot/secrets/inloop-split/web/application/inloop/superuser"), "utf8").trim();
  const answer = await browser.send("/login/", { username: "admin", password });
  assert.is(answer.headers.location, "/solutions/", `${answer.status}: ${answer.body}`);
  const page = String((await browser.send("/solutions/", {}, 'echo "$(($1 + $2))"\n')).headers.location);
  await eventually(async () => (await browser.open(page)).body.toString(), /id="state">passed</);
});

long("a second apply changes nothing", () => unchanged(project, "inloop-split"));

long("while the server reboots a writer on the other host waits, loses nothing, and every check holds again", async () => {
  const count = `${media}/git/count`;
  const line = 'i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo $i >>"$1"; sleep 0.5; done';
  await worker(`systemd-run --quiet --uid=huey --property=UMask=0027 --unit=writer sh -c '${line.replaceAll("$", "$$$$")}' sh ${count}`);
  const last = async () => Number(await web(`tail -n 1 ${count}`)) || 0;
  await eventually(async () => ((await last()) > 5 ? "writes" : "not yet"), /writes/);
  await rebooted(project, "inloop-split/web");
  const then = await last();
  await eventually(async () => ((await last()) > then + 5 ? "writes" : "not yet"), /writes/);
  await worker("systemctl stop writer");
  assert.is(await web(`awk '$1 != NR' ${count}; runuser -u huey -- cat ${media}/git/HEAD; stat -c %U ${count}`), "fetched\nhuey");
  await holds(project, "inloop-split");
});

long("powered off together they are off in order: who has mounted something before who serves it", async () => {
  const began = performance.now();
  assert.is((await project.ingot(["stop", "inloop-split"])).code, 0);
  const seconds = (performance.now() - began) / 1000;
  console.log(`off in ${seconds.toFixed(0)} s`);
  for (const host of ["web", "worker"]) {
    const console = readFileSync(join(project.folder, ".ingot/machines/inloop-split", host, "console.log"), "utf8");
    assert.match(console.slice(-2000), /reboot: Power down/, `${host} was off by itself`);
  }
});

test.run();
