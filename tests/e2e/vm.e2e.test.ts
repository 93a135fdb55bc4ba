// A stack on the `vm` target, from a launch to its end, by UEFI and by BIOS. In the long suite: without KVM a first boot takes minutes.
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import * as assert from "uvu/assert";
import { ledgerAt } from "../../lib/ledger.ts";
import { projectAt, toolFolder } from "../../lib/paths.ts";
import { suite } from "../suite.ts";
import { type Outcome, type TestProject, testProject } from "./project.ts";

const test = suite("a stack in QEMU");
const long = process.env.INGOT_TEST_LONG ? test : test.skip;
let project: TestProject;
const ingot = (...args: string[]): Promise<Outcome> => {
  const end = args.indexOf("--");
  return project.ingot(end < 0 ? [...args, "--on", "vm"] : [...args.slice(0, end), "--on", "vm", ...args.slice(end)]);
};
const on = async (script: string, input?: string): Promise<string> =>
  (await project.ingot(["exec", "vm", "--on", "vm", "--", "sh", "-c", script], input)).stdout;
const stackFile = () => join(project.folder, "stacks/vm.yaml");
const console_ = () => readFileSync(join(project.folder, ".ingot/machines/vm/web/console.log"), "utf8");

test.before(async () => {
  if (!process.env.INGOT_TEST_LONG) return;
  project = await testProject();
  cpSync(join(toolFolder, "tests/e2e/vm.yaml"), stackFile());
  mkdirSync(join(project.folder, "pages"));
  writeFileSync(join(project.folder, "pages/index.html"), "the first\n");
});
test.after(async () => {
  delete process.env.INGOT_FIRMWARE;
  if (!project) return;
  await ingot("down", "vm");
  await project.remove();
});

long("it is launched by UEFI and passes every check", async () => {
  const up = await ingot("up", "vm");
  assert.is(
    up.code,
    0,
    `${up.stdout}\n${up.stderr}\n${existsSync(join(project.folder, ".ingot/machines/vm")) ? console_().slice(-3000) : ""}`,
  );
  console.log(up.stderr.match(/started at .*/)?.[0], up.stdout.match(/first boot: .*/)?.[0], up.stdout.match(/checks: .*/)?.[0]);
  assert.match(up.stdout, /checks: (\d+) of \1 passed/);
  assert.match(await on("ls -d /sys/firmware/efi"), /efi/);
});

long("what runs is the machine's own kernel, on its own disks, with the image's digest", async () => {
  assert.match(await on("uname -r"), /cloud-amd64/);
  assert.match(await on("systemd-detect-virt"), /^(qemu|kvm)$/m);
  assert.match(await on("findmnt -no SOURCE /; findmnt -no SOURCE /srv/data"), /^\/dev\/nvme0n1p1\n\/dev\/nvme1n1$/m);
  assert.is(await on("systemctl --failed --plain --no-legend"), "");
  assert.match(await on("cat /run/ingot/facts/facts.json"), /"target":"vm"/);
  assert.match(await on("stat -c '%a %U' /run/ingot/facts/secrets"), /^700 root/);
});

long("the site answers on this computer, and with the application that was brought", async () => {
  const [machine] = (await project.json(["status", "vm", "--on", "vm"])) as { state: string; forwards: Record<string, string> }[];
  assert.is(machine?.state, "running");
  const { execFileSync } = await import("node:child_process");
  const url = `https://web.localhost:${machine?.forwards[443]?.split(":")[1]}/`;
  assert.is(
    execFileSync("curl", [
      "-sk",
      "--max-time",
      "30",
      "--resolve",
      `web.localhost:${url.split(":")[2]?.slice(0, -1)}:127.0.0.1`,
      url,
    ]).toString(),
    "the first\n",
  );
});

long("a program gets its arguments, its input and its exit code through, whatever is in them", async () => {
  const awkward = ["", "a b", "'\"$HOME`x`\\", "ä\n-"];
  const echoed = await ingot("exec", "vm", "--", "python3", "-c", "import sys, json; print(json.dumps(sys.argv[1:]))", ...awkward);
  assert.equal(JSON.parse(echoed.stdout), awkward);
  assert.is((await ingot("exec", "vm", "--", "sh", "-c", "exit 7")).code, 7);
  assert.is((await ingot("exec", "vm", "--", "no-such-program")).code, 127);
  const large = "0123456789abcdef".repeat(65536);
  assert.is((await on("sha256sum | cut -c1-64", large)).trim(), (await import("../../lib/digest.ts")).sha256(large));
  assert.is((await on("head -c 3000000 /dev/zero | tr '\\0' x")).length, 3_000_000);
  const many = await Promise.all(Array.from({ length: 8 }, (_, i) => on(`sleep 1; echo ${i}`)));
  assert.equal(
    many,
    Array.from({ length: 8 }, (_, i) => `${i}\n`),
  );
});

