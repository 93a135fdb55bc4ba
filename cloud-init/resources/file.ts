// A file with its content, owner and mode.
import { isUtf8 } from "node:buffer";
import { readFileSync } from "node:fs";
import { digestOf, sha256 } from "../../lib/digest.ts";
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
  url?: string;
  sha256?: string;
  values: Record<string, Value>;
  owner: string;
  group?: string;
  mode: string;
}
const contentOf = (value: File, host: Host): string => value.content ?? readFileSync(inStackFolder(host, value.source ?? ""), "utf8");

/** A file beside the stack that the user-data has no place for: it is large, or no text. It travels by its hash, as what is at an address does. */
function travels(value: File, host: Host): { sha256: string; path: string; url?: string } | undefined {
  if (value.url !== undefined) return { sha256: value.sha256 ?? "", path: "", url: value.url };
  if (value.source === undefined || Object.keys(value.values).length) return undefined;
  const path = inStackFolder(host, value.source);
  const bytes = readFileSync(path);
  return bytes.length > largestInside || !isUtf8(bytes) || bytes.includes(0) ? { sha256: sha256(bytes), path } : undefined;
}
/** Bytes. All of the user-data are 16 KiB. */
const largestInside = 8192;

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
    "A file: its content is written in the stack, or comes from a file in the stack's folder, or from an address, whose bytes are fetched on the operator's computer and are those of `sha256:` or none. With `values:` every `{{ name }}` in it is replaced, by secrets too, as they are: what its language wants quoted is yours to quote.",
  names: absolutePath,
  schema: object({
    content: optional(text({ description: "What is in it" })),
    source: optional(text({ description: "Or the file beside the stack that it is copied from" })),
    url: optional(
      text({
        pattern: "^https?://[^@\\s]+$",
        expected: "an http or https address without a password",
        description: "Or the address that it is fetched from, once, on the operator's computer",
      }),
    ),
    sha256: optional(
      text({ pattern: "^[0-9a-f]{64}$", expected: "a sha256 in hexadecimal", description: "With `url:`: what its bytes are" }),
    ),
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
    "files:\n  /usr/local/bin/tool:\n    url: https://example.org/tool-1.2\n    sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n    mode: '0755'\n",
  ],
  after: ({ name }, host) => foldersAbove(name, host),
  problems: ({ name, value }, host): Problem[] => {
    const wrong = onlyOne(`the file ${name}`, { content: value.content, source: value.source, url: value.url });
    if (wrong) return [{ code: "ING1404", message: wrong }];
    if (value.source !== undefined && !isThere(host, value.source, "file"))
      return [{ code: "ING1401", path: ["source"], message: `there is no file \`${value.source}\` beside the stack` }];
    if ((value.url === undefined) !== (value.sha256 === undefined) || (value.url !== undefined && Object.keys(value.values).length))
      return [
        {
          code: "ING1438",
          message: `the file ${name} ${value.url === undefined ? "has a `sha256:` and no `url:`" : value.sha256 === undefined ? "comes from an address, and nobody says what its bytes are" : "is taken from its address as it is, without `values:`"}`,
          hint: "`url:` and `sha256:` belong together",
        },
      ];
    if (value.url !== undefined) return [];
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
  compile: ({ id, name, value }, host) => {
    const artifact = travels(value, host);
    if (artifact)
      return {
        artifacts: [{ id, ...artifact }],
        steps: [
          { action: "file", args: { path: name, owner: value.owner, group: value.group, mode: value.mode, artifact: artifact.sha256 } },
        ],
      };
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
