// A directory of another host, mounted here.
import { unitName } from "../../lib/quote.ts";
import { choice, type Infer, list, object, type Schema, text, withDefault } from "../../lib/schema.ts";
import { type Host, inside, isBelow, type Kind, kind, type Problem, pkg, type Resource } from "../kind.ts";
import { absolutePath } from "../names.ts";
import { foldersAbove } from "./directory.ts";
import { exportKind, inTree, sharedFolder } from "./export.ts";
import { gidOf, group } from "./group.ts";
import { uidOf, user } from "./user.ts";
import { volume } from "./volume.ts";

const schema = object({
  from: {
    ...text({
      pattern: "^[a-z0-9][a-z0-9_-]*:export/[a-z0-9][a-z0-9_-]*$",
      expected: "an export of another host, as `host:export/name`",
      description: "What another host of the stack exports, as `host:export/name`",
    }),
    "x-output": "source",
  } as Schema<string>,
  options: withDefault(
    list(choice(["nodev", "nosuid", "noexec", "noatime", "ro"]), { description: "Mount options beside those that keep it sound" }),
    ["nodev", "nosuid"],
  ),
});
type Mount = Infer<typeof schema>;

/** The export, and the host that has it. */
function sourceOf({ value }: Resource<Mount>, host: Host) {
  const [server = "", name = ""] = value.from.split(":export/");
  return { server, name, on: host.other(server), exported: host.other(server)?.get(exportKind, name) };
}

/** Owners and groups of what its host declares in an exported directory, each once, with the number that they have there. */
function ownersOf(path: string, server: Host): { kind: "user" | "group"; name: string; id?: number; path: string }[] {
  const found = new Map<string, { kind: "user" | "group"; name: string; id?: number; path: string }>();
  for (const { name: place, value } of inTree(path, server)) {
    if (value.owner && value.owner !== "root") {
      const declared = server.get(user, value.owner);
      found.set(`user/${value.owner}`, { kind: "user", name: value.owner, ...(declared && { id: uidOf(declared) }), path: place });
    }
    if (value.group && value.group !== "root")
      found.set(`group/${value.group}`, { kind: "group", name: value.group, ...groupId(value.group, server), path: place });
  }
  return [...found.values()];
}

/** A group's number where it is declared; a user brings a group of its own. */
function groupId(name: string, host: Host): { id?: number } {
  const declared = host.get(group, name);
  const own = host.get(user, name);
  return declared ? { id: gidOf(declared) } : own ? { id: uidOf(own) } : {};
}

