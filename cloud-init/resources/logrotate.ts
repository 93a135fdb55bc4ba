// Log files that are turned over.

import { logrotatePath } from "../../lib/quote.ts";
import { choice, flag, type Infer, integer, list, object, optional, ref, text, withDefault } from "../../lib/schema.ts";
import { inside, type Kind, kind, pkg } from "../kind.ts";
import { service } from "./service.ts";

const schema = object({
  paths: list(text({ pattern: "^/", expected: "an absolute path" }), {
    minItems: 1,
    description: "The files; `*` stands for any of a folder",
  }),
  every: withDefault(choice(["daily", "weekly", "monthly"], { description: "How often" }), "daily"),
  keep: withDefault(integer({ minimum: 0, maximum: 3650, description: "How many old ones stay" }), 14),
  larger_than: optional(
    text({ pattern: "^[1-9][0-9]*[kMG]$", expected: "a size such as `100M`", description: "Also before its time, when larger" }),
  ),
  user: withDefault(ref("user", { description: "Who owns the folder of the logs, and writes the new ones" }), "root"),
  reload: optional(ref("service", { description: "A service that opens its log anew when it is told (SIGHUP)" })),
  copy: withDefault(flag({ description: "Copies a log and empties it, for programs that never open theirs anew" }), false),
});
type Logrotate = Infer<typeof schema>;

export const logrotate: Kind<Logrotate> = kind({
  kind: "logrotate",
  key: "logrotate",
  shape: "many",
  summary: "Log files that are turned over, compressed and in the end removed. What goes to the journal needs none of it.",
  schema,
  examples: [
    "users:\n  shop: { system: true }\ndirectories:\n  /var/log/shop: { owner: shop }\nlogrotate:\n  shop: { paths: [/var/log/shop/*.log], user: shop, keep: 30, larger_than: 100M }\n",
  ],
  needs: () => [pkg("logrotate")],
  compile: ({ name, value }, host) => ({
    files: [
      {
        path: `/etc/logrotate.d/ingot-${name}`,
        mode: "0644",
        content: [
          `${value.paths.map(logrotatePath).join(" ")} {`,
          ...[
            // A folder that another than root may write to is entered as that user only.
            ...(value.user === "root" ? [] : [`su ${value.user} ${value.user}`]),
            value.every,
            `rotate ${value.keep}`,
            ...(value.larger_than === undefined ? [] : [`maxsize ${value.larger_than}`]),
            "missingok",
            "notifempty",
            "compress",
            "delaycompress",
            ...(value.copy ? ["copytruncate"] : [`create 0640 ${value.user} ${value.user}`]),
            ...(value.reload === undefined || !host.get(service, value.reload)
              ? []
              : ["sharedscripts", "postrotate", `  systemctl kill --kill-whom=main --signal=HUP ${value.reload}.service`, "endscript"]),
          ].map((line) => `  ${line}`),
          "}",
          "",
        ].join("\n"),
      },
    ],
  }),
  checks: ({ name }) => [
    inside("command", { argv: ["logrotate", "--debug", `/etc/logrotate.d/ingot-${name}`] }, "configuration"),
    inside("unit", { name: "logrotate.timer", active: true, enabled: true }, "timer"),
  ],
});
