// A bare git repository that people push to.
import { readFileSync } from "node:fs";
import { shell } from "../../lib/quote.ts";
import { type Infer, map, object, optional, ref, text, withDefault } from "../../lib/schema.ts";
import { type Host, inStackFolder, inside, isThere, type Kind, kind, onlyOne, type Problem, pkg } from "../kind.ts";
import { absolutePath, environmentName } from "../names.ts";
import { isSensitive, valueSchema } from "../value.ts";
import { backup } from "./backup.ts";
import { foldersAbove } from "./directory.ts";

const schema = object({
  at: optional({ ...absolutePath, description: "Where it is: `/srv/git/<name>.git` when left out" }),
  owner: ref("user", { description: "Whose it is" }),
  group: optional(ref("group", { description: "Who may push beside the owner, over ssh as themselves: the members of this group" })),
  branch: withDefault(
    text({
      pattern: "^[A-Za-z0-9][A-Za-z0-9._/-]*$",
      expected: "the name of a branch",
      description: "The branch that a clone begins with",
    }),
    "main",
  ),
  hooks: withDefault(
    map(
      object({
        content: optional(text({ description: "The script" })),
        source: optional(text({ description: "Or the file beside the stack that it is copied from" })),
        run: optional({ ...absolutePath, description: "Or a program of the host's that is run in its place" }),
        env: withDefault(
          map(valueSchema, environmentName, { description: "Environment of `run:`; no secrets, since who pushes reads it" }),
          {},
        ),
      }),
      text({
        pattern: "^(pre-receive|update|post-receive|post-update|reference-transaction|proc-receive|push-to-checkout)$",
        expected: "a hook of a repository that is pushed to, such as `post-receive`",
      }),
      { description: "Programs that run on a push, as who pushes" },
    ),
    {},
  ),
});
type Repository = Infer<typeof schema>;

const pathOf = (name: string, value: Repository): string => value.at ?? `/srv/git/${name}.git`;

const hookOf = ({ content, source, run = "", env }: Repository["hooks"][string], host: Host): string => {
  if (content !== undefined) return content;
  if (source !== undefined) return readFileSync(inStackFolder(host, source), "utf8");
  const variables = Object.entries(env).map(([name, value]) => `export ${name}=${shell(host.parts(value).join(""))}\n`);
  return `#!/bin/sh\n${variables.join("")}exec ${shell(run)} "$@"\n`;
};

export const repository: Kind<Repository> = kind({
  kind: "repository",
  key: "repositories",
  shape: "many",
  summary:
    "A bare git repository, made once: what is pushed to it stays. Its hooks are root's own, so that who pushes cannot change what runs, and are exactly those declared.",
  schema,
  examples: [
    'image: patchwork\ngroups:\n  committers: {}\nusers:\n  git: { system: true, home: /srv/git, shell: /usr/bin/git-shell }\n  ann: { groups: [committers] }\nrepositories:\n  linux: { owner: git, group: committers, hooks: { post-receive: { content: "#!/bin/sh\\nlogger pushed\\n" } } }\n  docs: { owner: git, hooks: { update: { run: /usr/local/bin/allowed, env: { BRANCHES: main next } } } }\n',
  ],
  needs: () => [pkg("git")],
  after: ({ name, value }, host) => [...foldersAbove(pathOf(name, value), host), ...host.all(backup).map((b) => b.id)],
  problems: ({ value }, host): Problem[] =>
    Object.entries(value.hooks).flatMap(([hook, h]): Problem[] => {
      const wrong = onlyOne(`the hook ${hook}`, { content: h.content, source: h.source, run: h.run });
      if (wrong) return [{ code: "ING1404", path: ["hooks", hook], message: wrong }];
      const secret = Object.keys(h.env).find((name) => isSensitive(host.parts(h.env[name] ?? "")));
      if (secret !== undefined)
        return [
          { code: "ING1410", path: ["hooks", hook, "env", secret], message: "a hook is read by whoever pushes, and this is a secret" },
        ];
      return h.source !== undefined && !isThere(host, h.source, "file")
        ? [{ code: "ING1401", path: ["hooks", hook, "source"], message: `there is no file \`${h.source}\` beside the stack` }]
        : [];
    }),
  compile: ({ name, value }, host) => {
    const hooks = `/etc/ingot/git/${name}/hooks`;
    return {
      files: Object.entries(value.hooks).map(([hook, h]) => ({
        path: `${hooks}/${hook}`,
        mode: "0755" as const,
        content: hookOf(h, host),
      })),
      steps: [
        {
          action: "repository",
          args: { path: pathOf(name, value), owner: value.owner, group: value.group, branch: value.branch, hooks },
        },
      ],
    };
  },
  checks: ({ name, value }) => [
    inside("path", {
      path: pathOf(name, value),
      type: "directory",
      owner: value.owner,
      ...(value.group && { group: value.group, mode: "2770" }),
    }),
    inside(
      "command",
      { argv: ["git", "--git-dir", pathOf(name, value), "rev-parse", "--is-bare-repository"], user: value.owner, stdout: "true" },
      "bare",
    ),
  ],
});
