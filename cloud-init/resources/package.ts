// A Debian package that the host relies on.
import { flag, type Infer, list, object, optional, ref, text, withDefault } from "../../lib/schema.ts";
import { type Host, inside, type Kind, kind, type Problem, pkg } from "../kind.ts";
import { accountName } from "../names.ts";
import { sourcesOf } from "./archive.ts";

const schema = object({
  at_first_boot: withDefault(
    flag({
      description:
        "It need not be in the image: where it is not, first boot installs it, from the network, in whatever version there is then",
    }),
    false,
  ),
  archive: optional(
    ref("archive", { description: "With `at_first_boot`: the archive that it comes from; the image's own archives when left out" }),
  ),
  users: withDefault(
    list(accountName, {
      description: "With `at_first_boot`: users that it makes, each with the group of its name, for other resources to refer to",
    }),
    [],
  ),
});
type Package = Infer<typeof schema>;

export const packageKind: Kind<Package> = kind({
  kind: "package",
  key: "packages",
  shape: "many",
  summary:
    "A Debian package that the host relies on beyond what its other resources need. It must be in the image, unless it is allowed to be installed at first boot: then whatever needs it waits for that. Its services are not started and not enabled by its installation: `units:`, or the kind that is made for it, does so. A package that is no longer declared stays. A machine on this computer reaches no network but its stack's: there, what is not in the image comes from an archive that a host of the stack serves, or not at all.",
  names: text({ pattern: "^[a-z0-9][a-z0-9+.-]+$", expected: "the name of a Debian package" }),
  schema,
  examples: [
    "packages:\n  acl: {}\n",
    "packages:\n  xfsprogs: { at_first_boot: true }\nvolumes:\n  data: { mount: /srv/data, filesystem: xfs }\n",
  ],
  offers: ({ value }) => value.users.flatMap((name) => [`user/${name}`, `group/${name}`]),
  problems: ({ name, value }): Problem[] =>
    !value.at_first_boot && (value.archive !== undefined || value.users.length)
      ? [
          {
            code: "ING1441",
            path: [value.archive === undefined ? "users" : "archive"],
            message: `${name} is to be in the image: nothing is installed on the host`,
            hint: "write `at_first_boot: true`, or leave this out",
          },
        ]
      : [],
  needs: ({ name, value }) => (value.at_first_boot ? [] : [pkg(name)]),
  compile: ({ name, value }) => ({
    steps: value.at_first_boot
      ? [
          {
            action: "package",
            args: { name, ...(value.archive !== undefined && { sources: sourcesOf(value.archive.replace(/^archive\//, "")) }) },
            timeoutSeconds: 900,
          },
        ]
      : [],
  }),
  checks: ({ name }) => [
    inside("command", { argv: ["dpkg-query", "--show", "--showformat=$" + "{db:Status-Status}", name], stdout: "installed" }),
  ],
});

/** Ids of what first boot installs: nobody knows yet what is in it. */
export const installsMore = (host: Host): string[] => host.all(packageKind).flatMap((p) => (p.value.at_first_boot ? [p.id] : []));
