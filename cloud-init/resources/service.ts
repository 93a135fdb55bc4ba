// A long-running program under systemd, sandboxed, restarted when it fails.

import { unitEnvironment, unitPath, unitWord } from "../../lib/quote.ts";
import { choice, flag, type Infer, integer, list, map, object, optional, ref, text, withDefault } from "../../lib/schema.ts";
import { type CheckDraft, type Host, inside, kind, type Problem, type Resource, stranger } from "../kind.ts";
import { environmentName } from "../names.ts";
import { isSensitive, type Value, valueSchema } from "../value.ts";
import { application, commandOf, commandProblems, currentOf, environmentProblems, envPath, sharedOf } from "./application.ts";
import { directory } from "./directory.ts";
import { versionIn } from "./postgresql.ts";
import { proxiesOf, site } from "./site.ts";

/** The keys that say what a program runs with. */
export const programKeys = {
  command: text({
    description: "What runs: a program of the application's virtualenv or of the system, and its arguments. No shell reads it",
  }),
  user: ref("user", { description: "Whom it runs as" }),
  groups: withDefault(list(ref("group"), { description: "Supplementary groups of the service alone. `docker` equals root" }), []),
  application: optional(ref("application", { description: "Runs in this application's live release, with its environment" })),
  env: withDefault(
    map(valueSchema, environmentName, {
      description: "Environment beside the application's; no secrets",
    }),
    {},
  ),
  writable: withDefault(
    list(text({ pattern: "^/", expected: "an absolute path" }), {
      description: "Paths it may write to, beside the directories that its user owns",
    }),
    [],
  ),
};
const schema = object({
  ...programKeys,
  listens: optional(
    text({
      pattern: "^[0-9.]+:[0-9]{1,5}$",
      description: "Where it accepts connections, as `127.0.0.1:8000`: it counts as started once it does",
      expected: "an address and port such as `127.0.0.1:8000`",
    }),
  ),
  open_to: withDefault(
    choice(["world", "stack"], {
      description: "Who may reach what it listens on, when that is not loopback: anybody, or the stack's other hosts",
    }),
    "world",
  ),
  socket: withDefault(
    flag({
      description:
        "systemd holds the port, also while the program is restarted: who connects then waits, and is served by the new one. For programs that take their sockets from systemd, as Gunicorn and uWSGI do",
    }),
    false,
  ),
  start_seconds: withDefault(integer({ minimum: 1, maximum: 600, description: "How long it may take to start" }), 60),
});
export type Service = Infer<typeof schema>;

const portOf = (value: Service): number | undefined => (value.listens ? Number(value.listens.split(":")[1]) : undefined);
const isLoopback = (value: Service): boolean => Boolean(value.listens?.startsWith("127."));
/** Ports of the services that come with other kinds. */
const systemPorts = [
  { port: 22, id: "hostname" },
  { port: 80, id: "nginx" },
  { port: 443, id: "nginx" },
  { port: 5432, id: "postgresql" },
  { port: 6379, id: "redis" },
];
/** Whether a site hands requests on to it: then it is up once it answers one. */
const isProxied = (name: string, host: Host): boolean => host.all(site).some((s) => proxiesOf(s.value).includes(name));
const unitPathOf = (name: string): string => `/etc/systemd/system/${name}.service`;

const sandbox = [
  "NoNewPrivileges=yes",
  "PrivateTmp=yes",
  "PrivateDevices=yes",
  "ProtectSystem=strict",
  "ProtectHome=yes",
  "ProtectHostname=yes",
  "ProtectClock=yes",
  "ProtectKernelTunables=yes",
  "ProtectKernelModules=yes",
  "ProtectKernelLogs=yes",
  "ProtectControlGroups=yes",
  "ProtectProc=invisible",
  "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
  "RestrictNamespaces=yes",
  "RestrictRealtime=yes",
  "RestrictSUIDSGID=yes",
  "LockPersonality=yes",
  "SystemCallArchitectures=native",
  "SystemCallFilter=@system-service",
  "CapabilityBoundingSet=",
  "UMask=0027",
];

