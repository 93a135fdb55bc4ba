// Raw keys of cloud-init's own, for what no kind is made for: they are part of the user-data, and hold at first boot alone.
import { cloudInitModules } from "../../images/files.ts";
import { nearest } from "../../lib/diagnostics.ts";
import { canonicalJson, type Json, sha256 } from "../../lib/digest.ts";
import { map, type Schema, text } from "../../lib/schema.ts";
import type { Path } from "../../lib/yaml.ts";
import { inside, type Kind, kind, type Problem } from "../kind.ts";
import { isFrom, isSecret, looksSecret, type Nested, urlWithPassword } from "../value.ts";

type Stage = keyof typeof cloudInitModules;

/** What each key needs of cloud-init: the module that reads it, and its stage on Debian (/etc/cloud/cloud.cfg). */
const modules: Record<string, { stage: Stage; module: string }> = {
  random_seed: { stage: "init", module: "seed_random" },
  bootcmd: { stage: "init", module: "bootcmd" },
  growpart: { stage: "init", module: "growpart" },
  resize_rootfs: { stage: "init", module: "resizefs" },
  ca_certs: { stage: "init", module: "ca-certs" },
  rsyslog: { stage: "init", module: "rsyslog" },
  snap: { stage: "config", module: "snap" },
  keyboard: { stage: "config", module: "keyboard" },
  apt_pipelining: { stage: "config", module: "apt-pipelining" },
  disable_ec2_metadata: { stage: "config", module: "disable-ec2-metadata" },
  runcmd: { stage: "config", module: "runcmd" },
  byobu_by_default: { stage: "config", module: "byobu" },
  landscape: { stage: "final", module: "landscape" },
  lxd: { stage: "final", module: "lxd" },
  puppet: { stage: "final", module: "puppet" },
  chef: { stage: "final", module: "chef" },
  mcollective: { stage: "final", module: "mcollective" },
  salt_minion: { stage: "final", module: "salt-minion" },
  phone_home: { stage: "final", module: "phone-home" },
  final_message: { stage: "final", module: "final-message" },
};
/** Read by cloud-init itself. */
const plain = ["reporting"];
const known = [...Object.keys(modules), ...plain];

const identity = "the host's `hostname:` and `domain:`";
const people = "`users:` and `groups:`; a list of cloud-init's would leave the platform's login key nowhere";
const software = "`packages: { name: { at_first_boot: true } }` and `archives:`";
const disks = "`volumes:`, which never formats what has data on it";
const lists = "the image's recipe; the modules that these keys need are added by Ingot";
/** Keys that are Ingot's own, or that work against it, and what there is in their place. */
const instead: Record<string, string> = {
  hostname: identity,
  fqdn: identity,
  preserve_hostname: identity,
  prefer_fqdn_over_hostname: identity,
  manage_etc_hosts: "`etc_hosts:`",
  users: people,
  user: people,
  groups: people,
  password: people,
  chpasswd: people,
  ssh_pwauth: people,
  ssh_authorized_keys: people,
  ssh_import_id: people,
  disable_root: people,
  ssh_keys: "the host key of the secrets' store, by which a rebuilt host is known again",
  ssh_deletekeys: "the host key of the secrets' store, by which a rebuilt host is known again",
  ssh_genkeytypes: "the host key of the secrets' store, by which a rebuilt host is known again",
  write_files: "`files:`",
  packages: software,
  package_update: software,
  package_upgrade: "a new image: `ingot image lock`",
  package_reboot_if_required: "a new image: `ingot image lock`",
  apt: software,
  mounts: disks,
  mount_default_fields: disks,
  fs_setup: disks,
  disk_setup: disks,
  device_aliases: disks,
  swap: "`swap:`",
  timezone: "`clock:`",
  ntp: "`clock:`",
  locale: "`locale:`",
  power_state: "nothing: it would end the machine while first boot's steps run",
  datasource: lists,
  datasource_list: lists,
  system_info: lists,
  cloud_init_modules: lists,
  cloud_config_modules: lists,
  cloud_final_modules: lists,
};

