// A long-running program under systemd, sandboxed, restarted when it fails.

import { choice, flag, type Infer, integer, list, object, optional, ref, withDefault } from "../../lib/schema.ts";
import { type CheckDraft, type Host, inside, kind, onlyOne, type Resource } from "../kind.ts";
import { bindsOf, listenerAwaited, listenerChecks, listenerKeys, listenerOutputs, listenerPorts, listenerProblems } from "../listener.ts";
import {
  afterLine,
  groupsOf,
  limitChecks,
  mountLines,
  programAfter,
  programKeys,
  programLines,
  programProblems,
  stopSignalOf,
  unitKeys,
} from "../program.ts";
import { application, inputsOf } from "./application.ts";
import { proxiedAs } from "./site.ts";

const schema = object({
  ...programKeys,
  ...unitKeys,
  ...listenerKeys,
  after: withDefault(
    list(ref("service"), { description: "Services that are started with it, before it, now and whenever the machine starts" }),
    [],
  ),
  restart: withDefault(
    choice(["always", "on-failure"], {
      description:
        "When it is started anew: whenever it has ended, or only when it ended with an error or by a signal; one that ended well is started by the next boot or `apply`",
    }),
    "always",
  ),
  restart_seconds: withDefault(integer({ minimum: 0, maximum: 86400, description: "How long after its end" }), 1),
  socket: withDefault(
    flag({
      description:
        "systemd holds the port, also while the program is restarted: who connects then waits, and is served by the new one. For programs that take their sockets from systemd, as Gunicorn and uWSGI do",
    }),
    false,
  ),
  workers: optional(
    object(
      {
        processes: optional(integer({ minimum: 1, maximum: 10000, description: "Processes that its main process started" })),
        threads: optional(integer({ minimum: 1, maximum: 10000, description: "Or threads of its main process, but for the first" })),
      },
      { description: "How many work for it: `verify` counts them" },
    ),
  ),
});
export type Service = Infer<typeof schema>;

const unitPathOf = (name: string): string => `/etc/systemd/system/${name}.service`;

/** @param services their names, or `service/name` */
const unitsOf = (services: string[]): string => services.map((s) => `${s.replace(/^service\//, "")}.service`).join(" ");

const unitOf = ({ name, value }: Resource<Service>, host: Host): string =>
  [
    "[Unit]",
    `Description=${name}${value.application && value.application !== name ? ` of ${value.application}` : ""}`,
    afterLine(host),
    ...mountLines([value], host),
    ...(value.after.length ? [`Wants=${unitsOf(value.after)}`, `After=${unitsOf(value.after)}`] : []),
    ...(value.socket ? [`Requires=${name}.socket`, `After=${name}.socket`] : []),
    // It is tried again for as long as it takes: what it waits for may be away for longer than systemd's ten seconds.
    "StartLimitIntervalSec=0",
    "",
    "[Service]",
    ...programLines(value, host),
    `Restart=${value.restart}`,
    `RestartSec=${value.restart_seconds}`,
    `TimeoutStartSec=${value.start_seconds}`,
    "KillMode=mixed",
    ...(stopSignalOf(value.command) === "QUIT" ? ["KillSignal=SIGQUIT"] : []),
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
    "users:\n  shop: { system: true }\nservices:\n  shop: { user: shop, command: 'gunicorn shop.wsgi', listens: 127.0.0.1:8000, socket: true, workers: { processes: 2 }, env: { WEB_CONCURRENCY: 2 } }\n",
    "users:\n  shop: { system: true }\nservices:\n  worker: { user: shop, command: shop-worker, after: [web], restart: on-failure, restart_seconds: 10, limits: { memory: 512MiB, cpu: 150%, tasks: 64, open_files: 4096 }, sandbox: { ProtectHome: read-only, AmbientCapabilities: CAP_NET_BIND_SERVICE, CapabilityBoundingSet: CAP_NET_BIND_SERVICE } }\n  web: { user: shop, command: 'gunicorn shop.wsgi', listens: 127.0.0.1:8000 }\n",
  ],
  outputs: ({ value }, _, at) => listenerOutputs(value, at),
  awaited: ({ value }, _, at) => listenerAwaited(value, at),
  binds: ({ value }) => bindsOf(value),
  after: ({ value }, host) => programAfter(value, host),
  problems: (self, host) => {
    const { name, value } = self;
    const problems = [...programProblems(value, host), ...listenerProblems(value, host)];
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
    const wrong = value.workers && onlyOne("`workers:`", { processes: value.workers.processes, threads: value.workers.threads });
    if (wrong) problems.push({ code: "ING1426", path: ["workers"], message: wrong });
    return problems;
  },
  compile: (self, host) => {
    const { name, value } = self;
    const path = unitPathOf(name);
    const app = value.application ? host.get(application, value.application) : undefined;
    const socket = `/etc/systemd/system/${name}.socket`;
    return {
      files: [
        { path, mode: "0644", content: unitOf(self, host) },
        ...(value.socket ? [{ path: socket, mode: "0644" as const, content: socketOf(self) }] : []),
      ],
      ports: listenerPorts(value),
      steps: [
        ...(value.socket ? [{ part: "socket", action: "service", args: { unit: `${name}.socket`, inputs: [socket] } }] : []),
        {
          action: "service",
          args: {
            unit: `${name}.service`,
            inputs: [path, ...(app ? inputsOf(app) : [])],
            ...(app && { hash: host.release(app.name).id }),
            ...(value.listens && { listens: value.listens, ready: proxiedAs(self.id, host) }),
            timeout: value.start_seconds,
          },
          timeoutSeconds: value.start_seconds + 30,
        },
      ],
    };
  },
  checks: ({ name, value }, host) => {
    const checks: CheckDraft[] = [
      inside("unit", {
        name: `${name}.service`,
        active: true,
        enabled: true,
        user: value.user,
        groups: groupsOf(value, host),
        ...(value.restart === "on-failure" && { may_end: true }),
      }),
    ];
    if (value.socket) checks.push(inside("unit", { name: `${name}.socket`, active: true, enabled: true }, "socket"));
    if (value.workers)
      checks.push(inside("workers", { unit: `${name}.service`, user: value.user, ...value.workers, within: 5 }, "workers"));
    checks.push(...listenerChecks(value), ...limitChecks(`${name}.service`, value));
    return checks;
  },
});
