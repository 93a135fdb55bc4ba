// Patchwork on its two hosts as its users and its operator have it: mails become patches, a push changes their states, who sent them is
// told; what is nobody's business is refused; what is killed comes back, and everything is there again after a reboot.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { suite } from "../suite.ts";
import { author, type Browser, byMail, intoMailbox, type Patchwork, patchwork, untilPage } from "./patchwork.ts";
import { until } from "./project.ts";
import { openFrom } from "./scan.ts";

const test = suite("patchwork");
let host: Patchwork;
let web: Browser;
const list = "/project/linux/list/";
const app = (script: string) => host.on("application", script);
const servers = (script: string) => host.on("servers", script);
const stateOf = (page: string, name: string) => new RegExp(`${name}</a></td><td>[^<]*</td><td>([^<]*)`).exec(page)?.[1];

test.before(async () => {
  host = await patchwork("patchwork");
});
test.after(() => host?.project.remove());

test("one command boots both hosts, and every check holds", async () => {
  web = await host.up();
});

test("a mail by SMTP and another by IMAP become patches, in whatever characters they are", async () => {
  await author(host);
  assert.is(await servers(byMail("main")), "");
  assert.is(await servers(intoMailbox("next")), "");
  await untilPage(web, list, /Füge ein ö hinzu[\s\S]*Zeige die Größe|Zeige die Größe[\s\S]*Füge ein ö hinzu/);
  const page = (await web.get(list)).body;
  assert.is(stateOf(page, "Füge ein ö hinzu"), "New");
  assert.match(page, /Jürgen Müller &lt;ops@example\.org&gt;/);
  const path = /href="([^"]+)">Füge ein ö hinzu/.exec(page)?.[1] ?? "";
  assert.match((await web.get(`${path}mbox/`)).body, /\+zwö\n/);
  // As parsemail ran: its own user, its own role.
  assert.match(await app("journalctl --no-pager -u 'deliver-patchwork@*' -o cat"), /new patch 1 of linux/);
});

test("a push gives pushed patches the state that belongs to the branch", async () => {
  assert.match(await servers("cd /root/linux && git push origin next main 2>&1"), /main -> main/);
  const page = await untilPage(web, list, /Awaiting Upstream/);
  assert.is(stateOf(page, "Füge ein ö hinzu"), "Accepted");
  assert.is(stateOf(page, "Zeige die Größe"), "Awaiting Upstream");
  // Nobody changes a state who does not say who he is.
  const anonymous = `python3 -c 'import ssl, xmlrpc.client; print(xmlrpc.client.ServerProxy("https://patchwork.example.org/xmlrpc/", context=ssl._create_unverified_context()).patch_set(1, {"state": 1}))' 2>&1`;
  assert.match(await app(anonymous), /no permission to edit patch 1/);
});

