// The files that Ingot puts into a tree beside those of the packages: its own host side, cloud-init's configuration, the
// recipe's files, accounts and sources. All computed here, so that the scripts only copy.
import { join } from "node:path";
import { filesBelow } from "./digest.ts";
import type { PackageLock } from "./lock.ts";
import type { Recipe } from "./recipe-schema.ts";

export interface TreeFile {
  /** Absolute, in the tree. */
  path: string;
  mode: string;
  content: string | Buffer;
}

/** Of Ingot's own units those that say when they are started: enabled in the image. */
export const enabledUnitsOf = (files: TreeFile[]): string[] =>
  files.flatMap((f) =>
    f.path.startsWith("/usr/lib/systemd/system/") && /^\[Install\]/m.test(f.content.toString())
      ? [f.path.slice(f.path.lastIndexOf("/") + 1)]
      : [],
  );

/** Mounts of file systems that few kernels have; where a package brings them they would be failed units. */
export const maskedIfPresent = ["proc-fs-nfsd.mount", "run-rpc_pipefs.mount"];

const text = (path: string, content: string): TreeFile => ({ path, mode: "0644", content });

/** Files that are there before the packages' scripts look for them: accounts, names, and those of the recipe's that are early. */
export function earlyFiles(recipe: Recipe): TreeFile[] {
  return [
    text("/etc/hosts", hosts),
    text("/usr/lib/sysusers.d/ingot.conf", sysusers(recipe)),
    ...Object.entries(recipe.files).flatMap(([path, f]) => (isEarly(path, f) ? { path, mode: f.mode, content: f.content } : [])),
  ];
}

/** What is computed from the recipe and written on top of the packages. */
export function lateFiles(recipe: Recipe, lock: PackageLock): TreeFile[] {
  const has = (name: string) => lock.packages.some((p) => p.name === name);
  return [
    text("/etc/apt/sources.list", sourcesList(recipe)),
    ...Object.entries(recipe.archives).flatMap(([name, { key }]) => (key === undefined ? [] : [text(keyringOf(name), key)])),
    ...(has("cloud-init") ? [text(cloudConfigPath, cloudConfig(recipe))] : []),
    ...(recipe.locales.length
      ? [text("/etc/locale.gen", recipe.locales.map((l) => `${l} ${l.slice(l.indexOf(".") + 1)}\n`).join(""))]
      : []),
    ...Object.entries(recipe.files).flatMap(([path, f]) => (isEarly(path, f) ? [] : { path, mode: f.mode, content: f.content })),
  ];
}

/** An initramfs is made of some of /etc, with the packages. */
const isEarly = (path: string, file: { early: boolean }): boolean =>
  file.early || /^\/etc\/(initramfs-tools|modprobe\.d|udev\/rules\.d)\//.test(path);

/** cloud-init/host/: its units among systemd's, its rules among udev's, everything else below /usr/lib/ingot, programs executable. */
export function hostFiles(tool: string): TreeFile[] {
  return Object.entries(filesBelow(join(tool, "cloud-init/host"))).map(([path, content]) => ({
    path: placeOf(path),
    mode: content.subarray(0, 2).toString() === "#!" ? "0755" : "0644",
    content,
  }));
}

function placeOf(path: string): string {
  const [folder, name] = path.split("/");
  if (folder === "units") return `/usr/lib/systemd/system/${name}`;
  return folder === "udev" ? `/usr/lib/udev/rules.d/${name}` : `/usr/lib/ingot/${path}`;
}

/** The recipe's archives in apt's one-line form: the image's own, whatever mirror it was baked from. */
export function sourcesList(recipe: Recipe): string {
  return Object.entries(recipe.archives)
    .flatMap(([name, { mirror, suites, components, key }]) => {
      // A key vouches for its archive alone; the distribution's own are apt's to find.
      const by = key === undefined ? "" : `[signed-by=${keyringOf(name)}] `;
      return suites.map((suite) => `deb ${by}${mirror} ${suite} ${components.join(" ")}\n`);
    })
    .join("");
}

const keyringOf = (name: string): string => `/etc/apt/keyrings/${name}.asc`;

const hosts = `127.0.0.1	localhost
::1	localhost ip6-localhost ip6-loopback
ff02::1	ip6-allnodes
ff02::2	ip6-allrouters
`;

/** Accounts with fixed numbers, in the form of sysusers.d(5). */
function sysusers(recipe: Recipe): string {
  const groups = Object.entries(recipe.groups).map(([name, gid]) => `g ${name} ${gid}\n`);
  const users = Object.entries(recipe.users).flatMap(([name, u]) => [
    `g ${name} ${u.uid}\n`,
    `u ${name} ${u.uid}:${u.uid} "${u.description || name}" ${u.home} ${u.shell}\n`,
    ...u.groups.map((g) => `m ${name} ${g}\n`),
  ]);
  return `# Owners of data keep their numbers: written by Ingot from the recipe.\n${[...groups, ...users].join("")}`;
}

export const cloudConfigPath = "/etc/cloud/cloud.cfg.d/99-ingot.cfg";

/** Modules of cloud-init's that run in each of its stages. */
export const cloudInitModules = {
  init: ["growpart", "resizefs", "write-files", "set_hostname", "update_hostname", "users-groups", "ssh"],
  config: ["runcmd"],
  final: ["scripts-user", "final-message"],
};

/**
 * cloud-init does little here: hostname, the platform's login key, the files of the generation. Every stage costs half a
 * second of Python before it does anything, so modules that nobody asks for are left out. runcmd and scripts-user stay for
 * a user's own cloud-config.
 */
function cloudConfig(recipe: Recipe): string {
  return `# Written by Ingot; read after cloud.cfg, whose lists these replace.
datasource_list: [ ${recipe.datasources.join(", ")} ]
# Host keys come from Ingot's secrets, so that a rebuilt host is the same host.
ssh_deletekeys: false
ssh_genkeytypes: []
disable_root: true
preserve_hostname: false
cloud_init_modules: [${cloudInitModules.init.join(", ")}]
cloud_config_modules: [${cloudInitModules.config.join(", ")}]
cloud_final_modules: [${cloudInitModules.final.join(", ")}]
system_info:
  default_user:
    groups: [adm, sudo]
`;
}
