// Mail and certificates against real servers: postfix with SASL and TLS, Dovecot over IMAP and POP3, Let's Encrypt's own test authority.
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { toolFolder } from "../../lib/paths.ts";
import { suite } from "../suite.ts";
import { type TestProject, testProject, until } from "./project.ts";
import { withServers } from "./servers.ts";

const test = suite("mail");
let project: TestProject;
/** Nothing of it means the same to a shell, an ini file, postfix and systemd. */
const awkward = `a"b'c%d$e\\f g`;
const file = (name = "stacks/mail.yaml") => join(project.folder, name);
const edit = (from: string | RegExp, to: string) => project.edit("stacks/mail.yaml", from, to);
const app = async (script: string) => (await project.on("mail/app", script)).stdout;
const servers = async (script: string) => (await project.on("mail/servers", script)).stdout;
const verify = () => project.ingot(["verify", "mail"]);
const apply = async () => (await project.json(["apply", "mail"])) as { ok: boolean; changed: string[] };

test.before(async () => {
  project = await testProject(["patchwork"]);
  cpSync(join(toolFolder, "tests/e2e/mail.yaml"), file());
  await withServers(project, "mail", { address: "10.1.3.3", users: ["app", "idle", "polled"], password: awkward });
  writeFileSync(file(".ingot/secrets/mail/awkward"), awkward, { mode: 0o600 });
});
test.after(() => project?.remove());

test("both boot, and every check holds", async () => {
  const up = await project.ingot(["up", "mail"]);
  assert.is(up.code, 0, up.stderr + up.stdout);
});

test("what a program sends goes through the relay, with its password, over TLS that was verified", async () => {
  await app("printf 'Subject: report\\n\\nall is w\\303\\274st\\n' | /usr/sbin/sendmail -f shop@example.org ops@example.org");
  const mail = await until(servers, "cat /srv/outbox/* 2>/dev/null", /all is wüst/);
  assert.match(mail, /with ESMTPSA/);
  // It is there before it is known here that it is.
  await until(app, "journalctl --no-pager -o cat | grep 'status=sent'", /relay=servers\.example\.org\[10\.1\.3\.3\]/);
  assert.is(await app("stat -c '%U %a' /etc/postfix/ingot-relay"), "root 600\n");
  // The relay wants to know who asks; and this host relays for nobody.
  const bring = (to: string, at: string) =>
    `python3 -c 'import smtplib; s = smtplib.SMTP("${at}"); s.ehlo(); s.mail("x@example.net"); print(*s.rcpt("${to}"))'`;
  assert.match(await app(bring("ops@example.org", "10.1.3.3")), /^554/);
  assert.match(await servers(bring("ops@example.net", "10.1.3.2")), /^554/);
});

test("an alias hands mail to its program, as the program's user; what is not taken is tried again, what is refused goes back", async () => {
  const send = (body: string) =>
    servers(
      `python3 -c 'import smtplib; smtplib.SMTP("10.1.3.2").sendmail("ops@servers.example.org", ["patches@app.example.org"], "Subject: patch\\n\\n${body}\\n")'`,
    );
  await send("from an alias");
  const taken = await until(app, "cat /srv/inbox/* 2>/dev/null", /from an alias/);
  assert.match(taken, /^clerk\n/);
  await send("not yet");
  await until(app, "journalctl --no-pager -o cat | grep 'to=<patches@'", /status=deferred/);
  assert.not.match(await app("cat /srv/inbox/*"), /not yet/);
  await app("touch /srv/inbox/open");
  await until(app, "postqueue -f; cat /srv/inbox/*", /not yet/);
  await send("refuse this");
  await until(app, "journalctl --no-pager -o cat", /status=bounced/);
  assert.not.match(await app("cat /srv/inbox/*"), /refuse this/);
});

test("mail of other servers is fetched, over IMAP as it comes and over POP3 at its times, each message once", async () => {
  const save = (user: string, body: string) =>
    servers(
      `printf 'From: a@example.org\\nMessage-ID: <${user}@example.org>\\nSubject: m\\303\\244il\\n\\n${body}\\n' | doveadm save -u ${user}`,
    );
  await save("idle", "over imap");
  await save("polled", "over pop3");
  const seen = await until(app, "cat /srv/inbox/*", /over imap[\s\S]*over pop3|over pop3[\s\S]*over imap/);
  assert.match(seen, /Subject: mäil/);
  // What was taken over POP3 is deleted after it has been handed on.
  await until(servers, "doveadm search -u polled all | wc -l; doveadm search -u idle all | wc -l", /^0\n1\n$/);
  await new Promise((resolve) => setTimeout(resolve, 3000));
  assert.is(await app("grep -l 'over imap\\|over pop3' /srv/inbox/* | wc -l"), "2\n");
  assert.match(await app("ps -o user= -C getmail"), /^getmail$/m);
});

