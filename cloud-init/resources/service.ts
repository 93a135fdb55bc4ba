// A long-running program under systemd, sandboxed, restarted when it fails.

import { flag, type Infer, object, withDefault } from "../../lib/schema.ts";
import { type CheckDraft, type Host, inside, kind, type Resource } from "../kind.ts";
import { bindsOf, listenerAwaited, listenerChecks, listenerKeys, listenerOutputs, listenerPorts } from "../listener.ts";
import { afterLine, groupsOf, programAfter, programKeys, programLines, programProblems, stopSignalOf } from "../program.ts";
import { application, inputsOf } from "./application.ts";
import { isProxied } from "./site.ts";

const schema = object({
  ...programKeys,
  ...listenerKeys,
  socket: withDefault(
    flag({
      description:
        "systemd holds the port, also while the program is restarted: who connects then waits, and is served by the new one. For programs that take their sockets from systemd, as Gunicorn and uWSGI do",
    }),
    false,
  ),
});
export type Service = Infer<typeof schema>;

const unitPathOf = (name: string): string => `/etc/systemd/system/${name}.service`;

const unitOf = ({ name, value }: Resource<Service>, host: Host): string =>
  [
    "[Unit]",
    `Description=${name}${value.application && value.application !== name ? ` of ${value.application}` : ""}`,
    afterLine(host),
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
    "users:\n  shop: { system: true }\nservices:\n  shop: { user: shop, command: 'gunicorn shop.wsgi', listens: 127.0.0.1:8000, socket: true }\n",
  ],
  outputs: ({ value }, _, at) => listenerOutputs(value, at),
  awaited: ({ value }, _, at) => listenerAwaited(value, at),
  binds: ({ value }) => bindsOf(value),
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
            ...(value.listens && { listens: value.listens, ...(isProxied(self.id, host) && { ready: "http" }) }),
            timeout: value.start_seconds,
          },
          timeoutSeconds: value.start_seconds + 30,
        },
      ],
    };
  },
  checks: ({ name, value }, host) => {
    const checks: CheckDraft[] = [
      inside("unit", { name: `${name}.service`, active: true, enabled: true, user: value.user, groups: groupsOf(value, host) }),
    ];
    if (value.socket) checks.push(inside("unit", { name: `${name}.socket`, active: true, enabled: true }, "socket"));
    checks.push(...listenerChecks(value));
    return checks;
  },
});