long("files go there and back, and its console is kept", async () => {
  mkdirSync(join(project.folder, "there/deep"), { recursive: true });
  writeFileSync(join(project.folder, "there/deep/a"), "one\n");
  assert.is((await ingot("cp", join(project.folder, "there"), "vm:/srv/there")).code, 0);
  assert.is(await on("cat /srv/there/deep/a"), "one\n");
  mkdirSync(join(project.folder, "back"));
  assert.is((await ingot("cp", "vm:/srv/there", join(project.folder, "back"))).code, 0);
  assert.is(readFileSync(join(project.folder, "back/there/deep/a"), "utf8"), "one\n");
  assert.match((await ingot("logs", "vm", "--console", "--lines", "5000")).stdout, /Linux version 6\.1/);
});

long("apply brings a change to the running machine", async () => {
  writeFileSync(join(project.folder, "pages/index.html"), "the second\n");
  writeFileSync(
    stackFile(),
    readFileSync(stackFile(), "utf8").replace("/srv/data/pages: { owner: front }", '/srv/data/pages: { owner: front, mode: "0700" }'),
  );
  const apply = await ingot("apply", "vm");
  assert.is(apply.code, 0, apply.stdout + apply.stderr);
  assert.is(await on("stat -c %a /srv/data/pages; curl -s http://127.0.0.1:8001/"), "700\nthe second\n");
});

long("powered off and on again it has its data, its secrets and its kernel, and verify passes", async () => {
  await on("echo kept >/srv/data/kept; sync");
  assert.is((await ingot("stop", "vm")).code, 0);
  assert.equal(
    ((await project.json(["status", "vm", "--on", "vm"])) as { state: string }[]).map((m) => m.state),
    ["stopped"],
  );
  const start = await ingot("start", "vm");
  assert.is(start.code, 0, start.stdout + start.stderr);
  assert.is(await on("cat /srv/data/kept"), "kept\n");
  const verify = await ingot("verify", "vm");
  assert.is(verify.code, 0, verify.stdout + verify.stderr);
});

long("down leaves nothing but the volume", async () => {
  const down = await ingot("down", "vm");
  assert.is(down.code, 0, down.stderr);
  assert.equal(project.left(), []);
  assert.is(existsSync(join(project.folder, ".ingot/machines")), false);
  assert.equal(readdirSync(join(project.folder, ".ingot/volumes/vm/web")), ["data.img"]);
});

for (const signal of ["SIGINT", "SIGKILL"] as const)
  long(`a launch that ends by ${signal} leaves nothing${signal === "SIGKILL" ? " once the next command has run" : ""}`, async () => {
    const { child, ended } = project.begin(["up", "vm", "--on", "vm"]);
    for (let i = 0; i < 600 && !existsSync(join(project.folder, ".ingot/machines/vm/run/holder")); i++) await delay(100);
    await delay(3000);
    child.kill(signal);
    const { code, stderr } = await ended;
    if (signal === "SIGINT") assert.is(code, 130, stderr);
    else await project.ingot(["gc"]);
    assert.equal(project.left(), []);
    assert.equal(ledgerAt(projectAt(project.folder).ledger).all(), []);
  });

long("it is launched by BIOS with the data that it had", async () => {
  process.env.INGOT_FIRMWARE = "bios";
  const up = await ingot("up", "vm");
  assert.is(up.code, 0, up.stdout + up.stderr);
  console.log(up.stderr.match(/started at .*/)?.[0], up.stdout.match(/first boot: .*/)?.[0], up.stdout.match(/checks: .*/)?.[0]);
  assert.match(up.stdout, /checks: (\d+) of \1 passed/);
  assert.is(await on("ls -d /sys/firmware/efi 2>/dev/null; cat /srv/data/kept"), "kept\n");
});

test.run();
