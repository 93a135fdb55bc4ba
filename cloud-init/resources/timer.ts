// A program that runs at its times.
import { flag, type Infer, integer, object, optional, text, withDefault } from "../../lib/schema.ts";
import { CronError, calendarsOf, timerUnit } from "../cron.ts";
import { inside, type Kind, kind, onlyOne, type Problem } from "../kind.ts";
import { limitChecks, mountLines, programAfter, programKeys, programLines, programProblems, unitKeys } from "../program.ts";
import { service } from "./service.ts";

const schema = object({
  ...programKeys,
  ...unitKeys,
  every: optional(
    text({
      pattern: "^[1-9][0-9]*(s|min|h|d)$",
      expected: "a span such as `10min`",
      description: "How long after it was last begun, and after the machine's start",
    }),
  ),
  every_minutes: optional(
    integer({
      minimum: 1,
      maximum: 10080,
      description: "The same in minutes: for a number that something else is told, too, by `{ var: … }`",
    }),
  ),
  cron: optional(text({ description: "Or when, as cron writes it: `*/10 * * * *`, `@daily`" })),
  calendar: optional(text({ pattern: "^[^\\n]+$", description: "Or when, as systemd's calendar writes it: `Mon..Fri 03:30`" })),
  jitter_seconds: withDefault(
    integer({
      minimum: 0,
      maximum: 86400,
      description: "It begins by up to so many seconds later, so that many hosts do not begin at once",
    }),
    0,
  ),
  catch_up: withDefault(flag({ description: "What fell due while the machine was off is done at its start; not with `every`" }), true),
  timeout_seconds: withDefault(integer({ minimum: 1, maximum: 604800, description: "Ended when it takes longer" }), 3600),
});
type Timer = Infer<typeof schema>;

function timesOf(value: Timer): string[] {
  const every = value.every_minutes === undefined ? value.every : `${value.every_minutes}min`;
  if (every !== undefined) return [`OnActiveSec=${every}`, `OnUnitActiveSec=${every}`];
  const events = value.cron === undefined ? [value.calendar ?? ""] : calendarsOf(value.cron);
  return [...events.map((e) => `OnCalendar=${e}`), `Persistent=${value.catch_up}`];
}

export const timer: Kind<Timer> = kind({
  kind: "timer",
  key: "timers",
  shape: "many",
  summary:
    "A program that runs at its times under a user of its own, in the sandbox that services have. It never runs twice at once: a time that comes while it still runs is passed over. What it writes, and how it ended, is in the journal (`ingot logs <stack> timer/<name>`); `verify` fails while its last run has.",
  schema,
  examples: [
    "users:\n  clerk: { system: true }\ntimers:\n  reminders: { user: clerk, command: logger it is time, cron: '*/10 * * * *' }\n  report: { user: clerk, command: logger report, calendar: 'Mon..Fri 03:30', jitter_seconds: 600 }\n  poll: { user: clerk, command: logger poll, every: 1h }\n  mail: { user: clerk, command: logger mail, every_minutes: 10 }\n",
  ],
  after: ({ value }, host) => programAfter(value, host),
  problems: ({ name, value }, host): Problem[] => {
    const problems = programProblems(value, host);
    const { every, every_minutes, cron, calendar } = value;
    const wrong = onlyOne(`the timer ${name}`, { every, every_minutes, cron, calendar });
    if (wrong) problems.push({ code: "ING1419", message: wrong });
    try {
      if (value.cron !== undefined) calendarsOf(value.cron);
    } catch (error) {
      if (!(error instanceof CronError)) throw error;
      problems.push({
        code: "ING1419",
        path: ["cron"],
        message: error.message,
        hint: "minute, hour, day of the month, month, day of the week",
      });
    }
    const same = host.get(service, name);
    if (same)
      problems.push({
        code: "ING1507",
        message: `the service ${name} has the same unit, ${name}.service`,
        hint: "give one of them another name",
        related: { id: same.id, message: "it is declared here" },
      });
    if (host.image.units?.has(`${name}.service`) || host.image.units?.has(`${name}.timer`))
      problems.push({
        code: "ING1507",
        message: `${name} is a unit of the image ${host.image.name} already`,
        hint: "give the timer another name",
      });
    return problems;
  },
  compile: ({ name, value }, host) => {
    const [program, clock] = [`/etc/systemd/system/${name}.service`, `/etc/systemd/system/${name}.timer`];
    return {
      files: [
        {
          path: program,
          mode: "0644",
          content: [
            "[Unit]",
            `Description=${name}`,
            "After=network.target",
            ...mountLines([value], host),
            // Its times are its limit. At five starts in ten seconds systemd would give it up for good (systemd.unit(5)).
            "StartLimitIntervalSec=0",
            "",
            "[Service]",
            "Type=oneshot",
            ...programLines(value, host),
            `TimeoutStartSec=${value.timeout_seconds}`,
            "",
          ].join("\n"),
        },
        {
          path: clock,
          mode: "0644",
          content: timerUnit(`Times of ${name}`, [
            ...timesOf(value),
            "AccuracySec=1s",
            ...(value.jitter_seconds ? [`RandomizedDelaySec=${value.jitter_seconds}`] : []),
          ]),
        },
      ],
      steps: [
        {
          action: "service",
          // Its program is read anew each time: only another clock is a new start, from which `every` counts.
          args: { unit: `${name}.timer`, inputs: [clock] },
        },
      ],
    };
  },
  checks: ({ name, value }) => [
    inside("unit", { name: `${name}.timer`, active: true, enabled: true }),
    inside("timer", { name }, "last"),
    ...limitChecks(`${name}.service`, value),
  ],
});
