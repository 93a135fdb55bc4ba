// The machine's identity: its names, its ssh host key, and ssh itself, the first way to any host.
import { text } from "../../lib/schema.ts";
import { type Host, inside, kind, pkg, stranger } from "../kind.ts";
import { etcHost } from "./etc-host.ts";

/** Lines of /etc/hosts. */
const linesOf = (host: Host): string[] => [
  ...host.peers.map((p) => [p.address, ...new Set([p.fqdn, p.hostname])].join(" ")),
  ...host.all(etcHost).map(({ name, value }) => [name, ...value].join(" ")),
];

export const hostname = kind({
  kind: "hostname",
  key: "hostname",
  shape: "one",
  summary:
    "The short name of the host; together with `domain` its fully qualified one (`hostname -f`). It is the host's own name when left out. The ssh host key comes from the secrets' store, so that a rebuilt host is known to its operators. Other hosts of the stack that have an address are found by their names.",
  schema: text({
    pattern: "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
    expected: "a host name: lower-case letters, digits and `-`, at most 63",
  }),
  examples: ["hostname: inloop\ndomain: inf.example.org\n"],
  needs: () => [pkg("openssh-server")],
  binds: () => [22],
  compile: (_, host) => ({
    secrets: [{ name: `${host.name}/ssh-host-key`, generate: "ssh-ed25519" }],
    ports: [{ port: 22, protocol: "tcp", from: "world" }],
    files: [
      {
        path: "/etc/ssh/sshd_config.d/ingot.conf",
        mode: "0644",
        content: [
          "HostKey /etc/ssh/ssh_host_ed25519_key",
          "PasswordAuthentication no",
          "KbdInteractiveAuthentication no",
          "PermitRootLogin prohibit-password",
          "",
        ].join("\n"),
      },
    ],
    steps: [
      {
        action: "hostname",
        args: {
          hostname: host.hostname,
          fqdn: host.fqdn,
          ...(linesOf(host).length && { peers: linesOf(host) }),
        },
        done: "probe",
        after: { parts: [], references: false },
      },
      {
        part: "ssh",
        action: "ssh-host-key",
        args: {
          unit: "ssh.service",
          key: { secret: `${host.name}/ssh-host-key` },
          inputs: ["/etc/ssh/sshd_config.d/ingot.conf"],
          listens: "127.0.0.1:22",
        },
        done: "probe",
        after: { parts: [], references: false },
      },
    ],
  }),
  checks: (_, host) => [
    inside("hostname", { hostname: host.hostname, fqdn: host.fqdn }),
    inside("unit", { name: "ssh.service", active: true, enabled: true }, "ssh"),
    ...host.peers.map((p) => inside("resolves", { name: p.fqdn, address: p.address }, `peer-${p.name}`)),
    stranger("tcp", { port: 22, open: true }, "ssh-open"),
  ],
});
