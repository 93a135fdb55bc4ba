// One of two hosts rebuilt while the other runs on: what depends on the lost one there rests, a site answers 503, and it all goes on afterwards.
import { copyFileSync, existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { toolFolder } from "../../lib/paths.ts";
import { asRoot, tryRun } from "../../lib/run.ts";
import { phases, type Rebuild } from "../../stacks/recovery/rebuild.ts";
import { suite } from "../suite.ts";
import { putAside, switchOn } from "./old-machine.ts";
import { type TestProject, testProject } from "./project.ts";

const test = suite("rebuild of one of two hosts");
const long = process.env.INGOT_TEST_LONG ? test : test.skip;
let project: TestProject;
const on = (host: string, script: string) => project.must(`kept-two/${host}`, script);
const rows = async () => Number(await on("db", "cd / && echo 'select count(*) from orders' | runuser -u postgres -- psql -XqAt shop"));
const site = () => on("app", "curl -s -o /dev/null -w '%{http_code} %header{retry-after}' -H 'Host: shop.example.org' http://127.0.0.1/");
const machines = async () =>
  Object.fromEntries(
    ((await project.json(["status", "kept-two"])) as { host: string; instance: string; state: string; forwards: object }[]).map((m) => [
      m.host,
      m,
    ]),
  );
const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

test.before(async () => {
  project = await testProject(["inloop"]);
  copyFileSync(join(toolFolder, "tests/e2e/kept-two.yaml"), join(project.folder, "stacks/kept-two.yaml"));
  const { code, stdout, stderr } = await project.ingot(["up", "kept-two"]);
  assert.is(code, 0, stdout + stderr);
});
test.after(async () => {
  await project?.remove();
});

test("what would rest and who runs on is said beforehand", async () => {
  const { stdout } = await project.ingot(["rebuild", "kept-two/db", "--dry-run"]);
  assert.match(stdout, /^hold: on app, writer\.service, web\.service would rest; site\/shop would answer 503$/m);
  assert.match(stdout, /^fence: db is running, and would be powered off; app would run on$/m);
  assert.match(stdout, /^follow: what rested on app runs again$/m);
  assert.match(await site(), /^200/);
});

test("the database's host is lost with its disk: the other is not touched but for what needs it, which goes on by itself afterwards", async () => {
  for (let i = 0; i < 60 && (await rows()) < 3; i++) await wait(1000);
  assert.is((await project.ingot(["backup", "kept-two/db", "--full"])).code, 0);
  const before = await machines();
  const counted = await rows();
  const other = await on(
    "app",
    "systemctl show --property=MainPID --value other.service; cat /proc/sys/kernel/random/boot_id /proc/1/stat",
  );
  await project.on(
    "kept-two/app",
    "cat >/root/sampler && systemd-run --quiet --unit=sampler sh /root/sampler",
    `until [ -e /root/enough ]; do
      code=$(curl -s -o /dev/null -w '%{http_code} %header{retry-after}' -H 'Host: shop.example.org' http://127.0.0.1/)
      echo $code $(systemctl is-active writer web other) >>/root/seen
      sleep 0.2
    done`,
  );
  await wait(7000);
  await project.cutPower("kept-two/db");
  rmSync(project.disk("kept-two/db", "data"));
  const { code, stdout, stderr } = await project.ingot(["rebuild", "kept-two/db", "--json"]);
  assert.is(code, 0, stdout + stderr);
  // What was seen there meanwhile: the site and the three services, several times a second.
  const seen = [
    ...new Set(
      (await on("app", "touch /root/enough; while systemctl is-active --quiet sampler; do sleep 0.2; done; cat /root/seen")).split("\n"),
    ),
  ];
  assert.ok(seen.includes("200 active active active"), seen.join("\n"));
  assert.ok(seen.includes("503 30 inactive inactive active"), seen.join("\n"));
  // nginx's own error is never shown, and what needs nothing of the database's host is not touched.
  assert.equal(
    seen.filter((line) => /^(502|504|000)/.test(line) || !line.endsWith(" active")),
    [],
  );
  const rebuilt = JSON.parse(stdout) as Rebuild;
  assert.equal(
    rebuilt.phases.map((p) => p.phase),
    [...phases],
  );
  assert.equal(
    rebuilt.held?.map(({ host, sites, units }) => ({ host, sites, units })),
    [{ host: "app", sites: ["shop"], units: ["writer.service", "web.service"] }],
  );
  const after = await machines();
  assert.is(after.app?.instance, before.app?.instance);
  assert.is.not(after.db?.instance, before.db?.instance);
  assert.equal(after.db?.forwards, before.db?.forwards);
  assert.is(after.db?.state, "running");
  assert.is(await on("app", "systemctl show --property=MainPID --value other.service"), other.split("\n")[0]);
  assert.match(await site(), /^200/);
  const there = await rows();
  assert.ok(there >= counted, `${there} rows, of ${counted} that the backup has`);
  for (let i = 0; i < 60 && (await rows()) <= there; i++) await wait(500);
  if ((await rows()) <= there) {
    const writer = await on("app", "journalctl --quiet --no-pager --lines=20 --unit=writer.service; ss -tnop; ip neigh");
    const asked = await on(
      "db",
      "cd / && echo 'table pg_stat_activity' | runuser -u postgres -- psql -Xx shop; journalctl --no-pager -n 30",
    );
    assert.unreachable(`nobody writes any more:\n${writer}\n${asked}`);
  }
});

test("its machine answers where the old one did on this computer, and the stack goes down as a whole", async () => {
  const { db } = (await machines()) as { db?: { forwards: Record<number, string> } };
  const [address, port] = db?.forwards[22]?.split(":") ?? [];
  const { createConnection } = await import("node:net");
  const said = await new Promise<string>((resolve, reject) => {
    const socket = createConnection({ host: address, port: Number(port) }, () => {});
    socket.once("data", (data) => resolve(data.toString()));
    socket.once("error", reject);
    setTimeout(() => reject(new Error("no word from sshd")), 120_000).unref();
  });
  assert.match(said, /^SSH-2\.0/);
});

long("killed after each of its phases, it is gone on with, and the other host runs on", async () => {
  const before = await machines();
  await project.cutPower("kept-two/db");
  rmSync(project.disk("kept-two/db", "data"));
  const file = join(project.folder, ".ingot/recovery/kept-two.db.json");
  const ended = () =>
    existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as Rebuild).phases.filter((p) => p.ended).map((p) => p.phase) : [];
  for (const name of phases.slice(0, -1)) {
    const { child, ended: over } = project.begin(["rebuild", "kept-two/db"]);
    for (let n = 0; n < 1200 && !ended().includes(name); n++) await wait(100);
    child.kill("SIGKILL");
    await over;
    assert.ok(ended().includes(name), name);
  }
  const { code, stdout, stderr } = await project.ingot(["rebuild", "kept-two/db"]);
  assert.is(code, 0, stdout + stderr);
  const after = await machines();
  assert.is(after.app?.instance, before.app?.instance);
  assert.equal(after.db?.forwards, before.db?.forwards);
  assert.is(await on("app", "systemctl is-active writer.service web.service"), "active\nactive");
});

