// Packages of a vendor's archive, installed at first boot: the archive is made and signed by Debian's own tools, and served by another host.
import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import * as assert from "uvu/assert";
import { readLock } from "../../images/lock.ts";
import { projectAt, toolFolder } from "../../lib/paths.ts";
import { suite } from "../suite.ts";
import { type TestProject, testProject } from "./project.ts";

const test = suite("packages");
let project: TestProject;
let keys: string;
const file = (name = "stacks/packages.yaml") => join(project.folder, name);
const edit = (from: string | RegExp, to: string) => project.edit("stacks/packages.yaml", from, to);
const web = async (script: string) => (await project.on("packages/web", script)).stdout;
const apply = async () => (await project.json(["apply", "packages"])) as { changed: string[] };
const tool = (program: string, args: string[], cwd = project.folder): string =>
  execFileSync(program, args, { cwd, encoding: "utf8", env: { ...process.env, GNUPGHOME: keys }, stdio: ["ignore", "pipe", "pipe"] });
const gpg = (...args: string[]): string => tool("gpg", ["--batch", "--yes", "--passphrase", "", ...args]);

function write(path: string, content: string, mode = 0o644): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
  chmodSync(path, mode);
}

/** A package whose installation makes a user, and would enable and start its daemon, as debhelper has it. */
function daemon(name: string, depends: string[], pool: string): void {
  const tree = file(`packages/${name}`);
  const control = [
    `Package: ${name}`,
    "Version: 1.0",
    "Architecture: all",
    "Maintainer: Vendor <vendor@apt.example.org>",
    ...(depends.length ? [`Depends: ${depends.join(", ")}`] : []),
    "Recommends: postfix",
    "Description: what a vendor would have run",
  ];
  write(join(tree, "DEBIAN/control"), `${control.join("\n")}\n`);
  write(join(tree, "DEBIAN/conffiles"), `/etc/${name}.conf\n`);
  write(
    join(tree, "DEBIAN/postinst"),
    [
      "#!/bin/sh",
      "set -e",
      `getent passwd ${name} >/dev/null || useradd --system --user-group --no-create-home --shell /usr/sbin/nologin ${name}`,
      `deb-systemd-helper enable ${name}.service >/dev/null`,
      "systemctl --system daemon-reload",
      `deb-systemd-invoke start ${name}.service`,
      "",
    ].join("\n"),
    0o755,
  );
  write(join(tree, `etc/${name}.conf`), "as the vendor has it\n");
  write(
    join(tree, `lib/systemd/system/${name}.service`),
    `[Service]\nUser=${name}\nExecStart=/bin/sh -c 'cat /etc/${name}.conf; exec sleep infinity'\n[Install]\nWantedBy=multi-user.target\n`,
  );
  tool("dpkg-deb", ["--root-owner-group", "--build", tree, pool]);
}

test.before(async () => {
  project = await testProject(["debian-12", "patchwork"]);
  keys = mkdtempSync(join(tmpdir(), "ingot-gpg-"));
  cpSync(join(toolFolder, "tests/e2e/packages.yaml"), file());
  const pool = file("archive/pool");
  mkdirSync(pool, { recursive: true });
  daemon("agent", ["idle"], pool);
  daemon("idle", [], pool);
  const own = projectAt(toolFolder);
  for (const { name, sha256 } of readLock(own, "patchwork")?.packages ?? [])
    if (["memcached", "libevent-2.1-7"].includes(name)) copyFileSync(join(own.cache, "debs", `${sha256}.deb`), join(pool, `${name}.deb`));
  const suiteFolder = "dists/stable/main/binary-amd64";
  write(file(`archive/${suiteFolder}/Packages`), tool("apt-ftparchive", ["packages", "pool"], file("archive")));
  const options = ["Suite=stable", "Codename=stable", "Components=main", "Architectures=amd64"].flatMap((o) => [
    "-o",
    `APT::FTPArchive::Release::${o}`,
  ]);
  write(file("archive/dists/stable/Release"), tool("apt-ftparchive", [...options, "release", "dists/stable"], file("archive")));
  for (const who of ["vendor", "stranger"]) gpg("--quick-gen-key", `${who} <${who}@apt.example.org>`, "ed25519", "sign", "never");
  for (const who of ["vendor", "stranger"]) write(file(`stacks/${who}.asc`), gpg("--armor", "--export", `${who}@apt.example.org`));
  gpg(
    "--local-user",
    "vendor@apt.example.org",
    "--clearsign",
    "--output",
    file("archive/dists/stable/InRelease"),
    file("archive/dists/stable/Release"),
  );
});
test.after(async () => {
  try {
    tool("gpgconf", ["--kill", "all"]);
    rmSync(keys, { recursive: true, force: true });
  } finally {
    await project?.remove();
  }
});

