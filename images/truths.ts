// What must be true of every image, held against what is on the finished tree (not against what the cleaning script meant to
// do). A bake that breaks one of them fails.
import { sha256 } from "../lib/digest.ts";
import { cloudConfigPath, enabledUnitsOf, lateFiles, sourcesList, type TreeFile } from "./files.ts";
import { isLeftOut } from "./leave-out.ts";
import { bytesOf, megabytes, type PackageLock } from "./lock.ts";
import { type Facts, ownFiles, sizeOf, type TreeEntry } from "./manifest.ts";
import type { Recipe } from "./recipe-schema.ts";

/** Programs of Debian's and Ubuntu's packages that run as root or as another group, whoever starts them. */
const setuid = [
  ...["chage", "chfn", "chsh", "crontab", "dotlockfile", "expiry", "fusermount3", "gpasswd", "mount", "newgrp", "passwd", "pkexec"],
  ...["ssh-agent", "su", "sudo", "umount", "wall", "write"],
].map((name) => `/usr/bin/${name}`);
setuid.push("/usr/lib/dbus-1.0/dbus-daemon-launch-helper", "/usr/lib/openssh/ssh-keysign", "/usr/lib/polkit-1/polkit-agent-helper-1");
setuid.push("/usr/sbin/mount.nfs", "/usr/sbin/pam_extrausers_chkpwd", "/usr/sbin/postdrop", "/usr/sbin/postqueue", "/usr/sbin/unix_chkpwd");

/** Who may log in beside those in `users:`, and what "nobody" is called as a shell. */
const shells: Record<string, string> = { root: "/bin/bash", sync: "/bin/sync" };
const noShells = ["/usr/sbin/nologin", "/sbin/nologin", "/bin/false", "/usr/bin/false"];

/** Folders that are everybody's. */
const sticky = ["1777 /tmp", "1777 /var/tmp"];

/** Services and sockets that make a machine of it: cloud-init, consoles, the network. */
const startedByDistro = [
  ...["cloud-config", "cloud-final", "cloud-init", "cloud-init-local", "cloud-init-main", "cloud-init-network"],
  ...[
    "console-setup",
    "e2scrub_reap",
    "getty@",
    "keyboard-setup",
    "networking",
    "sshd-keygen",
    "systemd-networkd",
    "systemd-network-generator",
  ],
  ...["systemd-networkd-wait-online", "systemd-pstore", "systemd-resolved", "systemd-timesyncd"],
].map((name) => `${name}.service`);
startedByDistro.push("systemd-networkd.socket");

