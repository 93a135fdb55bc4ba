// A file with its content, owner and mode.
import { readFileSync } from "node:fs";
import { digestOf } from "../../lib/digest.ts";
import { map, object, optional, ref, text, withDefault } from "../../lib/schema.ts";
import { type Host, inStackFolder, isThere, kind, onlyOne, owned, type Problem } from "../kind.ts";
import { absolutePath, environmentName, modeSchema } from "../names.ts";
import type { Part } from "../plan.ts";
import { isSensitive, type Value, valueSchema } from "../value.ts";
import { secretsIn } from "./application.ts";
import { foldersAbove } from "./directory.ts";

interface File {
  content?: string;
  source?: string;
  values: Record<string, Value>;
  owner: string;
  group?: string;
  mode: string;
}
const contentOf = (value: File, host: Host): string => value.content ?? readFileSync(inStackFolder(host, value.source ?? ""), "utf8");

const placeholder = /\{\{ *([A-Za-z_][A-Za-z0-9_]*) *\}\}/g;

/** The content with `{{ name }}` replaced; without `values:` it is taken as it is. */
function partsOf(value: File, host: Host): Part[] {
  const content = contentOf(value, host);
  if (!Object.keys(value.values).length) return [content];
  const parts: Part[] = [];
  let end = 0;
  for (const found of content.matchAll(placeholder)) {
    const named = value.values[found[1] ?? ""];
    parts.push(content.slice(end, found.index), ...(named === undefined ? [found[0]] : host.parts(named)));
    end = found.index + found[0].length;
  }
  return [...parts, content.slice(end)].filter((p) => p !== "");
}

export const file = kind<File>({
  kind: "file",
  key: "files",
  shape: "many",
  summary:
    "A text file: its content is written in the stack, or comes from a file in the stack's folder. With `values:` every `{{ name }}` in it is replaced, by secrets too, as they are: what its language wants quoted is yours to quote.",
  names: absolutePath,
  schema: object({
    content: optional(text({ description: "What is in it" })),
    source: optional(text({ description: "Or the file beside the stack that it is copied from" })),
    values: withDefault(
      map(valueSchema, environmentName, {
        description: "What stands for each `{{ name }}` in it; a file with a secret in it is not for everybody to read",
      }),
      {},
    ),
    owner: withDefault(ref("user", { description: "A user of this host or of the image" }), "root"),
    group: optional(ref("group", { description: "The owner's own group when left out" })),
    mode: withDefault({ ...modeSchema, description: "Octal, in quotes" }, "0644"),
  }),
  examples: [
    "files:\n  /etc/motd:\n    content: |\n      Welcome.\n",
    'users:\n  git: { home: /srv/git }\nfiles:\n  /srv/git/.pwclientrc:\n    content: |\n      [patchwork]\n      username = {{ user }}\n      password = {{ password }}\n    values: { user: hook, password: { secret: pwclient } }\n    owner: git\n    mode: "0600"\n',
  ],
  after: ({ name }, host) => foldersAbove(name, host),
  problems: ({ name, value }, host): Problem[] => {
    const wrong = onlyOne(`the file ${name}`, { content: value.content, source: value.source });
    if (wrong) return [{ code: "ING1404", message: wrong }];
    if (value.source !== undefined && !isThere(host, value.source, "file"))
      return [{ code: "ING1401", path: ["source"], message: `there is no file \`${value.source}\` beside the stack` }];
    const names = new Set([...contentOf(value, host).matchAll(placeholder)].map((m) => m[1] ?? ""));
    const given = Object.keys(value.values);
    const problems: Problem[] = given
      .filter((n) => !names.has(n))
      .map((n) => ({ code: "ING1434", path: ["values", n], message: `there is no \`{{ ${n} }}\` in ${name}` }));
    for (const n of given.length ? names : [])
      if (!given.includes(n))
        problems.push({ code: "ING1434", path: ["values"], message: `${name} has \`{{ ${n} }}\`, and no value for it` });
    if (/[4-7]$/.test(value.mode) && given.some((n) => isSensitive(host.parts(value.values[n] ?? ""))))
      problems.push({
        code: "ING1434",
        path: ["mode"],
        message: `${name} has a secret in it, and everybody may read it (mode ${value.mode})`,
        hint: 'write `mode: "0600"`, or "0640" with a group',
      });
    return problems;
  },
  compile: ({ name, value }, host) => {
    // Kept below Ingot's own folder by the activator, and put in its place with its owner by a step.
    const parts = partsOf(value, host);
    const secrets = secretsIn(value.values);
    if (isSensitive(parts)) {
      const source = { render: { format: "text" as const, value: parts } };
      return {
        secrets,
        steps: [{ action: "file", args: { path: name, owner: value.owner, group: value.group, mode: value.mode, source } }],
      };
    }
    const kept = `/var/lib/ingot/files/${digestOf(name).slice(0, 16)}`;
    return {
      files: [{ path: kept, mode: "0600", content: parts.join("") }],
      steps: [{ action: "file", args: { path: name, owner: value.owner, group: value.group, mode: value.mode, source: kept } }],
    };
  },
  checks: ({ name, value }) => [owned("file", name, value)],
});
