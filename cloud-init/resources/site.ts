// A web site: its names, its certificate, and what is behind each path.

import { digestOf } from "../../lib/digest.ts";
import { nginx as quote } from "../../lib/quote.ts";
import { either, flag, type Infer, integer, list, map, object, optional, ref, type Schema, text, withDefault } from "../../lib/schema.ts";
import { type CheckDraft, type Host, inside, isBelow, kind, onlyOne, operator, type Problem, type Resource, stranger } from "../kind.ts";
import { dnsName } from "../names.ts";
import { type From, fromSchema } from "../value.ts";
import { application, baseOf, currentOf } from "./application.ts";
import { certificate, certificatePath, challengeFolder, isAcme, keyPath, keySecretOf, namesOf } from "./certificate.ts";
import { external, serverOf } from "./external.ts";
import { hsts, quiet, securityHeaders } from "./nginx.ts";
import { postgresql } from "./postgresql.ts";
import { service } from "./service.ts";
import { supervisor } from "./supervisor.ts";
import { socketOf, uwsgi } from "./uwsgi.ts";

/** A program of this host's, a server elsewhere, or what listens on another host of the stack. */
const proxySchema = either([ref("service", { or: ["supervisor", "uwsgi", "external"] }), fromSchema]);

const location = object({
  proxy: optional({
    ...proxySchema,
    description:
      "What answers: `service/<name>`, `supervisor/<name>`, `uwsgi/<name>`, `external/<name>`, or another host's by `{ from: host:service/<name>.address }`",
  }),
  files: optional({
    ...text({ description: "Or a folder: an absolute path, or an output such as `application/<name>.static`" }),
    "x-output": true,
  } as Schema<string>),
  internal: withDefault(flag({ description: "Only for X-Accel-Redirect: a client that asks for it gets 404" }), false),
  precompressed: withDefault(flag({ description: "Serve the .gz twin of a file to clients that take it" }), false),
  rate: optional(
    object(
      {
        per_second: integer({ minimum: 1, maximum: 100000, description: "Requests a second of one address" }),
        burst: withDefault(integer({ minimum: 0, maximum: 100000, description: "So many more at once are let through" }), 20),
      },
      { description: "What is more than this is answered with 429" },
    ),
  ),
  body_size: optional(
    text({
      pattern: "^[1-9][0-9]*[km]$",
      description: "The largest request body here, other than `nginx.body_size`",
      expected: "a size such as `100m`",
    }),
  ),
  cache: optional(
    text({ pattern: "^[1-9][0-9]*(m|h|d|y)$", description: "How long clients may keep the files", expected: "a time such as `30d`" }),
  ),
});
const schema = object({
  names: list(text({ pattern: `^(\\*\\.)?${dnsName}$`, expected: "a host name in lower case" }), {
    minItems: 1,
    description: "Its host names, the main one first; one that ends in `.localhost` answers on this computer",
  }),
  certificate: optional(ref("certificate", { description: "Its certificate; plain HTTP is then redirected" })),
  http: withDefault(flag({ description: "true: no TLS, port 80 only" }), false),
  proxy: optional({ ...proxySchema, description: "Short for a location `/` with this proxy" }),
  headers: withDefault(
    map(
      text({ pattern: "^[^\\n\\r$]*$", expected: "one line without `$`" }),
      text({ pattern: "^[A-Za-z][A-Za-z0-9-]*$", expected: "the name of a header" }),
      {
        description: "Response headers beside those of the security checklist, or other values for these; an empty value leaves one out",
      },
    ),
    {},
  ),
  maintenance: optional(
    text({
      pattern: "^[^\\n\\r$]+$",
      expected: "one line without `$`",
      description: "While this is here, every request is answered with it and status 503",
    }),
  ),
  snippet: optional(
    text({
      description: "Further lines of nginx's, inside of the site's `server`: tried by `nginx -t` in the image before anything is launched",
    }),
  ),
  locations: withDefault(
    map(location, text({ pattern: "^/[^\\s{};$]*$", expected: "a path that begins with `/`" }), {
      description: "What is behind each path",
    }),
    {},
  ),
});
export type Site = Infer<typeof schema>;
type Location = Infer<typeof location>;