/** In the order in which Debian runs them. */
const order = ["seed_random", "bootcmd", "write-files", "growpart", "resizefs", "set_hostname", "update_hostname", "ca-certs", "rsyslog"];
const place = (module: string): number => (order.includes(module) ? order.indexOf(module) : order.length);

/** A stage's modules: the image's, and those that these keys need. */
function stageOf(stage: Stage, keys: string[]): string[] | undefined {
  const wanted = keys.flatMap((k) => (modules[k]?.stage === stage ? [modules[k].module] : []));
  const missing = wanted.filter((m) => !cloudInitModules[stage].includes(m));
  // The sort is stable; what says the last word stays last.
  const last = cloudInitModules[stage].filter((m) => m === "final-message");
  const all = [...cloudInitModules[stage].filter((m) => m !== "final-message"), ...new Set(missing)].sort((a, b) => place(a) - place(b));
  return missing.length ? [...all, ...last] : undefined;
}

/** Secrets at any depth: user-data is no place for them. */
const secretsAt = (value: unknown, path: Path): Problem[] => {
  if (typeof value === "object" && value !== null) {
    if (!Array.isArray(value) && (isSecret(value as Nested) || isFrom(value as Nested)))
      return [
        {
          code: "ING1442",
          path,
          message: "a reference has no value yet when the user-data is written, and a secret must never be in it",
          hint: "let a kind of Ingot's do this: `files:` with `values:`, or `commands:`",
        },
      ];
    return (Array.isArray(value) ? [...value.entries()] : Object.entries(value)).flatMap(([k, v]) => secretsAt(v, [...path, k]));
  }
  const name = String(path.findLast((p) => typeof p === "string"));
  return typeof value === "string" && ((looksSecret(name) && value !== "") || urlWithPassword(value))
    ? [{ code: "ING1407", path, message: `${name} holds a secret by its name, and whoever is on the machine reads its user-data` }]
    : [];
};

export const cloudConfig: Kind<Record<string, unknown>> = kind({
  kind: "cloud-config",
  key: "cloud_config",
  shape: "one",
  summary:
    "Raw keys of cloud-init's, for what no kind is made for. They are part of the user-data, so they hold at first boot alone: `apply` changes nothing by them, and `verify` fails on a machine that was booted with others. They are held against the schema of the cloud-init in the image before anything is launched. What Ingot does itself is refused; `runcmd` runs at the end of cloud-init, beside first boot's steps and not after them.",
  schema: map({} as Schema<unknown>, text({ pattern: "^[a-z][a-z0-9_-]*$", expected: "a key of cloud-init's" })),
  examples: [
    "cloud_config:\n  phone_home: { url: 'https://inventory.example.org/$INSTANCE_ID', tries: 3, post: [instance_id, fqdn] }\n  growpart: { mode: auto, devices: [/] }\n",
    "cloud_config:\n  bootcmd: [[modprobe, -q, tcp_bbr]]\n  runcmd: [[logger, first boot]]\n  rsyslog: { remotes: { central: '10.1.1.9:514' } }\n",
  ],
  problems: ({ value }): Problem[] =>
    Object.entries(value).flatMap(([key, v]): Problem[] => {
      if (known.includes(key)) return secretsAt(v, [key]);
      const near = nearest(key, known);
      return [
        {
          code: "ING1442",
          path: [key],
          message: instead[key] ? `\`${key}\` of cloud-init's is not taken from a stack` : `cloud-init knows no key \`${key}\` on Debian`,
          hint: instead[key] ? `in its place: ${instead[key]}` : near ? `did you mean \`${near}\`?` : `known here: ${known.join(", ")}`,
        },
      ];
    }),
  compile: ({ value }) => {
    const keys = Object.keys(value);
    const stages = (["init", "config", "final"] as const).map((s) => [`cloud_${s}_modules`, stageOf(s, keys)] as const);
    return {
      cloudConfig: { ...value, ...Object.fromEntries(stages.filter(([, list]) => list !== undefined)) } as Record<string, Json>,
    };
  },
  checks: ({ value }) => [inside("cloud_config", { sha256: sha256(canonicalJson(value as Json)), within: 60 })],
});
