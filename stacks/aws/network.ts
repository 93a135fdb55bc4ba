// Where a stack's hosts are: the region's default VPC, subnets that are there, or a small VPC of the stack's own.
import { DataAwsSubnet } from "@cdktf/provider-aws/lib/data-aws-subnet/index.js";
import { DataAwsVpc } from "@cdktf/provider-aws/lib/data-aws-vpc/index.js";
import { InternetGateway } from "@cdktf/provider-aws/lib/internet-gateway/index.js";
import { Route } from "@cdktf/provider-aws/lib/route/index.js";
import { RouteTable } from "@cdktf/provider-aws/lib/route-table/index.js";
import { RouteTableAssociation } from "@cdktf/provider-aws/lib/route-table-association/index.js";
import { Subnet } from "@cdktf/provider-aws/lib/subnet/index.js";
import { Vpc } from "@cdktf/provider-aws/lib/vpc/index.js";
import { Construct } from "constructs";
import { RefusedError } from "../../lib/diagnostics.ts";
import { addressOf, networkOf } from "../../lib/ipv4.ts";
import type { AwsNetwork } from "./shape.ts";

export interface NetworkProps {
  /** @default the region's default VPC */
  network?: AwsNetwork;
  /** Names of the zones that hosts are in, such as eu-central-1a: each has a subnet. */
  zones: string[];
  /** The tag Name. */
  name: string;
}

/** A VPC and one subnet for each zone. */
export class Network extends Construct {
  readonly vpcId: string;
  readonly #subnets: (zone: string) => string;

  constructor(scope: Construct, id: string, { network = { kind: "default" }, zones, name }: NetworkProps) {
    super(scope, id);
    if (network.kind === "own") {
      [this.vpcId, this.#subnets] = own(this, network, zones, name);
    } else if (network.kind === "subnets") {
      const taken = (i: number) => zones.filter((_, z) => z % network.subnets.length === i);
      const given = network.subnets.map((subnetId, i) =>
        named(
          new DataAwsSubnet(this, `subnet-${i}`, {
            id: subnetId,
            // A disk is in a zone, and its host must be in the same: said before anything is made.
            lifecycle: {
              postcondition: taken(i).map((zone) => ({
                condition: `\${self.availability_zone == "${zone}"}`,
                errorMessage: `${subnetId} is not in ${zone}, where its hosts are to be: give \`subnets:\` in the order of the zones' letters, and the hosts' \`zone:\``,
              })),
            },
          }),
          `given_${i}`,
        ),
      );
      this.vpcId = given[0]?.vpcId ?? "";
      this.#subnets = (zone) => given[zones.indexOf(zone) % given.length]?.id ?? "";
    } else {
      const vpc = named(new DataAwsVpc(this, "vpc", { default: true }), "default");
      this.vpcId = vpc.id;
      const subnets = new Map(
        zones.map((zone) => [
          zone,
          named(new DataAwsSubnet(this, zone, { vpcId: vpc.id, availabilityZone: zone, defaultForAz: true }), underscored(zone)).id,
        ]),
      );
      this.#subnets = (zone) => subnets.get(zone) ?? "";
    }
  }

  /** The id of the zone's subnet. */
  subnetOf(zone: string): string {
    return this.#subnets(zone);
  }
}

/** Every subnet is public: what may be reached is the security groups' matter, and a NAT gateway costs more than a small host. */
function own(
  scope: Construct,
  { cidr, zone: given }: Extract<AwsNetwork, { kind: "own" }>,
  zones: string[],
  name: string,
): [string, (zone: string) => string] {
  const tags = { Name: name };
  const vpc = named(new Vpc(scope, "vpc", { cidrBlock: around(cidr), enableDnsHostnames: true, enableDnsSupport: true, tags }), "own");
  const gateway = named(new InternetGateway(scope, "gateway", { vpcId: vpc.id, tags }), "own");
  // A route of its own, not the table's `route`: there Terraform wants every attribute that the provider knows, and the binding writes those
  // of the one version that it was made from.
  const routes = named(new RouteTable(scope, "routes", { vpcId: vpc.id, tags }), "own");
  named(new Route(scope, "out", { routeTableId: routes.id, destinationCidrBlock: "0.0.0.0/0", gatewayId: gateway.id }), "own");
  const first = given ?? zones[0] ?? "";
  const cidrs = new Map(zones.map((zone) => [zone, nth(cidr, letter(zone) - letter(first))]));
  if (new Set(cidrs.values()).size < zones.length)
    throw new RefusedError(
      `${name}: ${cidr} is too large for subnets in ${zones.join(", ")}: the /16 that it lies in has not so many`,
      "write a smaller network: one of 19 bits or more has room for the zones of every region",
    );
  const subnets = new Map(
    zones.map((zone) => {
      const subnet = named(
        new Subnet(scope, zone, {
          vpcId: vpc.id,
          cidrBlock: cidrs.get(zone) ?? "",
          availabilityZone: zone,
          mapPublicIpOnLaunch: true,
          tags: { Name: `${name} ${zone}` },
        }),
        underscored(zone),
      );
      named(new RouteTableAssociation(scope, `${zone}-routes`, { subnetId: subnet.id, routeTableId: routes.id }), underscored(zone));
      return [zone, subnet.id] as const;
    }),
  );
  return [vpc.id, (zone) => subnets.get(zone) ?? ""];
}

/** Gives an element its address in Terraform: without it, CDKTF appends a hash of where it stands. */
export function named<T extends { overrideLogicalId(id: string): void }>(element: T, id: string): T {
  element.overrideLogicalId(id);
  return element;
}

const underscored = (zone: string): string => zone.replaceAll("-", "_");

/** The /16 that a network lies in: room for the subnets of other zones. EC2's VPCs have 16 to 28 bits. */
const around = (cidr: string): string => `${addressOf(Math.floor(networkOf(cidr).first / 65536) * 65536)}/16`;

const letter = (zone: string): number => zone.charCodeAt(zone.length - 1);

/** The network itself, the next one of its size, and so on round the /16; below 0 those before it. */
function nth(cidr: string, i: number): string {
  const { first, count, bits } = networkOf(cidr);
  const start = Math.floor(first / 65536) * 65536;
  const place = (first - start + i * count) % 65536;
  return `${addressOf(start + ((place + 65536) % 65536))}/${bits}`;
}