/** What a location hands requests on to, and how. */
interface Upstream {
  id: string;
  pass?: string;
  protocol: "http" | "https" | "uwsgi";
  /** Of `https`: the certificates that vouch for it. */
  authority?: string;
}
function upstreamOf(proxy: string | From, host: Host): Upstream | undefined {
  if (typeof proxy !== "string") {
    const address = host.parts(proxy).join("");
    return { id: proxy.from, protocol: "http", ...(/^[A-Za-z0-9.-]+:[0-9]+$/.test(address) && { pass: address }) };
  }
  const [, kindOf = "service", name = proxy] = /^(service|supervisor|uwsgi|external)\/(.+)$/.exec(proxy) ?? [];
  if (kindOf === "external") {
    const server = host.get(external, name);
    if (!server) return undefined;
    const { kind: speaks, authority } = server.value;
    if (speaks !== "http" && speaks !== "https") return { id: server.id, protocol: "http" };
    const at = serverOf(server.value);
    return { id: server.id, pass: `${at.host}:${at.port}`, protocol: speaks, authority };
  }
  if (kindOf === "uwsgi") {
    const vassal = host.get(uwsgi, name);
    if (!vassal?.value.listens) return vassal && { id: vassal.id, pass: `unix:${socketOf(name)}`, protocol: "uwsgi" };
    return { id: vassal.id, pass: vassal.value.listens, protocol: "http" };
  }
  const program = kindOf === "supervisor" ? host.get(supervisor, name) : host.get(service, name);
  return program && { id: program.id, pass: program.value.listens, protocol: "http" };
}

const locationsOf = (value: Site): Record<string, Location> =>
  value.proxy ? { "/": { proxy: value.proxy, internal: false, precompressed: false }, ...value.locations } : value.locations;

/** A name of the site that hands requests on to a resource, which is up once it answers one. */
export function proxiedAs(id: string, host: Host): string | undefined {
  const before = ({ value }: Resource<Site>) =>
    Object.values(locationsOf(value)).some((l) => l.proxy && upstreamOf(l.proxy, host)?.id === id);
  return host
    .all(site)
    .find(before)
    ?.value.names.find((n) => !n.startsWith("*"));
}

const folderOf = (files: string, host: Host): string =>
  (files.startsWith("/") ? files : host.parts({ from: files }).join("")).replace(/\/+$/, "");

/** Folders of the host's own, that nobody may read over the web, nor anything in them. */
const hostFolders = ["/dev", "/etc", "/proc", "/root", "/run", "/sys", "/var/lib/ingot", "/var/lib/postgresql"];

/**
 * What a folder would show over the web that nobody may read: an application's code, with its environment and its settings; what the host
 * keeps to itself. A folder within the code may be one of static files, but for what begins with a dot.
 */
function exposedBy(folder: string, host: Host): string | undefined {
  const code = host
    .all(application)
    .flatMap((a) => [`${currentOf(a.name)}/app`, `${baseOf(a.name)}/releases`, ...(a.value.at ? [a.value.at] : [])]);
  if (/\/\.[^/]/.test(folder)) return folder;
  const kept = [...hostFolders, host.get(postgresql)?.value.data ?? []].flat();
  return [...code, ...kept].find((f) => isBelow(f, folder)) ?? kept.find((f) => isBelow(folder, f));
}

/** The zone that counts the requests of a location. */
const zoneOf = (site: string, path: string): string => `${site}_${digestOf(path).slice(0, 8)}`;