/** What is not true, for people; nothing when the image is right. `host`: Ingot's own files. */
export function brokenTruths(recipe: Recipe, lock: PackageLock, host: TreeFile[], facts: Facts): string[] {
  const broken: string[] = [];
  const none = (what: string, where: (f: TreeEntry) => boolean) => {
    const found = facts.files.filter(where).map((f) => f.path);
    if (found.length) broken.push(`${what}: ${found.slice(0, 5).join(", ")}${found.length > 5 ? ` and ${found.length - 5} more` : ""}`);
  };
  const below = (folder: string) => (f: TreeEntry) => f.path.startsWith(`${folder}/`) && f.type !== "d";
  const is =
    (...paths: string[]) =>
    (f: TreeEntry) =>
      paths.includes(f.path);

  // Identity.
  if (facts.machineId !== "") broken.push("/etc/machine-id is not there and empty");
  none("the image has the name or the resolver of the computer that baked it", is("/etc/hostname", "/etc/resolv.conf"));
  none("the image has ssh host keys", (f) => /^\/etc\/ssh\/ssh_host_/.test(f.path));
  none("the image has login keys", (f) => /\/\.ssh\/authorized_keys2?$/.test(f.path));
  none("the image has snake-oil certificates", (f) => /snakeoil/.test(f.path) && /^\/etc\/ssl\//.test(f.path));
  none("the image has an Erlang cookie", (f) => /\.erlang\.cookie$/.test(f.path));
  none(
    "the image has a seed of randomness",
    is("/var/lib/systemd/random-seed", "/var/lib/systemd/credential.secret", "/var/lib/dbus/machine-id"),
  );
  none("cloud-init has run in the image", below("/var/lib/cloud"));
  const cloud = lateFiles(recipe, lock).find((f) => f.path === cloudConfigPath);
  if (cloud && facts.files.find((f) => f.path === cloud.path)?.content !== sha256(cloud.content))
    broken.push(`${cloud.path}, which says where cloud-init looks for its instance, is not Ingot's`);
  if (facts.privateKeys.length) broken.push(`the image has private keys: ${facts.privateKeys.join(", ")}`);
  if (facts.passwords.length) broken.push(`the image has users with a password or without the need of one: ${facts.passwords.join(", ")}`);

  // Data.
  none("the image has a database cluster", (f) => /^\/(var\/lib|etc)\/postgresql\/\d+\/./.test(f.path));
  none("the image has Ingot's secrets or state", below("/var/lib/ingot"));

  // What only the bake needed.
  none("the image has logs", (f) => below("/var/log")(f) && f.type === "f" && f.size > 0);
  none("the image has package lists", below("/var/lib/apt/lists"));
  none("the image has downloaded packages", (f) => /^\/var\/cache\/apt\/.*\.(deb|bin)$/.test(f.path));
  none("the image has temporary files", (f) => below("/tmp")(f) || below("/var/tmp")(f) || below("/run")(f));
  none(
    "the image has files of the bake",
    (f) => /^\/(ingot-debs|etc\/(apt|dpkg)\/.*(mmdebstrap|ingot-bake))/.test(f.path) || f.path === "/usr/sbin/policy-rc.d",
  );
  if (facts.sourcesList !== sourcesList(recipe)) broken.push("/etc/apt/sources.list is not the recipe's");
  none("the image has other package sources", below("/etc/apt/sources.list.d"));

  none(
    "the image has what dpkg, ucf or an editor put aside",
    (f) => /(\.(dpkg|ucf)-[a-z]+|~|\.orig|\.rej|\.swp)$/.test(f.path) && f.type === "f",
  );
  none("the image has files younger than its lock", (f) => f.mtime > lock.date);

  none(
    "the image has what `leave_out:` says it has not",
    (f) => f.type === "f" && !(f.path in recipe.files) && isLeftOut(recipe.leave_out, f.path),
  );

  // Who may do what.
  const known = new Set([...setuid, ...recipe.setuid]);
  none(
    "the image has programs that run as another user or group, and `setuid:` does not have them",
    (f) => f.type === "f" && /^[2-7]\d{3}$/.test(f.mode) && !known.has(f.path),
  );
  none(
    "everybody may write to",
    (f) =>
      /[2367]$/.test(f.mode) &&
      f.type !== "l" &&
      !(f.type === "c" && f.path.startsWith("/dev/")) &&
      !sticky.includes(`${f.mode} ${f.path}`),
  );
  for (const [name, { uid, shell }] of Object.entries(facts.users)) {
    if (uid === 0 && name !== "root") broken.push(`${name} is root by another name`);
    const allowed = recipe.users[name]?.shell ?? shells[name];
    if (shell !== allowed && !noShells.includes(shell))
      broken.push(`${name} may log in (${shell})${allowed ? `, and not by ${allowed}` : ": `users:` does not say so"}`);
  }
  const size = sizeOf(facts.files);
  if (recipe.max_size !== undefined && size > bytesOf(recipe.max_size))
    broken.push(`the image holds ${megabytes(size)}, and \`max_size:\` allows ${recipe.max_size}`);

  // What was asked for.
  const locked = new Map(lock.packages.map((p) => [p.name, p.version]));
  const there = new Map(facts.packages.map((p) => [p.name, p]));
  for (const [name, version] of locked) {
    const p = there.get(name);
    if (p?.version !== version || p.state !== "ii")
      broken.push(`${name} ${version} is locked; in the image it is ${p ? `${p.version} (${p.state})` : "missing"}`);
  }
  for (const name of there.keys()) if (!locked.has(name)) broken.push(`${name} is in the image and not in the lock`);
  for (const [name, u] of Object.entries(recipe.users)) {
    if (facts.users[name]?.uid !== u.uid || facts.users[name]?.gid !== u.uid) broken.push(`the user ${name} has not the number ${u.uid}`);
  }
  for (const [name, gid] of Object.entries(recipe.groups))
    if (facts.groups[name]?.gid !== gid) broken.push(`the group ${name} has not the number ${gid}`);
  for (const unit of recipe.disabled) {
    const state = facts.units[unit];
    if (state === undefined) broken.push(`${unit} is to be disabled and does not exist`);
    else if (state === "enabled") broken.push(`${unit} is enabled`);
  }
  for (const unit of [...enabledUnitsOf(host), ...recipe.enabled])
    if (facts.units[unit] !== "enabled") broken.push(`${unit} is not enabled`);
  // Everything else that is started at boot is the machine's: whatever serves somebody is started by the host that declares it.
  const started = new Set([...startedByDistro, ...enabledUnitsOf(host), ...recipe.enabled]);
  for (const [unit, state] of Object.entries(facts.units))
    if (state === "enabled" && /\.(service|socket)$/.test(unit) && !started.has(unit) && !recipe.disabled.includes(unit))
      broken.push(`${unit} is started at boot: the recipe says neither \`enabled:\` nor \`disabled:\` of it`);
  const own = ownFiles(facts.files);
  for (const f of host) if (own[f.path] !== sha256(f.content)) broken.push(`${f.path} is not Ingot's`);
  const locales = facts.locales.map(plain);
  for (const locale of recipe.locales) if (!locales.includes(plain(locale))) broken.push(`the locale ${locale} was not made`);
  return broken;
}

/** `locale -a` says en_US.utf8. */
const plain = (locale: string): string => locale.toLowerCase().replaceAll("-", "");
