// What a recipe may say: its JSON Schema, and by it its type. Only data, because the build compiles it to a validator.
import { choice, type Infer, integer, list, map, object, text, withDefault } from "../lib/schema.ts";

const unit = text({
  pattern: "^[A-Za-z0-9@:._\\\\-]+\\.(service|socket|timer|mount|path|target)$",
  expected: "the name of a systemd unit, such as `nginx.service`",
});
const packageName = text({ pattern: "^[a-z0-9][a-z0-9+.-]+$", expected: "the name of a Debian package" });
const accountName = text({ pattern: "^[a-z_][a-z0-9_-]{0,31}$", expected: "a name of small letters, digits, `-` and `_`" });
const absolutePath = text({ pattern: "^/[^\\0]*[^/\\0]$", expected: "an absolute path" });
const word = text({ pattern: "^[A-Za-z0-9._+-]+$", expected: "one word" });
const id = integer({ minimum: 100, maximum: 999 });

export const recipeSchema = object({
  image: text({
    pattern: "^[a-z0-9][a-z0-9.-]*$",
    expected: "the file's name without `.yaml`",
    description: "The image's name: that of the file.",
  }),
  distro: choice(["debian"], { description: "The distribution." }),
  release: text({
    pattern: "^[a-z]+$",
    expected: "the release's code name, such as `bookworm`",
    description: "The release's code name.",
    examples: ["bookworm"],
  }),
  architecture: choice(["amd64", "arm64"], { description: "Debian's name of the architecture." }),
  archives: map(
    object({
      mirror: text({
        pattern: "^https?://[^@\\s]+$",
        expected: "an http or https address without a password",
        description: "What the image's own sources.list says, and where to lock from when this computer's apt knows no mirror of it.",
      }),
      suites: list(word, { minItems: 1, description: "The pockets to take packages from." }),
      components: list(word, { minItems: 1 }),
    }),
    accountName,
    { description: "The archives that packages come from: updates and security belong in here." },
  ),
  packages: list(packageName, { description: "What is installed, with all it depends on and without Recommends." }),
  locales: withDefault(list(text({ pattern: "^[a-z]{2,3}(_[A-Z]{2})?\\.[A-Za-z0-9-]+$", expected: "a locale such as `en_US.UTF-8`" })), []),
  users: withDefault(
    map(
      object({
        uid: id,
        home: absolutePath,
        shell: withDefault(absolutePath, "/usr/sbin/nologin"),
        groups: withDefault(list(accountName), []),
        description: withDefault(text({ pattern: '^[^:"\\n]*$', expected: "a text without `:` and quotes" }), ""),
      }),
      accountName,
      { description: "Users of packages that own data: their number, and that of the group of the same name." },
    ),
    {},
  ),
  groups: withDefault(map(id, accountName, { description: "Groups with a fixed number." }), {}),
  datasources: withDefault(
    list(choice(["NoCloud", "Ec2", "None"]), { minItems: 1, description: "Where cloud-init looks for its instance, in this order." }),
    ["NoCloud", "Ec2", "None"],
  ),
  disabled: withDefault(
    list(unit, { description: "Units that are installed and not started at boot: a host that declares one enables it." }),
    [],
  ),
  files: withDefault(
    map(
      object({
        content: text(),
        mode: withDefault(text({ pattern: "^0[0-7]{3}$", expected: 'a mode such as "0644", in quotes' }), "0644"),
      }),
      absolutePath,
      { description: "Files of root's, written before the packages are configured." },
    ),
    {},
  ),
});

export type Recipe = Infer<typeof recipeSchema>;