/** What services and scheduled jobs have in common. */
export type Program = Pick<Service, "command" | "user" | "groups" | "application" | "env" | "writable">;

/** The lines of [Service] that say what runs, as whom, with what around it, and what it may do. */
export function programLines(value: Program, host: Host): string[] {
  const app = value.application;
  const own = host.all(directory).filter((d) => d.value.owner === value.user);
  const writable = [...new Set([...own.map((d) => d.name), ...(app ? [sharedOf(app)] : []), ...value.writable])];
  const search = app ? [`${currentOf(app)}/venv/bin`] : [];
  const path = [...search, "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"].join(":");
  return [
    `User=${value.user}`,
    ...(value.groups.length ? [`SupplementaryGroups=${value.groups.join(" ")}`] : []),
    ...(app ? [`WorkingDirectory=${unitPath(`${currentOf(app)}/app`)}`, `EnvironmentFile=${unitPath(envPath(app))}`] : []),
    `Environment=${unitEnvironment("PATH", path)}`,
    ...Object.entries(value.env).map(([k, v]) => `Environment=${unitEnvironment(k, host.parts(v).join(""))}`),
    `ExecSearchPath=${path}`,
    `ExecStart=${commandOf(value.command).map(unitWord).join(" ")}`,
    ...sandbox,
    ...(writable.length ? [`ReadWritePaths=${writable.map((p) => `-${unitPath(p)}`).join(" ")}`] : []),
  ];
}

/** What is wrong with a program's command and environment. */
export function programProblems(value: Program, host: Host): Problem[] {
  const problems: Problem[] = [...environmentProblems(value.env), ...commandProblems(value.command, ["command"])];
  for (const [key, v] of Object.entries(value.env) as [string, Value][]) {
    if (isSensitive(host.parts(v)))
      problems.push({
        code: "ING1410",
        path: ["env", key],
        message: "a service's own environment stands in its unit, which everybody may read",
        hint: "put it into the application's `env:`",
      });
  }
  return problems;
}

/** Directories that its user owns come first. */
export const programAfter = (value: Program, host: Host): string[] =>
  host
    .all(directory)
    .filter((d) => d.value.owner === value.user)
    .map((d) => d.id);

const unitOf = ({ name, value }: Resource<Service>, host: Host): string =>
  [
    "[Unit]",
    `Description=${name}${value.application && value.application !== name ? ` of ${value.application}` : ""}`,
    `After=network.target postgresql@${versionIn(host)}-main.service redis-server.service`,
    ...(value.socket ? [`Requires=${name}.socket`, `After=${name}.socket`] : []),
    // It is tried again for as long as it takes: what it waits for may be away for longer than systemd's ten seconds.
    "StartLimitIntervalSec=0",
    "",
    "[Service]",
    ...programLines(value, host),
    "Restart=always",
    "RestartSec=1",
    `TimeoutStartSec=${value.start_seconds}`,
    "KillMode=mixed",
    "",
    "[Install]",
    "WantedBy=multi-user.target",
    "",
  ].join("\n");

const socketOf = ({ name, value }: Resource<Service>): string =>
  [
    "[Unit]",
    `Description=Port of ${name}`,
    "",
    "[Socket]",
    `ListenStream=${value.listens ?? ""}`,
    "NoDelay=true",
    // However often it is started anew, the port stays.
    "TriggerLimitIntervalSec=0",
    "",
    "[Install]",
    "WantedBy=sockets.target",
    "",
  ].join("\n");

