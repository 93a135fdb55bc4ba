// The three systems drilled, destroyed and rebuilt, by one command each: their rows, what people have uploaded, the jobs that waited, the mails that
// had not gone out.
import { existsSync, rmSync } from "node:fs";
import * as assert from "uvu/assert";
import { suite } from "../suite.ts";
import { ask, Browser } from "./inloop.ts";
import { author, byMail, type Patchwork, patchwork, untilPage } from "./patchwork.ts";
import { type TestProject, testProject, until } from "./project.ts";

const test = suite("disaster");
/** Whole systems, twice each: in the long suite. */
const long = process.env.INGOT_TEST_LONG ? test : test.skip;
let project: TestProject | undefined;
let host: Patchwork | undefined;

test.after.each(async () => {
  await project?.remove();
  await host?.project.remove();
  project = undefined;
  host = undefined;
});

async function said(where: TestProject, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await where.ingot(args);
  assert.is(code, 0, stdout + stderr);
  return stdout;
}

/** Its power goes, and with it every disk but the one with the backups. */
async function destroy(where: TestProject, machine: string, volumes: string[]): Promise<void> {
  await where.cutPower(machine);
  for (const name of volumes) rmSync(where.disk(machine, name));
}

long("INLOOP: rows, solutions, jobs that wait, error reports that have not gone out", async () => {
  const where = await testProject(["inloop"]);
  project = where;
  const up = (await project.json(["up", "inloop"])) as { ok: boolean; machines: { forwards: Record<string, string> }[] };
  assert.ok(up.ok);
  const forwards = up.machines[0]?.forwards ?? {};
  const at = (script: string) => where.must("inloop/web", script);
  const sql = (text: string) => where.sql("inloop/web", "inloop", text);
  const post = (path: string, form: Record<string, string> = {}) =>
    ask(forwards, path, { method: "POST", form: new URLSearchParams(form).toString() });
  for (const text of ["one", "two", "three"]) assert.is((await post("/entries/", { text })).status, 201);
  const password = await at("cat /var/lib/ingot/secrets/web/application/inloop/superuser");
  const browser = new Browser(forwards);
  await browser.send("/login/", { username: "admin", password });
  const page = String((await browser.send("/solutions/", {}, 'echo "$(($1 + $2))"')).headers.location);
  await until(async () => (await browser.open(page)).body.toString(), "", /id="state">passed/);
  // Two jobs wait for a worker, and a mail for its relay.
  await at("systemctl stop huey");
  for (let i = 0; i < 2; i++) assert.is((await post("/jobs/sample/")).status, 202);
  await at("echo report | sendmail ops@example.org; sleep 1; postqueue -p | grep -q ops@example.org");
  const waiting = "select count(*) from board_job where finished is null";
  assert.is(await sql(waiting), "2");
  const solution = "sha256sum /var/lib/inloop/media/solutions/*.sh | sort; stat -c %U:%G:%a /var/lib/inloop/media/solutions/*.sh";
  const before = { rows: await sql("select count(*) from board_entry"), solutions: await at(solution) };
  await said(project, "backup", "inloop");
  // Made anew beside itself, proven by all of its checks (huey runs its jobs there, too), and away again.
  assert.match(await said(project, "drill", "inloop"), /RTO/);
  assert.is(await sql(waiting), "2");
  // A copy that is killed while Postfix stands still for it: Postfix goes on.
  // A copy may be over before it is killed: then another one.
  const killed = `for try in 1 2 3 4 5; do
      systemctl start --no-block ingot-backup-directories
      i=0 state=
      while [ $i -lt 2000 ] && case $state in T*) false ;; esac; do i=$((i+1)); state=$(ps -o state= -C master); sleep 0.01; done
      systemctl kill --signal=KILL ingot-backup-directories
      while systemctl --quiet is-active ingot-backup-directories || [ "$(systemctl is-active ingot-backup-directories)" = deactivating ]; do sleep 0.2; done
      result=$(systemctl show --property=Result --value ingot-backup-directories)
      [ "$result" != signal ] || break
    done
    echo "$state"; echo "$result"; ps -o state= -C master; systemctl reset-failed ingot-backup-directories`;
  assert.match(await at(killed), /^T\S*\nsignal\n[^T]\S*$/);
  // What is committed after the backup is in the archived log.
  await post("/entries/", { text: "after the backup" });
  await sql("select pg_switch_wal()");
  await at("sleep 2");
  await destroy(project, "inloop/web", ["docker", "inloop", "postgresql"]);

  await said(project, "rebuild", "inloop/web");
  assert.is(Number(await sql("select count(*) from board_entry where text <> 'written by ingot verify'")), 4);
  assert.ok(Number(await sql("select count(*) from board_entry")) > Number(before.rows));
  assert.is(await at(solution), before.solutions);
  await until(sql, waiting, /^0$/);
  assert.match(await at("postqueue -p"), /ops@example\.org/);
  // Its ports on this computer may be others.
  const [machine] = (await project.json(["status", "inloop"])) as { forwards: Record<string, string> }[];
  const later = new Browser(machine?.forwards ?? {});
  await later.send("/login/", { username: "admin", password });
  assert.match((await later.open(page)).body.toString(), /id="state">passed/);
  assert.equal(((await project.json(["backups", "inloop"])) as { late: string[] }[])[0]?.late, []);
});

