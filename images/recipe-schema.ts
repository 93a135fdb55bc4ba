// What a recipe may say: its JSON Schema, and by it its type. Only data, because the build compiles it to a validator.
import { choice, either, flag, type Infer, integer, list, map, object, optional, type Schema, text, withDefault } from "../lib/schema.ts";
import { capabilities } from "./capabilities/index.ts";
import type { Capability } from "./capability.ts";
import type { Release } from "./distro.ts";
import { leavable } from "./leave-out.ts";

const unit = text({
  pattern: "^[A-Za-z0-9@:._\\\\-]+\\.(service|socket|timer|mount|path|target)$",
  expected: "the name of a systemd unit, such as `nginx.service`",
});
const packageName = text({ pattern: "^[a-z0-9][a-z0-9+.-]+$", expected: "the name of a Debian package" });
const accountName = text({ pattern: "^[a-z_][a-z0-9_-]{0,31}$", expected: "a name of small letters, digits, `-` and `_`" });
const absolutePath = text({ pattern: "^/[^\\0]*[^/\\0]$", expected: "an absolute path" });
const word = text({ pattern: "^[A-Za-z0-9._+-]+$", expected: "one word" });
const id = integer({ minimum: 100, maximum: 999 });

/** `true`, or one of its choices. */
function capability({ description, choices }: Capability): Schema<true | number | string> {
  const just: Schema<true> = { ...(flag() as Schema<true>), enum: [true], "x-expected": "`true`" };
  if (!choices) return { ...just, description };
  const example = Object.values(choices)[0]?.[0] ?? "";
  return {
    ...either([just, integer(), text()]),
    "x-expected": `\`true\` or which one, such as ${Number.isInteger(Number(example)) || Number.isNaN(Number(example)) ? example : JSON.stringify(example)}`,
    description,
  };
}

const archive = object({
  mirror: text({
    pattern: "^https?://[^@\\s]+$",
    expected: "an http or https address without a password",
    description: "What the image's own sources.list says, and where to lock from when this computer's apt knows no mirror of it.",
  }),
  suites: list(word, { minItems: 1, description: "The pockets to take packages from." }),
  components: list(word, { minItems: 1 }),
  key: optional(
    text({
      minLength: 1,
      description:
        "The file beside the recipe with the public key that signs it, as `gpg --armor --export` writes it. Without it the distribution's keys vouch for it.",
    }),
  ),
});

export const recipeSchema = object({
  image: text({
    pattern: "^[a-z0-9][a-z0-9.-]*$",
    expected: "the file's name without `.yaml`",
    description: "The image's name: that of the file.",
  }),
  distro: choice(["debian", "ubuntu"], { description: "The distribution." }),
  release: text({
    pattern: "^[a-z]+$",
    expected: "the release's code name, such as `bookworm`",
    description: "The release's code name.",
    examples: ["bookworm"],
  }),
  architecture: choice(["amd64", "arm64"], { description: "Debian's name of the architecture." }),
  archives: withDefault(
    map(archive, accountName, {
      description: "Archives beside the distribution's own, or in the place of its `main` and `security`, which have updates and security.",
    }),
    {},
  ),
  snapshot: optional(
    text({
      pattern: "^\\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\\d|3[01])$",
      expected: "a day such as 2026-11-01",
      description: "Packages as they were at the beginning of this day (UTC), from the distribution's own archive of its past.",
    }),
  ),
  capabilities: withDefault(
    object(Object.fromEntries(Object.entries(capabilities).map(([name, c]) => [name, optional(capability(c))])), {
      description: "What the image can do, each by `true` or by which one: its packages, the owners of its data, its units.",
    }) as Schema<Partial<Record<keyof typeof capabilities, true | number | string>>>,
    {},
  ),
  packages: withDefault(list(packageName, { description: "What else is installed, with all it depends on and without Recommends." }), []),
  leave_out: withDefault(
    list(choice(leavable), {
      description:
        "What of the packages is left out: manual pages, GNU info, lintian's notes, documentation but for copyright files, messages in other languages than English. `[]` keeps all.",
    }),
    leavable,
  ),
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
  enabled: withDefault(
    list(unit, { description: "Units that every host starts at boot, though a capability leaves them off, or their package does." }),
    [],
  ),
  setuid: withDefault(
    list(absolutePath, {
      description:
        "Programs that run as root or as another user or group whoever starts them, beside those of the distribution's usual packages.",
    }),
    [],
  ),
  max_size: optional(
    text({
      pattern: "^\\d+(\\.\\d+)?(MB|GB)$",
      expected: "a size such as `900MB` or `1.2GB`",
      description: "What the files of the image may come to: a bake of more fails.",
    }),
  ),
  disk: withDefault(
    object({
      size: optional(
        text({
          pattern: "^[1-9]\\d*GiB$",
          expected: "a size such as `8GiB`",
          description: "Of the bootable disk; without it as large as the image needs. Its root grows to its machine's disk at first boot.",
        }),
      ),
      esp: withDefault(
        text({
          pattern: "^[1-9]\\d*(MiB|GiB)$",
          expected: "a size such as `256MiB`",
          description: "Of the EFI system partition.",
        }),
        "64MiB",
      ),
    }),
    { esp: "64MiB" },
  ),
  sysctl: withDefault(
    map(
      either([integer(), text({ pattern: "^[^\\n]*$" })]),
      text({ pattern: "^[a-z0-9_]+([./][A-Za-z0-9_*-]+)+$", expected: "a setting of the kernel such as `net.core.somaxconn`" }),
      {
        description: "Settings of the kernel, as sysctl.d(5) has them.",
      },
    ),
    {},
  ),
  provision: withDefault(
    list(
      object({
        script: text({
          pattern: "^[a-z0-9][a-z0-9._-]*$",
          expected: "the name of a file in images/provision/, such as `motd.sh`",
          description: "A script in images/provision/.",
        }),
        variables: withDefault(
          map(
            either([integer(), flag(), text({ pattern: "^[^\\0]*$" })]),
            text({ pattern: "^[A-Z][A-Z0-9_]*$", expected: "a name of capitals such as `GREETING`" }),
            { description: "What it finds in its environment. Never a secret: the image keeps what is done with it." },
          ),
          {},
        ),
      }),
      {
        description:
          "Scripts that are run in the finished image, as root, one after the other, without a network, and with nothing in their environment but these variables.",
      },
    ),
    [],
  ),
  files: withDefault(
    map(
      object({
        content: text(),
        mode: withDefault(text({ pattern: "^0[0-7]{3}$", expected: 'a mode such as "0644", in quotes' }), "0644"),
        early: withDefault(
          flag({
            description: "Written before the packages are configured, so that their scripts find it; a change makes the packages anew.",
          }),
          false,
        ),
      }),
      absolutePath,
      { description: "Files of root's, written on top of the packages." },
    ),
    {},
  ),
});

/** What a recipe says, with what it takes from those that it extends. */
export type Declared = Infer<typeof recipeSchema>;

export interface Archive {
  mirror: string;
  suites: string[];
  components: string[];
  /** The public key that signs it, in ASCII armor; without it the distribution's keys do. */
  key?: string;
}

/** One of a recipe's own scripts. */
export interface Script {
  /** Its name in images/provision/. */
  script: string;
  content: string;
  variables: Record<string, string>;
}

/** What it comes to: with what its capabilities bring, the distribution's archives, and what is in the files that it names. */
export type Recipe = Omit<Declared, "capabilities" | "archives" | "release" | "sysctl" | "provision"> & {
  release: Release;
  archives: Record<string, Archive>;
  provision: Script[];
};
