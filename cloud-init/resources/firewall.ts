// What reaches the host at all: the ports that its resources declare, and nothing else.
import { choice, type Infer, integer, list, object, text, withDefault } from "../../lib/schema.ts";
import { type Host, inside, type Kind, kind, type Problem, pkg, stranger } from "../kind.ts";
import { rangeOf } from "../shape.ts";

const network = text({
  pattern: "^[0-9]{1,3}(\\.[0-9]{1,3}){3}(/[0-9]{1,2})?$",
  expected: "an address, or a network such as `10.1.1.0/24`",
  description: "An address or a network",
});
const schema = object({
  ssh_from: withDefault(list(network, { description: "Who reaches port 22; everybody when it is empty" }), []),
  allow: withDefault(
    list(
      object({
        port: integer({ minimum: 1, maximum: 65535, description: "The port" }),
        protocol: withDefault(choice(["tcp", "udp"], { description: "Its protocol" }), "tcp"),
        from: withDefault(list(network, { description: "Who reaches it; everybody when it is empty" }), []),
      }),
      { description: "Ports beside those that the host's resources declare" },
    ),
    [],
  ),
  log: withDefault(
    choice(["none", "refused"], { description: "`refused`: what is turned away is in the kernel's log, ten lines a minute at most" }),
    "none",
  ),
});
type Firewall = Infer<typeof schema>;

const rulesPath = "/etc/ingot/firewall.nft";
const unitPath = "/etc/systemd/system/ingot-firewall.service";

/** A rule for each port; ports that are for the stack are open to the addresses of its other hosts, or of those that are named. */
function rulesOf(value: Firewall, host: Host): string[] {
  const declared = host.ports().flatMap(({ port, protocol, from }) => {
    if (port === 22 && protocol === "tcp") return [{ port, protocol, sources: value.ssh_from }];
    if (from === "world") return [{ port, protocol, sources: [] }];
    const peers = host.peers.filter((p) => from === "stack" || from.includes(p.name)).map((p) => p.address);
    return peers.length ? [{ port, protocol, sources: peers }] : [];
  });
  const more = value.allow.map(({ port, protocol, from }) => ({ port, protocol, sources: from }));
  const lines = [...declared, ...more].map(
    ({ port, protocol, sources }) => `${sources.length ? `ip saddr { ${sources.join(", ")} } ` : ""}${protocol} dport ${port} accept`,
  );
  return [...new Set(lines)].sort();
}

/** TCP ports that not everybody may reach. */
function closedTo(host: Host): number[] {
  const tcp = host.ports().filter((p) => p.protocol === "tcp");
  const open = new Set(tcp.filter((p) => p.from === "world").map((p) => p.port));
  return [...new Set(tcp.map((p) => p.port))].filter((port) => !open.has(port));
}

/** What a container publishes is forwarded to it, past everything that looks at what comes in: so it is looked at here, by the port that was
 * asked for. Containers themselves may go anywhere. */
const forwardOf = (value: Firewall, host: Host): string[] => [
  "    chain forward {",
  "        type filter hook forward priority filter; policy accept;",
  "        ct state established,related accept",
  ...bridges.map((name) => `        iifname "${name}" accept`),
  ...rulesOf(value, host).map((rule) => `        ${rule.replace(/(tcp|udp) dport/, "meta l4proto $1 ct original proto-dst")}`),
  ...bridges.map((name) => `        oifname "${name}" counter drop`),
  "    }",
];
/** Docker's networks: its own, and those that are made by `docker network create`. */
const bridges = ["docker0", "br-*"];

const rulesetOf = (value: Firewall, host: Host): string =>
  [
    "# Made by Ingot. Its own table alone: what Docker and others have in theirs stays.",
    "table inet ingot",
    "delete table inet ingot",
    "table inet ingot {",
    "    chain input {",
    "        type filter hook input priority filter; policy drop;",
    '        iif "lo" accept',
    "        ct state established,related accept",
    "        ct state invalid drop",
    "        meta l4proto { icmp, ipv6-icmp } accept",
    "        udp sport 67 udp dport 68 accept",
    "        ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept",
    ...rulesOf(value, host).map((rule) => `        ${rule}`),
    ...(value.log === "refused" ? ['        limit rate 10/minute log prefix "ingot refused: "'] : []),
    "        counter drop",
    "    }",
    ...(host.has("docker") ? forwardOf(value, host) : []),
    "}",
    "",
  ].join("\n");

export const firewall: Kind<Firewall> = kind({
  kind: "firewall",
  key: "firewall",
  shape: "one",
  summary:
    "nftables on the host itself: what comes in is dropped unless a resource declares its port, for everybody or for the stack's other hosts; what Docker's containers publish, too. On EC2 the same ports are the security group's. It is there before the network is, and again after a reload that failed, which changes nothing.",
  schema,
  examples: [
    "firewall: {}\n",
    "address: 10.1.1.1\nfirewall: { ssh_from: [203.0.113.0/24], allow: [{ port: 9100, from: [10.1.1.0/24] }], log: refused }\nredis: { listen: private }\n",
  ],
  needs: () => [pkg("nftables")],
  problems: ({ value }): Problem[] => {
    const wrong = (from: string) => from.includes("/") && !/\/(31|32|[0-7])$/.test(from) && rangeOf(from) === undefined;
    return [
      ...value.ssh_from.flatMap((from, i) =>
        wrong(from) ? [{ code: "ING1601", path: ["ssh_from", i], message: `${from} is no network` }] : [],
      ),
      ...value.allow.flatMap((a, i) =>
        a.from.flatMap((from, j) =>
          wrong(from) ? [{ code: "ING1601", path: ["allow", i, "from", j], message: `${from} is no network` }] : [],
        ),
      ),
    ];
  },
  compile: ({ value }, host) => ({
    ports: value.allow.map(({ port, protocol, from }) => ({ port, protocol, from: from.length ? ("stack" as const) : ("world" as const) })),
    files: [
      { path: rulesPath, mode: "0644", content: rulesetOf(value, host) },
      {
        path: unitPath,
        mode: "0644",
        content: [
          "[Unit]",
          "Description=Firewall",
          "DefaultDependencies=no",
          "Before=network-pre.target shutdown.target",
          "Wants=network-pre.target",
          "Conflicts=shutdown.target",
          "After=local-fs.target",
          "",
          "[Service]",
          "Type=oneshot",
          "RemainAfterExit=yes",
          `ExecStart=/usr/sbin/nft -f ${rulesPath}`,
          `ExecReload=/usr/sbin/nft -f ${rulesPath}`,
          "ExecStop=/usr/sbin/nft delete table inet ingot",
          "",
          "[Install]",
          "WantedBy=sysinit.target",
          "",
        ].join("\n"),
      },
    ],
    steps: [{ action: "firewall", args: { unit: "ingot-firewall.service", inputs: [rulesPath] } }],
  }),
  checks: ({ value }, host) => [
    inside("unit", { name: "ingot-firewall.service", active: true, enabled: true }),
    inside("firewall", { rules: rulesOf(value, host), ...(host.has("docker") && { forwards: true }) }, "rules"),
    ...closedTo(host).map((port) => stranger("tcp", { port, open: false }, `closed-${port}`)),
  ],
});
