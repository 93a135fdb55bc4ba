// KMS keys of AMIs: which one encrypts an AMI, and whether another account may use it. For make.ts, copy.ts, share.ts and release.ts.
// Source of what an account needs: Amazon EC2 User Guide, "Share an AMI with organizations and organizational units" and "Share a KMS key used to
// encrypt a shared Amazon EBS snapshot".
import { RefusedError } from "../../../lib/diagnostics.ts";
import type { Aws } from "../api.ts";
import { call, codeOf } from "../errors.ts";
import type { Ami } from "./ami.ts";

/** What whoever boots or copies a shared, encrypted AMI must be able to do with its key. */
const needed = ["kms:DescribeKey", "kms:CreateGrant", "kms:Decrypt", "kms:ReEncryptFrom"] as const;

/** The key's ARN for each of the AMI's snapshots; undefined for one that is not encrypted. */
export async function keysOf(aws: Aws, ami: Ami): Promise<(string | undefined)[]> {
  if (!ami.snapshots.length) return [];
  const { DescribeSnapshotsCommand } = await import("@aws-sdk/client-ec2");
  const ec2 = await aws.ec2();
  const { Snapshots = [] } = await call(`look at the snapshots of ${ami.id}`, () =>
    ec2.send(new DescribeSnapshotsCommand({ SnapshotIds: ami.snapshots })),
  );
  return Snapshots.map((s) => (s.Encrypted ? (s.KmsKeyId ?? "") : undefined));
}

/** What something new is encrypted with. `default`: the account's own default key for EBS; or a key's id, ARN or alias. */
export type Encrypting = "default" | { key: string };

/**
 * Why an AMI that is there is not what would be made now; undefined when it is, or is pending and has no snapshot yet that could be asked.
 * @param key the ARN that it must be encrypted with; undefined: with whichever
 */
export async function notAsAsked(aws: Aws, ami: Ami, key: string | undefined): Promise<string | undefined> {
  if (ami.state !== "available") return undefined;
  const keys = await keysOf(aws, ami);
  if (keys.includes(undefined)) return "and not encrypted";
  const other = key === undefined ? undefined : keys.find((k) => k !== key);
  return other === undefined ? undefined : `encrypted with another key: ${other}`;
}

/** @param key its id, ARN or alias. Gives its ARN. @throws RefusedError when it is not there, or not enabled */
export async function enabledKey(aws: Aws, key: string): Promise<string> {
  const { arn, state } = await describe(aws, key);
  if (state !== "Enabled")
    throw new RefusedError(`the key ${key} in ${aws.region} is ${state}`, `\`aws kms enable-key --key-id ${key}\`, or another key`);
  return arn;
}

interface Key {
  arn: string;
  manager: "AWS" | "CUSTOMER";
  state: string;
}

async function describe(aws: Aws, key: string): Promise<Key> {
  const { DescribeKeyCommand } = await import("@aws-sdk/client-kms");
  const kms = await aws.kms();
  try {
    const { KeyMetadata } = await kms.send(new DescribeKeyCommand({ KeyId: key }));
    return {
      arn: KeyMetadata?.Arn ?? key,
      manager: KeyMetadata?.KeyManager === "AWS" ? "AWS" : "CUSTOMER",
      state: KeyMetadata?.KeyState ?? (KeyMetadata?.Enabled ? "Enabled" : "Disabled"),
    };
  } catch (error) {
    if (codeOf(error) !== "NotFoundException") return call(`look at the key ${key}`, () => Promise.reject(error));
    throw new RefusedError(
      `there is no key ${key} in ${aws.region}`,
      "a key belongs to one region: name one of this region, or a replica there",
    );
  }
}

/** Whom an AMI is to be for: an account's number, or the ARN of an organisation or of a unit of one. */
export interface Audience {
  accounts: string[];
  organizations: string[];
  units: string[];
}

/**
 * Says why this audience could not use what a key encrypts; nothing when it can, or when nobody here may look.
 * @param warn is told what could not be looked at
 * @throws RefusedError
 */
export async function mayBeShared(aws: Aws, key: string, audience: Audience, warn: (text: string) => void): Promise<void> {
  const { arn, manager, state } = await describe(aws, key);
  if (manager === "AWS")
    throw new RefusedError(
      `it is encrypted with AWS's own key for EBS (${arn}), which no other account can be let to use`,
      "make a copy with a key of your own, and share that: ingot image copy <image> --to <region> --kms <key> --on aws",
    );
  if (state !== "Enabled")
    throw new RefusedError(`its key ${arn} is ${state}: nobody can boot it`, `\`aws kms enable-key --key-id ${arn}\``);
  const [policy, grants] = await Promise.all([policyOf(aws, arn), grantsOf(aws, arn)]);
  if (policy === undefined) return warn(`the policy of ${arn} may not be read here: whether it lets them use the key is not known`);
  for (const who of [...audience.accounts, ...audience.organizations, ...audience.units]) {
    const missing = lacking(policy, grants, who);
    if (missing.length)
      throw new RefusedError(
        `${who} may not use the key ${arn} that encrypts it: it lacks ${missing.join(", ")}`,
        /^\d+$/.test(who)
          ? `allow it in the key's policy: { "Effect": "Allow", "Principal": { "AWS": "arn:aws:iam::${who}:root" }, "Action": [${needed.map((a) => `"${a}"`).join(", ")}], "Resource": "*" }`
          : `allow it in the key's policy: "Principal": "*", "Condition": { "StringEquals": { "aws:PrincipalOrgID": "${who.split("/")[1]}" } }`,
      );
  }
}

