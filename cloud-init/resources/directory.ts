// A directory with its owner and mode.
import { object, optional, ref, withDefault } from "../../lib/schema.ts";
import { type Host, isBelow, kind, owned } from "../kind.ts";
import { absolutePath, modeSchema } from "../names.ts";
import { file } from "./file.ts";
import { volume } from "./volume.ts";

/** Volumes and directories that a path lies in: they come first. */
export function foldersAbove(path: string, host: Host): string[] {
  const volumes = host.all(volume).filter((v) => isBelow(path, v.value.mount));
  const directories = host.all(directory).filter((d) => d.name !== path && isBelow(path, d.name));
  return [...volumes, ...directories].map((r) => r.id);
}

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
  }),
  examples: ['directories:\n  /srv/data: {}\n  /srv/data/inbox: { owner: www-data, mode: "2750" }\n'],
  after: ({ name }, host) => foldersAbove(name, host),
  problems: ({ name }, host) =>
    host.get(file, name)
      ? [
          {
            code: "ING1502",
            message: `${name} is declared as a directory and as a file`,
            related: { id: `file/${name}`, message: "and as a file here" },
          },
        ]
      : [],
  compile: ({ name, value }) => ({
    steps: [{ action: "directory", args: { path: name, owner: value.owner, group: value.group, mode: value.mode } }],
  }),
  checks: ({ name, value }) => [owned("directory", name, value)],
});
