// The web server of the host: what its sites share.
import { type Infer, object, optional, ref, text, withDefault } from "../../lib/schema.ts";
import { type Host, inside, type Kind, kind, pkg } from "../kind.ts";
import { certificatePath, isAcme, keyPath } from "./certificate.ts";
import { site } from "./site.ts";
import { uwsgi } from "./uwsgi.ts";

/** Headers of Django's security checklist and Mozilla's guidance; set here alone, each once. */
export const securityHeaders: Record<string, string> = {
  "X-Content-Type-Options": "nosniff",
  "X-Frame-Options": "DENY",
  "Referrer-Policy": "same-origin",
  "Cross-Origin-Opener-Policy": "same-origin",
};
export const hsts = "max-age=31536000";

const headerLines = (headers: Record<string, string>): string =>
  Object.entries(headers)
    .map(([k, v]) => `add_header ${k} "${v}" always;\n`)
    .join("");

/** The same in uWSGI's protocol: a header of the client's under such a name is not passed on beside it. */
const uwsgiConfiguration = [
  "include /etc/nginx/uwsgi_params;",
  "uwsgi_param HTTP_HOST $http_host;",
  "uwsgi_param HTTP_X_FORWARDED_HOST $http_host;",
  "uwsgi_param HTTP_X_FORWARDED_PORT $server_port;",
  "uwsgi_param HTTP_X_FORWARDED_PROTO $scheme;",
  "uwsgi_param HTTP_X_FORWARDED_FOR $remote_addr;",
  "uwsgi_param HTTP_X_REAL_IP $remote_addr;",
  'uwsgi_param HTTP_FORWARDED "";',
  ...[...Object.keys(securityHeaders), "Strict-Transport-Security"].map((h) => `uwsgi_hide_header ${h};`),
  "",
].join("\n");

const schema = object({
  body_size: withDefault(
    text({ pattern: "^[1-9][0-9]*[km]$", description: "The largest request body", expected: "a size such as `10m`" }),
    "10m",
  ),
  user: withDefault(ref("user", { description: "Whom its workers run as" }), "www-data"),
  group: optional(ref("group", { description: "Their group: the user's own when left out" })),
});
type Nginx = Infer<typeof schema>;

const ownUser = "www-data";
/** The group of nginx's workers. */
export const nginxGroup = (host: Host): string => {
  const value = host.get(nginx)?.value;
  return value?.group ?? value?.user ?? ownUser;
};

/** Where nginx has another user: Debian's main configuration names its own, and a second `user` is refused. */
const mainPath = "/etc/nginx/ingot/nginx.conf";
const mainOf = ({ user, group }: Nginx): string | undefined => (user === ownUser && group === undefined ? undefined : mainPath);
const mainUnit = [
  "ExecStartPre=",
  `ExecStartPre=/usr/sbin/nginx -t -q -c ${mainPath} -g 'daemon on; master_process on;'`,
  "ExecStart=",
  `ExecStart=/usr/sbin/nginx -c ${mainPath} -g 'daemon on; master_process on;'`,
  "ExecReload=",
  `ExecReload=/usr/sbin/nginx -c ${mainPath} -g 'daemon on; master_process on;' -s reload`,
];
/** Debian's unit leaves a server that was killed where it lies. */
const unitOf = (main: string | undefined): string =>
  ["[Service]", "Restart=on-failure", "RestartSec=1", ...(main === undefined ? [] : mainUnit), ""].join("\n");
const mainConfiguration = (user: string, group: string): string =>
  [
    `user ${user} ${group};`,
    "worker_processes auto;",
    "pid /run/nginx.pid;",
    "error_log /var/log/nginx/error.log;",
    "include /etc/nginx/modules-enabled/*.conf;",
    "events { worker_connections 768; }",
    "http {",
    "    sendfile on;",
    "    tcp_nopush on;",
    "    types_hash_max_size 2048;",
    "    include /etc/nginx/mime.types;",
    "    default_type application/octet-stream;",
    "    access_log /var/log/nginx/access.log;",
    "    gzip on;",
    "    include /etc/nginx/conf.d/*.conf;",
    "    include /etc/nginx/sites-enabled/*;",
    "}",
    "",
  ].join("\n");

/** Says no version. Of each server, because nginx.conf may say the same of all (Debian 13's does), and twice is an error. */
export const quiet = "server_tokens off;";

