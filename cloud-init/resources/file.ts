// A file with its content, owner and mode.
import { readFileSync } from "node:fs";
import { digestOf } from "../../lib/digest.ts";
import { object, optional, ref, text, withDefault } from "../../lib/schema.ts";
import { type Host, inStackFolder, isThere, kind, onlyOne, owned, type Problem } from "../kind.ts";
import { absolutePath, modeSchema } from "../names.ts";
import { foldersAbove } from "./directory.ts";

interface File {
  content?: string;
  source?: string;
  owner: string;
  group?: string;
  mode: string;
}
const contentOf = (value: File, host: Host): string => value.content ?? readFileSync(inStackFolder(host, value.source ?? ""), "utf8");

export const file = kind<File>({
  kind: "file",
  key: "files",
  shape: "many",
  summary:
    "A text file: its content is written in the stack, or comes from a file in the stack's folder. It holds no secrets: those reach services through their environment.",
  names: absolutePath,
  schema: object({
    content: optional(text({ description: "What is in it" })),
    source: optional(text({ description: "Or the file beside the stack that it is copied from" })),
    owner: withDefault(ref("user", { description: "A user of this host or of the image" }), "root"),
    group: optional(ref("group", { description: "The owner's own group when left out" })),
    mode: withDefault({ ...modeSchema, description: "Octal, in quotes" }, "0644"),
  }),
  examples: ["files:\n  /etc/motd:\n    content: |\n      Welcome.\n"],
  after: ({ name }, host) => foldersAbove(name, host),
  problems: ({ name, value }, host): Problem[] => {
    const wrong = onlyOne(`the file ${name}`, { content: value.content, source: value.source });
    if (wrong) return [{ code: "ING1404", message: wrong }];
    if (value.source !== undefined && !isThere(host, value.source, "file"))
      return [{ code: "ING1401", path: ["source"], message: `there is no file \`${value.source}\` beside the stack` }];
    return [];
  },
  compile: ({ name, value }, host) => {
    // Kept below Ingot's own folder by the activator, and put in its place with its owner by a step.
    const kept = `/var/lib/ingot/files/${digestOf(name).slice(0, 16)}`;
    return {
      files: [{ path: kept, mode: "0600", content: contentOf(value, host) }],
      steps: [{ action: "file", args: { path: name, owner: value.owner, group: value.group, mode: value.mode, source: kept } }],
    };
  },
  checks: ({ name, value }) => [owned("file", name, value)],
});