async function policyOf(aws: Aws, key: string): Promise<KeyPolicy | undefined> {
  const { GetKeyPolicyCommand } = await import("@aws-sdk/client-kms");
  const kms = await aws.kms();
  try {
    const { Policy = "" } = await kms.send(new GetKeyPolicyCommand({ KeyId: key, PolicyName: "default" }));
    return JSON.parse(Policy || "{}") as KeyPolicy;
  } catch (error) {
    if (/^AccessDenied/.test(codeOf(error))) return undefined;
    return call(`read the policy of ${key}`, () => Promise.reject(error));
  }
}

async function grantsOf(aws: Aws, key: string): Promise<KeyGrant[]> {
  const { paginateListGrants } = await import("@aws-sdk/client-kms");
  const found: KeyGrant[] = [];
  try {
    const client = await aws.kms();
    for await (const { Grants = [] } of paginateListGrants({ client }, { KeyId: key }))
      found.push(...Grants.map((g) => ({ principal: g.GranteePrincipal ?? "", operations: g.Operations ?? [] })));
  } catch (error) {
    if (/^AccessDenied/.test(codeOf(error))) return [];
    return call(`list the grants of ${key}`, () => Promise.reject(error));
  }
  return found;
}

export interface KeyPolicy {
  Statement?: Statement | Statement[];
}
interface Statement {
  Effect: "Allow" | "Deny";
  Principal?: "*" | Record<string, string | string[]>;
  Action?: string | string[];
  Condition?: Record<string, Record<string, string | string[]>>;
}
export interface KeyGrant {
  principal: string;
  /** "Decrypt", "CreateGrant", … */
  operations: string[];
}

/**
 * What of that which booting needs a key's policy and grants do not give. Conditions other than those on the account, the organisation, the service
 * and on grants for AWS's resources are held not to be met: who writes them knows better, and hears of it.
 * @param who an account's number, or the ARN of an organisation or unit
 */
export function lacking(policy: KeyPolicy, grants: KeyGrant[], who: string): string[] {
  const statements = [policy.Statement ?? []].flat();
  const denied = statements.filter((s) => s.Effect === "Deny" && concerns(s, who));
  const allowed = statements.filter((s) => s.Effect === "Allow" && concerns(s, who));
  const operations = grants.filter((g) => accountOf(g.principal) === who).flatMap((g) => g.operations);
  return needed.filter((action) => {
    if (denied.some((s) => covers(s, action))) return true;
    return !allowed.some((s) => covers(s, action)) && !operations.some((o) => `kms:${o}` === action);
  });
}

const accountOf = (principal: string): string => (/^\d{12}$/.test(principal) ? principal : (principal.split(":")[4] ?? ""));

/** An action of a policy may end with `*`, anywhere hold one, and is the same in capitals. */
const covers = ({ Action = [] }: Statement, action: string): boolean =>
  [Action].flat().some((pattern) =>
    new RegExp(
      `^${pattern
        .replace(/[.+^${}()|[\]\\]/g, "\\$&")
        .replaceAll("*", ".*")
        .replaceAll("?", ".")}$`,
      "i",
    ).test(action),
  );

function concerns({ Principal, Condition = {} }: Statement, who: string): boolean {
  const isAccount = /^\d{12}$/.test(who);
  const principals = Principal === "*" ? ["*"] : Object.values(Principal ?? {}).flat();
  const conditions = Object.entries(Condition).flatMap(([operator, keys]) =>
    Object.entries(keys).map(([key, value]) => ({ operator, key: key.toLowerCase(), values: [value].flat() })),
  );
  // By the organisation alone; `who` is arn:aws:organizations::<account>:organization/<o-id>, or …:ou/<o-id>/<ou-id>.
  const organization = isAccount ? undefined : who.split("/")[1];
  const named = conditions.some(({ key, values }) =>
    isAccount
      ? /^(kms:calleraccount|aws:principalaccount)$/.test(key) && values.includes(who)
      : (key === "aws:principalorgid" && values.includes(organization ?? "")) ||
        (key === "aws:principalorgpaths" &&
          values.some((v) => v.startsWith(`${organization}/`) && (!/:ou\//.test(who) || v.includes(who.split("/")[2] ?? "")))),
  );
  const whom = principals.some(
    (p) => p === who || (isAccount && accountOf(p) === who) || (p === "*" && (named || conditions.length === 0)),
  );
  const known =
    /^(kms:calleraccount|aws:principalaccount|aws:principalorgid|aws:principalorgpaths|kms:grantisforawsresource|kms:viaservice)$/;
  const restricted = conditions.some(({ key, values }) => !known.test(key) || (isAccount && /account$/.test(key) && !values.includes(who)));
  return whom && !restricted;
}
