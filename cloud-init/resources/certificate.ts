// A TLS certificate for sites.
import { choice, integer, list, object, text, withDefault } from "../../lib/schema.ts";
import { type Host, inside, kind, pkg } from "../kind.ts";
import { site } from "./site.ts";

export const certificatePath = (name: string): string => `/etc/ssl/ingot/${name}.crt`;
export const keyPath = (name: string): string => `/etc/ssl/ingot/${name}.key`;

/** The secret that holds its key. */
export const keySecretOf = (name: string, host: Host): string => `${host.name}/certificate/${name}/key`;

/** Its own names, or those of the sites that use it. */
const namesOf = (name: string, value: { names: string[] }, host: Host): string[] =>
  value.names.length
    ? value.names
    : [
        ...new Set(
          host
            .all(site)
            .filter((s) => s.value.certificate === name)
            .flatMap((s) => s.value.names),
        ),
      ];

export const certificate = kind({
  kind: "certificate",
  key: "certificates",
  shape: "many",
  summary:
    "A certificate that names the sites that use it. `self-signed`: the key is made once and kept in the secrets' store, the certificate is made from it on the host and renewed when its names change or it has less than 30 days left.",
  schema: object({
    issuer: withDefault(choice(["self-signed"], { description: "Who signs it" }), "self-signed"),
    names: withDefault(list(text(), { description: "The names in it; those of its sites when left out" }), []),
    days: withDefault(integer({ minimum: 31, maximum: 825, description: "How long it is valid" }), 397),
  }),
  examples: ["certificates:\n  shop: { names: [shop.example.org] }\n"],
  outputs: ({ name }) => ({
    certificate: { parts: [certificatePath(name)], description: "Path of the certificate (PEM)" },
    key: { parts: [keyPath(name)], description: "Path of its key (PEM, root's own)" },
  }),
  needs: () => [pkg("openssl")],
  problems: ({ name, value }, host) =>
    namesOf(name, value, host).length
      ? []
      : [{ code: "ING1406", message: `certificate ${name} has no names: no site uses it`, hint: "give it `names:`, or name it in a site" }],
  compile: ({ name, value }, host) => {
    const key = keySecretOf(name, host);
    return {
      secrets: [{ name: key, generate: "tls-ecdsa" }],
      steps: [
        {
          action: "certificate",
          args: {
            name,
            key: { secret: key },
            names: namesOf(name, value, host),
            days: value.days,
            certificate: certificatePath(name),
            key_path: keyPath(name),
          },
        },
      ],
    };
  },
  checks: ({ name }) => [
    inside("path", { path: keyPath(name), type: "file", owner: "root", mode: "0600" }, "key"),
    inside("command", { argv: ["openssl", "x509", "-in", certificatePath(name), "-noout", "-checkend", "604800"] }, "valid"),
  ],
});
