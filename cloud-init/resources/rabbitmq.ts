// The RabbitMQ server of the host.
import { choice, type Infer, list, map, object, optional, text, withDefault } from "../../lib/schema.ts";
import { type Host, inside, type Kind, kind, type Problem, pkg, standingStill, stranger } from "../kind.ts";
import { allowHosts, privateAwaited, privatePorts, privateProblems } from "../listener.ts";
import { type SecretRef, secretRef } from "../value.ts";
import { backup } from "./backup.ts";
import { foldersAbove } from "./directory.ts";

const port = 5672;
/** A change of them is a restart, which ends everybody's connection. */
export const configurationFiles = [
  "/etc/rabbitmq/rabbitmq.conf",
  "/etc/rabbitmq/rabbitmq-env.conf",
  "/etc/systemd/system/epmd.socket.d/ingot.conf",
];
const home = "/var/lib/rabbitmq";
const unit = "rabbitmq-server.service";
const name = text({
  pattern: "^[A-Za-z0-9_][A-Za-z0-9_./-]{0,254}$",
  expected: "a name of letters, digits, `_`, `-`, `.` and `/`",
});
const matching = (what: string) =>
  withDefault(
    text({
      pattern: "^[^\\t\\n]*$",
      description: `What it may ${what}: a regular expression over the names`,
      expected: "one line without tabs",
    }),
    ".*",
  );
const permission = object({
  configure: matching("make and delete"),
  write: matching("publish to"),
  read: matching("consume from"),
});

const schema = object({
  listen: withDefault(
    choice(["loopback", "private"], { description: "Where it listens: for this host alone, or at the host's `address:` too" }),
    "loopback",
  ),
  allow: allowHosts,
  vhosts: withDefault(
    map(
      object({
        users: list(name, { minItems: 1, description: "Who may enter it, and do everything in it. The first is the user of its `url`" }),
        permissions: withDefault(map(permission, name, { description: "Users who may do less in it, with what they may" }), {}),
      }),
      name,
      { description: "Virtual hosts by name" },
    ),
    {},
  ),
  users: withDefault(
    map(
      object({
        password: optional({ ...secretRef, description: "Another secret than the generated one" }),
        tags: withDefault(
          list(choice(["administrator", "management", "monitoring", "policymaker"]), {
            description: "What it may beyond its virtual hosts",
          }),
          [],
        ),
      }),
      name,
      { description: "Users with more than a generated password: the others follow from `vhosts:`" },
    ),
    {},
  ),
  memory: optional(
    text({
      pattern: "^[1-9][0-9]*(MB|GB)$",
      description: "From here on publishers wait, at least `192MB`; 40% of the memory when left out",
      expected: "a size such as `256MB`",
    }),
  ),
});
type RabbitMq = Infer<typeof schema>;

/** In MB. RabbitMQ 3.10 alone takes some 125: below this it would soon take no messages, and who closes a connection waits for ever. */
const leastMemory = 192;
const megabytes = (size: string): number => Number.parseInt(size, 10) * (size.endsWith("GB") ? 1000 : 1);

type Vhost = RabbitMq["vhosts"][string];
const everything: Infer<typeof permission> = { configure: ".*", write: ".*", read: ".*" };
const permissionsOf = ({ users, permissions }: Vhost): [string, Infer<typeof permission>][] =>
  users.map((user) => [user, permissions[user] ?? everything]);

/** Every user, those of the virtual hosts too, with the secret of his password. */
function usersOf(value: RabbitMq, host: Host): { name: string; tags: string[]; secret: string; declared?: SecretRef }[] {
  const names = new Set([
    ...Object.keys(value.users),
    ...Object.values(value.vhosts).flatMap((v) => permissionsOf(v).map(([user]) => user)),
  ]);
  return [...names].map((user) => {
    const declared = value.users[user]?.password;
    return {
      name: user,
      tags: value.users[user]?.tags ?? [],
      secret: declared?.secret ?? `${host.name}/rabbitmq/${user}/password`,
      ...(declared && { declared }),
    };
  });
}

const configurationOf = (value: RabbitMq, host: Host): string =>
  [
    `listeners.tcp.1 = 127.0.0.1:${port}`,
    ...(value.listen === "private" ? [`listeners.tcp.2 = ${host.address}:${port}`] : []),
    "definitions.import_backend = local_filesystem",
    "definitions.local.path = /etc/rabbitmq/ingot-definitions.json",
    "definitions.skip_if_unchanged = true",
    ...(value.memory ? [`vm_memory_high_watermark.absolute = ${value.memory}`] : []),
    "log.console = true",
    "log.console.level = warning",
    "log.console.use_colors = off",
    "log.file = false",
    "",
  ].join("\n");

