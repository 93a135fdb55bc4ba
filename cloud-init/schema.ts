// The schema of a stack's file: what stands around the kinds, and every kind's own below its key.
import { type Infer, map, object, optional, type Schema, text } from "../lib/schema.ts";
import { kinds } from "./resources/index.ts";

/** A name that can be part of a machine's name, a file's name and a unit's name. */
export const nameSchema = text({ pattern: "^[a-z0-9][a-z0-9_-]*$", expected: "a name of lower-case letters, digits, `-` and `_`" });
const anything: Schema<unknown> = {};

const hostHead = {
  image: text({ description: "The recipe (images/<name>.yaml) whose image the host boots" }),
  domain: optional(
    text({
      pattern: "^[a-z0-9][a-z0-9.-]*$",
      description: "The host's domain: with the hostname it makes the fqdn",
      expected: "a domain in lower case",
    }),
  ),
  aws: optional({ type: "object", description: "The host's shape on EC2: region, instance type and the like" } as Schema<
    Record<string, unknown>
  >),
};
const head = object(hostHead);

/** What stands before the kinds, and the hostname, which is a kind whose value every other may ask for. */
export type HostDeclaration = Infer<typeof head> & { hostname?: string };

const hostSchema: Schema<HostDeclaration> = {
  ...head,
  properties: {
    ...head.properties,
    ...Object.fromEntries(kinds.map((k) => [k.key, k.shape === "one" ? k.schema : map(k.schema, k.names ?? nameSchema)])),
  },
} as Schema<HostDeclaration>;

export const stackSchema = object({
  stack: { ...nameSchema, description: "The stack's name, as its file is called" },
  vars: optional(
    map(object({ default: anything, description: optional(text({ description: "What it is for" })) }), nameSchema, {
      description: "Values that several places share, used as `{ var: name }`",
    }),
  ),
  hosts: map(hostSchema, nameSchema, { minProperties: 1, description: "The hosts that belong together, by name" }),
});