export const nginx: Kind<Nginx> = kind({
  kind: "nginx",
  key: "nginx",
  shape: "one",
  summary:
    "The nginx web server; it is there as soon as a host has a site. Requests for names that no site has are closed without an answer (444), TLS handshakes for them are refused.",
  schema,
  examples: [
    "nginx: { body_size: 50m }\n",
    "nginx: { user: nobody, group: nogroup }\nsites:\n  hello: { names: [hello.localhost], http: true, locations: { /: { files: /srv/hello } } }\n",
  ],
  // What its sites hand requests on to, too, where a daemon runs it.
  after: (_, host) => [...host.all(site).map((s) => s.id), "supervisord", "emperor"],
  needs: () => [pkg("nginx")],
  binds: () => [80, 443],
  compile: ({ value }, host) => {
    const certificates = [...new Set(host.all(site).flatMap((s) => (s.value.certificate ? [s.value.certificate] : [])))];
    const main = mainOf(value);
    const files = [
      {
        path: "/etc/nginx/conf.d/ingot.conf",
        content: [
          `client_max_body_size ${value.body_size};`,
          "map $http_upgrade $ingot_connection { default upgrade; '' ''; }",
          "# Names that no site has: closed without an answer.",
          "server {",
          "    listen 80 default_server;",
          "    listen [::]:80 default_server;",
          ...(certificates.length
            ? ["    listen 443 ssl http2 default_server;", "    listen [::]:443 ssl http2 default_server;", "    ssl_reject_handshake on;"]
            : []),
          "    server_name _;",
          `    ${quiet}`,
          "    return 444;",
          "}",
          "",
        ].join("\n"),
      },
      {
        path: "/etc/nginx/ingot/tls.conf",
        content: [
          "ssl_protocols TLSv1.2 TLSv1.3;",
          "ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305;",
          "ssl_prefer_server_ciphers off;",
          "ssl_session_timeout 1d;",
          "ssl_session_cache shared:ingot:10m;",
          "ssl_session_tickets off;",
          "",
        ].join("\n"),
      },
      { path: "/etc/nginx/ingot/headers.conf", content: headerLines(securityHeaders) },
      { path: "/etc/nginx/ingot/headers-tls.conf", content: headerLines({ ...securityHeaders, "Strict-Transport-Security": hsts }) },
      {
        path: "/etc/nginx/ingot/proxy.conf",
        content: [
          "# The proxy, and only the proxy, says who asked and how: whatever the client sent under these names is replaced.",
          "proxy_http_version 1.1;",
          "proxy_set_header Host $http_host;",
          "proxy_set_header X-Forwarded-Host $http_host;",
          "proxy_set_header X-Forwarded-Port $server_port;",
          "proxy_set_header X-Forwarded-Proto $scheme;",
          "proxy_set_header X-Forwarded-For $remote_addr;",
          "proxy_set_header X-Real-IP $remote_addr;",
          'proxy_set_header Forwarded "";',
          "proxy_set_header Upgrade $http_upgrade;",
          "proxy_set_header Connection $ingot_connection;",
          "proxy_redirect off;",
          ...[...Object.keys(securityHeaders), "Strict-Transport-Security"].map((h) => `proxy_hide_header ${h};`),
          "",
        ].join("\n"),
      },
      ...(host.all(uwsgi).length ? [{ path: "/etc/nginx/ingot/uwsgi.conf", content: uwsgiConfiguration }] : []),
      ...(main === undefined ? [] : [{ path: main, content: mainConfiguration(value.user, nginxGroup(host)) }]),
    ];
    const sites = host.all(site).map((s) => `/etc/nginx/sites-enabled/${s.name}.conf`);
    return {
      files: [...files, { path: "/etc/systemd/system/nginx.service.d/ingot.conf", content: unitOf(main) }].map((f) => ({
        ...f,
        mode: "0644" as const,
      })),
      ports: [80, ...(certificates.length ? [443] : [])].map((port) => ({ port, protocol: "tcp" as const, from: "world" as const })),
      steps: [
        {
          action: "nginx",
          args: {
            unit: "nginx.service",
            conf: main,
            inputs: [
              ...files.map((f) => f.path),
              ...sites,
              ...certificates.filter((c) => !isAcme(c, host)).flatMap((c) => [certificatePath(c), keyPath(c)]),
            ],
          },
        },
      ],
    };
  },
  checks: ({ value }) => [
    inside("unit", { name: "nginx.service", active: true, enabled: true }),
    inside("command", { argv: ["nginx", "-t", ...(mainOf(value) === undefined ? [] : ["-c", mainPath])] }, "configuration"),
    inside("workers", { unit: "nginx.service", user: value.user, group: value.group ?? null }, "workers"),
  ],
});
