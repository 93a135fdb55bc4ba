// What cannot be, of the shape of hosts: how many of them, at which addresses, on which instances. model.ts calls it with the others.
import { type Diagnostic, diagnostic } from "../lib/diagnostics.ts";
import { numberOf } from "../lib/ipv4.ts";
import type { HostModel, StackModel } from "./model.ts";
import type { Limits } from "./plan.ts";
import { postgresql } from "./resources/postgresql.ts";
import { volume } from "./resources/volume.ts";

/** Data that would be lost, or would differ, on one machine of several. */
function dataOf(host: HostModel): string | undefined {
  const [disk] = host.all(volume);
  if (disk) return disk.id;
  return host.get(postgresql) ? "postgresql" : undefined;
}

/** Whether the instances of a type show EBS volumes as NVMe disks with their serial. Source: Amazon EC2 User Guide, "Instances built on
 * the AWS Nitro System": all but these older families. */
export const isNitro = (type: string): boolean => !/^(t1|t2|m[1-4]|c[134]|cc2|cr1|r3|r4|i2|d2|g2|g3s?|p2|p3|x1e?|f1|h1|hs1)\./.test(type);

const GiB = 2 ** 30;
/** Memory and processors of the small types, t2, t3 and t3a alike. Source: Amazon EC2 Instance Types, "General purpose". */
const burstable: Record<string, [memory: number, cpus: number]> = {
  nano: [GiB / 2, 2],
  micro: [GiB, 2],
  small: [2 * GiB, 2],
  medium: [4 * GiB, 2],
  large: [8 * GiB, 2],
  xlarge: [16 * GiB, 4],
  "2xlarge": [32 * GiB, 8],
};
/** What an instance of a type has less of than the limits say; undefined when nothing, or when the type is not known here. */
function lackOf(type: string, { cpus = 0, memory = 0 }: Limits): string | undefined {
  const [has, count] = burstable[/^t(?:2|3|3a)\.(\w+)$/.exec(type)?.[1] ?? ""] ?? [];
  if (has === undefined || count === undefined) return undefined;
  const lacks = [...(memory > has ? [`${has / GiB} GiB of memory`] : []), ...(cpus > count ? [`${count} processors`] : [])];
  return lacks.length ? lacks.join(" and ") : undefined;
}
const leastMemory = 192 * 2 ** 20;

const isAddress = (address: string): boolean => address.split(".").every((part) => Number(part) < 256);

/** First address of a network and how many it has; undefined for what is none. */
export function rangeOf(network: string): { first: number; count: number } | undefined {
  const [address = "", bits = ""] = network.split("/");
  const count = 2 ** (32 - Number(bits));
  if (!isAddress(address) || Number(bits) < 8 || Number(bits) > 30) return undefined;
  return numberOf(address) % count === 0 ? { first: numberOf(address), count } : undefined;
}

export function checkShape({ yaml, hosts, network }: Omit<StackModel, "warnings">, found: Diagnostic[]): void {
  const range = network === undefined ? undefined : rangeOf(network);
  if (network !== undefined && !range)
    found.push(
      diagnostic("ING1601", yaml.rangeOf(["network"]), `${network} is no network that hosts can have`, {
        hint: "its first address and the number of its bits, 8 to 30: `10.1.1.0/24`",
      }),
    );
  const taken = new Map<string, string>();
  let region: { name: string; host: string } | undefined;
  for (const host of hosts) {
    const { path, aws, address, count } = host;
    const say = (code: string, key: string[], message: string, hint?: string) =>
      found.push(diagnostic(code, yaml.rangeOf([...path, ...key]), message, { ...(hint && { hint }) }));
    const data = dataOf(host);
    if (address !== undefined) {
      const there = taken.get(address);
      if (network === undefined)
        say("ING1602", ["address"], "a fixed address needs the stack's `network:`", "add `network: 10.1.1.0/24` beside `hosts:`");
      else if (range && (numberOf(address) <= range.first || numberOf(address) >= range.first + range.count - 1))
        say("ING1602", ["address"], `${address} is not an address of a host in ${network}`);
      if (there !== undefined) say("ING1602", ["address"], `${there} has the address ${address} already`);
      taken.set(address, host.name);
    }
    if (count !== undefined && data !== undefined)
      say(
        "ING1603",
        ["count"],
        `${host.name} has data (${data}), so there can be only one of it: each of ${count} machines would have data of its own`,
        `move ${data} to a host of its own, or leave \`count:\` out`,
      );
    if (count !== undefined && address !== undefined) say("ING1603", ["address"], `${count} machines cannot share the address ${address}`);
    if (aws.spot && data !== undefined)
      say("ING1604", ["aws", "spot"], `${host.name} has data (${data}), and a spot instance is ended by EC2 when it likes`);
    const lacks = host.limits && lackOf(aws.type, host.limits);
    if (lacks)
      found.push(
        diagnostic(
          "ING1609",
          yaml.rangeOf([...path, "limits"]),
          `on EC2 ${host.name} has less than on this computer: ${aws.type} has ${lacks}`,
          {
            severity: "warning",
            hint: "take a larger `aws: { type: … }`, or smaller limits",
          },
        ),
      );
    if (host.limits?.memory !== undefined && host.limits.memory < leastMemory)
      say("ING1610", ["limits", "memory"], "a machine does not boot in less than 192MiB");
    if (host.all(volume).length && !isNitro(aws.type))
      say(
        "ING1605",
        ["aws", "type"],
        `an instance of type ${aws.type} does not show the serial of its volumes`,
        "take a Nitro type, such as t3.small",
      );
    for (const name of Object.keys(aws.restore))
      if (!host.get(volume, name)) say("ING1606", ["aws", "restore", name], `${host.name} has no volume \`${name}\` to restore`);
    if (aws.zones && count === undefined)
      say("ING1607", ["aws", "zones"], "only a host with `count:` is in several zones", "write `zone:`");
    if (aws.region !== undefined) {
      if (region && region.name !== aws.region)
        say(
          "ING1608",
          ["aws", "region"],
          `${host.name} is in ${aws.region}, and ${region.host} in ${region.name}`,
          "all hosts of a stack are in one region",
        );
      region ??= { name: aws.region, host: host.name };
    }
  }
}
