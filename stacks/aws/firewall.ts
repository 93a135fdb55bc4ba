// A host's security group: the ports that its resources declare, and nothing else. Between hosts of a stack by group, not by address.
import { SecurityGroup } from "@cdktf/provider-aws/lib/security-group/index.js";
import { VpcSecurityGroupEgressRule } from "@cdktf/provider-aws/lib/vpc-security-group-egress-rule/index.js";
import { VpcSecurityGroupIngressRule } from "@cdktf/provider-aws/lib/vpc-security-group-ingress-rule/index.js";
import type { Construct } from "constructs";
import type { Port } from "../../cloud-init/plan.ts";
import { named } from "./network.ts";
import { type AwsHost, id, tagsOf } from "./shape.ts";

const world = ["0.0.0.0/0", "::/0"];
const version = (cidr: string): "cidrIpv4" | "cidrIpv6" => (cidr.includes(":") ? "cidrIpv6" : "cidrIpv4");

/** The group itself; openPorts() fills it once all groups of the stack are there. */
export function groupOf(scope: Construct, stack: string, host: AwsHost, vpcId: string): SecurityGroup {
  const group = named(
    new SecurityGroup(scope, "group", {
      namePrefix: `${stack}-${host.host}-`,
      description: `Ports of ${stack}/${host.host}`,
      vpcId,
      tags: tagsOf(stack, host),
      // Another description or network makes another group, which must be there before the instance leaves the old one.
      lifecycle: { createBeforeDestroy: true },
    }),
    id(host.host),
  );
  for (const cidr of world)
    named(
      new VpcSecurityGroupEgressRule(scope, `out-${version(cidr)}`, {
        securityGroupId: group.id,
        ipProtocol: "-1",
        [version(cidr)]: cidr,
        tags: tagsOf(stack, host),
      }),
      id(host.host, version(cidr) === "cidrIpv4" ? "ipv4" : "ipv6"),
    );
  return group;
}

/** @param others groups of the stack's other hosts, by host */
export function openPorts(scope: Construct, stack: string, host: AwsHost, group: SecurityGroup, others: Map<string, SecurityGroup>): void {
  const made = new Set<string>();
  const rule = (port: Port, source: string, from: Record<string, string>) => {
    const name = `in-${port.protocol}-${port.port}-${source}`;
    if (made.has(name)) return; // several resources behind one port, as exports are
    made.add(name);
    named(
      new VpcSecurityGroupIngressRule(scope, name, {
        securityGroupId: group.id,
        ipProtocol: port.protocol,
        fromPort: port.port,
        toPort: port.port,
        description: `${port.resource} from ${source}`,
        tags: tagsOf(stack, host),
        ...from,
      }),
      id(host.host, `${port.protocol}_${port.port}_${source.replace(/[^A-Za-z0-9_-]/g, "_")}`),
    );
  };
  for (const port of host.ports) {
    if (port.from !== "world") {
      for (const [other, { id: groupId }] of others)
        if (port.from === "stack" || port.from.includes(other)) rule(port, `host_${other}`, { referencedSecurityGroupId: groupId });
    } else for (const cidr of port.port === 22 ? host.sshFrom : world) rule(port, cidr, { [version(cidr)]: cidr });
  }
}
