// Supervisor itself, which runs the programs below `supervisor:`.
import { object } from "../../lib/schema.ts";
import { inside, kind, pkg } from "../kind.ts";
import { afterLine, managerLines, mountLines, scriptOf } from "../program.ts";
import { application, inputsOf } from "./application.ts";
import { proxiedAs } from "./site.ts";
import { fullName, programPath, supervisor } from "./supervisor.ts";

export const supervisord = kind({
  kind: "supervisord",
  key: "supervisord",
  shape: "one",
  summary:
    "The process manager supervisor; it is there as soon as a host has a program below `supervisor:`. It begins once everything that its programs refer to is done, and one program is restarted without the others.",
  schema: object({}),
  examples: [
    "image: kano-konnect\nsupervisord: {}\nusers:\n  shop: { system: true }\nsupervisor:\n  work: { user: shop, command: sleep infinity }\n",
  ],
  after: (_, host) => host.all(supervisor).map((p) => p.id),
  needs: () => [pkg("supervisor")],
  compile: (_, host) => {
    const programs = host.all(supervisor);
    const groups = [...new Set(programs.flatMap((p) => p.value.group ?? []))].map(
      (group) => `[group:${group}]\nprograms=${programs.flatMap((p) => (p.value.group === group ? [p.name] : [])).join(",")}\n`,
    );
    return {
      files: [
        ...(groups.length ? [{ path: "/etc/supervisor/conf.d/ingot-groups.conf", mode: "0644" as const, content: groups.join("") }] : []),
        {
          path: "/etc/systemd/system/supervisor.service.d/ingot.conf",
          mode: "0644",
          content: [
            "[Unit]",
            afterLine(host),
            ...mountLines(
              programs.map((p) => p.value),
              host,
            ),
            "StartLimitIntervalSec=0",
            "",
            "[Service]",
            // Its programs end with it; systemd's own signal to them would come before supervisor's.
            "KillMode=mixed",
            "TimeoutStopSec=90",
            "Restart=always",
            "RestartSec=1",
            ...managerLines(
              programs.map((p) => p.value),
              ["/run", "/var/log/supervisor"],
              host,
            ),
            "",
          ].join("\n"),
        },
      ],
      steps: [
        { action: "supervisord", args: { unit: "supervisor.service", programs: programs.map(fullName).sort() } },
        ...programs.map((p) => {
          const app = p.value.application ? host.get(application, p.value.application) : undefined;
          return {
            part: p.name,
            action: "supervised",
            args: {
              name: fullName(p),
              inputs: [programPath(p.name), scriptOf(p.name), ...(app ? inputsOf(app) : [])],
              ...(app && { hash: host.release(app.name).id }),
              log: `/var/log/supervisor/${p.name}.log`,
              ...(p.value.listens && { listens: p.value.listens, ready: proxiedAs(p.id, host) }),
              timeout: p.value.start_seconds,
            },
            timeoutSeconds: p.value.start_seconds + 90,
          };
        }),
      ],
    };
  },
  checks: () => [inside("unit", { name: "supervisor.service", active: true, enabled: true })],
});
