// uWSGI's emperor, which runs the applications below `uwsgi:`.
import { object } from "../../lib/schema.ts";
import { inside, kind, pkg } from "../kind.ts";
import { afterLine, managerLines, mountLines, scriptOf } from "../program.ts";
import { application, inputsOf } from "./application.ts";
import { proxiedAs } from "./site.ts";
import { folderPath, socketOf, uwsgi, vassalPath } from "./uwsgi.ts";

const wrapper = "/usr/lib/ingot/uwsgi-vassal";

export const emperor = kind({
  kind: "emperor",
  key: "emperor",
  shape: "one",
  summary:
    "uWSGI in emperor mode (`uwsgi.service`); it is there as soon as a host has an application below `uwsgi:`. Its vassals begin once everything that they refer to is done, and one is reloaded without the others.",
  schema: object({}),
  examples: [
    "image: kano-konnect\nemperor: {}\nusers:\n  shop: { system: true }\napplications:\n  shop: { source: ../tests/apps/inloop, user: shop }\nuwsgi:\n  shop: { application: shop, user: shop, module: inloop.wsgi, listens: 127.0.0.1:9090 }\n",
  ],
  after: (_, host) => host.all(uwsgi).map((v) => v.id),
  needs: () => [pkg("uwsgi-core")],
  compile: (_, host) => {
    const vassals = host.all(uwsgi);
    return {
      files: [
        {
          path: "/etc/systemd/system/uwsgi.service",
          mode: "0644",
          content: [
            "[Unit]",
            "Description=uWSGI emperor",
            afterLine(host),
            ...mountLines(
              vassals.map((v) => v.value),
              host,
            ),
            "StartLimitIntervalSec=0",
            "",
            "[Service]",
            "Type=notify",
            "NotifyAccess=main",
            "ConfigurationDirectory=uwsgi/sites",
            "RuntimeDirectory=uwsgi",
            // Folders of sockets in it are their vassals' own, made at boot.
            "RuntimeDirectoryPreserve=yes",
            `ExecStart=/usr/bin/uwsgi --emperor /etc/uwsgi/sites --emperor-wrapper ${wrapper} --emperor-freq 1`,
            "KillMode=mixed",
            "KillSignal=SIGQUIT",
            "Restart=always",
            "RestartSec=1",
            ...managerLines(
              vassals.map((v) => v.value),
              [],
              host,
            ),
            "",
            "[Install]",
            "WantedBy=multi-user.target",
            "",
          ].join("\n"),
        },
      ],
      steps: [
        { action: "emperor", args: { unit: "uwsgi.service", vassals: vassals.map((v) => v.name) } },
        ...vassals.map((v) => {
          const app = host.get(application, v.value.application);
          return {
            part: v.name,
            action: "vassal",
            args: {
              emperor: "uwsgi.service",
              name: v.name,
              source: vassalPath(v.name),
              ...(!v.value.listens && { folder: folderPath(v.name) }),
              inputs: [
                ...(v.value.listens ? [] : [folderPath(v.name)]),
                vassalPath(v.name),
                scriptOf(v.name),
                ...(app ? inputsOf(app) : []),
              ],
              ...(app && { hash: host.release(app.name).id }),
              listens: v.value.listens ?? socketOf(v.name),
              ...(v.value.listens && { ready: proxiedAs(v.id, host) ?? "localhost" }),
              timeout: v.value.start_seconds,
            },
            timeoutSeconds: v.value.start_seconds + 60,
          };
        }),
      ],
    };
  },
  checks: () => [inside("unit", { name: "uwsgi.service", active: true, enabled: true })],
});
