// An AMI that nobody is to take for something new: EC2 no longer shows it to those it is shared with; what runs, or names it, goes on. For
// `ingot image deprecate`.
import { RefusedError } from "../../../lib/diagnostics.ts";
import type { Aws } from "../api.ts";
import { call } from "../errors.ts";
import type { Ami } from "./ami.ts";

export interface Deprecated {
  ami: string;
  /** ISO 8601; undefined: it is not deprecated. */
  at?: string;
  outcome: "already" | "done" | "would be done";
}

/** EC2 counts in minutes, and wants one to come; ten years at most. Source: Amazon EC2 API Reference, EnableImageDeprecation. */
const minute = 60_000;
const longest = 10 * 365 * 24 * 60 * minute;

/** The minute that EC2 would take a moment for. @param given "now", or a date that a person wrote. @throws RefusedError */
export function momentOf(given: string, now: number): Date {
  const wanted = given === "now" ? now : Date.parse(/^\d{4}-\d{2}-\d{2}$/.test(given) ? `${given}T00:00:00Z` : given);
  if (Number.isNaN(wanted)) throw new RefusedError(`\`${given}\` is no date`, "write it as 2027-01-31 or 2027-01-31T12:00Z");
  if (wanted < now - minute) throw new RefusedError(`${given} is over: EC2 deprecates no AMI in the past`, "leave --at out for now");
  if (wanted > now + longest) throw new RefusedError(`${given} is more than ten years away, which EC2 does not take`);
  // EC2 rounds to the nearest minute, which must not have begun yet.
  return new Date(Math.max(Math.ceil(wanted / minute) * minute, (Math.floor(now / minute) + 2) * minute));
}

/** @param at undefined: no longer deprecated. @param mode `plan` changes nothing */
export async function deprecateAmi(aws: Aws, ami: Ami, at: Date | undefined, mode: "do" | "plan"): Promise<Deprecated> {
  const result = { ami: ami.id, ...(at && { at: at.toISOString() }) };
  const now = ami.deprecated === undefined ? undefined : Date.parse(ami.deprecated);
  // Now, and deprecated before: nothing would be otherwise.
  const soon = at !== undefined && at.getTime() < Date.now() + 3 * minute;
  if (at ? now !== undefined && (now === at.getTime() || (soon && now < at.getTime())) : now === undefined)
    return { ami: ami.id, ...(ami.deprecated !== undefined && { at: ami.deprecated }), outcome: "already" };
  if (mode === "plan") return { ...result, outcome: "would be done" };
  const sdk = await import("@aws-sdk/client-ec2");
  const ec2 = await aws.ec2();
  if (at) await call(`deprecate ${ami.id}`, () => ec2.send(new sdk.EnableImageDeprecationCommand({ ImageId: ami.id, DeprecateAt: at })));
  else await call(`take back that ${ami.id} is deprecated`, () => ec2.send(new sdk.DisableImageDeprecationCommand({ ImageId: ami.id })));
  return { ...result, outcome: "done" };
}
