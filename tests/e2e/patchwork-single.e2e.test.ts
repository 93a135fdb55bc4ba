// Patchwork on one host; and with a database server that is there already, as docs/systems/patchwork.md says, which here is the database's host
// of the other stack.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { toolFolder } from "../../lib/paths.ts";
import { suite } from "../suite.ts";
import { author, type Browser, byMail, intoMailbox, type Patchwork, patchwork, untilPage } from "./patchwork.ts";
import { type TestProject, testProject, until } from "./project.ts";

const test = suite("patchwork on one host");
/** Each is a launch more: in the long suite. */
const long = process.env.INGOT_TEST_LONG ? test : test.skip;
const list = "/project/linux/list/";
let single: Patchwork;
let web: Browser;
let external: TestProject;

/** In the network of the machine that it talks to. */
const inNetwork = (text: string): string =>
  text.replace("\nvars:", "\nnetwork: 10.1.1.0/24\nvars:").replace("    firewall: {}\n", "    address: 10.1.1.2\n    firewall: {}\n");

test.before(async () => {
  single = await patchwork("patchwork-single", inNetwork);
});
test.after(async () => {
  await single?.project.remove();
  await external?.remove();
});

test("one command boots it, and every check holds", async () => {
  web = await single.up();
});

test("mails become patches, and pushes change their states", async () => {
  await author(single, "patchwork");
  assert.is(await single.on("servers", `${byMail("main")}; ${intoMailbox("next")}`), "");
  await untilPage(web, list, /Füge ein ö hinzu[\s\S]*Zeige die Größe|Zeige die Größe[\s\S]*Füge ein ö hinzu/);
  await single.on("servers", "cd /root/linux && git push origin next main 2>&1");
  await untilPage(web, list, /Accepted[\s\S]*Awaiting Upstream|Awaiting Upstream[\s\S]*Accepted/);
});

test("PostgreSQL is its host's alone, and after a reboot everything is there", async () => {
  assert.match(
    await single.on("servers", `python3 -c 'import socket; socket.create_connection(("10.1.1.2", 5432), 2)' 2>&1 | tail -n 1`),
    /[Tt]imed? ?out|refused/i,
  );
  await single.ingot("stop", "patchwork-single");
  await single.ingot("start", "patchwork-single");
  assert.match((await web.get(list)).body, /Accepted/);
  assert.match(await single.ingot("apply", "patchwork-single"), /nothing changed/);
});

long("a machine that is made anew has the data, and what administrators made of its defaults", async () => {
  const shell = (python: string) => single.on("patchwork", `patchwork-manage shell -c '${python}' 2>&1`);
  await shell('from patchwork.models import State; State.objects.filter(name="RFC").update(name="Comments, please")');
  await single.ingot("down", "patchwork-single");
  web = await single.up();
  assert.match((await web.get(list)).body, /Accepted/);
  assert.match(await shell("from patchwork.models import State; print(State.objects.get(ordering=4))"), /Comments, please/);
  await single.ingot("down", "patchwork-single");
});

/** A block of the docs page, at the indentation of a host's keys. */
function snippet(name: string): string {
  const page = readFileSync(join(toolFolder, "docs/systems/patchwork.md"), "utf8");
  const text = new RegExp(`\`\`\`yaml ${name}\n([\\s\\S]*?)\`\`\``).exec(page)?.[1] ?? "";
  assert.ok(text, `the page has no ${name}`);
  return text.replace(/^(?=.)/gm, "    ");
}

long("with a database server that is there already, nothing else differs", async () => {
  external = await testProject(["patchwork"]);
  const file = (name: string) => join(external.folder, name);
  const [, database = ""] = /\n( {2}database:\n[\s\S]*?)\n {2}application:/.exec(readFileSync(file("stacks/patchwork.yaml"), "utf8")) ?? [];
  const text = inNetwork(readFileSync(file("stacks/patchwork-single.yaml"), "utf8"))
    .replace("stack: patchwork-single", "stack: external")
    .replace(/ {4}volumes:[\s\S]*? {4}users:/, () => `${snippet("external").replaceAll("db.example.org", "10.1.1.1")}\n    users:`)
    .replace(/ {4}grants:[\s\S]*?role: patchwork-mail\n/, () => snippet("grants"))
    .replaceAll("from: database/patchwork.", "from: external/patchwork.")
    .replace("from: role/patchwork-mail.name", "from: external/patchwork-mail.user")
    .replace("from: role/patchwork-mail.password", "from: external/patchwork-mail.password");
  const server = database
    .replaceAll("from: application", "from: patchwork")
    .replace("www-data: {}", "www-data: { password: { secret: database-web } }")
    .replace("patchwork-mail: {}", "patchwork-mail: { password: { secret: database-mail } }");
  writeFileSync(file("stacks/external.yaml"), `${text}\n${server}\n`);
  mkdirSync(file(".ingot/secrets/external"), { recursive: true, mode: 0o700 });
  for (const name of ["database-web", "database-mail"])
    writeFileSync(file(`.ingot/secrets/external/${name}`), `of the ${name}'s owner`, { mode: 0o600 });
  const up = await external.ingot(["up", "external"]);
  assert.is(up.code, 0, up.stderr + up.stdout);
  const on = async (script: string) => (await external.on("external/patchwork", script)).stdout;
  assert.is(await on("systemctl is-active postgresql@15-main; pgrep -c postgres"), "inactive\n0\n");
  const mail =
    "From: Ann <ann@example.org>\nTo: linux@lists.example.org\nMessage-Id: <1@example.org>\nSubject: [PATCH] one\n\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n";
  await external.on("external/patchwork", "/usr/sbin/sendmail -f ann@example.org patchwork@patchwork.example.org", mail);
  await until(on, "curl -sk https://patchwork.example.org/project/linux/list/", />one<\/a>/);
  const again = await external.ingot(["apply", "external"]);
  assert.match(again.stdout, /nothing changed/, again.stderr + again.stdout);
});

test.run();
