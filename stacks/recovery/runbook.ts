// A host by hand: pages to print, for the day when Ingot itself is not there. Everything that its plan says, in the order in which it is done, as
// commands of the tools beneath: what a person types on a plain machine of the same release. Data in, data out; scripts/runbook.ts writes it.
import { pgbackrestConfig, stanza } from "../../cloud-init/backup/pgbackrest.ts";
import { passwordPath } from "../../cloud-init/backup/place.ts";
import type { Arg, HostPlan, Part, StackPlan, Step } from "../../cloud-init/plan.ts";
import type { Manifest } from "../../images/image.ts";
import { shell } from "../../lib/quote.ts";
import { type BackupSettings, backupSettings, copiesOf } from "./backups.ts";

/** What a page is made of; asMarkdown() and asHtml() write it down. */
export type Block = { heading: string; level: 1 | 2 | 3 } | { text: string } | { code: string } | { rows: string[][] };

/** What the pages know of a host's image: from its manifest where it is baked, else from its lock. */
export type ImageFacts = Pick<Manifest, "distro" | "release" | "packages">;

/** The placeholder of a secret in a command, and in a file. */
const secretOf = (name: string): string => `<secret ${name}>`;
const asText = (parts: Part[]): string =>
  parts
    .map((p) =>
      typeof p === "string" ? p : `${secretOf(p.secret)}${p.encode ? ` (${p.encode === "url" ? "percent-encoded" : p.encode})` : ""}`,
    )
    .join("");

const argumentText = (arg: Arg | undefined): string => {
  if (arg === undefined) return "";
  if (Array.isArray(arg)) return arg.join(" ");
  if (typeof arg !== "object") return String(arg);
  if ("secret" in arg) return secretOf(arg.secret);
  return arg.render.format === "text"
    ? asText(arg.render.value)
    : Object.entries(arg.render.values)
        .map(([k, parts]) => `${k}=${asText(parts)}`)
        .join("\n");
};

/** A file with this in it, in the words of a shell. */
const written = (path: string, content: string): string[] => {
  const end = ["END", "END_OF_FILE"].find((word) => !content.split("\n").includes(word)) ?? "END_OF_THIS_FILE";
  return [
    `install -d ${shell(path.slice(0, path.lastIndexOf("/")) || "/")}`,
    `cat >${shell(path)} <<'${end}'`,
    content.replace(/\n$/, ""),
    end,
  ];
};
const owned = (path: string, owner: string, group: string, mode: string): string[] => [
  `chown ${shell(group ? `${owner}:${group}` : `${owner}:`)} ${shell(path)}`,
  `chmod ${mode} ${shell(path)}`,
];

/** An argument that is a list; none where it is not there. */
const listOf = (arg: Arg | undefined): string[] => (Array.isArray(arg) ? arg : []);

type Commands = (arg: (name: string) => string, step: Step, plan: HostPlan) => string[];

const psql = (database: string, sql: string): string => `runuser -u postgres -- psql -X -d ${shell(database)} -c ${shell(sql)}`;
const fileAt = (plan: HostPlan, path: string): string | undefined => plan.generation.files.find((f) => f.path === path)?.content;