export const rabbitmq: Kind<RabbitMq> = kind({
  kind: "rabbitmq",
  key: "rabbitmq",
  shape: "one",
  summary:
    "The RabbitMQ server, with virtual hosts, users and what they may do: `{ from: rabbitmq/<vhost>.url }`. It listens on loopback unless it is told otherwise, Erlang's own ports in any case; its Erlang cookie is the host's own. A user that is no longer declared is deleted; a virtual host is not, because its queues may hold messages.",
  schema,
  examples: [
    "image: kano-konnect\nrabbitmq:\n  memory: 256MB\n  vhosts:\n    shop: { users: [shop] }\n",
    "image: kano-konnect\naddress: 10.1.1.1\nrabbitmq:\n  listen: private\n  vhosts:\n    shop: { users: [shop, reports], permissions: { reports: { configure: '', write: '', read: '^reports-' } } }\n  users:\n    ops: { tags: [administrator], password: { secret: rabbitmq-ops, generate: password } }\n",
  ],
  outputs: ({ value }, host, at) => {
    const users = usersOf(value, host);
    const urlOf = (vhost: string, user: string) => ({
      parts: [
        `amqp://${encodeURIComponent(user)}:`,
        { secret: users.find((u) => u.name === user)?.secret ?? "", encode: "url" as const },
        `@${at}:${port}/${encodeURIComponent(vhost)}`,
      ],
      description: "`amqp://user:password@127.0.0.1:5672/vhost` of its first user; sensitive",
    });
    return Object.fromEntries(
      Object.entries(value.vhosts).flatMap(
        ([
          vhost,
          {
            users: [first],
          },
        ]) => (first === undefined ? [] : [[`${vhost}.url`, urlOf(vhost, first)]]),
      ),
    );
  },
  awaited: ({ value }, _, at) => privateAwaited("rabbitmq", value.listen, at, port),
  // All of it: definitions, queues, messages.
  state: () => ({ name: "rabbitmq", paths: [home], ...standingStill(unit) }),
  binds: () => [port],
  after: (_, host) => [...foldersAbove(home, host), ...host.all(backup).map((b) => b.id)],
  needs: () => [pkg("rabbitmq-server")],
  problems: ({ value }, host): Problem[] => [
    ...privateProblems(value.listen, host, value.allow),
    ...(value.memory !== undefined && megabytes(value.memory) < leastMemory
      ? [
          {
            code: "ING1450",
            path: ["memory"],
            message: `with ${value.memory} RabbitMQ would take no messages: it needs some 125 MB for itself`,
            hint: `\`${leastMemory}MB\` or more`,
          },
        ]
      : []),
    ...Object.entries(value.vhosts).flatMap(([vhost, { users, permissions }]): Problem[] =>
      Object.keys(permissions).flatMap((user) =>
        users.includes(user)
          ? []
          : [{ code: "ING1428", path: ["vhosts", vhost, "permissions", user], message: `${user} is not among the users of ${vhost}` }],
      ),
    ),
  ],
  compile: ({ value }, host) => {
    const cookie = `${host.name}/rabbitmq/cookie`;
    const users = usersOf(value, host);
    return {
      secrets: [
        { name: cookie, generate: "password" },
        ...users.map(({ secret, declared }) => ({ name: secret, generate: declared ? declared.generate : ("password" as const) })),
      ],
      ports: privatePorts(value, port),
      files: [
        { path: "/etc/rabbitmq/rabbitmq.conf", mode: "0644", content: configurationOf(value, host) },
        {
          path: "/etc/rabbitmq/rabbitmq-env.conf",
          mode: "0644",
          content: [
            "# The node has a name of its own, so that the host may have another; Erlang's ports are for this host alone.",
            "NODENAME=rabbit@localhost",
            'SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}"',
            "",
          ].join("\n"),
        },
        {
          path: "/etc/systemd/system/rabbitmq-server.service.d/ingot.conf",
          mode: "0644",
          content:
            "[Unit]\nStartLimitIntervalSec=0\n\n[Service]\nStandardOutput=journal\nStandardError=journal\nRestart=always\nRestartSec=2\n",
        },
        {
          path: "/etc/systemd/system/epmd.socket.d/ingot.conf",
          mode: "0644",
          content: "[Socket]\nListenStream=\nListenStream=127.0.0.1:4369\n",
        },
      ],
      steps: [
        {
          action: "rabbitmq",
          args: {
            unit,
            inputs: configurationFiles,
            listens: `127.0.0.1:${port}`,
            timeout: 120,
            cookie: { secret: cookie },
            users: users.map((u) => `${u.name}\t${u.tags.join(",")}`),
            ...Object.fromEntries(users.map((u, i) => [`password_${i + 1}`, { secret: u.secret }])),
            vhosts: Object.keys(value.vhosts),
            permissions: Object.entries(value.vhosts).flatMap(([vhost, v]) =>
              permissionsOf(v).map(([user, p]) => [vhost, user, p.configure, p.write, p.read].join("\t")),
            ),
          },
          timeoutSeconds: 180,
        },
      ],
    };
  },
  checks: ({ value }, host) => [
    inside("unit", { name: unit, active: true, enabled: true }),
    inside("path", { path: `${home}/.erlang.cookie`, type: "file", owner: "rabbitmq", mode: "0400" }, "cookie"),
    ...Object.entries(value.vhosts).flatMap(([vhost, v]) =>
      v.users.map((user) =>
        inside("amqp", { vhost, user, secret: usersOf(value, host).find((u) => u.name === user)?.secret ?? "" }, `${vhost}-${user}`),
      ),
    ),
    ...(value.listen === "loopback" ? [stranger("tcp", { port, open: false }, "closed")] : []),
  ],
});
