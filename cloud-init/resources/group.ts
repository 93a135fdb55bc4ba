// A Unix group.
import { flag, type Infer, integer, object, optional, withDefault } from "../../lib/schema.ts";
import { fixedId, inside, type Kind, kind, type Problem, type Resource } from "../kind.ts";
import { accountName } from "../names.ts";
import { ofImageProblems, uidOf, user } from "./user.ts";

const schema = object({
  gid: optional(
    integer({
      minimum: 100,
      maximum: 59999,
      description: "Its number. Left out, it follows from the name alone, the same on every machine",
    }),
  ),
  system: withDefault(flag({ description: "A group of daemons: its number comes from the system's range" }), false),
});
type Group = Infer<typeof schema>;
export const gidOf = ({ name, value }: Resource<Group>): number => value.gid ?? fixedId(name, value.system);

export const group: Kind<Group> = kind({
  kind: "group",
  key: "groups",
  shape: "many",
  summary: "A Unix group. Every user has one of its own name already; declare only what several users share.",
  names: accountName,
  schema,
  examples: ["groups:\n  editors: { gid: 3000 }\n"],
  problems: (self, host) => {
    const gid = gidOf(self);
    const same = host.get(user, self.name);
    const problems: Problem[] = same
      ? [
          {
            code: "ING1506",
            message: `the group ${self.name} comes with the user ${self.name}`,
            hint: "remove it here",
            related: { id: same.id, message: "the user is declared here" },
          },
        ]
      : [];
    problems.push(...ofImageProblems("group", self.name, gid, host.image.groups.has(self.name), host));
    const others = [
      ...host.all(group).filter((other) => other.name > self.name && gidOf(other) === gid),
      ...host.all(user).filter((other) => other.name !== self.name && uidOf(other) === gid),
    ];
    for (const other of others) {
      problems.push({
        code: "ING1501",
        message: `the group ${self.name} and the ${other.kind} ${other.name} both have the number ${gid}`,
        hint: "give one of them another",
        related: { id: other.id, message: `${other.name} is declared here` },
      });
    }
    return problems;
  },
  compile: (self) => ({
    steps: [{ action: "group", args: { name: self.name, gid: gidOf(self), system: self.value.system } }],
  }),
  checks: (self) => [inside("group", { name: self.name, gid: gidOf(self) })],
});
