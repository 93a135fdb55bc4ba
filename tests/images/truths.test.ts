import * as assert from "uvu/assert";
import { lateFiles, sourcesList } from "../../images/files.ts";
import type { Facts, TreeEntry } from "../../images/manifest.ts";
import { brokenTruths } from "../../images/truths.ts";
import { sha256 } from "../../lib/digest.ts";
import { suite } from "../suite.ts";
import { locked, lockOf, recipeOf, smallRecipe } from "./fixtures.ts";

const test = suite("truths about an image");
const recipe = recipeOf(smallRecipe);
const lock = lockOf(recipe, [locked("sudo", "1.9")]);

const right: Facts = {
  packages: [{ state: "ii", name: "sudo", version: "1.9" }],
  units: { "apt-daily.timer": "disabled" },
  users: {},
  groups: {},
  files: [],
  tree: "",
  passwords: [],
  privateKeys: [],
  locales: ["C.utf8"],
  postgresql: [],
  machineId: "",
  sourcesList: sourcesList(recipe),
};
const entry = (path: string, size = 1): TreeEntry => ({
  ...{ type: "f", mode: "644", uid: 0, gid: 0, size, mtime: 0, content: "", links: "", attributes: "", path },
});
const broken = (change: Partial<Facts>): string[] => brokenTruths(recipe, lock, [], { ...right, ...change });

test("a clean tree breaks none", () => assert.equal(broken({}), []));

const leaks: Record<string, string> = {
  "ssh host keys": "/etc/ssh/ssh_host_ed25519_key",
  "the snake-oil key": "/etc/ssl/private/ssl-cert-snakeoil.key",
  "the snake-oil certificate": "/etc/ssl/certs/ssl-cert-snakeoil.pem",
  "the baking computer's name": "/etc/hostname",
  "the baking computer's resolver": "/etc/resolv.conf",
  "somebody's login key": "/home/debian/.ssh/authorized_keys",
  "a log": "/var/log/nginx/access.log",
  "package lists": "/var/lib/apt/lists/mirror_dists_bookworm_InRelease",
  "a downloaded package": "/var/cache/apt/archives/sudo_1.9_amd64.deb",
  "a database cluster": "/var/lib/postgresql/15/main/PG_VERSION",
  "a cluster's configuration": "/etc/postgresql/15/main/postgresql.conf",
  "Ingot's secrets": "/var/lib/ingot/secrets/django-key",
  "a run of cloud-init": "/var/lib/cloud/instances/i-1/user-data.txt",
  "an Erlang cookie": "/var/lib/rabbitmq/.erlang.cookie",
  "a seed of randomness": "/var/lib/systemd/random-seed",
  "another package source": "/etc/apt/sources.list.d/extra.list",
  "mmdebstrap's ban on starting services": "/usr/sbin/policy-rc.d",
};
for (const [what, path] of Object.entries(leaks))
  test(`${what} in it fails the bake`, () => {
    const found = broken({ files: [entry(path)] });
    assert.is(found.length, 1);
    assert.match(found[0] ?? "", path);
  });

test("who may log in is said in the recipe, and nobody else is root", () => {
  const user = (uid: number, shell: string) => ({ uid, gid: uid, home: "/", shell });
  const usual = {
    root: user(0, "/bin/bash"),
    sync: user(4, "/bin/sync"),
    daemon: user(1, "/usr/sbin/nologin"),
    x: user(101, "/bin/false"),
  };
  assert.equal(broken({ users: usual }), []);
  assert.equal(
    broken({ users: { ...usual, toor: user(0, "/usr/sbin/nologin"), ops: user(1000, "/bin/sh"), sync: user(4, "/bin/bash") } }),
    [
      "sync may log in (/bin/bash), and not by /bin/sync",
      "toor is root by another name",
      "ops may log in (/bin/sh): `users:` does not say so",
    ],
  );
  const keeper = recipeOf(`${smallRecipe}users: { keeper: { uid: 650, home: /srv, shell: /bin/bash } }\n`);
  const facts = { ...right, users: { keeper: user(650, "/bin/bash") } };
  assert.equal(brokenTruths(keeper, lock, [], facts), []);
});

test("cloud-init looks where the recipe says", () => {
  const cloud = lockOf(recipe, [locked("sudo", "1.9"), locked("cloud-init", "22.4")]);
  const packages = cloud.packages.map(({ name, version }) => ({ state: "ii", name, version }));
  const file = lateFiles(recipe, cloud).find((f) => f.path.startsWith("/etc/cloud/"));
  const said = (content: string) =>
    brokenTruths(recipe, cloud, [], { ...right, packages, files: [{ ...entry(file?.path ?? ""), content: sha256(content) }] });
  assert.equal(said(String(file?.content)), []);
  assert.match(said("datasource_list: [ None ]\n").join(), /^\/etc\/cloud\/cloud\.cfg\.d\/99-ingot\.cfg, which says where/);
});

