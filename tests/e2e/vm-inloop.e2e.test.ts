// INLOOP's whole stack in QEMU, its containers too: on Debian 12 by BIOS, on Debian 13 by UEFI and then by BIOS on the data that it had. In the
// long suite. Debian 12 by UEFI is inloop-split's (vm-split.e2e.test.ts).
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { suite } from "../suite.ts";
import { type TestProject, testProject } from "./project.ts";
import { holds, launched, rebooted, unchanged } from "./vm.ts";

const test = suite("inloop in QEMU");
const long = process.env.INGOT_TEST_LONG ? test : test.skip;
let project: TestProject;
const on = async (script: string) => (await project.on("inloop/web", script)).stdout.trim();

/** A row of the site's, by the site itself. */
const write = (text: string) =>
  on(`curl --silent --show-error --fail --insecure --resolve inloop.localhost:443:127.0.0.1 \
  --data text='${text}' --output /dev/null https://inloop.localhost/entries/ && echo written`);
const rows = "runuser -u postgres -- psql -XAtc \"select text from board_entry where text like 'kept %' order by text\" inloop";

test.before(async () => {
  if (process.env.INGOT_TEST_LONG) process.env.INGOT_ON = "vm";
});
test.before.each(async () => {
  if (process.env.INGOT_TEST_LONG) project = await testProject(["inloop", "debian-13"]);
});
test.after.each(async () => {
  await project?.remove();
});

long("on Debian 12 by BIOS it is verified; applied again nothing changes; it comes back from a reboot", async () => {
  await launched(project, "inloop", "bios");
  assert.match(await on("uname -r"), /^6\.1\..*-cloud-amd64$/);
  assert.is(await on("findmnt --noheadings --output SOURCE /; systemctl --failed --plain --no-legend"), "/dev/nvme0n1p1");
  // The kernel has AppArmor here, and Docker holds its containers by it.
  assert.match(await on("docker run --rm --network=none inloop-sandbox cat /proc/self/attr/current"), /^docker-default \(enforce\)$/);
  assert.is(await write("kept one"), "written");
  await unchanged(project, "inloop");
  await rebooted(project, "inloop/web");
  await holds(project, "inloop");
  assert.is(await on(rows), "kept one");
});

long("on Debian 13 by UEFI the same; launched anew by BIOS it has its data", async () => {
  const recipe = join(project.folder, "images/inloop.yaml");
  writeFileSync(recipe, readFileSync(recipe, "utf8").replace("extends: debian-12", "extends: debian-13"));
  rmSync(join(project.folder, "images/inloop.lock.json"));
  await launched(project, "inloop", "uefi");
  assert.match(await on("uname -r; ls /usr/lib/postgresql"), /^6\.12\..*-cloud-amd64\n17$/);
  assert.match(await on("docker run --rm --network=none inloop-sandbox cat /proc/self/attr/current"), /^docker-default \(enforce\)$/);
  assert.is(await write("kept two"), "written");
  await unchanged(project, "inloop");
  assert.is((await project.ingot(["down", "inloop"])).code, 0);
  await launched(project, "inloop", "bios");
  assert.is(await on(rows), "kept two");
});

test.run();