export const service = kind<Service>({
  kind: "service",
  key: "services",
  shape: "many",
  summary:
    "A program that systemd keeps running under a user of its own: restarted when it ends, started at boot without Ingot. It sees a read-only system, a private /tmp and no devices; it writes only to directories that its user owns.",
  schema,
  examples: [
    "users:\n  hello: { system: true }\nservices:\n  hello: { user: hello, command: python3 -m http.server --bind 127.0.0.1 8001, listens: 127.0.0.1:8001 }\n",
    "users:\n  shop: { system: true }\nservices:\n  shop: { user: shop, command: 'gunicorn shop.wsgi', listens: 127.0.0.1:8000, socket: true }\n",
  ],
  outputs: ({ value }, _, at) => ({
    ...(value.listens && {
      address: {
        parts: [isLoopback(value) ? value.listens : `${at}:${portOf(value)}`],
        description: "Where it is reached, as `127.0.0.1:8000`",
      },
    }),
  }),
  awaited: ({ value }, _, at) =>
    value.listens === undefined || isLoopback(value)
      ? { unreachable: "listens on loopback alone", hint: "write `listens: 0.0.0.0:<port>` and `open_to: stack`" }
      : { action: "reachable", args: { address: at, port: portOf(value) }, timeoutSeconds: 600 },
  after: ({ value }, host) => programAfter(value, host),
  problems: (self, host) => {
    const { name, value } = self;
    const problems = programProblems(value, host);
    if (host.image.units?.has(`${name}.service`))
      problems.push({
        code: "ING1507",
        message: `${name}.service is a unit of the image ${host.image.name} already`,
        hint: "give the service another name",
      });
    if (value.socket && value.listens === undefined)
      problems.push({
        code: "ING1426",
        path: ["socket"],
        message: `${name} listens nowhere`,
        hint: "add `listens:`, the port that systemd is to hold",
      });
    const port = portOf(value);
    const taken = systemPorts.find((p) => p.port === port && host.has(p.id));
    if (taken)
      problems.push({
        code: "ING1504",
        path: ["listens"],
        message: `port ${port} is ${taken.id}'s`,
        related: { id: taken.id, message: `${taken.id} is declared here` },
      });
    for (const other of host.all(service)) {
      if (other.name > name && port !== undefined && portOf(other.value) === port) {
        problems.push({
          code: "ING1504",
          message: `services ${name} and ${other.name} both listen on port ${port}`,
          related: { id: other.id, message: `${other.name} is declared here` },
        });
      }
    }
    return problems;
  },
  compile: (self, host) => {
    const { name, value } = self;
    const path = unitPathOf(name);
    const app = value.application ? host.get(application, value.application) : undefined;
    const port = portOf(value);
    const socket = `/etc/systemd/system/${name}.socket`;
    return {
      files: [
        { path, mode: "0644", content: unitOf(self, host) },
        ...(value.socket ? [{ path: socket, mode: "0644" as const, content: socketOf(self) }] : []),
      ],
      ports: port !== undefined && !isLoopback(value) ? [{ port, protocol: "tcp", from: value.open_to }] : [],
      steps: [
        ...(value.socket ? [{ part: "socket", action: "service", args: { unit: `${name}.socket`, inputs: [socket] } }] : []),
        {
          action: "service",
          args: {
            unit: `${name}.service`,
            inputs: [path, ...(app ? [envPath(app.name)] : [])],
            ...(app && { hash: host.release(app.name).id }),
            ...(value.listens && { listens: value.listens, ...(isProxied(name, host) && { ready: "http" }) }),
            timeout: value.start_seconds,
          },
          timeoutSeconds: value.start_seconds + 30,
        },
      ],
    };
  },
  checks: ({ name, value }) => {
    const checks: CheckDraft[] = [
      inside("unit", { name: `${name}.service`, active: true, enabled: true, user: value.user, groups: value.groups }),
    ];
    if (value.socket) checks.push(inside("unit", { name: `${name}.socket`, active: true, enabled: true }, "socket"));
    const [address, port] = value.listens?.split(":") ?? [];
    if (address && port) {
      checks.push(inside("tcp", { host: isLoopback(value) ? address : "127.0.0.1", port: Number(port), open: true }, "listens"));
      if (isLoopback(value)) checks.push(stranger("tcp", { port: Number(port), open: false }, "closed"));
    }
    return checks;
  },
});