test("what is to be left out, and is there, fails the bake; copyright files, English, links, and the recipe's own files do not", () => {
  const left = ["/usr/share/man/man1/ls.1.gz", "/usr/share/doc/sudo/README", "/usr/share/locale/de/LC_MESSAGES/sudo.mo"];
  const found = broken({ files: left.map((path) => entry(path)) });
  assert.equal(found, [`the image has what \`leave_out:\` says it has not: ${left.join(", ")}`]);
  const kept = ["/usr/share/doc/sudo/copyright", "/usr/share/locale/en_GB/LC_MESSAGES/sudo.mo", "/usr/share/locale/locale.alias"];
  const link = { ...entry("/usr/share/doc/libstdc++6"), type: "l" };
  assert.equal(broken({ files: [...kept.map((path) => entry(path)), link] }), []);
  const path = "/usr/share/doc/mine/README";
  const own = { ...recipe, files: { [path]: { content: "", mode: "0644", early: false } } };
  assert.equal(brokenTruths(own, lock, [], { ...right, files: [entry(path)] }), []);
  assert.equal(brokenTruths({ ...recipe, leave_out: [] }, lock, [], { ...right, files: left.map((p) => entry(p)) }), []);
});

test("an empty log and an empty folder are no leak", () =>
  assert.equal(broken({ files: [entry("/var/log/wtmp", 0), { ...entry("/var/log/nginx"), type: "d" }] }), []));
test("a machine-id that is set, or missing, fails the bake", () => {
  assert.is(broken({ machineId: "0123\n" }).length, 1);
  assert.is(broken({ machineId: undefined }).length, 1);
});
test("the mirror's address in sources.list fails the bake", () =>
  assert.is(broken({ sourcesList: "deb http://mirror.example.net/debian bookworm main\n" }).length, 1));
test("private keys and passwords fail the bake", () => assert.is(broken({ privateKeys: ["/etc/x.pem"], passwords: ["root"] }).length, 2));
test("another version than the locked one, a half-configured package, and one too many fail the bake", () => {
  assert.is(broken({ packages: [{ state: "ii", name: "sudo", version: "1.8" }] }).length, 1);
  assert.is(broken({ packages: [{ state: "iF", name: "sudo", version: "1.9" }] }).length, 1);
  assert.is(broken({ packages: [...right.packages, { state: "ii", name: "acl", version: "1" }] }).length, 1);
});
test("a unit that is to be disabled and is not, or does not exist, fails the bake", () => {
  assert.is(broken({ units: { "apt-daily.timer": "enabled" } }).length, 1);
  assert.is(broken({ units: {} }).length, 1);
});

test("a file younger than the lock, and what dpkg put aside, fail the bake", () => {
  assert.match(broken({ files: [{ ...entry("/etc/motd"), mtime: lock.date + 1 }] })[0] ?? "", /younger than its lock: \/etc\/motd/);
  for (const path of ["/etc/motd.dpkg-new", "/etc/motd.ucf-dist", "/etc/motd~"])
    assert.is(broken({ files: [entry(path)] }).length, 1, path);
});
test("a program that runs as root is Debian's own, or the recipe's", () => {
  const program = (path: string): TreeEntry => ({ ...entry(path), mode: "4755" });
  assert.equal(broken({ files: [program("/usr/bin/sudo")] }), []);
  assert.match(broken({ files: [program("/usr/bin/other")] })[0] ?? "", /`setuid:` does not have them: \/usr\/bin\/other/);
  assert.match(broken({ files: [{ ...program("/usr/bin/other"), mode: "2755" }] })[0] ?? "", /other/);
  const allowed = recipeOf(`${smallRecipe}setuid: [/usr/bin/other]\n`);
  assert.equal(brokenTruths(allowed, lock, [], { ...right, files: [program("/usr/bin/other")] }), []);
});
test("what everybody may write to fails the bake, but for the folders for temporary files and devices", () => {
  const folder = (path: string, mode: string): TreeEntry => ({ ...entry(path), type: "d", mode });
  assert.equal(
    broken({ files: [folder("/tmp", "1777"), folder("/var/tmp", "1777"), { ...entry("/dev/null"), type: "c", mode: "666" }] }),
    [],
  );
  for (const f of [
    folder("/srv", "1777"),
    folder("/tmp", "777"),
    { ...entry("/etc/motd"), mode: "666" },
    { ...entry("/srv/x"), type: "p", mode: "622" },
  ])
    assert.match(broken({ files: [f] })[0] ?? "", `everybody may write to: ${f.path}`);
});
test("an image that holds more than it may fails the bake", () => {
  const small = recipeOf(`${smallRecipe}max_size: 1.5MB\n`);
  const holding = (size: number) => brokenTruths(small, lock, [], { ...right, files: [entry("/usr/big", size)] });
  assert.equal(holding(1_500_000), []);
  assert.match(holding(1_600_000)[0] ?? "", /holds 2 MB, and `max_size:` allows 1.5MB/);
});
test("a service that is started at boot is the machine's, or the recipe says so", () => {
  const units = { ...right.units, "nginx.service": "enabled", "getty@.service": "enabled", "logrotate.timer": "enabled" } as const;
  assert.match(broken({ units })[0] ?? "", /^nginx.service is started at boot/);
  const wanted = recipeOf(`${smallRecipe}enabled: [nginx.service]\n`);
  assert.equal(brokenTruths(wanted, lock, [], { ...right, units }), []);
});

test.run();