/** What each action comes to. One that is not here is said by its name and arguments. */
const commands: Record<string, Commands> = {
  hostname: (arg, { args }) => [
    `hostnamectl set-hostname ${shell(arg("hostname"))}`,
    `echo ${shell(`127.0.1.1 ${arg("fqdn")} ${arg("hostname")}`)} >>/etc/hosts`,
    ...listOf(args.peers).map((peer) => `echo ${shell(peer)} >>/etc/hosts`),
  ],
  "ssh-host-key": () => [
    "# optional: its old host key, so that clients do not complain (/etc/ssh/ssh_host_ed25519_key, 0600)",
    "systemctl restart ssh",
  ],
  group: (arg) => [`groupadd ${arg("system") === "true" ? "--system " : ""}--gid ${arg("gid")} ${shell(arg("name"))}`],
  user: (arg) => [
    `groupadd --gid ${arg("gid")} ${shell(arg("name"))}`,
    `useradd ${arg("system") === "true" ? "--system " : ""}--uid ${arg("uid")} --gid ${arg("gid")}${arg("groups") ? ` --groups ${arg("groups").replaceAll(" ", ",")}` : ""} --home-dir ${shell(arg("home"))}${arg("system") === "true" ? "" : " --create-home"} --shell ${arg("shell")} ${shell(arg("name"))}`,
    ...(arg("sudo") === "passwordless" ? [`echo ${shell(`${arg("name")} ALL=(ALL) NOPASSWD: ALL`)} >/etc/sudoers.d/${arg("name")}`] : []),
  ],
  "authorized-keys": (arg, { args }) => {
    const home = `~${arg("user")}/.ssh`;
    return [
      `install -d -o ${arg("user")} -m 0700 ${home}`,
      ...listOf(args.keys).map((key) => `echo ${shell(key)} >>${home}/authorized_keys`),
    ];
  },
  volume: (arg) => [
    "disk=/dev/…   # the data disk: lsblk, blkid",
    `# only when it is new and blank: mkfs.${arg("filesystem")} "$disk"`,
    `install -d ${shell(arg("mount"))}`,
    `mount "$disk" ${shell(arg("mount"))}   # and into /etc/fstab by its UUID`,
  ],
  mount: (arg, step) => [`systemctl daemon-reload && systemctl enable --now ${shell(arg("unit") || step.id)}`],
  swap: (arg) => [
    `fallocate -l ${arg("bytes")} ${shell(arg("file"))} && chmod 0600 ${shell(arg("file"))} && mkswap ${shell(arg("file"))}`,
    `systemctl enable --now ${shell(arg("unit"))}`,
  ],
  directory: (arg, { args }) => [
    `install -d ${shell(arg("path"))}`,
    ...owned(arg("path"), arg("owner") || "root", arg("group"), arg("mode") || "0755"),
    ...listOf(args.acl).map((entry) => `setfacl --modify ${shell(entry)} ${shell(arg("path"))}`),
  ],
  file: (arg, { args }, plan) => {
    const source = typeof args.source === "string" ? fileAt(plan, args.source) : argumentText(args.source);
    return [
      ...(source === undefined ? [`# ${arg("path")}: the artifact ${arg("artifact")}`] : written(arg("path"), source)),
      ...owned(arg("path"), arg("owner") || "root", arg("group"), arg("mode") || "0644"),
    ];
  },
  link: (arg) => [`ln -sfn ${shell(arg("to"))} ${shell(arg("path"))}`],
  postgresql: (arg, _, plan) => {
    const folder = `/etc/postgresql/${arg("version")}/main`;
    const copy = (name: string, to: string) => (arg(name) ? [`cp ${arg(name)} ${folder}/${to}`] : []);
    const restored = backupSettings(plan)?.postgresql;
    const made = `pg_createcluster ${arg("version")} main --datadir=${shell(arg("data"))} --locale=${arg("locale")}`;
    return [
      ...(restored
        ? [
            `# the data is restored (above); without a backup: ${made}`,
            `install -d -o postgres -g postgres ${folder}/conf.d`,
            `printf '%s\\n' "data_directory = '${arg("data")}'" "hba_file = '${folder}/pg_hba.conf'" "ident_file = '${folder}/pg_ident.conf'" "unix_socket_directories = '/run/postgresql'" "include_dir = 'conf.d'" >${folder}/postgresql.conf`,
          ]
        : [made]),
      ...copy("settings_file", "conf.d/ingot.conf"),
      ...copy("hba_file", "pg_hba.conf"),
      ...copy("ident_file", "pg_ident.conf"),
      `systemctl enable --now ${arg("unit")}`,
      ...(restored
        ? ["# wait until this says f: it goes through what was archived since the backup", psql("postgres", "select pg_is_in_recovery()")]
        : []),
    ];
  },
  role: (arg) => [
    "# there already where the data was restored",
    psql("postgres", `create role "${arg("name")}" ${arg("attributes").replaceAll(/\S+/g, (w) => w.toUpperCase())}`),
    ...(arg("password")
      ? [
          `# its password (type it, so that it stands in no history): runuser -u postgres -- psql -c '\\password ${arg("name")}'   ${arg("password")}`,
        ]
      : []),
  ],
  database: (arg) => [
    "# there already where the data was restored",
    `runuser -u postgres -- createdb --owner=${shell(arg("owner"))} --encoding=${arg("encoding")} --locale=${arg("locale")} --template=${arg("template")} ${shell(arg("name"))}`,
  ],
  service: (arg) => [`systemctl daemon-reload && systemctl enable ${shell(arg("unit"))} && systemctl restart ${shell(arg("unit"))}`],
  nginx: (arg) => [`nginx -t && systemctl enable ${arg("unit")} && systemctl restart ${arg("unit")}`],
  postfix: (arg) => [`newaliases; systemctl enable ${arg("unit")} && systemctl restart ${arg("unit")}`],
  firewall: (arg) => [`systemctl daemon-reload && systemctl enable --now ${arg("unit")}`],
  "docker-image": (arg) => [`docker load --input artifact-${arg("artifact").slice(0, 12)}   # ${arg("name")}`],
  certificate: (arg) => [
    `# from its backup, or anew: openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days ${arg("days")} \\`,
    `#   -subj '/CN=${arg("names").split(" ")[0]}' -keyout ${arg("key_path")} -out ${arg("certificate")}`,
  ],
  release: (arg) => [
    `# the application: unpack its release into ${arg("path")} (${arg("source")}), or build it there:`,
    `#   python3 -m venv ${arg("path")}/venv, pip install its lock file, its sources in ${arg("path")}/app`,
  ],
  "application-env": (arg) => [...written(arg("path") || "/var/lib/ingot/applications/env", arg("env")), `chmod 0600 ${arg("path")}`],
  "application-command": (arg) => [
    `cd ${shell(`${arg("release")}/app`)} && set -a && . ${shell(arg("env"))} && runuser -u ${arg("user")} -- env PATH=${shell(`${arg("release")}/venv/bin`)}:$PATH ${arg("command")}`,
  ],
  "application-live": (arg) => [`ln -sfn ${shell(arg("release"))} ${shell(arg("path"))}`],
  restore: (_, __, plan) => restoreCommands(plan),
  backup: () => ["# once everything works: a full backup at once, as below"],
};