export const mount: Kind<Mount> = kind({
  kind: "mount",
  key: "mounts",
  shape: "many",
  summary:
    "A directory that another host of the stack exports, mounted here by its path. It waits for that host for as long as it takes, at boot too, without holding up anything but the programs that name a path in it: in their command, their environment, or below `writable:`. Powered off while that host is away, it takes six minutes over the unmounting. Owners there must be users here, with the same number.",
  names: absolutePath,
  schema,
  examples: [
    "hosts:\n  worker:\n    image: inloop\n    address: 10.1.1.2\n    users:\n      shop: { system: true }\n    mounts:\n      /srv/media: { from: files:export/media }\n    services:\n      jobs: { user: shop, command: shop-jobs --folder /srv/media/in, writable: [/srv/media] }\n  files:\n    image: inloop\n    address: 10.1.1.1\n    users:\n      shop: { system: true }\n    directories:\n      /srv/media: { owner: shop }\n    exports:\n      media: { directory: /srv/media, to: [worker] }\n",
  ],
  after: ({ name }, host) => foldersAbove(name, host),
  needs: () => [pkg("nfs-common")],
  problems: (self, host): Problem[] => {
    const { server, on, exported } = sourceOf(self, host);
    const problems: Problem[] = [];
    const say = (message: string, hint: string, path: Problem["path"] = [], related?: Problem["related"]) =>
      problems.push({ code: "ING1452", message, hint, path, ...(related && { related }) });
    if (server === host.name) say(`${self.value.from} is this host's own`, "use its directory", ["from"]);
    const inner = [...host.all(volume).filter((v) => isBelow(v.value.mount, self.name)), ...inTree(self.name, host)];
    for (const other of inner)
      say(
        `${other.id} is at or in ${self.name}, which is a directory of ${server}`,
        other.kind === "volume" ? "mount one of them elsewhere" : `declare it on ${server}: root of ${host.name} is nobody there`,
        [],
        { id: other.id, message: "it is declared here" },
      );
    if (!on || !exported || on === host) return problems;
    for (const owner of ownersOf(exported.value.directory, on)) {
      const here = owner.kind === "user" ? host.get(user, owner.name) : undefined;
      const { id } = owner.kind === "user" ? { id: here && uidOf(here) } : groupId(owner.name, host);
      const images = owner.kind === "user" ? host.image.users : host.image.groups;
      const what = owner.kind === "user" ? "uid" : "gid";
      if (id !== undefined && owner.id !== undefined && id !== owner.id)
        say(
          `${owner.path} of ${server} belongs to ${owner.name}, who is ${what} ${owner.id} there and ${id} here`,
          `give ${owner.name} the same \`${what}:\` on both hosts, or none on either: it follows from the name then`,
          ["from"],
        );
      else if (id === undefined && (owner.id !== undefined || !images.has(owner.name)))
        say(
          `${owner.path} of ${server} belongs to ${owner.name}, whom ${host.name} does not know: the number is all that NFS hands over`,
          `declare the ${owner.kind} ${owner.name} on ${host.name} as on ${server}`,
          ["from"],
        );
    }
    return problems;
  },
  compile: (self, host) => {
    const { name, value } = self;
    const { server, name: exported } = sourceOf(self, host);
    const unit = `${unitName(name)}.mount`;
    const source = host.parts({ from: `${value.from}.source` }).join("");
    const plain = (text: string) => text.replaceAll("%", "%%");
    return {
      shared: [{ host: server, export: exported }],
      files: [
        {
          path: `/etc/systemd/system/${unit}`,
          mode: "0644",
          content: [
            "[Unit]",
            `Description=${exported} of ${server}`,
            "",
            "[Mount]",
            `What=${plain(source)}`,
            `Where=${plain(name)}`,
            "Type=nfs4",
            // hard: a program waits for a server that is away, and loses nothing. nofail: the boot does not. retry: minutes, a week of them.
            `Options=hard,nfsvers=4.2,proto=tcp,sec=sys,retry=10080,_netdev,nofail${value.options.map((o) => `,${o}`).join("")}`,
            "TimeoutSec=infinity",
            "",
            "[Install]",
            "WantedBy=remote-fs.target",
            "",
          ].join("\n"),
        },
      ],
      steps: [
        {
          action: "mount",
          args: { path: name, unit, source, shared: sharedFolder(server, exported), options: value.options },
          timeoutSeconds: 300,
        },
      ],
    };
  },
  checks: (self, host) => {
    const { server, name: exported, on, exported: there } = sourceOf(self, host);
    const tree = on && there ? inTree(there.value.directory, on) : [];
    const owners = tree.flatMap((r) =>
      r.kind === "directory" && there && on ? [[`${self.name}${r.name.slice(there.value.directory.length)}`, r.value.owner] as const] : [],
    );
    return [
      inside("shared", {
        path: self.name,
        source: host.parts({ from: `${self.value.from}.source` }).join(""),
        shared: sharedFolder(server, exported),
        options: self.value.options,
        owners: Object.fromEntries(owners),
      }),
    ];
  },
});

/** Mounts that a program uses, by the paths that it names. */
export const mountsAt = (paths: string[], host: Host): Resource<Mount>[] =>
  host.all(mount).filter((m) => paths.some((path) => path.startsWith("/") && (isBelow(path, m.name) || isBelow(m.name, path))));
