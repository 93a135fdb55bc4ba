// A mailbox elsewhere whose mail is fetched, and handed to a program of this host.
import { choice, flag, type Infer, integer, list, object, optional, ref, text, withDefault } from "../../lib/schema.ts";
import { timerUnit } from "../cron.ts";
import { inside, type Kind, kind, type Problem, pkg, type Resource } from "../kind.ts";
import { secretRef } from "../value.ts";
import { deliverCommand } from "./delivery.ts";

const line = (more: { description: string; expected: string }) => text({ pattern: "^[^\\n\\r]+$", ...more });
const schema = object({
  user: ref("user", { description: "Whom getmail runs as" }),
  protocol: withDefault(choice(["imap", "pop3"], { description: "How it is fetched" }), "imap"),
  server: text({ pattern: "^[A-Za-z0-9.-]+$", expected: "a server's name", description: "The server that holds it" }),
  port: optional(integer({ minimum: 1, maximum: 65535, description: "993 and 995, without TLS 143 and 110, when left out" })),
  tls: withDefault(flag({ description: "`false`: passwords and mail can be read on the way" }), true),
  authority: optional(
    text({
      pattern: "^/[^\\s]+$",
      expected: "an absolute path",
      description: "Certificates that vouch for the server; the system's own when left out",
    }),
  ),
  username: line({ description: "Whose it is there", expected: "one line" }),
  password: { ...secretRef, description: "The password" },
  folders: withDefault(
    list(line({ description: "A folder", expected: "one line" }), { minItems: 1, description: "Folders that are fetched; IMAP alone" }),
    ["INBOX"],
  ),
  delete: withDefault(flag({ description: "Fetched mail is deleted there" }), false),
  idle: withDefault(flag({ description: "Told of new mail as it comes, in the first of its folders; IMAP alone" }), false),
  every: withDefault(
    text({ pattern: "^[1-9][0-9]*(s|min|h)$", expected: "a span such as `5min`", description: "Otherwise it looks so often" }),
    "5min",
  ),
  deliver: ref("delivery", { description: "The delivery that takes each message" }),
});
type Mailbox = Infer<typeof schema>;

