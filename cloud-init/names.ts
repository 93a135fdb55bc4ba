// What several kinds call things: in a file of its own, because kinds import each other and their schemas are made while they load.
import { text } from "../lib/schema.ts";

export const absolutePath = text({
  pattern: "^/(?!.*(^|/)\\.\\.?(/|$))(?!.*//)[^\\u0000-\\u001f]*[^/\\u0000-\\u001f]$",
  expected: "an absolute path without `..` and without `/` at its end",
});
export const modeSchema = text({ pattern: "^[0-7]{4}$", expected: 'a mode of four octal digits in quotes, such as "0750"' });
export const environmentName = text({ pattern: "^[A-Za-z_][A-Za-z0-9_]*$", expected: "the name of an environment variable" });
const byte = "(25[0-5]|2[0-4][0-9]|1?[0-9]{1,2})";
const portNumber = "(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})";
/** Patterns, without their ends. */
export const ipv4 = `(${byte}\\.){3}${byte}`;
export const ipv4AndPort = `${ipv4}:${portNumber}`;
/** A server by its name or address, and perhaps its port. */
export const serverAndPort = `[A-Za-z0-9.-]+(:${portNumber})?`;
/** Labels of DNS. */
export const dnsName = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*";
export const accountName = text({
  pattern: "^[a-z_][a-z0-9_-]{0,31}$",
  expected: "a Unix name: lower-case letters, digits, `_` and `-`, at most 32, no digit first",
});
