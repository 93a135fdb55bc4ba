// An archive of Debian packages beside the distribution's own, with the key that signs it.
import { readFileSync } from "node:fs";
import { type Infer, list, object, text, withDefault } from "../../lib/schema.ts";
import { type Host, inStackFolder, inside, isThere, type Kind, kind, type Problem, type Resource } from "../kind.ts";

const word = text({ pattern: "^[A-Za-z0-9.][A-Za-z0-9._+-]*(/[A-Za-z0-9._+-]+)*/?$", expected: "one word" });

const schema = object({
  mirror: text({
    pattern: "^https?://[^@\\s]+$",
    expected: "an http or https address without a password",
    description: "Where it is",
  }),
  suites: list(word, {
    minItems: 1,
    description: "The suites to take packages from; a flat archive has one that ends in `/`, such as `stable/`, and no components",
  }),
  components: withDefault(list(word, { description: "Its components" }), ["main"]),
  key: text({ description: "The file beside the stack with the public key that signs it, as `gpg --armor --export` writes it" }),
});
export type Archive = Infer<typeof schema>;

export const sourcesOf = (name: string): string => `/etc/apt/sources.list.d/ingot-${name}.sources`;
const keyringOf = (name: string): string => `/etc/apt/keyrings/ingot-${name}.asc`;
const keyOf = (value: Archive, host: Host): string => readFileSync(inStackFolder(host, value.key), "utf8");
const isFlat = ({ suites }: Archive): boolean => suites.some((s) => s.endsWith("/"));

/** As deb822-style sources.list(5) has it: packages of it are believed by this key alone, and the key vouches for nothing else. */
const sourceOf = ({ name, value }: Resource<Archive>): string =>
  [
    "Types: deb",
    `URIs: ${value.mirror}`,
    `Suites: ${value.suites.join(" ")}`,
    ...(isFlat(value) ? [] : [`Components: ${value.components.join(" ")}`]),
    `Signed-By: ${keyringOf(name)}`,
    "",
  ].join("\n");

export const archive: Kind<Archive> = kind({
  kind: "archive",
  key: "archives",
  shape: "many",
  summary:
    "An archive of Debian packages beside the distribution's own, such as a vendor's, and the key that signs it. The key is asked for this archive alone. Packages come from it at first boot, where they say so (`packages: { agent: { at_first_boot: true, archive: vendor } }`), and whenever somebody runs apt.",
  schema,
  examples: [
    "archives:\n  vendor: { mirror: 'https://apt.example.org/debian', suites: [bookworm], key: keys/vendor.asc }\npackages:\n  vendor-agent: { at_first_boot: true, archive: vendor }\n",
  ],
  problems: ({ value }, host): Problem[] => {
    const problems: Problem[] = [];
    if (isFlat(value) && value.suites.some((s) => !s.endsWith("/")))
      problems.push({
        code: "ING1440",
        path: ["suites"],
        message: "a suite that ends in `/` is of a flat archive, and the others are not",
      });
    if (!isThere(host, value.key, "file"))
      return [...problems, { code: "ING1401", path: ["key"], message: `there is no file \`${value.key}\` beside the stack` }];
    const key = keyOf(value, host);
    if (/PRIVATE KEY/.test(key))
      problems.push({ code: "ING1402", path: ["key"], message: `${value.key} holds a private key`, hint: "name the public one" });
    else if (!/^-----BEGIN PGP PUBLIC KEY BLOCK-----$/m.test(key))
      problems.push({
        code: "ING1440",
        path: ["key"],
        message: `${value.key} is no public key in ASCII armor`,
        hint: "write it by `gpg --armor --export`; of a binary keyring: `gpg --no-default-keyring --keyring ./vendor.gpg --armor --export`",
      });
    return problems;
  },
  compile: (self, host) => ({
    files: [
      { path: keyringOf(self.name), mode: "0644", content: keyOf(self.value, host) },
      { path: sourcesOf(self.name), mode: "0644", content: sourceOf(self) },
    ],
  }),
  checks: ({ name }) => [
    inside("command", { argv: ["apt-get", "indextargets", "--format", "$(SOURCESENTRY)"], contains: `${sourcesOf(name)}:` }),
    inside("path", { path: keyringOf(name), type: "file", owner: "root", mode: "0644" }, "key"),
  ],
});