const unitOf = (name: string): string => `getmail-${name}`;
const settingsPath = (name: string): string => `/etc/ingot/getmail/${name}`;
const literal = (value: string): string => `"${value.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;

function settingsOf({ name, value }: Resource<Mailbox>): string {
  const type = `Simple${value.protocol.toUpperCase()}${value.tls ? "SSL" : ""}Retriever`;
  const port = value.port ?? (value.protocol === "imap" ? (value.tls ? 993 : 143) : value.tls ? 995 : 110);
  const [deliver, ...delivered] = deliverCommand(value.deliver);
  const tuple = (items: string[]) => `(${items.map((i) => `${literal(i)},`).join(" ")})`;
  return [
    "[retriever]",
    `type = ${type}`,
    `server = ${value.server}`,
    `port = ${port}`,
    `username = ${value.username}`,
    // systemd hands the password to this process alone; so it is quoted nowhere.
    `password_command = ("/usr/bin/cat", "/run/credentials/${unitOf(name)}.service/password",)`,
    ...(value.tls ? [`ca_certs = ${value.authority ?? "/etc/ssl/certs/ca-certificates.crt"}`] : []),
    ...(value.protocol === "imap" ? [`mailboxes = ${tuple(value.folders)}`] : []),
    "[destination]",
    "type = MDA_external",
    `path = ${deliver}`,
    `arguments = ${tuple(delivered)}`,
    "unixfrom = false",
    "[options]",
    "read_all = false",
    `delete = ${value.delete}`,
    "delivered_to = false",
    "received = false",
    "verbose = 1",
    "",
  ].join("\n");
}

function unitFileOf({ name, value }: Resource<Mailbox>): string {
  const folder = value.folders[0] ?? "INBOX";
  const idle = value.idle ? ` --idle=${folder}` : "";
  return [
    "[Unit]",
    `Description=Mail of ${name}`,
    "After=network-online.target",
    "StartLimitIntervalSec=0",
    "",
    "[Service]",
    ...(value.idle ? ["Restart=always", "RestartSec=10"] : ["Type=oneshot", "TimeoutStartSec=600"]),
    `User=${value.user}`,
    "NoNewPrivileges=yes",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateTmp=yes",
    `StateDirectory=getmail/${name}`,
    "StateDirectoryMode=0700",
    `LoadCredential=password:/var/lib/ingot/secrets/${value.password.secret}`,
    `ExecStart=/usr/bin/getmail --getmaildir=/var/lib/getmail/${name} --rcfile=${settingsPath(name)}${idle}`,
    "ProtectProc=invisible",
    "ProtectKernelTunables=yes",
    "ProtectControlGroups=yes",
    "PrivateDevices=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
    "SystemCallFilter=@system-service",
    "CapabilityBoundingSet=",
    ...(value.idle ? ["", "[Install]", "WantedBy=multi-user.target"] : []),
    "",
  ].join("\n");
}

const timerOf = ({ name, value }: Resource<Mailbox>): string =>
  timerUnit(`Times of the mail of ${name}`, ["OnActiveSec=1s", `OnUnitInactiveSec=${value.every}`, "AccuracySec=1s"]);

export const mailbox: Kind<Mailbox> = kind({
  kind: "mailbox",
  key: "mailboxes",
  shape: "many",
  summary:
    "A mailbox on another server, whose new mail getmail fetches over IMAP or POP3 and hands to a delivery, one message after the other. A message that the delivery does not take stays, and is fetched again.",
  names: text({ pattern: "^[a-z0-9][a-z0-9_.-]*$", expected: "a name of lower-case letters, digits, `.`, `-` and `_`" }),
  schema,
  examples: [
    "image: patchwork\nusers:\n  clerk: { system: true }\n  getmail: { system: true }\ndeliveries:\n  inbox: { user: clerk, command: cat }\nmailboxes:\n  patches: { user: getmail, server: imap.example.org, username: patches@example.org, password: { secret: imap }, idle: true, deliver: inbox }\n  more: { user: getmail, protocol: pop3, server: pop.example.org, username: more, password: { secret: pop }, every: 10min, delete: true, deliver: inbox }\n",
  ],
  needs: () => [pkg("getmail6")],
  problems: ({ value }): Problem[] => [
    ...(value.protocol === "pop3" && value.idle
      ? [{ code: "ING1431", path: ["idle"], message: "POP3 cannot tell of new mail", hint: "write `protocol: imap`, or `every:`" }]
      : []),
    ...(value.tls
      ? []
      : [{ code: "ING1431", severity: "warning" as const, path: ["tls"], message: "without TLS the password can be read on the way" }]),
  ],
  compile: (self) => {
    const { name, value } = self;
    const [service, timer] = [`/etc/systemd/system/${unitOf(name)}.service`, `/etc/systemd/system/${unitOf(name)}.timer`];
    const inputs = [settingsPath(name), service];
    const secret = { secret: value.password.secret };
    return {
      secrets: [{ name: value.password.secret, generate: value.password.generate }],
      files: [
        { path: settingsPath(name), mode: "0644", content: settingsOf(self) },
        { path: service, mode: "0644", content: unitFileOf(self) },
        ...(value.idle ? [] : [{ path: timer, mode: "0644" as const, content: timerOf(self) }]),
      ],
      steps: [
        value.idle
          ? { action: "service", args: { unit: `${unitOf(name)}.service`, inputs, secret, patient: true } }
          : { action: "service", args: { unit: `${unitOf(name)}.timer`, inputs: [...inputs, timer], secret } },
      ],
    };
  },
  checks: ({ name, value }) =>
    value.idle
      ? [inside("mailbox", { name: unitOf(name), server: value.server, user: value.user, within: 15 })]
      : [
          inside("unit", { name: `${unitOf(name)}.timer`, active: true, enabled: true }),
          inside("mailbox", { name: unitOf(name), server: value.server }, "last"),
        ],
});
