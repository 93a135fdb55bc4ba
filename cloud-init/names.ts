// What several kinds call things: in a file of its own, because kinds import each other and their schemas are made while they load.
import { text } from "../lib/schema.ts";

export const absolutePath = text({
  pattern: "^/(?!.*(^|/)\\.\\.?(/|$))(?!.*//)[^\\u0000-\\u001f]*[^/\\u0000-\\u001f]$",
  expected: "an absolute path without `..` and without `/` at its end",
});
export const modeSchema = text({ pattern: "^[0-7]{4}$", expected: 'a mode of four octal digits in quotes, such as "0750"' });
export const environmentName = text({ pattern: "^[A-Za-z_][A-Za-z0-9_]*$", expected: "the name of an environment variable" });
export const accountName = text({
  pattern: "^[a-z_][a-z0-9_-]{0,31}$",
  expected: "a Unix name: lower-case letters, digits, `_` and `-`, at most 32, no digit first",
});