long("Kano-Konnect: rows, and the tasks that wait in RabbitMQ", async () => {
  const where = await testProject(["kano-konnect"]);
  project = where;
  await said(project, "up", "kano-konnect");
  const at = (script: string) => where.must("kano-konnect/webserver", script);
  const sql = (text: string) => where.sql("kano-konnect/webserver", "kano_konnect", text);
  const rows = await sql("select count(*) from kano_konnect_sum");
  await at("supervisorctl stop kano_konnect-celeryd");
  const queue = "from kano_konnect.tasks import add; print(*[add.delay(i, 100).id for i in range(3)])";
  const ids = (await at(`cd / && kano_konnect-manage shell -c '${queue}'`)).split(" ");
  assert.is(ids.length, 3);
  const waiting =
    "rabbitmqctl -q list_queues -p kano_konnect name messages durable --no-table-headers | awk '$1 == \"kano_konnect\" { print $2, $3 }'";
  assert.is(await at(waiting), "3 true");
  await said(project, "backup", "kano-konnect");
  assert.match(await said(project, "drill", "kano-konnect"), /RTO/);
  assert.is(await at(waiting), "3 true");
  await destroy(project, "kano-konnect/webserver", []);

  await said(project, "rebuild", "kano-konnect/webserver");
  assert.ok(Number(await sql("select count(*) from kano_konnect_sum")) >= Number(rows));
  // By the worker, on the new machine.
  for (const id of ids) await until(at, "cat /var/log/supervisor/kano_konnect-celeryd.log", new RegExp(`${id}\\] succeeded`));
  assert.is(await at(waiting), "0 true");
});

long("Patchwork: the database's host, then the application's: patches, the repository, mails on their way", async () => {
  host = await patchwork("patchwork");
  const where = host.project;
  let web = await host.up();
  await author(host);
  await host.on("servers", byMail("main"));
  const list = "/project/linux/list/";
  await untilPage(web, list, /Füge ein ö hinzu/);
  const database = (script: string) => where.must("patchwork/database", script);
  const application = (script: string) => where.must("patchwork/application", script);
  const sql = (text: string) => where.sql("patchwork/database", "patchwork", text);
  // A mail that waits on its way out.
  await application(
    "postconf -e defer_transports=smtp && postfix reload 2>&1; echo late | sendmail -f ops@example.org ops@example.org; sleep 2; postsuper -h ALL 2>&1",
  );
  const before = {
    patches: await sql("select count(*) from patchwork_patch"),
    head: await application("git --git-dir=/srv/git/linux.git rev-parse main"),
  };
  await host.ingot("backup", "patchwork");
  // Two hosts in the network that production has, at the same addresses.
  assert.match(await host.ingot("drill", "patchwork"), /RTO/);
  await sql("select pg_switch_wal()");
  await database("sleep 2");

  await destroy(where, "patchwork/database", ["postgresql"]);
  await host.ingot("rebuild", "patchwork/database");
  assert.is(await sql("select count(*) from patchwork_patch"), before.patches);
  assert.is(await sql("select timeline_id from pg_control_checkpoint()"), "2");

  await destroy(where, "patchwork/application", []);
  const back = await host.ingot("rebuild", "patchwork/application");
  assert.match(back, /is back after/);
  assert.is(await application("git --git-dir=/srv/git/linux.git rev-parse main"), before.head);
  assert.match(await application("postqueue -p"), /^[0-9A-F]+! [\s\S]*ops@example\.org/m);
  await application("postsuper -H ALL 2>&1; postqueue -f");
  await host.until("servers", "cat /srv/outbox/*", /^late$/m);
  web = await host.browse();
  await untilPage(web, list, /Füge ein ö hinzu/);
  // Its life goes on: a second patch by mail.
  await host.on("servers", byMail("next"));
  await untilPage(web, list, /Zeige die Größe/);
  assert.not.ok(existsSync(`${where.folder}/.ingot/recovery/patchwork.database.json`));
});

test.run();
