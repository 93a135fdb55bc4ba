// What `ingot doctor` says of a stack in which one thing after the other is broken: a service that is killed, a folder given to somebody else, a full
// disk, a machine that is off.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import type { Finding } from "../../stacks/recovery/doctor.ts";
import { suite } from "../suite.ts";
import { type TestProject, testProject } from "./project.ts";

const test = suite("doctor");
let project: TestProject;
const on = async (script: string): Promise<void> => {
  const { code, stdout, stderr } = await project.on("ill/web", script);
  assert.is(code, 0, `${script}\n${stdout}${stderr}`);
};
/** But for the root's disk, which is this computer's own and may be full by itself. */
async function findings(): Promise<Finding[]> {
  const { code, stdout, stderr } = await project.ingot(["doctor", "ill", "--json"]);
  const found = JSON.parse(stdout || "[]") as Finding[];
  assert.is(code, found.some((f) => f.severity !== "soon") ? 1 : 0, stdout + stderr);
  return found.filter((f) => !/^\/ is \d+ % full/.test(f.what));
}

test.before(async () => {
  project = await testProject();
  writeFileSync(
    join(project.folder, "stacks/ill.yaml"),
    `stack: ill
hosts:
  web:
    image: debian-12
    volumes:
      data: { mount: /srv/data, size: 64MiB }
    users:
      clerk: { system: true }
    directories:
      /srv/data/inbox: { owner: clerk, mode: "0750" }
    postgresql: {}
    roles:
      shop: {}
    databases:
      shop: { owner: shop }
    services:
      till: { user: clerk, command: python3 -m http.server --bind 127.0.0.1 8800, listens: "127.0.0.1:8800" }
    sites:
      shop: { names: [shop.localhost], http: true, locations: { /: { proxy: service/till } } }
`,
  );
  const { code, stdout, stderr } = await project.ingot(["up", "ill"]);
  assert.is(code, 0, stdout + stderr);
});
test.after(async () => {
  await project?.remove();
});

test("of a stack that is well: nothing", async () => {
  assert.equal(await findings(), []);
  const { code, stdout } = await project.ingot(["doctor"]);
  assert.is(code, 0, stdout);
  assert.match(stdout, /^ill: nothing is wrong|^SOON {2}ill\/web: \/ is \d+ % full/m);
});

test("a service that cannot start is dead; who needs it, the end of its journal, and the next command are said; what follows from it comes later", async () => {
  await on(
    "systemctl stop till; systemctl reset-failed till; printf '[Service]\\nRestart=no\\nExecStart=\\nExecStart=/bin/sh -c \"echo no till roll; exit 3\"\\n' >/run/till.conf; mkdir -p /run/systemd/system/till.service.d; mv /run/till.conf /run/systemd/system/till.service.d/zz.conf; systemctl daemon-reload; systemctl start till; until [ \"$(systemctl is-active till)\" = failed ] && journalctl --quiet --output=cat --unit=till | grep -q 'no till roll'; do sleep 0.2; done",
  );
  const found = await findings();
  const [first] = found;
  assert.is(first?.severity, "dead");
  assert.is(first?.resource, "service/till");
  assert.match(first?.what ?? "", /till\.service has failed \(exit-code, exit code 3/);
  assert.ok(first?.needed.includes("site/shop"), JSON.stringify(first));
  assert.ok(first?.log.some((l) => l.includes("no till roll")));
  assert.equal(first?.next, ["ingot logs ill/web service/till", "ingot apply ill/web service/till"]);
  for (const later of found.filter((f) => f.resource?.startsWith("site/"))) assert.ok(later.because.includes("service/till"));
  const { stdout } = await project.ingot(["doctor", "ill"]);
  assert.match(stdout, /^DEAD {2}ill\/web service\/till: till\.service has failed[\s\S]* {6}> ingot logs ill\/web service\/till/);
  // What it says to type helps.
  await on("rm /run/systemd/system/till.service.d/zz.conf; systemctl daemon-reload");
  assert.is((await project.ingot(["apply", "ill/web", "service/till"])).code, 0);
  assert.equal(await findings(), []);
});

test("a folder of somebody else's comes first, with the command that mends it", async () => {
  await on("chown root /srv/data/inbox; systemctl kill --signal=SIGKILL nginx; systemctl stop nginx");
  const found = await findings();
  assert.is(found[0]?.resource, "directory//srv/data/inbox");
  assert.match(found[0]?.what ?? "", /owner is root, expected clerk/);
  assert.ok(found[0]?.next.includes("ingot exec ill/web -- chown clerk /srv/data/inbox"));
  assert.ok(found.some((f) => f.resource === "nginx" && f.severity === "dead"));
  assert.is((await project.ingot(["apply", "ill"])).code, 0);
  assert.equal(await findings(), []);
});

test("a disk that is nearly full will be a problem; of a machine that is off all is dead, and how to start it is said", async () => {
  await on("head -c $(($(stat --file-system --format='%a*%S' /srv/data) * 95 / 100)) /dev/zero >/srv/data/big");
  const found = await findings();
  assert.ok(
    found.some((f) => /^\/srv\/data is 9\d % full \(space\)$/.test(f.what)),
    JSON.stringify(found),
  );
  await on("rm /srv/data/big");
  await project.ingot(["stop", "ill"]);
  const [off, ...others] = await findings();
  assert.equal(others, []);
  assert.is(off?.what, "the machine is off");
  assert.is(off?.next[0], "ingot start ill");
  assert.ok(off?.needed.includes("database/shop"));
});

test.run();