/** Response headers, each once: the checklist's as they are, unless the site has its own. */
function headerLines({ headers, certificate }: Site, upstream?: Upstream): string[] {
  const tls = certificate !== undefined;
  if (!Object.keys(headers).length) return [`include /etc/nginx/ingot/headers${tls ? "-tls" : ""}.conf;`];
  const hide = upstream === undefined ? undefined : `${upstream.protocol === "uwsgi" ? "uwsgi" : "proxy"}_hide_header`;
  return [
    ...Object.entries(expectedHeaders({ headers, certificate })).map(([name, value]) => `add_header ${name} ${quote(value)} always;`),
    ...(hide ? Object.keys(headers).map((name) => `${hide} ${name};`) : []),
  ];
}

/** Those that an answer must have. */
function expectedHeaders({ headers, certificate }: Pick<Site, "headers" | "certificate">): Record<string, string> {
  const own = new Map(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
  const all = { ...securityHeaders, ...(certificate !== undefined && { "Strict-Transport-Security": hsts }) };
  const kept = Object.entries(all).filter(([name]) => !own.has(name.toLowerCase()));
  return Object.fromEntries([...kept, ...Object.entries(headers).filter(([, value]) => value !== "")]);
}

function locationLines(self: Resource<Site>, path: string, l: Location, host: Host): string[] {
  const body = [];
  if (l.internal) body.push("internal;");
  if (l.rate)
    body.push(`limit_req zone=${zoneOf(self.name, path)}${l.rate.burst ? ` burst=${l.rate.burst} nodelay` : ""};`, "limit_req_status 429;");
  if (l.body_size) body.push(`client_max_body_size ${l.body_size};`);
  const upstream = l.proxy ? upstreamOf(l.proxy, host) : undefined;
  if (upstream?.protocol === "uwsgi") body.push(`uwsgi_pass ${upstream.pass};`, "include /etc/nginx/ingot/uwsgi.conf;");
  else if (upstream) body.push(`proxy_pass ${upstream.protocol}://${upstream.pass};`, "include /etc/nginx/ingot/proxy.conf;");
  if (upstream?.protocol === "https")
    body.push(
      "proxy_ssl_server_name on;",
      "proxy_ssl_verify on;",
      "proxy_ssl_verify_depth 4;",
      `proxy_ssl_trusted_certificate ${quote(upstream.authority ?? "/etc/ssl/certs/ca-certificates.crt")};`,
    );
  if (upstream) body.push(...headerLines(self.value, upstream));
  if (l.files) {
    // Both end in a slash or neither: `location /a` with `alias /srv/a/` would give /a../x what lies beside the folder.
    const folder = folderOf(l.files, host);
    body.push(`alias ${quote(path.endsWith("/") ? `${folder}/` : folder || "/")};`);
    if (l.precompressed) body.push("gzip_static on;");
    if (l.cache) body.push(`expires ${l.cache};`);
    body.push(...headerLines(self.value));
    // Version control, editors' copies, environments: nobody means to serve them.
    if (!l.internal) body.push("location ~ /\\. { return 404; }");
  }
  return [`    location ${quote(path)} {`, ...body.map((b) => `        ${b}`), "    }"];
}

function configurationOf(self: Resource<Site>, host: Host): string {
  const { value } = self;
  const names = value.names.map(quote).join(" ");
  const all = Object.entries(locationsOf(value));
  const locations = [
    ...(value.snippet === undefined
      ? []
      : value.snippet
          .trimEnd()
          .split("\n")
          .map((line) => `    ${line}`)),
    ...(value.maintenance === undefined
      ? [
          // While another host of the stack is rebuilt, what this site needs of it is not there (stacks/recovery/pause.sh).
          ...(host.peers.length && all.some(([, l]) => l.proxy) ? [`    include /run/ingot/nginx/${self.name}/*.conf;`] : []),
          ...all.flatMap(([path, l]) => locationLines(self, path, l, host)),
        ]
      : [
          "    default_type text/plain;",
          ...headerLines(value).map((l) => `    ${l}`),
          "    location / {",
          `        return 503 ${quote(`${value.maintenance}\\n`)};`,
          "    }",
        ]),
  ];
  const zones = all.flatMap(([path, { rate }]) =>
    rate && value.maintenance === undefined
      ? [`limit_req_zone $binary_remote_addr zone=${zoneOf(self.name, path)}:1m rate=${rate.per_second}r/s;`]
      : [],
  );
  if (!value.certificate)
    return [
      ...zones,
      `server {`,
      "    listen 80;",
      "    listen [::]:80;",
      `    server_name ${names};`,
      `    ${quiet}`,
      ...locations,
      "}",
      "",
    ].join("\n");
  return [
    ...zones,
    "server {",
    "    listen 80;",
    "    listen [::]:80;",
    `    server_name ${names};`,
    `    ${quiet}`,
    ...(isAcme(value.certificate, host)
      ? ["    location ^~ /.well-known/acme-challenge/ {", `        root ${challengeFolder};`, "        default_type text/plain;", "    }"]
      : []),
    "    location / {",
    "        return 301 https://$host$request_uri;",
    "    }",
    "}",
    "server {",
    "    listen 443 ssl http2;",
    "    listen [::]:443 ssl http2;",
    `    server_name ${names};`,
    `    ${quiet}`,
    `    ssl_certificate ${certificatePath(value.certificate)};`,
    `    ssl_certificate_key ${keyPath(value.certificate)};`,
    "    include /etc/nginx/ingot/tls.conf;",
    ...locations,
    "}",
    "",
  ].join("\n");
}

/** Whoever answers must hold the key that the secrets' store keeps. */
export const pinOf = (value: Site, host: Host): { pin?: { publicKeyOf: string } } =>
  value.certificate ? { pin: { publicKeyOf: keySecretOf(value.certificate, host) } } : {};

export const site = kind<Site>({
  kind: "site",
  key: "sites",
  shape: "many",
  summary:
    "A web site served by nginx: TLS with a redirect from plain HTTP, static files, internal locations for X-Accel-Redirect, a proxy to a service with the forwarded headers set by the proxy alone, and the response headers of Django's security checklist, each once.",
  schema,
  implies: ["nginx"],
  examples: [
    "users:\n  hello: { system: true }\nservices:\n  hello: { user: hello, command: python3 -m http.server --bind 127.0.0.1 8001, listens: 127.0.0.1:8001 }\ncertificates:\n  hello: {}\nsites:\n  hello: { names: [hello.example.org, hello.localhost], certificate: hello, proxy: service/hello }\n",
    "externals:\n  shop: { kind: https, address: shop.example.org, authority: /etc/ssl/example.pem }\nsites:\n  shop: { names: [shop.localhost], http: true, proxy: external/shop }\n",
    "sites:\n  docs:\n    names: [docs.localhost]\n    http: true\n    headers: { X-Frame-Options: SAMEORIGIN, Content-Security-Policy: \"default-src 'self'\", Referrer-Policy: '' }\n    snippet: |\n      error_page 404 /missing.html;\n    locations:\n      /: { files: /srv/docs, cache: 1h, rate: { per_second: 20, burst: 50 }, body_size: 1m }\n  shop: { names: [shop.localhost], http: true, maintenance: back at noon, locations: { /: { files: /srv/shop } } }\n",
  ],
  problems: (self, host) => {
    const { name, value } = self;
    const problems: Problem[] = [];
    if (!value.certificate && !value.http)
      problems.push({
        code: "ING1411",
        message: `site ${name} has no certificate`,
        hint: "name one by `certificate:`, or say `http: true` to serve it in plain",
      });
    if (value.certificate && value.http)
      problems.push({ code: "ING1411", path: ["http"], message: `site ${name} has a certificate and says \`http: true\`` });
    if (value.http && !value.certificate && !value.names.every((n) => n.endsWith(".localhost")))
      problems.push({
        code: "ING1412",
        severity: "warning",
        path: ["http"],
        message: `site ${name} is served without TLS: passwords and sessions can be read on the way`,
      });
    if (!Object.keys(locationsOf(value)).length)
      problems.push({
        code: "ING1417",
        message: `there is nothing behind the names of site ${name}`,
        hint: "give it `proxy:`, or `locations:`",
      });
    for (const [path, l] of Object.entries(locationsOf(value))) {
      const at = value.locations[path] ? ["locations", path] : ["proxy"];
      const wrong = onlyOne(path, { proxy: l.proxy, files: l.files });
      if (wrong) problems.push({ code: "ING1413", path: at, message: wrong });
      const folder = l.files === undefined ? undefined : folderOf(l.files, host) || "/";
      const exposed = folder === undefined || l.internal ? undefined : exposedBy(folder, host);
      if (exposed)
        problems.push({
          code: "ING1430",
          path: at,
          message: `${path} would show ${exposed} to everybody, which ${folder ?? ""} ${isBelow(folder ?? "", exposed) ? (exposed === folder ? "is" : "is in") : "holds"}`,
          hint: "serve a folder of static files: `application/<name>.static`",
        });
      const target = l.proxy ? upstreamOf(l.proxy, host) : undefined;
      if (target && !target.pass)
        problems.push({
          code: "ING1414",
          path: at,
          message: host.has(target.id)
            ? `${target.id} does not say where it listens, or speaks no HTTP`
            : `${target.id} is no address of a server`,
          hint: "a program of this host has `listens: 127.0.0.1:<port>`, an external one `kind: http` or `https`, another host's an `address`",
          ...(host.has(target.id) && { related: { id: target.id, message: "declared here" } }),
        });
    }
    for (const other of host.all(site)) {
      if (other.name <= name) continue;
      for (const shared of value.names.filter((n) => other.value.names.includes(n))) {
        problems.push({
          code: "ING1505",
          path: ["names", value.names.indexOf(shared)],
          message: `${shared} is a name of both ${name} and ${other.name}`,
          related: { id: other.id, message: `${other.name} is declared here` },
        });
      }
    }
    return problems;
  },
  compile: (self, host) => ({
    files: [{ path: `/etc/nginx/sites-enabled/${self.name}.conf`, mode: "0644", content: configurationOf(self, host) }],
  }),
  checks: ({ name, value }, host) => {
    const certified = value.certificate === undefined ? undefined : host.get(certificate, value.certificate);
    const [main = ""] = value.names.filter((n) => !n.startsWith("*"));
    const scheme = value.certificate ? "https" : "http";
    const headers = expectedHeaders(value);
    const checks: CheckDraft[] = [
      operator(
        "http",
        {
          url: `${scheme}://${main}/`,
          ...pinOf(value, host),
          status: value.maintenance === undefined ? null : 503,
          headers,
          once: Object.keys(headers),
          within: 5,
        },
        "headers",
      ),
    ];
    if (value.certificate) {
      checks.push(
        stranger("http", { url: `http://${main}/some/path?x=1`, status: 301, location: `https://${main}/some/path?x=1` }, "redirect"),
        stranger(
          "tls",
          { port: 443, sni: main, names: certified ? namesOf(certified, host) : value.names, ...pinOf(value, host) },
          "certificate",
        ),
        stranger("http", { url: "https://stranger.invalid/", sni: main, status: 0 }, "other-host-tls"),
      );
    }
    checks.push(stranger("http", { url: "http://stranger.invalid/", status: 0 }, "other-host"));
    for (const [path, l] of value.maintenance === undefined ? Object.entries(locationsOf(value)) : []) {
      const part = path.replace(/[^A-Za-z0-9]+/g, "-").replace(/^-|-$/g, "") || "root";
      if (l.files && !l.internal)
        checks.push(stranger("http", { url: `${scheme}://${main}${path.replace(/\/?$/, "/")}.git/HEAD`, status: 404 }, `hidden-${part}`));
      if (l.internal) checks.push(stranger("http", { url: `${scheme}://${main}${path}`, status: 404 }, `internal-${part}`));
    }
    checks.push(
      inside("path", { path: `/etc/nginx/sites-enabled/${name}.conf`, type: "file", owner: "root", mode: "0644" }, "configuration"),
    );
    return checks;
  },
});