function restoreCommands(plan: HostPlan): string[] {
  const settings = backupSettings(plan);
  if (!settings) return [];
  const { bring, restic } = repositoriesOf(settings, plan.host);
  return [
    ...bring,
    ...(settings.postgresql
      ? [
          `install -d -o postgres -g postgres -m 0700 ${shell(settings.postgresql.data)}`,
          pgbackrest("info"),
          pgbackrest("restore"),
          "# to a time instead: restore --type=time --target='2026-11-24 10:29:00+00' --target-action=promote",
        ]
      : []),
    ...copiesOf(settings).map((name) => `${restic} restore latest --tag ${shell(name)} --target /`),
  ];
}

const pgbackrest = (words: string): string => `runuser -u postgres -- pgbackrest --config=${pgbackrestConfig} --stanza=${stanza} ${words}`;

/** Where a host's repositories are, what brings them within its reach, and how a command of restic's begins there. */
function repositoriesOf({ to, on, s3 }: BackupSettings, host: string): { where: string; bring: string[]; restic: string } {
  const restic = (repository: string, options: string[] = []) =>
    [`RESTIC_REPOSITORY=${repository} RESTIC_PASSWORD_FILE=${passwordPath} restic`, ...options.map(shell)].join(" ");
  if (on) {
    const keeper = `root@${on.login.split("@").at(-1)}`;
    return {
      where: `on ${on.host}, in ${to}`,
      bring: [
        `# the backups are on ${on.host}: bring them here, with the configuration, which is less then by the lines pg1-host, lock-path and cmd-ssh`,
        `rsync -a ${keeper}:${to}/ ${to}/ && chown -R postgres: ${to}/postgresql`,
        `ssh ${keeper} cat /etc/ingot/backup-store/${host}/pgbackrest.conf | grep -Ev '^(pg1-host|lock-path|cmd-ssh)' >${pgbackrestConfig}`,
      ],
      restic: restic(`${to}/files`),
    };
  }
  if (s3)
    return {
      where: `in ${to}`,
      bring: bucketCommands(to, s3),
      restic: restic(s3.restic.repository, [...s3.restic.options, ...(s3.ca === undefined ? [] : ["--cacert", s3.ca])]),
    };
  return {
    where: `on the volume mounted at ${to}`,
    bring: [`# the volume with the backups is mounted, and holds them: ls ${to}`],
    restic: restic(`${to}/files`),
  };
}

