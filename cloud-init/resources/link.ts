// A symbolic link.
import { object, text } from "../../lib/schema.ts";
import { inside, kind } from "../kind.ts";
import { absolutePath } from "../names.ts";
import { directory, foldersAbove } from "./directory.ts";
import { file } from "./file.ts";

export const link = kind({
  kind: "link",
  key: "links",
  shape: "many",
  summary: "A symbolic link, root's own. It takes the place of another link; a file or folder that is there is left alone, and said.",
  names: absolutePath,
  schema: object({
    to: text({
      pattern: "^[^\\u0000-\\u001f]+$",
      expected: "a path",
      description: "Where it leads: an absolute path, or one from its own folder",
    }),
  }),
  examples: ["links:\n  /usr/local/bin/shop: { to: /srv/shop/current/venv/bin/shop }\n"],
  after: ({ name, value }, host) => [
    ...foldersAbove(name, host),
    ...(host.get(file, value.to) ? [`file/${value.to}`] : []),
    ...(host.get(directory, value.to) ? [`directory/${value.to}`] : []),
  ],
  problems: ({ name }, host) =>
    [host.get(file, name), host.get(directory, name)].flatMap((other) =>
      other
        ? [
            {
              code: "ING1502",
              message: `${name} is declared as a link and as a ${other.kind}`,
              related: { id: other.id, message: `and as a ${other.kind} here` },
            },
          ]
        : [],
    ),
  compile: ({ name, value }) => ({ steps: [{ action: "link", args: { path: name, to: value.to } }] }),
  checks: ({ name, value }) => [inside("path", { path: name, type: "symlink", owner: "root", target: value.to })],
});