test("an operator logs in to the admin, and a password that was forgotten is reset by mail", async () => {
  const secret = readFileSync(
    join(host.project.folder, ".ingot/secrets/patchwork/application/application/patchwork/superuser"),
    "utf8",
  ).trim();
  const asked = await web.post("/user/password_reset/", { email: "ops@example.org" });
  assert.is(asked.status, 302, asked.body);
  const mail = await host.until("servers", "cat /srv/outbox/*", /\/user\/reset\//);
  assert.match(mail, /From: Patchwork <patchwork@example\.org>/);
  const link = /https:\/\/patchwork\.example\.org(\/user\/reset\/\S+)/.exec(mail.replace(/=\n/g, "").replace(/=3D/g, "="))?.[1] ?? "";
  const form = (await web.get(link)).location;
  assert.match(form, /set-password/);
  assert.is((await web.post(form, { new_password1: `${secret}-anew`, new_password2: `${secret}-anew` })).status, 302);
  assert.is((await web.post("/admin/login/", { username: "admin", password: secret })).status, 200);
  const login = await web.post("/admin/login/?next=/admin/", { username: "admin", password: `${secret}-anew` });
  assert.is(login.status, 302, login.body);
  assert.match((await web.get("/admin/sites/site/")).body, /patchwork\.example\.org/);
});

test("strangers' names, the code, and other hosts get nothing", async () => {
  const refused = await web.get("/", "stranger.example.org").then(
    (a) => String(a.status),
    (error: unknown) => String(error),
  );
  assert.match(refused, /hang up|ECONNRESET|alert|EPROTO/i);
  for (const path of [
    "/static/../manage.py",
    "/static/%2e%2e/patchwork/settings/production.py",
    "/opt/patchwork/manage.py",
    "/patchwork/settings/production.py",
  ])
    assert.ok([400, 404].includes((await web.get(path)).status), path);
  // From the machine beside: what is open is what is declared, and PostgreSQL is for the application's host alone.
  assert.equal(await openFrom(host.project, "patchwork/servers", "10.1.1.1"), [22]);
  assert.equal(await openFrom(host.project, "patchwork/servers", "10.1.1.2"), [22, 25, 80, 443]);
  const relay = `python3 -c 'import smtplib; s = smtplib.SMTP("10.1.1.2"); s.ehlo(); s.mail("x@example.net"); print(*s.rcpt("somebody@example.net"))'`;
  assert.match(await servers(relay), /^454|^554/);
});

test("each process is its own user, and reads no other's secrets", async () => {
  const processes = await app("ps -eo user:20,args --no-headers");
  for (const like of [/^patchwork +uwsgi --ini/m, /^www-data +nginx: worker/m, /^getmail +\S*python3? \S*getmail/m, /^postfix +qmgr/m])
    assert.match(processes, like);
  const reads = (user: string, path: string) =>
    app(`runuser -u ${user} -- cat ${path} 2>&1 >/dev/null | grep -o 'Permission denied' || echo reads`);
  const files = {
    production: "/opt/patchwork/patchwork/settings/production.py",
    mail: "/opt/patchwork/patchwork/settings/mail.py",
    pwclientrc: "/srv/git/.pwclientrc",
    relay: "/etc/postfix/ingot-relay",
    imap: "/var/lib/ingot/secrets/imap",
  };
  const readers: Record<string, string[]> = { production: [], mail: ["parsemail"], pwclientrc: ["git"], relay: [], imap: [] };
  for (const user of ["patchwork", "patchwork-cron", "parsemail", "getmail", "git", "www-data", "postfix"])
    for (const [name, path] of Object.entries(files))
      assert.is(await reads(user, path), readers[name]?.includes(user) ? "reads\n" : "Permission denied\n", `${user}, ${name}`);
  assert.match(
    await app(
      "runuser -u getmail -- python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"/run/uwsgi/patchwork/patchwork.sock\")' 2>&1",
    ),
    /Permission/,
  );
  // The mail's role may do what a mail needs.
  const asRole = (sql: string) =>
    app(`. /dev/stdin <<'END'
export PGPASSWORD="$(cat /var/lib/ingot/secrets/database/role/patchwork-mail/password)"
END
psql -h 10.1.1.1 -U patchwork-mail -d patchwork -XAtc "${sql}" 2>&1`);
  assert.is(await asRole("select count(*) from patchwork_patch"), "2\n");
  for (const sql of [
    "select * from auth_user",
    "update patchwork_patch set state_id = 1",
    "delete from patchwork_person",
    "create table t (i int)",
  ])
    assert.match(await asRole(sql), /permission denied/, sql);
});

test("who sent a patch is told of its new state, once the delay is over and cron has run", async () => {
  await until(
    servers,
    "grep -l 'patches of yours' /srv/outbox/* | xargs -r cat",
    /was: New\s+now: Accepted|was: New\s+now: Awaiting Upstream/,
  );
  assert.match(
    await app(
      'systemctl show -P User patchwork-cron.service; patchwork-manage shell -c \'from django.conf import settings; print(settings.NOTIFICATION_DELAY_MINUTES, settings.DATABASES["default"]["TEST"])\' 2>&1',
    ),
    /patchwork-cron[\s\S]*1 \{[^}]*'CHARSET': 'utf8'/,
  );
});

test("what is killed comes back", async () => {
  await app(
    "pkill -KILL -u patchwork; pkill -KILL -x uwsgi; pkill -KILL nginx; pkill -KILL -u getmail; pkill -KILL -u postfix; kill -KILL $(cat /var/spool/postfix/pid/master.pid)",
  );
  await host.on("database", "pkill -KILL -u postgres; true");
  await host.verified();
});

test("a second apply changes nothing, and after a reboot of every host everything is there without help", async () => {
  // What an administrator has made of the defaults stays.
  await app(
    'patchwork-manage shell -c \'from patchwork.models import State; State.objects.filter(name="RFC").update(name="Comments, please")\'',
  );
  await host.ingot("apply", "patchwork");
  assert.match(await host.ingot("apply", "patchwork"), /nothing changed/);
  await host.ingot("stop", "patchwork");
  await host.ingot("start", "patchwork");
  assert.is(stateOf((await web.get(list)).body, "Füge ein ö hinzu"), "Accepted");
  assert.match(await host.ingot("apply", "patchwork"), /nothing changed/);
  assert.match(
    await app("patchwork-manage shell -c 'from patchwork.models import State; print(State.objects.get(ordering=4))' 2>&1"),
    /Comments, please/,
  );
});

test.run();