/** What pgBackRest has in its configuration, restic takes from the environment. */
const bucketCommands = (to: string, { access_key, secret_key, ca }: NonNullable<BackupSettings["s3"]>): string[] => [
  `# the backups are in ${to}; whoever writes there still must be off`,
  ...(ca === undefined ? [] : [`test -r ${shell(ca)}   # by whom its server's certificate is signed`]),
  access_key === undefined || secret_key === undefined
    ? "# on an instance whose role may read there nothing more is needed; elsewhere repo1-s3-key-type goes from pgbackrest.conf, repo1-s3-key and repo1-s3-key-secret go in"
    : `export AWS_ACCESS_KEY_ID='${secretOf(access_key)}' AWS_SECRET_ACCESS_KEY='${secretOf(secret_key)}'   # for restic; pgbackrest.conf has them`,
];

/** A step's commands; what is only Ingot's own is left out, what has no words here is said by its arguments. */
export function commandsOf(step: Step, plan: HostPlan): string[] {
  const arg = (name: string): string => argumentText(step.args[name]);
  const known = commands[step.action];
  if (known) return known(arg, step, plan);
  return [
    `# ${step.action}: what cloud-init/host/actions/${step.action}.sh does, with`,
    ...Object.keys(step.args).map((name) => `#   ${name}: ${arg(name).replaceAll("\n", "\n#     ")}`),
  ];
}

/** Steps that need each other come in an order in which they can be done one after the other. */
function inOrder(steps: Step[]): Step[] {
  const sorted: Step[] = [];
  const seen = new Set<string>();
  const visit = (step: Step): void => {
    if (seen.has(step.id)) return;
    seen.add(step.id);
    for (const other of step.after) {
      const found = steps.find((s) => s.id === other);
      if (found) visit(found);
    }
    sorted.push(step);
  };
  for (const step of steps) visit(step);
  return sorted;
}

/** @param images by host */
export function runbookOf(stack: StackPlan, images: Map<string, ImageFacts>): Block[] {
  const blocks: Block[] = [
    { heading: `${stack.stack}: by hand`, level: 1 },
    {
      text: "For the day when Ingot is not there. Each host is made on a plain machine of the same release, as root, from top to bottom. What stands in <angle brackets> is yours to put in. Print it, or keep it where the backups are; make it anew when the stack changes.",
    },
  ];
  for (const plan of stack.hosts) blocks.push(...hostPages(stack, plan, images.get(plan.host)));
  return blocks;
}

