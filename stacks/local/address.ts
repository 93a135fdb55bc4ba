// Addresses of a stack's machines. Every stack has a network of its own that leads nowhere, so all may use the same ones.
import { addressOf, networkOf } from "../../lib/ipv4.ts";

export interface AddressPlan {
  /** Of `operator`, who stands at the bridge. */
  operator: string;
  prefix: number;
  /** By host. */
  machines: Map<string, string>;
}

/** Of stacks that declare none. */
export const usualNetwork = "10.83.0.0/24";

/**
 * Hosts with an address of their own have that one; the others have the next free ones from the tenth on, in the order of the plan.
 * The operator has the network's last one, or its first where nobody else has it.
 * @param network "10.83.0.0/24"
 */
export function addressPlan(hosts: { host: string; address?: string }[], network: string = usualNetwork): AddressPlan {
  const { first, count, bits } = networkOf(network);
  const fixed = new Set(hosts.flatMap((h) => (h.address === undefined ? [] : [h.address])));
  const operator = [1, count - 2].map((n) => addressOf(first + n)).find((a) => !fixed.has(a));
  const free = Array.from({ length: count - 2 }, (_, i) => (i + 9) % (count - 2)).map((i) => addressOf(first + 1 + i));
  const others = free.filter((a) => !fixed.has(a) && a !== operator);
  const wanting = hosts.filter((h) => h.address === undefined).length;
  if (operator === undefined || wanting > others.length) throw new RangeError(`${hosts.length} hosts do not fit into ${network}`);
  return { operator, prefix: bits, machines: new Map(hosts.map((h) => [h.host, h.address ?? others.shift() ?? ""])) };
}
