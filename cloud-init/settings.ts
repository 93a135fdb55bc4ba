// A settings file in Python that the host renders, secrets included: what stands in it, who reads it.
import { python } from "../lib/quote.ts";
import { either, type Infer, list, map, object, optional, ref, text } from "../lib/schema.ts";
import type { Path } from "../lib/yaml.ts";
import type { Host, Problem, Resource } from "./kind.ts";
import { environmentName } from "./names.ts";
import type { Part } from "./plan.ts";
import { isFrom, isSecret, looksSecret, type Nested, nestedSchema, type SecretNeed, urlWithPassword } from "./value.ts";

const fileSchema = object(
  {
    file: text({
      pattern: "^[A-Za-z0-9_][A-Za-z0-9_./-]*\\.py$",
      expected: "a path in the sources that ends in `.py`",
      description: "Where its sources look for it",
    }),
    base: optional(
      text({
        pattern: "^\\.*[A-Za-z_][A-Za-z0-9_.]*$",
        expected: "a Python module, such as `.base`",
        description: "The module whose settings it begins with, as `from .base import *`",
      }),
    ),
    values: map(nestedSchema, environmentName, { description: "Its settings, by name; what is a map or list here is one there" }),
    only_for: optional(ref("user", { description: "The user whose programs alone read this one, and none of those without `only_for`" })),
  },
  { description: "A settings file in Python, secrets included, that only its programs read" },
);
/** One, or several. */
export const settingsSchema = either([fileSchema, list(fileSchema, { minItems: 1, description: "Or several of them" })], {
  description: "A settings file in Python, secrets included, that only its programs read; or a list of them",
});
type Settings = Infer<typeof fileSchema>;
type HasSettings = Resource<{ settings?: Settings | Settings[] }>;

/** A settings file, where it is on the host, and what its step is called. */
export interface SettingsFile extends Settings {
  path: string;
  part: string;
  /** Of its place in the application. */
  at: Path;
}
export function settingsFiles({ name, value: { settings } }: HasSettings): SettingsFile[] {
  if (settings === undefined) return [];
  const folder = `/etc/ingot/applications/${name}`;
  if (!Array.isArray(settings)) return [{ ...settings, path: `${folder}/settings.py`, part: "settings", at: ["settings"] }];
  return settings.map((s, i) => ({
    ...s,
    path: `${folder}/settings-${i + 1}.py`,
    part: `settings-${i + 1}`,
    at: ["settings", i],
  }));
}
/** The group that reads those that are no user's alone: its programs have it, whoever's they are. */
const groupOf = (name: string): string => `${name.slice(0, 22)}-settings`;
export const settingsGroup = (app: HasSettings): string | undefined =>
  settingsFiles(app).some((s) => s.only_for === undefined) ? groupOf(app.name) : undefined;
/** The same for programs of a user. */
export const settingsGroupOf = (app: HasSettings, user: string): string | undefined =>
  settingsFiles(app).some((s) => s.only_for === user) ? undefined : settingsGroup(app);

/** The settings file in pieces. */
export const settingsOf = ({ base, values }: Settings, host: Host): Part[] => [
  "# Made by Ingot from the stack's declaration.\n",
  ...(base ? [`from ${base} import *  # noqa: F401,F403\n`] : []),
  ...Object.entries(values).flatMap(([name, value]) => [`${name} = `, ...literalParts(value, host), "\n"]),
];

/** A value as Python writes it. Literals beside each other are one text: so secrets inside of a text are literals of their own. */
function literalParts(value: Nested, host: Host): Part[] {
  if (isSecret(value)) return [{ secret: value.secret, encode: "python" }];
  if (isFrom(value)) {
    const parts = host.parts(value).flatMap((p): Part[] => {
      if (typeof p === "string") return [python(p), " "];
      // Percent-encoded, it holds nothing that Python would read otherwise.
      return p.encode === "url" ? ['"', p, '"', " "] : [{ secret: p.secret, encode: "python" }, " "];
    });
    return parts.slice(0, -1);
  }
  if (Array.isArray(value)) return ["[", ...value.flatMap((v) => [...literalParts(v, host), ", "]), "]"];
  if (typeof value === "object" && value !== null)
    return ["{", ...Object.entries(value).flatMap(([k, v]) => [`${python(k)}: `, ...literalParts(v, host), ", "]), "}"];
  return [python(value)];
}

/** Secrets that it names at any depth. */
export const secretsBelow = (value: Nested): SecretNeed[] => {
  if (typeof value !== "object" || value === null || isFrom(value)) return [];
  if (isSecret(value)) return [{ name: value.secret, ...(value.generate && { generate: value.generate }) }];
  return Object.values(value).flatMap((v) => secretsBelow(v as Nested));
};

/** Secrets that are written out in its settings. */
export const settingsProblems = (value: Nested, path: Path): Problem[] => {
  if (typeof value === "object" && value !== null) {
    if (isFrom(value) || isSecret(value)) return [];
    return (Array.isArray(value) ? [...value.entries()] : Object.entries(value)).flatMap(([k, v]) => settingsProblems(v, [...path, k]));
  }
  const name = String(path.findLast((p) => typeof p === "string"));
  return typeof value === "string" && ((looksSecret(name) && value !== "") || urlWithPassword(value))
    ? [
        {
          code: "ING1407",
          path,
          message: `${name} is a secret by its name, and is written out here`,
          hint: `refer to the secrets' store: \`{ secret: ${name.toLowerCase().replaceAll("_", "-")} }\``,
        },
      ]
    : [];
};