function hostPages(stack: StackPlan, plan: HostPlan, image: ImageFacts | undefined): Block[] {
  const { generation } = plan;
  const settings = backupSettings(plan);
  const needed = [...new Set(plan.wants.flatMap((w) => (w.need === "package" ? [w.name] : [])))].sort();
  // Written by their own steps, to where they belong.
  const rendered = new Set(
    generation.steps.flatMap((s) => (s.action === "file" && typeof s.args.source === "string" ? [s.args.source] : [])),
  );
  const blocks: Block[] = [
    { heading: `${stack.stack}/${plan.host}`, level: 2 },
    {
      rows: [
        ["full name", plan.fqdn],
        ...(plan.address === undefined ? [] : [["address", plan.address]]),
        ["release", image ? `${image.distro} ${image.release}` : plan.image.name],
        ["image", `${plan.image.name} ${plan.image.digest ?? "(not locked)"}`],
        ["generation", generation.digest],
        ...plan.volumes.map((v) => [`disk ${v.name}`, `${v.mount}, ${v.filesystem}, ${Math.ceil(v.size / 2 ** 30)} GiB`]),
        ...plan.ports.map((p) => [`port ${p.port}/${p.protocol}`, `open to ${[p.from].flat().join(", ")} (${p.resource})`]),
      ],
    },
    { heading: "What you need first", level: 3 },
    {
      rows: [
        ...plan.secrets.map((s) => [`secret ${s.name}`, `of ${s.resource}${s.generate ? ", made by Ingot" : ", given by you"}`]),
        ...plan.artifacts.map((a) => [`artifact ${/^0+$/.test(a.sha256) ? a.id : a.sha256.slice(0, 12)}`, `of ${a.resource}`]),
        ...(settings
          ? [
              [
                "backups",
                `${repositoriesOf(settings, plan.host).where}, encrypted with the secret ${plan.secrets.find((s) => s.resource === "backup")?.name}`,
              ],
            ]
          : []),
      ],
    },
    {
      text: "Secrets are where the target keeps them: on this computer in .ingot/secrets/<stack>/, on EC2 in the Parameter Store (/ingot/<stack>/secrets/) or in Secrets Manager (ingot/<stack>/).",
    },
    { heading: "Packages", level: 3 },
    { code: `apt-get update && apt-get install --no-install-recommends ${needed.map((name) => versioned(name, image)).join(" ")}` },
    { heading: "Files", level: 3 },
    {
      code: generation.files
        .filter((f) => !rendered.has(f.path))
        .flatMap((f) => [...written(f.path, f.content), ...(f.mode === "0644" ? [] : [`chmod ${f.mode} ${shell(f.path)}`])])
        .join("\n"),
    },
    { heading: "Step by step", level: 3 },
  ];
  for (const step of inOrder(generation.steps)) {
    const lines = commandsOf(step, plan);
    if (lines.length) blocks.push({ text: step.id }, { code: lines.join("\n") });
  }
  blocks.push(
    { heading: "Is it right?", level: 3 },
    { rows: [...generation.checks, ...plan.checks].map((c) => [c.id, `${c.check} ${JSON.stringify(c.args)}`]) },
  );
  if (settings?.postgresql)
    blocks.push(
      { text: "Then a full backup at once: the restored cluster has a timeline of its own, and no backup of it yet." },
      { code: pgbackrest("--type=full backup") },
    );
  return blocks;
}

const versioned = (name: string, image: ImageFacts | undefined): string => {
  const version = image?.packages[name];
  return version === undefined ? name : `${name}=${version}`;
};

/** GitHub's Markdown. */
export function asMarkdown(blocks: Block[]): string {
  const cell = (text: string): string => text.replaceAll("|", "\\|").replaceAll("\n", " ").replaceAll("<", "\\<");
  return `${blocks
    .map((b) => {
      if ("heading" in b) return `${"#".repeat(b.level)} ${b.heading}`;
      if ("text" in b) return b.text.replaceAll("<", "\\<");
      if ("code" in b) return `\`\`\`\`sh\n${b.code}\n\`\`\`\``;
      return b.rows.length ? ["| | |", "|---|---|", ...b.rows.map((row) => `| ${row.map(cell).join(" | ")} |`)].join("\n") : "";
    })
    .filter(Boolean)
    .join("\n\n")}\n`;
}

/** A page that prints: no script, nothing from elsewhere; a host begins on a sheet of its own. */
export function asHtml(blocks: Block[], title: string): string {
  const escaped = (text: string): string => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const body = blocks.map((b) => {
    if ("heading" in b) return `<h${b.level}>${escaped(b.heading)}</h${b.level}>`;
    if ("text" in b) return `<p>${escaped(b.text)}</p>`;
    if ("code" in b) return `<pre>${escaped(b.code)}</pre>`;
    return b.rows.length
      ? `<table>${b.rows.map((row) => `<tr>${row.map((c) => `<td>${escaped(c)}</td>`).join("")}</tr>`).join("\n")}</table>`
      : "";
  });
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>${escaped(title)}</title><style>
body { font: 11pt/1.4 serif; max-width: 48em; margin: 2em auto; padding: 0 1em }
pre { font: 9pt/1.35 monospace; background: #f4f4f4; padding: .6em; white-space: pre-wrap; overflow-wrap: anywhere }
table { border-collapse: collapse; font-size: 10pt } td { border: 1px solid #bbb; padding: .15em .5em; vertical-align: top; overflow-wrap: anywhere }
@media print { body { margin: 0; max-width: none } h2 { break-before: page } h2, h3, p { break-after: avoid } pre { background: none; border: 1px solid #bbb } }
</style></head><body>
${body.filter(Boolean).join("\n")}
</body></html>
`;
}