long("killed in the middle of the launch, it launches anew", async () => {
  const before = await machines();
  await project.cutPower("kept-two/db");
  const file = join(project.folder, ".ingot/recovery/kept-two.db.json");
  const { child, ended } = project.begin(["rebuild", "kept-two/db"]);
  const record = join(project.folder, ".ingot/machines/kept-two/db/machine.json");
  const launching = () =>
    existsSync(file) &&
    (JSON.parse(readFileSync(file, "utf8")) as Rebuild).phases.some((p) => p.phase === "launch" && !p.ended) &&
    existsSync(record);
  for (let n = 0; n < 1200 && !launching(); n++) await wait(50);
  await wait(1000);
  child.kill("SIGKILL");
  await ended;
  const { code, stdout, stderr } = await project.ingot(["rebuild", "kept-two/db"]);
  assert.is(code, 0, stdout + stderr);
  const after = await machines();
  assert.is(after.app?.instance, before.app?.instance);
  assert.equal(after.db?.forwards, before.db?.forwards);
});

long(
  "the old machine comes back beside the new one: the address is the new one's, and nobody reaches the old one, nor it them",
  async () => {
    await project.cutPower("kept-two/db");
    const old = await putAside(project, "kept-two/db");
    const { code, stdout, stderr } = await project.ingot(["rebuild", "kept-two/db"]);
    assert.is(code, 0, stdout + stderr);
    const back = await switchOn(project, "kept-two/db", old);
    try {
      const inside = async (script: string) => {
        const exec = join(toolFolder, "stacks/local/exec.sh");
        return (await tryRun(asRoot(["sh", exec, back.leader, "sh", "-c", script]))).stdout.trim();
      };
      // It runs as it did: PostgreSQL, on its own disk.
      let up = "";
      for (let i = 0; i < 60 && up !== "active"; i++) {
        await wait(1000);
        up = await inside("systemctl is-active postgresql@15-main");
      }
      assert.is(up, "active");
      const { instance } = JSON.parse(readFileSync(join(old, "machine.json"), "utf8")) as { instance: string };
      assert.is(await inside("cat /etc/ingot/backup/instance"), instance);
      assert.is.not((await machines()).db?.instance, instance);
      assert.is(await inside("ip -4 -oneline address show dev host0"), "");
      assert.match(await inside("timeout 5 curl -sS http://10.1.9.2/ 2>&1"), /unreachable|Could not connect|Failed to connect/i);
      // Whoever asks for the address gets the new one: by its cable, and by what it knows.
      const cable = "ip -oneline link show host0 | sed 's/.*link.ether //; s/ .*//'";
      const [own, others] = [await on("db", cable), await inside(cable)];
      assert.is.not(own, others);
      const asked = "ip neigh flush dev host0; curl -s -m 5 telnet://10.1.9.1:5432 </dev/null; ip neigh show 10.1.9.1";
      assert.match(await on("app", asked), new RegExp(`lladdr ${own} `));
      const there = await rows();
      for (let i = 0; i < 20 && (await rows()) <= there; i++) await wait(500);
      assert.ok((await rows()) > there, "nobody writes to the new one");
      const kept = Number(await inside("cd / && echo 'select count(*) from orders' | runuser -u postgres -- psql -XqAt shop"));
      await wait(3000);
      assert.is(Number(await inside("cd / && echo 'select count(*) from orders' | runuser -u postgres -- psql -XqAt shop")), kept);
    } finally {
      await back.end();
    }
    assert.is((await machines()).db?.state, "running");
  },
);

test.run();
