// Values that may come from elsewhere: written in place, from another resource's output, or a secret by reference.
// Variables (`{ var: name }`) are put in before validation, so nothing here knows them.
import { choice, either, flag, integer, list, object, optional, type Schema, text } from "../lib/schema.ts";
import type { GenerateSecret, Part } from "./plan.ts";

/** `{ secret: name }`: kept in the secrets' store under that name, one for the whole stack; `generate` makes it when it is not there. */
export interface SecretRef {
  secret: string;
  generate?: "password" | "hex64";
}
export type Value = string | number | boolean | string[] | { from: string } | SecretRef | { value: string; plain: boolean };

export const secretRef: Schema<SecretRef> = object(
  {
    secret: text({
      pattern: "^[A-Za-z0-9][A-Za-z0-9._-]*$",
      description: "Name of the secret in the stack's store",
      expected: "a name of letters, digits, `.`, `_` and `-`",
    }),
    generate: optional(
      choice(["password", "hex64"], {
        description: "Make it once when the store has none: 32 letters and digits, or 64 hexadecimal digits",
      }),
    ),
  },
  { description: "A secret, by reference" },
);

export interface From {
  from: string;
}
/** `{ from: … }` alone: what another resource offers. */
export const fromSchema: Schema<From> = {
  ...object({
    from: text({
      pattern: "^([a-z][a-z0-9-]*:)?[a-z][a-z-]*/.+\\.[a-z_.]+$",
      expected: "an output, as `kind/name.output`, or `host:kind/name.output`",
      description: "What another resource offers, as `kind/name.output`; one of another host of the stack as `host:kind/name.output`",
    }),
  }),
  "x-value": true,
} as Schema<From>;

export const valueSchema: Schema<Value> = {
  ...either([
    text(),
    integer(),
    flag(),
    list(text()),
    fromSchema,
    secretRef,
    object({
      value: text({ description: "The value, written out" }),
      plain: flag({ description: "`true` says that this looks like a secret and is none" }),
    }),
  ]),
  "x-value": true,
  "x-expected": "a text, number or flag, a list of texts, `{ from: kind/name.output }` or `{ secret: name }`",
} as Schema<Value>;

/** Data of any depth, whose leaves may come from elsewhere. */
export type Nested = null | number | string | boolean | Nested[] | { from: string } | SecretRef | { [key: string]: Nested };
export const nestedSchema = { "x-value": "nested" } as Schema<Nested>;
export const isFrom = (value: Nested): value is { from: string } =>
  typeof value === "object" &&
  value !== null &&
  Object.keys(value).join() === "from" &&
  typeof (value as { from: unknown }).from === "string";
export const isSecret = (value: Nested): value is SecretRef =>
  typeof value === "object" &&
  value !== null &&
  typeof (value as { secret?: unknown }).secret === "string" &&
  Object.keys(value).every((k) => k === "secret" || k === "generate");

/** Every `{ from: … }` of a value, at any depth. */
export const fromsBelow = (value: Nested): { from: string }[] => {
  if (typeof value !== "object" || value === null) return [];
  return isFrom(value) ? [value] : Object.values(value).flatMap((v) => fromsBelow(v as Nested));
};

/** Environment names that hold secrets by everybody's convention. */
export const looksSecret = (name: string): boolean =>
  /(SECRET|PASSW|PASSPHRASE|TOKEN|PRIVATE_KEY|API_?KEY|ACCESS_?KEY|CREDENTIAL)/i.test(name);
/** A url with a password in it. */
export const urlWithPassword = (value: string): boolean => /^[a-z][a-z0-9+.-]*:\/\/[^/@:\s]*:[^/@\s]+@/i.test(value);

/** An output that others can use; `sensitive` when a secret is part of it. */
export interface Output {
  parts: Part[];
  description: string;
}
export const isSensitive = (parts: Part[]): boolean => parts.some((p) => typeof p !== "string");

export interface SecretNeed {
  name: string;
  generate?: GenerateSecret;
}