test("at first boot they are installed, before what needs them, and only what is declared runs", async () => {
  const up = await project.ingot(["up", "packages"]);
  assert.is(up.code, 0, up.stderr + up.stdout);
  const started = "journalctl -o cat -u agent.service | grep -c 'vendor has it'";
  assert.is(await web(`stat -c '%U %a' /etc/agent.conf; cat /etc/agent.conf; ${started}`), "agent 640\nhello\n0\n");
  const stats = "printf 'stats\\r\\nquit\\r\\n' | timeout 60 bash -c 'exec 3<>/dev/tcp/127.0.0.1/11211; cat >&3; cat <&3' | head -1";
  assert.match(await web(stats), /^STAT pid/);
  assert.is(await web("ls /usr/sbin/policy-rc.d /usr/sbin/postfix 2>&1 | grep -c 'No such'"), "2\n");
  assert.is(await web("systemctl is-enabled idle.service; systemctl is-active idle.service"), "disabled\ninactive\n");
});

test("a site hands on to another host's program, and to a server elsewhere", async () => {
  for (const name of ["near", "far"])
    assert.match(await web(`curl -s -H 'Host: ${name}.localhost' http://127.0.0.1/dists/stable/InRelease`), /^Suite: stable$/m, name);
});

test("raw keys of cloud-init are done once, by the modules that they need; what it could not do is said", async () => {
  assert.is(await web("cat /srv/late"), "early and 100% late\n");
  assert.is(await web("getent hosts inventory"), "10.1.3.77       inventory.example.org inventory\n");
  assert.match(await web("grep -c 'phone-home' /var/log/cloud-init.log"), /^[1-9]/);
  await web('cp /run/cloud-init/result.json /run/result; sed -i \'s/"errors": \\[/&"a module failed"/\' /run/cloud-init/result.json');
  assert.match((await project.ingot(["verify", "packages"])).stderr, /what cloud-init could not do is \["a module failed"\]/);
  await web("cp /run/result /run/cloud-init/result.json");
});

test("a value that cloud-init's schema refuses is said at its line, before anything is touched", async () => {
  const text = readFileSync(file(), "utf8");
  edit("tries: 1", "tries: many");
  const refused = await project.ingot(["apply", "packages/web"]);
  assert.is(refused.code, 2, refused.stderr);
  assert.match(refused.stderr, /packages\.yaml:\d+:\d+ error ING1443: cloud-init refuses these keys: 'many' is not of type 'integer'/);
  writeFileSync(file(), text);
});

test("other keys are for the next machine, and `verify` says so", async () => {
  const text = readFileSync(file(), "utf8");
  edit(/ {6}phone_home:.*\n/, "");
  assert.equal((await apply()).changed, []);
  assert.match(
    (await project.ingot(["verify", "packages"])).stderr,
    /booted with another `cloud_config:`, which holds at first boot alone/,
  );
  writeFileSync(file(), text);
});

test("applied again, and after a reboot, nothing changes", async () => {
  assert.equal((await apply()).changed, []);
  assert.is((await project.ingot(["stop", "packages"])).code, 0);
  assert.is((await project.ingot(["start", "packages"])).code, 0);
  assert.equal((await apply()).changed, []);
});

test("an archive that another key signed is believed by nobody; with its own key the package comes back", async () => {
  await web("dpkg --remove agent idle >/dev/null 2>&1");
  edit("key: vendor.asc", "key: stranger.asc");
  const refused = await project.ingot(["apply", "packages/web"]);
  assert.is(refused.code, 1, refused.stderr);
  assert.match(refused.stderr, /NO_PUBKEY/);
  edit("key: stranger.asc", "key: vendor.asc");
  await apply();
  assert.is((await project.ingot(["verify", "packages"])).code, 0);
});

test.run();
