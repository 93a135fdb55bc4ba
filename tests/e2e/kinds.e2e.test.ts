// Every kind that the other end-to-end tests have no use for: booted, verified, applied again, changed, taken away, rebooted.
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { sha256 } from "../../lib/digest.ts";
import { toolFolder } from "../../lib/paths.ts";
import { suite } from "../suite.ts";
import { type TestProject, testProject, until } from "./project.ts";

const test = suite("kinds");
let project: TestProject;
let server: Server;
let asked = 0;
/** Of no text, and more than user-data has room for. */
const bytes = randomBytes(40_000);
const file = () => join(project.folder, "stacks/kinds.yaml");
const edit = (from: string | RegExp, to: string) => project.edit("stacks/kinds.yaml", from, to);
const first = async (script: string) => (await project.on("kinds/first", script)).stdout;

interface Applied {
  ok: boolean;
  changed: string[];
  files: { written: number; removed: number };
}

test.before(async () => {
  project = await testProject();
  cpSync(join(toolFolder, "tests/e2e/kinds.yaml"), file());
  const tool = `#!/bin/sh\n# ${randomBytes(8).toString("hex")}: what is kept of other runs is not it\necho fetched\n`;
  server = createServer((_, answer) => {
    asked++;
    answer.end(tool);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  edit("PORT", String((server.address() as AddressInfo).port));
  edit("SHA256", sha256(tool));
  writeFileSync(join(project.folder, "stacks/binary"), bytes);
  writeFileSync(
    join(project.folder, "stacks/first.sql"),
    "create table reports.seen (what text);\ninsert into reports.seen values ('it''s; \\\\ here');\n",
  );
  writeFileSync(join(project.folder, "stacks/second.sql"), "insert into reports.seen values ('twice');\n");
  mkdirSync(join(project.folder, ".ingot/secrets/kinds"), { recursive: true, mode: 0o700 });
  const hash = execFileSync("openssl", ["passwd", "-6", "-salt", "salt", "correct horse"], { encoding: "utf8" });
  writeFileSync(join(project.folder, ".ingot/secrets/kinds/person-hash"), hash, { mode: 0o600 });
});
test.after(() => {
  server?.close();
  return project?.remove();
});

test("all of them boot, and every check holds", async () => {
  const up = await project.ingot(["up", "kinds"]);
  assert.is(up.code, 0, up.stderr + up.stdout);
  assert.match(up.stderr, /first: application\/records:waits-second-database-records/);
});

test("they do what they are for", async () => {
  assert.match(await first("date +%Z"), /^CES?T$/m);
  assert.match(await first("getent hosts second.example.org second"), /10\.1\.2\.6/);
  assert.is(await first("cat /srv/greeting /srv/words /srv/clerk/mark"), "good morning\ngood morning\n/nonexistent\n");
  assert.is(await first("readlink /usr/local/bin/tell"), "/usr/bin/logger\n");
  assert.is(await first("for i in $(seq 120); do [ -e /srv/clerk/often ] && break; sleep 1; done; stat -c %U /srv/clerk/often"), "clerk\n");
  // Its times are its limit: systemd's own would end it for good.
  assert.is(await first("for i in $(seq 8); do systemctl start often.service || exit; done; systemctl is-active often.timer"), "active\n");
  assert.match(
    await first("systemctl list-timers --all --no-legend nightly.timer weekly.timer"),
    /0?3:3\d[\s\S]*04:00|04:00[\s\S]*0?3:3\d/,
  );
  assert.is(
    await first(
      // It is there before it is whole; the unit takes the other away after that.
      "touch /srv/clerk/knock; for i in $(seq 120); do [ -e /srv/clerk/knock ] || break; sleep 1; done; cat /srv/clerk/answer",
    ),
    "good morning\n",
  );
  assert.is(await first("systemctl show -P MemoryMax batch.slice"), `${512 * 2 ** 20}\n`);
  const rotated = await first(
    "echo line >/var/log/clerk/a.log; chown clerk: /var/log/clerk/a.log; logrotate --force /etc/logrotate.d/ingot-clerk; ls -l /var/log/clerk",
  );
  assert.match(rotated, /-rw-r----- 1 clerk clerk +0 .* a\.log\n.*a\.log\.1/);
});

test("a service has its limits, what its sandbox was widened by, and what it waits for; one that ended well is left alone", async () => {
  const shown = await first(
    "systemctl show -p MemoryMax,CPUQuotaPerSecUSec,TasksMax,After,Wants narrow.service; grep 'open files' /proc/$(systemctl show -P MainPID narrow.service)/limits",
  );
  for (const line of [
    /^MemoryMax=67108864$/m,
    /^CPUQuotaPerSecUSec=1\.50*s$/m,
    /^TasksMax=16$/m,
    /^Max open files +256 +256/m,
    /^After=.*pause\.service/m,
    /^Wants=.*pause\.service/m,
  ])
    assert.match(shown, line);
  assert.is(await first("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:81/"), "200");
  const pid = "systemctl show -P MainPID pause.service";
  const before = (await first(pid)).trim();
  await first("systemctl kill -s KILL pause.service");
  const next = (await until(first, pid, new RegExp(`^(?!${before}$|0$)\\d+$`, "m"))).trim();
  await first("systemctl kill -s TERM pause.service");
  await until(first, pid, new RegExp(`^(?!${next}$)\\d+$`, "m"));
  // For as long as a unit that is to be started again needs.
  assert.is(await first(`sleep 1; ${pid}; systemctl is-active pause.service`), "0\ninactive\n");
  assert.is((await project.ingot(["verify", "kinds/first"])).code, 0);
  await first("systemctl start pause.service");
});

test("files come from an address, and as they are however large; other bytes than the declared ones are refused", async () => {
  assert.is(await first("runuser -u clerk -- /srv/clerk/fetched; stat -c '%U %a' /srv/clerk/fetched"), "fetched\nclerk 700\n");
  assert.is(await first("sha256sum </srv/binary"), `${sha256(bytes)}  -\n`);
  assert.is(asked, 1);
  await first("echo changed >>/srv/binary");
  assert.equal(((await project.json(["apply", "kinds"])) as Applied).changed, ["file//srv/binary"]);
  const text = readFileSync(file(), "utf8");
  edit(/sha256: "[0-9a-f]{64}"/, `sha256: "${"0".repeat(64)}"`);
  assert.match((await project.ingot(["apply", "kinds"])).stderr, /\/tool is not what the stack says: its sha256 is [0-9a-f]{64}/);
  writeFileSync(file(), text);
});

test("who logs in is greeted", async () => {
  const login =
    "ssh-keygen -q -t ed25519 -N '' -f /root/key && mkdir -p -m 0700 /root/.ssh && cp /root/key.pub /root/.ssh/authorized_keys && echo exit | ssh -tt -i /root/key -o StrictHostKeyChecking=no root@127.0.0.1 2>/dev/null; rm -r /root/key* /root/.ssh/authorized_keys";
  assert.match(await first(login), /This is first\./);
});

test("a user runs by sudo what is listed, and nothing else", async () => {
  const sudo = async (command: string) => (await project.on("kinds/first", `runuser -u deployer -- sudo -n ${command} 2>&1`)).stdout;
  assert.match(await sudo("id"), /uid=0/);
  assert.is(await sudo("touch '/srv/a,b=*:c'"), "");
  assert.match(await first("ls /srv"), /^a,b=\*:c$/m);
  for (const command of ["touch '/srv/a,b=x:c'", "id -u", "systemctl restart ssh.service", "sh"])
    assert.match(await sudo(command), /password is required|not allowed/, command);
});

test("status shows the public half of a user's own key", async () => {
  const key = (await first("cut -d ' ' -f 1,2 /home/fetcher/.ssh/id_ed25519.pub")).trim();
  assert.match(key, /^ssh-ed25519 AAAA/);
  assert.ok((await project.ingot(["status", "kinds"])).stdout.includes(key));
  const machines = (await project.json(["status", "kinds"])) as { host: string; keys: Record<string, string> }[];
  assert.equal(machines.find((m) => m.host === "first")?.keys, { fetcher: key });
});

test("a password is its hash, an account ends, a template has its values, a file of SQL ran once", async () => {
  assert.is(await first("echo 'correct horse' | runuser -u person -- sudo -kS id -u 2>/dev/null"), "0\n");
  assert.match(
    (await project.on("kinds/first", "echo wrong | runuser -u person -- sudo -kS id -u 2>&1")).stdout,
    /Sorry|incorrect|try again/,
  );
  assert.match(await first("chage -l person"), /Account expires\s*: Dec 31, 2037/);
  const [url, user] = (await first("runuser -u clerk -- cat /srv/clerk/credentials")).split("\n");
  assert.match(url ?? "", /^url = postgres:\/\/records:[A-Za-z0-9]{32}@10\.1\.2\.6:5432\/records$/);
  assert.is(user, "as clerk");
  assert.match(await first("runuser -u deployer -- cat /srv/clerk/credentials 2>&1"), /Permission denied/);
  assert.match(await first("ssh -G git.example.org"), /globalknownhostsfile \/etc\/ingot\/known-hosts\/git\.example\.org/);
  assert.is(await first("systemd-run --quiet --pipe --wait sh -c 'echo $LANG'"), "en_US.UTF-8\n");
  const second = async (script: string) => (await project.on("kinds/second", script)).stdout.trim();
  const seen = `runuser -u postgres -- psql -XAt -d records -c "select what, tableowner from reports.seen, pg_tables where tablename = 'seen'"`;
  assert.is(await second(seen), "it's; \\\\ here|records\ntwice|records");
});

test("a list of access lets in whom it names, also to what is made later, and is the declared one again when somebody changes it", async () => {
  await first("runuser -u clerk -- sh -c 'umask 027; echo listed >/srv/listed/new'");
  assert.is(await first("runuser -u deployer -- cat /srv/listed/new"), "listed\n");
  assert.match(await first("runuser -u nobody -- ls /srv/listed 2>&1"), /Permission denied/);
  await first("setfacl -m u:nobody:rwx /srv/listed");
  assert.match((await project.ingot(["verify", "kinds"])).stderr, /\/srv\/listed: its access control list is/);
  assert.equal(((await project.json(["apply", "kinds"])) as Applied).changed, ["directory//srv/listed"]);
  assert.match(await first("runuser -u nobody -- ls /srv/listed 2>&1"), /Permission denied/);
  assert.match(
    await first("stat -c '%a %s' /var/lib/ingot-swap; blkid -p /var/lib/ingot-swap; cat /proc/swaps | grep -c ingot"),
    /^600 16777216\n.*TYPE="swap".*\n0$/m,
  );
});

test("an application waits for another host's database, migrates it there, and nobody else comes in", async () => {
  const second = async (script: string) => (await project.on("kinds/second", script)).stdout.trim();
  const count = "select count(*) > 5 from django_migrations";
  assert.is(await second(`runuser -u postgres -- psql -XAt -d records -c "${count}"`), "t");
  // A user of the system is the role that the map gives it; a member reads what came after the grant, and writes nothing.
  assert.is(await second(`runuser -u keeper -- psql -XAt -U records -d records -c "${count}"`), "t");
  const asReports = `runuser -u postgres -- psql -XAt -d records -c "set role reports" -c`;
  assert.match(await second(`${asReports} "${count}"`), /^t$/m);
  assert.match(await second(`${asReports} "delete from django_migrations" 2>&1`), /permission denied/);
  assert.is(await second(`runuser -u postgres -- psql -XAt -d records -c "select similarity('ingot', 'ingots') > 0.5"`), "t");
  // From the machine itself: its address is nobody's in pg_hba.conf.
  assert.match(
    await second(`psql -XAt -h 10.1.2.6 -U records -d records -c "select 1" 2>&1`),
    /no pg_hba\.conf entry for host "10\.1\.2\.6"/,
  );
});

test("what listens without being declared is not reached, and what is for the stack is not reached by others", async () => {
  const second = async (script: string) => (await project.on("kinds/second", script)).stdout.trim();
  const ask = (port: number, seconds = 60) =>
    `python3 -c 'import socket; s = socket.create_connection(("10.1.2.6", ${port}), ${seconds}); s.sendall(b"PING\\r\\n"); print(s.recv(20))' 2>&1 | tail -1`;
  await second(
    "systemd-run --quiet --unit=rogue python3 -m http.server 9999; systemd-run --quiet --unit=allowed python3 -m http.server 9100; for i in $(seq 1000); do [ $(ss -Hltn 'sport = :9999 or sport = :9100' | wc -l) = 2 ] && break; sleep 0.1; done",
  );
  assert.match(await first(ask(9999, 2)), /timed out/);
  assert.match(await second(ask(9999)), /HTTP|b'/);
  assert.match(await first(ask(9100)), /HTTP|b'/);
  assert.match(await first(ask(6379)), /NOAUTH/);
  assert.match(await second("nft list table inet ingot"), /ip saddr 10\.1\.2\.5 tcp dport 6379 accept/);
  // Whoever is none of the stack's hosts: an address that this one never had.
  await first("ip address add 10.1.2.77/24 dev host0");
  const asOther = ask(6379, 2).replace("2); s", '2, ("10.1.2.77", 0)); s');
  assert.match(await first(asOther), /timed out/);
  await first("ip address del 10.1.2.77/24 dev host0");
  await second("systemctl stop rogue allowed");
  // Flushed by somebody, it is found and comes back.
  await second("nft flush ruleset");
  assert.match((await project.ingot(["verify", "kinds"])).stderr, /there is no firewall/);
  assert.equal(((await project.json(["apply", "kinds"])) as Applied).changed, ["firewall"]);
});

test("applied again, nothing changes", async () => {
  const again = (await project.json(["apply", "kinds"])) as Applied;
  assert.equal([again.ok, again.changed, again.files], [true, [], { written: 0, removed: 0 }]);
});

interface Foreseen {
  stack: string;
  changes: boolean;
  hosts: { host: string; files: { path: string; change: string; diff: string }[]; steps: { step: string }[] }[];
}

test("--check says what an apply would change, and changes nothing", async () => {
  const quiet = await project.ingot(["apply", "kinds", "--check"]);
  assert.equal([quiet.code, quiet.stdout], [0, "kinds/first: nothing would change\nkinds/second: nothing would change\n"], quiet.stderr);
  const before = readFileSync(file(), "utf8");
  edit("good morning", "good evening");
  edit('cron: "30 3 ', 'cron: "45 3 ');
  edit(/ {6}weekly:.*\n/, "");
  const check = await project.ingot(["apply", "kinds", "--check", "--diff"]);
  assert.is(check.code, 1, check.stderr);
  assert.match(check.stdout, /would change +file\/\/srv\/clerk\/greeting/);
  assert.match(check.stdout, /would change +timer\/nightly/);
  assert.match(check.stdout, /would be removed +\/etc\/systemd\/system\/weekly\.timer/);
  assert.match(check.stdout, /-good morning\n\+good evening/);
  assert.match(check.stdout, /-OnCalendar=Mon,Tue,Wed,Thu,Fri \*-\*-\* 3:30:00\n\+OnCalendar=.*3:45:00/);
  assert.match(check.stdout, /kinds\/second: nothing would change/);
  assert.is(
    await first("cat /srv/clerk/greeting; systemctl is-active weekly.timer; ls /var/lib/ingot/generations | wc -l"),
    "good morning\nactive\n1\n",
  );
  const one = (await project.json(["apply", "kinds/second", "--check"])) as Foreseen;
  assert.equal(one, { stack: "kinds", changes: false, hosts: [{ host: "second", files: [], steps: [] }] } as Foreseen);
  writeFileSync(file(), before);
});

test("what is changed is changed alone; a command that ran once stays run, and runs again when it is another", async () => {
  edit("timezone: Europe/Berlin", "timezone: Asia/Tokyo");
  edit("to: /usr/bin/logger", "to: /usr/bin/echo");
  edit("touch /srv/clerk/nightly", "touch /srv/clerk/nights");
  edit("every: 2s", "every: 1h");
  const applied = (await project.json(["apply", "kinds"])) as Applied;
  assert.equal([applied.ok, applied.changed.sort()], [true, ["clock", "link//usr/local/bin/tell", "timer/often"]]);
  assert.match(await first("date +%Z"), /^JST$/m);
  assert.match(await first("systemctl show -P ExecStart nightly.service"), /nights/); // the next time runs it; its timer is as it was
  assert.is(await first("wc -l </srv/clerk/counted"), "1\n");
  edit("echo once", "echo again");
  assert.equal(((await project.json(["apply", "kinds"])) as Applied).changed, ["command/count"]);
  assert.is(await first("cat /srv/clerk/counted"), "once\nagain\n");
});

test("a job that fails is found by verify, and its log is there", async () => {
  edit("touch /srv/clerk/weekly", "ls /srv/clerk/nothing-there");
  await project.ingot(["apply", "kinds"]);
  await first("systemctl start weekly.service; true");
  const verify = await project.ingot(["verify", "kinds"]);
  assert.is(verify.code, 1);
  assert.match(verify.stderr, /timer\/weekly:last.*weekly failed when it last ran \(exit-code, exit code 2/);
  assert.match((await project.ingot(["logs", "kinds/first", "timer/weekly"])).stdout, /nothing-there/);
  edit("ls /srv/clerk/nothing-there", "touch /srv/clerk/weekly");
  await project.ingot(["apply", "kinds"]);
  await first("systemctl start weekly.service");
});

test("a cluster whose data is to be elsewhere is neither moved nor left behind for a new one", async () => {
  const second = async (script: string) => (await project.on("kinds/second", script)).stdout;
  const look =
    "runuser -u postgres -- psql -XAtc 'show data_directory' -c 'select pg_postmaster_start_time()'; findmnt -no FSTYPE /srv/records";
  const before = await second(look);
  assert.match(before, /^\/srv\/records\/clusters\/\d+\/main\n.*\next4\n$/);
  edit("data: /srv/records/clusters", "data: /srv/elsewhere");
  const refused = await project.ingot(["apply", "kinds/second"]);
  assert.is(refused.code, 1);
  assert.match(refused.stderr, /the data of this host's cluster is in \/srv\/records\/clusters\/\d+\/main, not in \/srv\/elsewhere\//);
  edit("data: /srv/elsewhere", "data: /srv/records/clusters");
  assert.is((await project.ingot(["apply", "kinds/second"])).code, 0);
  assert.is(await second(look), before);
  assert.is(await second("ls /srv/elsewhere 2>/dev/null"), "");
});

test("a file that is there is not made a link of", async () => {
  await first("echo mine >/srv/taken");
  edit("      /srv/greeting:", "      /srv/taken: { to: /srv/words }\n      /srv/greeting:");
  const refused = await project.ingot(["apply", "kinds"]);
  assert.is(refused.code, 1);
  assert.match(refused.stderr, /\/srv\/taken is there and is no link: it was left alone/);
  assert.is(await first("cat /srv/taken"), "mine\n");
  edit(/ {6}\/srv\/taken.*\n/, "");
});

test("what is taken out of the declaration goes: its timers stop, its units and files are gone", async () => {
  edit(/ {6}nightly:.*\n/, "");
  edit(/ {4}logrotate:\n.*\n/, "");
  const applied = (await project.json(["apply", "kinds"])) as Applied;
  assert.is(applied.ok, true);
  assert.is(
    await first(
      "systemctl is-active nightly.timer; ls /etc/systemd/system/nightly.* /etc/logrotate.d/ingot-clerk 2>&1 | grep -c 'No such'",
    ),
    "inactive\n2\n",
  );
});

test("after a reboot it is as it was", async () => {
  const stop = await project.ingot(["stop", "kinds"]);
  assert.is(stop.code, 0, stop.stderr);
  const start = await project.ingot(["start", "kinds"]);
  assert.is(start.code, 0, start.stderr + start.stdout);
});

test.run();
