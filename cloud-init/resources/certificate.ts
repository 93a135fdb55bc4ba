// A TLS certificate for sites.
import { existsSync, readFileSync } from "node:fs";
import { choice, type Infer, integer, list, object, optional, text, withDefault } from "../../lib/schema.ts";
import { timerUnit } from "../cron.ts";
import { type Compiled, type Host, inStackFolder, inside, isThere, type Kind, kind, type Problem, pkg, type Resource } from "../kind.ts";
import { secretRef } from "../value.ts";
import { mail } from "./mail.ts";
import { site } from "./site.ts";

const letsencrypt = "https://acme-v02.api.letsencrypt.org/directory";
/** Where nginx looks for the answers to an authority's questions. */
export const challengeFolder = "/var/lib/ingot-acme";

const schema = object({
  issuer: withDefault(
    choice(["self-signed", "given", "letsencrypt"], {
      description: "Who signs it: nobody else; whoever signed the one that you have; Let's Encrypt or another authority that speaks ACME",
    }),
    "self-signed",
  ),
  names: withDefault(list(text(), { description: "The names in it; those of its sites when left out" }), []),
  days: withDefault(integer({ minimum: 31, maximum: 825, description: "How long a self-signed one is valid" }), 397),
  file: optional(
    text({
      description:
        "Of a given one: the file beside the stack that holds it, followed by the certificates between it and its authority (PEM)",
    }),
  ),
  key: optional({ ...secretRef, description: "Of a given one: its private key (PEM)" }),
  email: optional(text({ pattern: "^[^@\\s]+@[^@\\s]+$", expected: "a mail address", description: "Of letsencrypt: where it warns" })),
  directory: withDefault(
    text({
      pattern: "^https://[^\\s]+$",
      expected: "an `https://` address",
      description: "Of letsencrypt: another authority's ACME directory",
    }),
    letsencrypt,
  ),
  authority: optional(
    text({
      pattern: "^/[^\\s]+$",
      expected: "an absolute path",
      description: "Certificates that vouch for that directory; the system's own when left out",
    }),
  ),
});
type Certificate = Infer<typeof schema>;

export const certificatePath = (name: string): string => `/etc/ssl/ingot/${name}.crt`;
export const keyPath = (name: string): string => `/etc/ssl/ingot/${name}.key`;

/** The secret that holds its key. */
export const keySecretOf = (name: string, host: Host): string => {
  const value = host.get(certificate, name)?.value;
  return value?.issuer === "given" && value.key ? value.key.secret : `${host.name}/certificate/${name}/key`;
};

/** Its own names, or those of the sites that use it. Nobody signs for `.localhost`. */
export function namesOf({ name, value }: Resource<Certificate>, host: Host): string[] {
  const sites = host.all(site).filter((s) => s.value.certificate === name);
  const names = value.names.length ? value.names : [...new Set(sites.flatMap((s) => s.value.names))];
  return value.issuer === "letsencrypt" ? names.filter((n) => !n.endsWith(".localhost")) : names;
}
/** Whether an authority asks for answers below /.well-known. */
export const isAcme = (name: string | undefined, host: Host): boolean =>
  name !== undefined && host.get(certificate, name)?.value.issuer === "letsencrypt";

/** Units that read it, told of a new one. */
const readersOf = (name: string, host: Host): string[] => [
  ...(host.all(site).some((s) => s.value.certificate === name) ? ["nginx.service"] : []),
  ...(host.get(mail)?.value.certificate === name ? ["postfix.service"] : []),
];

const unitOf = (name: string): string => `ingot-acme-${name}`;

/** The authority is asked at first boot, and from then on every hour until it has signed, and again a month before the end. */
function acme(self: Resource<Certificate>, host: Host): Compiled {
  const { name, value } = self;
  const sites = host.all(site).some((s) => s.value.certificate === name);
  const settings = [
    `name=${name}`,
    `names='${namesOf(self, host).join(" ")}'`,
    `certificate=${certificatePath(name)}`,
    `key=${keyPath(name)}`,
    `directory='${value.directory}'`,
    `email='${value.email ?? ""}'`,
    `authority='${value.authority ?? ""}'`,
    `webroot=${sites ? challengeFolder : ""}`,
    `readers='${readersOf(name, host).join(" ")}'`,
    // Let's Encrypt sees nothing of a machine that runs on somebody's own computer.
    `only=${value.directory === letsencrypt ? "aws" : ""}`,
    "",
  ].join("\n");
  const [path, service, timer] = [
    `/etc/ingot/acme/${name}`,
    `/etc/systemd/system/${unitOf(name)}.service`,
    `/etc/systemd/system/${unitOf(name)}.timer`,
  ];
  return {
    ports: sites ? [] : [{ port: 80, protocol: "tcp", from: "world" }],
    files: [
      { path, mode: "0644", content: settings },
      {
        path: service,
        mode: "0644",
        content: [
          "[Unit]",
          `Description=Certificate of ${name}`,
          "After=network-online.target",
          "",
          "[Service]",
          "Type=oneshot",
          `ExecStart=/usr/lib/ingot/acme ${path}`,
          "TimeoutStartSec=300",
          "",
        ].join("\n"),
      },
      {
        path: timer,
        mode: "0644",
        content: timerUnit(`Times of the certificate of ${name}`, ["OnActiveSec=5min", "OnUnitInactiveSec=1h", "RandomizedDelaySec=10min"]),
      },
    ],
    steps: [
      {
        part: "issue",
        action: "acme",
        args: { unit: `${unitOf(name)}.timer`, inputs: [timer, service, path], settings: path },
        late: [...host.all(site).map((s) => s.id), "nginx", "mail"],
        timeoutSeconds: 240,
      },
    ],
  };
}

