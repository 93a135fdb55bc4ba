// The language of programs that ask the system for one.
import { type Infer, object, text } from "../../lib/schema.ts";
import { inside, type Kind, kind } from "../kind.ts";

const schema = object({
  lang: text({
    pattern: "^[A-Za-z_]+(\\.[A-Za-z0-9-]+)?$",
    expected: "a locale such as `de_DE.UTF-8`",
    description: "LANG of services and of who logs in",
  }),
});
type Locale = Infer<typeof schema>;

export const locale: Kind<Locale> = kind({
  kind: "locale",
  key: "locale",
  shape: "one",
  summary: "The system's locale. It must be in the image: recipes have `locales:`. `C.UTF-8` is in every one.",
  schema,
  examples: ["locale: { lang: en_US.UTF-8 }\n"],
  needs: ({ value }) => (/^C(\.|$)|^POSIX$/.test(value.lang) ? [] : [{ need: "locale", name: value.lang }]),
  compile: ({ value }) => ({
    files: [
      { path: "/etc/default/locale", mode: "0644", content: `LANG=${value.lang}\n` },
      { path: "/etc/locale.conf", mode: "0644", content: `LANG=${value.lang}\n` },
    ],
  }),
  checks: ({ value }) => [
    inside("command", { argv: ["env", `LC_ALL=${value.lang}`, "locale", "charmap"], contains: /utf-?8/i.test(value.lang) ? "UTF-8" : "" }),
  ],
});
