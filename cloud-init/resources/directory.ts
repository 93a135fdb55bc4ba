// A directory with its owner and mode.
import { choice, flag, list, object, optional, ref, withDefault } from "../../lib/schema.ts";
import { type Host, inside, isBelow, kind, onlyOne, owned, type Problem, pkg } from "../kind.ts";
import { absolutePath, modeSchema } from "../names.ts";
import { backup, copied } from "./backup.ts";
import { exportKind } from "./export.ts";
import { file } from "./file.ts";
import { volume } from "./volume.ts";

/** Volumes, directories and exports that a path lies in: they come first. */
export function foldersAbove(path: string, host: Host): string[] {
  const volumes = host.all(volume).filter((v) => isBelow(path, v.value.mount));
  const directories = host.all(directory).filter((d) => d.name !== path && isBelow(path, d.name));
  const exported = host.all(exportKind).filter((e) => isBelow(path, e.value.directory));
  return [...volumes, ...directories, ...exported].map((r) => r.id);
}

/** What stands below a directory and is declared for itself. */
const apartFrom = (path: string, host: Host): string[] =>
  [...host.all(directory).map((d) => d.name), ...host.all(file).map((f) => f.name), ...host.all(volume).map((v) => v.value.mount)]
    .filter((p) => p !== path && isBelow(p, path))
    .sort();

interface Entry {
  user?: string;
  group?: string;
  may: string;
  inherited: boolean;
}
/** As getfacl prints them: `user:www-data:r-x`. */
const entriesOf = (entries: Entry[]): string[] =>
  entries
    .flatMap(({ user, group, may, inherited }) => {
      const rights = ["r", "w", "x"].map((r) => (may.includes(r) ? r : "-")).join("");
      const entry = `${user === undefined ? `group:${group}` : `user:${user}`}:${rights}`;
      return inherited ? [entry, `default:${entry}`] : [entry];
    })
    .sort();

export const directory = kind({
  kind: "directory",
  key: "directories",
  shape: "many",
  summary: "A directory with owner, group and mode. What is in it stays as it is. No symlink on the way to it is followed.",
  names: absolutePath,
  schema: object({
    owner: withDefault(ref("user", { description: "A user of this host or of the image" }), "root"),
    group: optional(ref("group", { description: "The owner's own group when left out" })),
    mode: withDefault({ ...modeSchema, description: "Octal, in quotes" }, "0755"),
    acl: withDefault(
      list(
        object({
          user: optional(ref("user", { description: "A user" })),
          group: optional(ref("group", { description: "Or a group" })),
          may: choice(["r", "rx", "rw", "rwx", "x"], { description: "What they may do beyond the mode" }),
          inherited: withDefault(flag({ description: "What is made in it has the same" }), false),
        }),
        { description: "Users and groups beside owner and group, exactly these" },
      ),
      [],
    ),
    contents: optional(
      object(
        {
          owner: optional(ref("user", { order: false, description: "Whose all of it is: the directory's owner when left out" })),
          group: optional(ref("group", { order: false, description: "Its group: any when left out" })),
          mode: optional({ ...modeSchema, description: "What it allows at most, folders and files alike: anything when left out" }),
        },
        {
          description:
            "What must hold of everything in it, at any depth, but for what is declared itself. `verify` looks; nothing is changed",
        },
      ),
    ),
  }),
  examples: [
    'directories:\n  /srv/shared: { owner: backup, mode: "0750", acl: [{ user: www-data, may: rx, inherited: true }, { group: adm, may: r }] }\n',
    'directories:\n  /srv/data: {}\n  /srv/data/inbox: { owner: www-data, mode: "2750", contents: { mode: "0750" } }\n',
  ],
  // What is restored is there first, and gets owner and mode as they are declared.
  after: ({ name }, host) => [
    ...foldersAbove(name, host),
    ...host.all(backup).flatMap((b) => (copied(b.value, host).some((d) => isBelow(name, d) || isBelow(d, name)) ? [b.id] : [])),
  ],
  needs: ({ value }) => (value.acl.length ? [pkg("acl")] : []),
  problems: ({ name, value }, host) => [
    ...value.acl.flatMap((entry, i): Problem[] => {
      const wrong = onlyOne("an entry of the list", { user: entry.user, group: entry.group });
      return wrong ? [{ code: "ING1404", path: ["acl", i], message: wrong }] : [];
    }),
    ...(host.get(file, name)
      ? [
          {
            code: "ING1502",
            message: `${name} is declared as a directory and as a file`,
            related: { id: `file/${name}`, message: "and as a file here" },
          },
        ]
      : []),
  ],
  compile: ({ name, value }) => ({
    steps: [
      {
        action: "directory",
        args: {
          path: name,
          owner: value.owner,
          group: value.group,
          mode: value.mode,
          ...(value.acl.length && { acl: entriesOf(value.acl) }),
        },
      },
    ],
  }),
  checks: ({ name, value }, host) => [
    // With a list its mask stands where the group's mode would.
    owned("directory", name, value.acl.length ? { owner: value.owner, ...(value.group !== undefined && { group: value.group }) } : value),
    ...(value.acl.length ? [inside("acl", { path: name, entries: entriesOf(value.acl) }, "acl")] : []),
    ...(value.contents
      ? [
          inside(
            "contents",
            {
              path: name,
              owner: value.contents.owner ?? value.owner,
              ...(value.contents.group !== undefined && { group: value.contents.group }),
              ...(value.contents.mode !== undefined && { mode: value.contents.mode }),
              apart: apartFrom(name, host),
              timeout: 60,
            },
            "contents",
          ),
        ]
      : []),
  ],
});
