// Values that an environment variable may have, with what quoting has to hold against made likely.
import fc from "fast-check";

const awkward = [
  '"',
  "'",
  "\\",
  "$",
  "`",
  "\n",
  "\t",
  " ",
  "#",
  ";",
  "%",
  "!",
  "*",
  "~",
  "=",
  "$(id)",
  "$\u007bHOME}",
  "\\n",
  "\\\n",
  "é",
  "日本",
  "🦊",
  "\u2028",
  "\ufeff",
];
const allowed = (text: string): boolean =>
  [...text].every((c) => {
    const code = c.codePointAt(0) ?? 0;
    const control = (code < 32 && c !== "\n" && c !== "\t") || code === 127;
    return !control && !(code >= 0xd800 && code <= 0xdfff) && !(code >= 0xfdd0 && code <= 0xfdef) && (code & 0xfffe) !== 0xfffe;
  });

export const environmentValue: fc.Arbitrary<string> = fc
  .array(fc.oneof(fc.constantFrom(...awkward), fc.string({ unit: "binary", maxLength: 4 }), fc.string({ maxLength: 6 })), { maxLength: 12 })
  .map((parts) => parts.join(""))
  .filter(allowed);