test("whoever is in the group pushes to a repository, and its hook runs; nobody else reads it, nobody changes the hook", async () => {
  const push = (user: string, file: string) =>
    app(`cd /tmp && rm -rf w-${user} && runuser -u ${user} -- sh -c '
      git -c init.defaultBranch=main clone -q /srv/git/linux.git w-${user} && cd w-${user} && echo ${file} >${file} && git add -A &&
      git -c user.name=${user} -c user.email=${user}@example.org commit -qm ${file} && git push -q origin HEAD:main && echo pushed' 2>&1`);
  assert.match(await push("ann", "one"), /pushed$/m);
  assert.match(await push("bob", "two"), /pushed$/m);
  assert.match(await push("eve", "three"), /fatal|denied/i);
  assert.is(await app("cat /srv/pushed/ann /srv/pushed/bob"), "refs/heads/main ann\nrefs/heads/main bob\n");
  assert.is(await app("git --git-dir=/srv/git/linux.git log --format=%an main"), "bob\nann\n");
  assert.match(
    await app("runuser -u git -- sh -c 'echo evil >$(git --git-dir=/srv/git/linux.git config core.hooksPath)/post-receive' 2>&1"),
    /Permission denied|cannot create/,
  );
  assert.is(
    await app(
      "printf 'set a 0 60 2\r\nhi\r\nget a\r\nquit\r\n' | python3 -c 'import socket,sys; s=socket.create_connection((\"127.0.0.1\",11211)); s.sendall(sys.stdin.buffer.read()); print(s.makefile().read())' | grep -c ^hi",
    ),
    "1\n",
  );
});

test("an authority has signed the certificate, and signs it again when its names change; the key stays", async () => {
  const certificate = "openssl x509 -in /etc/ssl/ingot/app.crt -noout";
  const issuer = await app(`${certificate} -issuer -ext subjectAltName`);
  assert.match(issuer, /issuer=CN = Pebble Intermediate CA/);
  assert.match(issuer, /DNS:app\.example\.org\n/);
  const served = "echo | openssl s_client -connect 127.0.0.1:443 -servername app.example.org 2>/dev/null | openssl x509 -noout -serial";
  const serial = await app(served);
  assert.is(await app(`${certificate} -serial`), serial);
  const key = await app("sha256sum /etc/ssl/ingot/app.key");
  edit("names: [app.example.org, app.localhost]", "names: [app.example.org, app, app.localhost]");
  const applied = await apply();
  assert.is(applied.ok, true);
  assert.match(
    await app(`${certificate} -issuer -ext subjectAltName`),
    /Pebble[\s\S]*DNS:app, DNS:app\.example\.org|Pebble[\s\S]*DNS:app\.example\.org, DNS:app/,
  );
  assert.is.not(await app(served), serial);
  assert.is(await app("sha256sum /etc/ssl/ingot/app.key"), key);
  assert.equal((await apply()).changed, []);
  assert.is((await verify()).code, 0);
});

test("an authority that cannot be reached stops no step: the certificate is self-signed until then, and apply and verify say why", async () => {
  // Not stopped: it keeps its accounts in memory alone.
  await servers(
    "nft 'add table inet away; add chain inet away in { type filter hook input priority 0; }; add rule inet away in tcp dport 14000 reject'",
  );
  edit("names: [app.example.org, app, app.localhost]", "names: [app.example.org, www.app.example.org, app.localhost]");
  // Without --keep it would be taken back: the certificate was signed before.
  const began = await project.ingot(["apply", "mail/app", "--keep"]);
  assert.is(began.code, 1);
  assert.match(began.stderr, /certificate\/app:issued.*not signed yet/);
  const failed = await verify();
  assert.is(failed.code, 1);
  assert.match(failed.stderr, /certificate\/app:issued.*the certificate app is not signed yet[\s\S]*Connection refused/);
  edit("names: [app.example.org, www.app.example.org, app.localhost]", "names: [app.example.org, app.localhost]");
  await servers("nft delete table inet away");
  assert.is((await apply()).ok, true);
  assert.is((await verify()).code, 0);
});

test("a given certificate that belongs to another key, or to other names, is refused before it counts", async () => {
  const before = await servers("sha256sum /etc/ssl/ingot/servers.crt");
  const text = readFileSync(file(), "utf8");
  edit("names: [servers.example.org]", "names: [servers.example.org, other.example.org]");
  const refused = await project.ingot(["apply", "mail/servers"]);
  assert.is(refused.code, 1);
  assert.match(refused.stderr, /the given one is not for other\.example\.org, but for DNS:servers\.example\.org/);
  assert.is(await servers("sha256sum /etc/ssl/ingot/servers.crt"), before);
  writeFileSync(file(), text);
  assert.is((await apply()).ok, true);
});

test("after a reboot it is as it was", async () => {
  assert.is((await project.ingot(["stop", "mail"])).code, 0);
  const start = await project.ingot(["start", "mail"]);
  assert.is(start.code, 0, start.stderr + start.stdout);
  assert.equal((await apply()).changed, []);
});

test.run();