export const certificate: Kind<Certificate> = kind({
  kind: "certificate",
  key: "certificates",
  shape: "many",
  summary:
    "A certificate that names the sites that use it. `self-signed`: the key is made once and kept in the secrets' store, the certificate is made from it on the host and renewed when its names change or it has less than 30 days left.",
  schema,
  examples: [
    "certificates:\n  shop: { names: [shop.example.org] }\n",
    "certificates:\n  shop: { issuer: letsencrypt, email: ops@example.org }\nsites:\n  shop: { names: [shop.example.org, shop.localhost], certificate: shop, locations: { /: { files: /srv/shop } } }\n",
  ],
  outputs: ({ name }) => ({
    certificate: { parts: [certificatePath(name)], description: "Path of the certificate (PEM)" },
    key: { parts: [keyPath(name)], description: "Path of its key (PEM, root's own)" },
  }),
  needs: ({ value }) => [pkg("openssl"), ...(value.issuer === "letsencrypt" ? [pkg("certbot")] : [])],
  problems: (self, host): Problem[] => {
    const { name, value } = self;
    const names = namesOf(self, host);
    if (!names.length)
      return [
        {
          code: "ING1406",
          message:
            value.issuer === "letsencrypt"
              ? `certificate ${name} has no name that an authority signs for`
              : `certificate ${name} has no names: no site uses it`,
          hint: "give it `names:`, or name it in a site",
        },
      ];
    const wildcard = value.issuer === "letsencrypt" ? names.find((n) => n.startsWith("*") || /^[0-9.:]+$/.test(n)) : undefined;
    if (wildcard)
      return [
        {
          code: "ING1432",
          message: `Let's Encrypt is asked over HTTP, and signs for ${wildcard} only where it is asked over DNS`,
          hint: "name each host, or take `issuer: given`",
        },
      ];
    if (value.issuer !== "given")
      return value.file === undefined && value.key === undefined
        ? []
        : [
            {
              code: "ING1432",
              message: `\`file:\` and \`key:\` are of a given certificate, and the issuer is ${value.issuer}`,
              hint: "write `issuer: given`",
            },
          ];
    if (value.file === undefined || value.key === undefined)
      return [
        { code: "ING1432", message: "a given certificate has a `file:` and a `key:`", hint: "`file: shop.pem, key: { secret: shop-tls }`" },
      ];
    if (!isThere(host, value.file, "file"))
      return [{ code: "ING1401", path: ["file"], message: `there is no file \`${value.file}\` beside the stack` }];
    const pem = readFileSync(inStackFolder(host, value.file), "utf8");
    if (/PRIVATE KEY/.test(pem))
      return [
        {
          code: "ING1402",
          path: ["file"],
          message: `${value.file} holds a private key`,
          hint: "keep it in the secrets' store, and name it by `key:`",
        },
      ];
    return /-----BEGIN CERTIFICATE-----/.test(pem)
      ? []
      : [{ code: "ING1432", path: ["file"], message: `${value.file} is no certificate (PEM)` }];
  },
  compile: (self, host) => {
    const { name, value } = self;
    const key = keySecretOf(name, host);
    const given = `/var/lib/ingot/files/certificate-${name}`;
    const more = value.issuer === "letsencrypt" ? acme(self, host) : {};
    return {
      ...more,
      secrets: [{ name: key, generate: value.issuer === "given" ? value.key?.generate : "tls-ecdsa" }],
      files: [
        ...(value.issuer === "given" && value.file !== undefined && existsSync(inStackFolder(host, value.file))
          ? [{ path: given, mode: "0600" as const, content: readFileSync(inStackFolder(host, value.file), "utf8") }]
          : []),
        ...(more.files ?? []),
      ],
      steps: [
        {
          action: "certificate",
          args: {
            name,
            key: { secret: key },
            names: namesOf(self, host),
            days: value.days,
            certificate: certificatePath(name),
            key_path: keyPath(name),
            ...(value.issuer === "given" && { given }),
            ...(value.issuer === "letsencrypt" && { keep_issued: true, readers: readersOf(name, host) }),
          },
        },
        ...(more.steps ?? []),
      ],
    };
  },
  checks: ({ name, value }) => [
    inside("path", { path: keyPath(name), type: "file", owner: "root", mode: "0600" }, "key"),
    inside("command", { argv: ["openssl", "x509", "-in", certificatePath(name), "-noout", "-checkend", "604800"] }, "valid"),
    ...(value.issuer === "letsencrypt"
      ? [
          inside("unit", { name: `${unitOf(name)}.timer`, active: true, enabled: true }, "renewal"),
          inside("issued", { settings: `/etc/ingot/acme/${name}` }, "issued"),
        ]
      : []),
  ],
});
