// Addresses of a stack's machines. Every stack has a network of its own that leads nowhere, so all may use the same ones.

export interface AddressPlan {
  /** Of `operator`, who stands at the bridge. */
  operator: string;
  prefix: number;
  /** By host. */
  machines: Map<string, string>;
}

const network = "10.83.0";

/** 10.83.0.1 for the operator, machines from 10.83.0.10 on in the order of the plan. */
export function addressPlan(hosts: string[]): AddressPlan {
  if (hosts.length > 240) throw new RangeError(`${hosts.length} hosts do not fit into ${network}.0/24`);
  return { operator: `${network}.1`, prefix: 24, machines: new Map(hosts.map((host, i) => [host, `${network}.${10 + i}`])) };
}
