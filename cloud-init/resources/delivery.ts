// A program that takes mail: aliases and mailboxes hand it one message after the other.
import { type Infer, integer, object, withDefault } from "../../lib/schema.ts";
import { inside, type Kind, kind } from "../kind.ts";
import { mountLines, programAfter, programKeys, programLines, programProblems, unitKeys } from "../program.ts";
import { commandOf } from "./application.ts";
import { grant } from "./grant.ts";

const schema = object({
  ...programKeys,
  ...unitKeys,
  at_once: withDefault(integer({ minimum: 1, maximum: 100, description: "So many messages at a time; others wait" }), 4),
  timeout_seconds: withDefault(
    integer({ minimum: 1, maximum: 3600, description: "Ended when it takes longer; the message is kept and tried again" }),
    300,
  ),
});
type Delivery = Infer<typeof schema>;

const unitOf = (name: string): string => `deliver-${name}`;
/** What an alias or a retriever of mail runs, with the message as its input. @param delivery its name, or `delivery/name` */
export const deliverCommand = (delivery: string): string[] => ["/usr/lib/ingot/deliver", delivery.replace(/^delivery\//, "")];

export const delivery: Kind<Delivery> = kind({
  kind: "delivery",
  key: "deliveries",
  shape: "many",
  summary:
    "A program that takes a mail on its standard input, under a user of its own, with its application's environment and in the sandbox that services have, whoever hands it over: an alias of `mail:`, or a mailbox. It ends with exit code 0 when the message is taken, with one of sysexits' (65, 67, …) when it is to go back to its sender; after anything else the message is kept and tried again.",
  schema,
  examples: [
    "users:\n  clerk: { system: true }\ndirectories:\n  /srv/inbox: { owner: clerk }\ndeliveries:\n  inbox: { user: clerk, command: \"sh -c 'cat >>/srv/inbox/all'\" }\n",
  ],
  after: ({ value }, host) => [
    ...programAfter(value, host),
    // What it may do with its application's tables.
    ...host.all(grant).flatMap((g) => (g.value.after !== undefined && g.value.after === value.application ? [g.id] : [])),
  ],
  problems: ({ value }, host) => programProblems(value, host),
  compile: ({ name, value }, host) => ({
    files: [
      {
        path: `/etc/systemd/system/${unitOf(name)}.socket`,
        mode: "0644",
        content: [
          "[Unit]",
          `Description=Mail for ${name}`,
          "",
          "[Socket]",
          `ListenStream=/run/ingot-deliver/${name}.sock`,
          "Accept=yes",
          // Who may send mail on this host may send it here: postfix's own programs have many users.
          "SocketMode=0666",
          `MaxConnections=${value.at_once}`,
          "TriggerLimitIntervalSec=0",
          "",
          "[Install]",
          "WantedBy=sockets.target",
          "",
        ].join("\n"),
      },
      {
        path: `/etc/systemd/system/${unitOf(name)}@.service`,
        mode: "0644",
        content: [
          "[Unit]",
          `Description=Delivery of a mail to ${name}`,
          "CollectMode=inactive-or-failed",
          ...mountLines([value], host),
          "",
          "[Service]",
          ...programLines(value, host, ["/usr/lib/ingot/delivered", ...commandOf(value.command)]),
          "StandardInput=socket",
          "StandardOutput=journal",
          "StandardError=journal",
          `RuntimeMaxSec=${value.timeout_seconds}`,
          "",
        ].join("\n"),
      },
    ],
    steps: [{ action: "service", args: { unit: `${unitOf(name)}.socket` } }],
  }),
  checks: ({ name }) => [
    inside("unit", { name: `${unitOf(name)}.socket`, active: true, enabled: true }),
    inside("path", { path: `/run/ingot-deliver/${name}.sock`, type: "socket" }, "socket"),
  ],
});
