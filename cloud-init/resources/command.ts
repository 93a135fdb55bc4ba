// A program that is run once, or until what it makes is there: for what no kind is made for.
import { flag, type Infer, integer, list, object, optional, ref, text, withDefault } from "../../lib/schema.ts";
import { type Host, inside, type Kind, kind, onlyOne, type Problem } from "../kind.ts";
import { absolutePath } from "../names.ts";
import { commandOf, commandProblems } from "./application.ts";

const schema = object({
  run: text({ description: "The program and its arguments. No shell reads it: what wants one is a script, and a script is a file" }),
  user: withDefault(ref("user", { description: "Whom it runs as" }), "root"),
  folder: optional({ ...absolutePath, description: "Where it runs; `/` when left out" }),
  creates: optional({ ...absolutePath, description: "It is done when this path is there" }),
  unless: optional(text({ description: "Or when this program, run by the same user, ends with exit code 0" })),
  once: optional(flag({ description: "Or when it has run once on this machine, as it is declared now" })),
  after: withDefault(
    list(text({ pattern: "^[a-z-]+(/.+)?$", expected: "the id of a resource, such as `service/web`" }), {
      description: "Resources that come first, by their ids",
    }),
    [],
  ),
  timeout_seconds: withDefault(integer({ minimum: 1, maximum: 86400, description: "Ended when it takes longer" }), 300),
});
type Command = Infer<typeof schema>;

export const command: Kind<Command> = kind({
  kind: "command",
  key: "commands",
  shape: "many",
  summary:
    "A program that first boot and `apply` run where it has work to do, for what no kind is made for. It must be possible to ask whether it is done: a path that it makes, a program that says so, or Ingot's own note that it ran.",
  schema,
  examples: [
    "commands:\n  words: { run: touch /var/lib/words, creates: /var/lib/words }\n  greeting: { run: logger hello, once: true, after: [command/words] }\n  editor: { run: update-alternatives --set editor /usr/bin/vim, unless: test -e /etc/alternatives/editor }\n",
  ],
  after: ({ value }) => value.after,
  problems: ({ name, value }, host: Host): Problem[] => {
    const wrong = onlyOne(`the command ${name}`, { creates: value.creates, unless: value.unless, once: value.once || undefined });
    return [
      ...commandProblems(value.run, ["run"]),
      ...(value.unless === undefined ? [] : commandProblems(value.unless, ["unless"])),
      ...(wrong ? [{ code: "ING1420", message: wrong, hint: "without it nobody could tell whether it has to run again" }] : []),
      ...value.after.flatMap((id, i): Problem[] =>
        host.has(id) ? [] : [{ code: "ING1203", path: ["after", i], message: `${host.name} has no resource \`${id}\`` }],
      ),
    ];
  },
  compile: ({ value }) => ({
    steps: [
      {
        action: "command",
        args: {
          run: commandOf(value.run),
          user: value.user,
          folder: value.folder,
          creates: value.creates,
          ...(value.unless !== undefined && { unless: commandOf(value.unless) }),
        },
        done: value.once ? "stamp" : "probe",
        timeoutSeconds: value.timeout_seconds,
      },
    ],
  }),
  checks: ({ value }) => {
    if (value.creates !== undefined) return [inside("path", { path: value.creates })];
    if (value.unless !== undefined) return [inside("command", { argv: commandOf(value.unless), user: value.user })];
    return [];
  },
});
