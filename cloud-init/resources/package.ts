// A Debian package that the host relies on.
import { object, text } from "../../lib/schema.ts";
import { inside, kind, pkg } from "../kind.ts";

export const packageKind = kind({
  kind: "package",
  key: "packages",
  shape: "many",
  summary:
    "A Debian package that the host relies on beyond what its other resources need. It must be in the image: nothing is installed at first boot.",
  names: text({ pattern: "^[a-z0-9][a-z0-9+.-]+$", expected: "the name of a Debian package" }),
  schema: object({}),
  examples: ["packages:\n  acl: {}\n"],
  needs: ({ name }) => [pkg(name)],
  compile: () => ({}),
  checks: ({ name }) => [
    inside("command", { argv: ["dpkg-query", "--show", "--showformat=$" + "{db:Status-Status}", name], stdout: "installed" }),
  ],
});
