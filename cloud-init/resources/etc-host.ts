// An address that the host knows by name without asking anybody.
import { list, text } from "../../lib/schema.ts";
import { inside, type Kind, kind, type Problem } from "../kind.ts";
import { dnsName, ipv4 } from "../names.ts";

export const etcHost: Kind<string[]> = kind({
  kind: "etc-host",
  key: "etc_hosts",
  shape: "many",
  summary: "An address and its names in /etc/hosts, the main one first. Other hosts of the stack are in it already.",
  names: text({
    pattern: `^${ipv4}$`,
    expected: "an IPv4 address",
  }),
  schema: list(text({ pattern: `^${dnsName}$`, expected: "a host name in lower case" }), { minItems: 1 }),
  examples: ["etc_hosts:\n  10.9.0.4: [db.example.org, db]\n"],
  problems: ({ name, value }, host): Problem[] => {
    const problems: Problem[] = [];
    for (const [i, shared] of value.entries()) {
      if ([host.hostname, host.fqdn, "localhost"].includes(shared))
        problems.push({ code: "ING1505", path: [i], message: `${shared} is this host itself` });
      const peer = host.peers.find((p) => p.hostname === shared || p.fqdn === shared);
      if (peer)
        problems.push({ code: "ING1505", path: [i], message: `${shared} is the host ${peer.name} of the stack, at ${peer.address}` });
      const other = host.all(etcHost).find((o) => o.name < name && o.value.includes(shared));
      if (other)
        problems.push({
          code: "ING1505",
          path: [i],
          message: `${shared} is a name of ${other.name} already`,
          related: { id: other.id, message: "declared here" },
        });
    }
    return problems;
  },
  // Its line is written with those of the stack's other hosts.
  compile: () => ({}),
  checks: ({ name, value }) => value.map((n) => inside("resolves", { name: n, address: name }, n)),
});
