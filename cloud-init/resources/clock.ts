// The host's time: its zone, and who sets its clock.

import { nearest } from "../../lib/diagnostics.ts";
import { list, object, optional, text, withDefault } from "../../lib/schema.ts";
import { inside, kind, type Problem, pkg } from "../kind.ts";

function isZone(name: string): boolean {
  try {
    return Boolean(new Intl.DateTimeFormat("en", { timeZone: name }));
  } catch {
    return false;
  }
}

export const clock = kind({
  kind: "clock",
  key: "clock",
  shape: "one",
  summary:
    "The zone that the host tells its time in, and the servers that its clock follows (systemd-timesyncd). A container has its computer's clock, and follows nobody.",
  schema: object({
    timezone: withDefault(
      text({
        pattern: "^[A-Z][A-Za-z]*(/[A-Za-z0-9_+-]+){0,2}$",
        expected: "a zone such as `Europe/Berlin`",
        description: "As in /usr/share/zoneinfo",
      }),
      "Etc/UTC",
    ),
    servers: optional(
      list(text({ pattern: "^[A-Za-z0-9.:-]+$", expected: "a name or an address" }), {
        description: "NTP servers; the distribution's own pool when left out",
      }),
    ),
  }),
  examples: ["clock: { timezone: Europe/Berlin, servers: [ntp.example.org] }\n"],
  problems: ({ value }): Problem[] => {
    if (isZone(value.timezone)) return [];
    const near = nearest(value.timezone, Intl.supportedValuesOf("timeZone"));
    return [
      {
        code: "ING1447",
        path: ["timezone"],
        message: `there is no zone ${value.timezone}`,
        hint: near ? `did you mean \`${near}\`?` : "as in /usr/share/zoneinfo: `Europe/Berlin`",
      },
    ];
  },
  needs: () => [pkg("tzdata"), pkg("systemd-timesyncd")],
  compile: ({ value }) => ({
    files: value.servers
      ? [{ path: "/etc/systemd/timesyncd.conf.d/ingot.conf", mode: "0644", content: `[Time]\nNTP=${value.servers.join(" ")}\n` }]
      : [],
    steps: [{ action: "clock", args: { timezone: value.timezone, ...(value.servers && { servers: value.servers }) } }],
  }),
  checks: ({ value }) => [
    inside("command", { argv: ["cat", "/etc/timezone"], stdout: value.timezone }, "zone"),
    inside("path", { path: "/etc/localtime", type: "symlink", target: `/usr/share/zoneinfo/${value.timezone}` }, "localtime"),
    inside("unit", { name: "systemd-timesyncd.service", enabled: true }, "servers"),
  ],
});
