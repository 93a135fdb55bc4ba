// Names of hosts in Route53 zones, asked for by DNS, as those ask who use them: Route53's API says what was written, and not what is answered.
// Called by the target: before a rebuild, by which they may come to name another machine, and by whatever verifies a host.
import type { Resolver } from "node:dns/promises";
import type { HostPlan } from "../../cloud-init/plan.ts";
import { sleep } from "../../lib/cancel.ts";
import type { CheckResult } from "../verify.ts";
import { lookSeconds } from "./instances.ts";
import { namesOf, recordSeconds } from "./shape.ts";

/** Where DNS is asked. */
export interface Dns {
  /** Address of a resolver. @default this computer's own */
  resolver?: string;
  /** Of it, and of every name server. */
  port: number;
  /** Milliseconds for an answer to the first of two questions. */
  patience: number;
}
const usual: Dns = { port: 53, patience: 2000 };

/** What those who were asked for a name answer; without addresses: there is no such name. */
export interface Answers {
  /** In words: "the 4 name servers of example.org". */
  by: string;
  each: { server: string; addresses: string[] }[];
}

const asker = async (server: string | undefined, { port, patience }: Dns): Promise<Resolver> => {
  const resolver = new (await import("node:dns/promises")).Resolver({ timeout: patience, tries: 2 });
  if (server !== undefined) resolver.setServers([`${server}:${port}`]);
  return resolver;
};
const codeOf = (error: unknown): string => String((error as { code?: unknown } | null)?.code ?? error);

/** In a fixed order; none: there is no such name. @throws Error of Node's when there is no answer */
async function addressesOf(resolver: Resolver, name: string): Promise<string[]> {
  try {
    return (await resolver.resolve4(name)).sort();
  } catch (error) {
    if (/^E(NOTFOUND|NODATA)$/.test(codeOf(error))) return [];
    throw error;
  }
}

/**
 * What every name server of a zone answers that can be asked from here, else this computer's resolver, which may hold an answer of before.
 * @returns `unasked`: why nobody can be asked
 */
export async function answersOf(name: string, zone: string, dns = usual): Promise<Answers | { unasked: string }> {
  const own = await asker(dns.resolver, dns);
  try {
    const servers = (await own.resolveNs(zone)).sort();
    const asked = await Promise.allSettled(
      servers.map(async (server) => {
        const [address] = await addressesOf(own, server);
        return { server, addresses: address === undefined ? undefined : await addressesOf(await asker(address, dns), name) };
      }),
    );
    const each = asked.flatMap((a) =>
      a.status === "fulfilled" && a.value.addresses ? { server: a.value.server, addresses: a.value.addresses } : [],
    );
    if (each.length) return { by: `${each.length === 1 ? "a name server" : `the ${each.length} name servers`} of ${zone}`, each };
    const addresses = await addressesOf(own, name);
    if (addresses.length) return { by: "this computer's resolver", each: [{ server: "this computer's resolver", addresses }] };
    return { unasked: `no name server of ${zone} answers this computer` };
  } catch (error) {
    return { unasked: `this computer finds no name server of ${zone} (${codeOf(error)})` };
  }
}

/**
 * Whether the host's names lead to its machine, and nowhere else. Those that do not are asked for again, for as long as an answer of before may be held.
 * @param unproven is told of names that nobody here can be asked for: there is no result of them
 */
export async function proveNames(
  plan: HostPlan,
  address: string,
  unproven: (words: string) => void,
  { dns, seconds = recordSeconds }: { dns?: Dns; seconds?: number } = {},
): Promise<CheckResult[]> {
  const end = performance.now() + seconds * 1000;
  const zone = plan.aws.dns?.zone ?? "";
  const proven = async (name: string): Promise<CheckResult[]> => {
    for (; ; await sleep(lookSeconds())) {
      const asked = await answersOf(name, zone, dns);
      if ("unasked" in asked) {
        unproven(`${name} is to be ${address}, and nothing here proves it: ${asked.unasked}`);
        return [];
      }
      const wrong = asked.each.filter(({ addresses }) => addresses.join() !== address);
      if (wrong.length && performance.now() < end) continue;
      const found = wrong.map(({ server, addresses }) => `${server} says ${addresses.join(" and ") || "that there is no such name"}`);
      const message = wrong.length ? `it is to be ${address}: ${found.join(", ")}` : `${address}, say ${asked.by}`;
      return [{ id: `dns/${name}`, host: plan.host, resource: "dns", seen: "stranger", check: "dns", ok: !wrong.length, message }];
    }
  };
  return (await Promise.all(namesOf(plan).map(proven))).flat();
}

/**
 * What becomes of a host's address when its machine is made anew, in words.
 * @param elastic its Elastic IP, where it has one
 */
export async function foreseenAddress(plan: HostPlan, elastic: string | undefined, dns?: Dns): Promise<string> {
  const { address, dns: declared } = plan.aws;
  const named = namesOf(plan).join(", ");
  if (address === "elastic")
    return `address: ${elastic === undefined ? "an Elastic IP is made" : `the Elastic IP ${elastic} goes to the new machine`}${named && `; ${named} is that`}`;
  if (address === "private" && plan.address !== undefined) return `address: ${plan.address}, as before${named && `; ${named} is that`}`;
  const kind = address === "private" ? "private" : "public";
  if (!declared)
    return `address: another ${kind} one, which no name leads to: \`ingot status ${plan.stack} --on aws\` says it afterwards (\`aws: { dns: … }\` gives it a name)`;
  const now = await Promise.all(
    namesOf(plan).map(async (name) => {
      const asked = await answersOf(name, declared.zone, dns);
      const known = "unasked" in asked ? [] : [...new Set(asked.each.flatMap((e) => e.addresses))];
      return known.length ? `${name} (${known.join(", ")} now)` : name;
    }),
  );
  return `address: another ${kind} one: ${now.join(", ")} is moved to it as the machine is launched; who has asked before may hold the old one for ${recordSeconds} s${kind === "public" ? ", and EC2 may have given that to somebody else" : ""}`;
}
