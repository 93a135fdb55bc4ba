// What a host may do in the account: read its own facts, secrets, artifacts and files, write its own reports, keep its own backups. Nothing else.
import { IamInstanceProfile } from "@cdktf/provider-aws/lib/iam-instance-profile/index.js";
import { IamRole } from "@cdktf/provider-aws/lib/iam-role/index.js";
import { IamRolePolicy } from "@cdktf/provider-aws/lib/iam-role-policy/index.js";
import { IamRolePolicyAttachment } from "@cdktf/provider-aws/lib/iam-role-policy-attachment/index.js";
import type { Construct } from "constructs";
import { named } from "./network.ts";
import { type AwsHost, id, names, tagsOf } from "./shape.ts";

/** What stands in every ARN of the account, as Terraform's expressions. */
export interface Account {
  partition: string;
  region: string;
  number: string;
  /** The bucket's name. */
  bucket: string;
}

export interface RoleProps {
  stack: string;
  host: AwsHost;
  secrets: "parameter-store" | "secrets-manager";
  account: Account;
}

export function roleOf(scope: Construct, { stack, host, secrets, account }: RoleProps): { profile: string; policy: IamRolePolicy } {
  const name = id(host.host);
  const role = named(
    new IamRole(scope, "role", {
      namePrefix: `ingot-${stack}-${host.host}-`.slice(0, 38),
      assumeRolePolicy: assumedBy("ec2.amazonaws.com"),
      description: `What ${stack}/${host.host} may read and write`,
      // The policy by which a rebuild has fenced its old machine goes with it (recovery.ts).
      forceDetachPolicies: true,
      tags: tagsOf(stack, host),
    }),
    name,
  );
  const policy = named(
    new IamRolePolicy(scope, "policy", {
      name: "ingot",
      role: role.id,
      policy: JSON.stringify(permissions(stack, host, secrets, account)),
    }),
    name,
  );
  if (host.agent)
    named(
      new IamRolePolicyAttachment(scope, "agent", {
        role: role.name,
        policyArn: `arn:${account.partition}:iam::aws:policy/AmazonSSMManagedInstanceCore`,
      }),
      name,
    );
  const profile = named(
    new IamInstanceProfile(scope, "profile", {
      namePrefix: `ingot-${stack}-${host.host}-`.slice(0, 38),
      role: role.name,
      tags: tagsOf(stack, host),
    }),
    name,
  );
  return { profile: profile.name, policy };
}

export const assumedBy = (service: string): string =>
  JSON.stringify({ Version: "2012-10-17", Statement: [{ Effect: "Allow", Principal: { Service: service }, Action: "sts:AssumeRole" }] });

/** What pgBackRest and restic do, below the host's own prefix. Source: pgBackRest's user guide, "S3-Compatible Object Store Support", whose policy has
 * the prefix as a condition, too. */
function backups(partition: string, { bucket, prefix }: { bucket: string; prefix: string }) {
  const arn = `arn:${partition}:s3:::${bucket}`;
  return [
    {
      Sid: "BackupsListed",
      Effect: "Allow",
      Action: ["s3:ListBucket"],
      Resource: [arn],
      Condition: { StringLike: { "s3:prefix": [prefix, `${prefix}/*`] } },
    },
    {
      Sid: names.backups,
      Effect: "Allow",
      Action: ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:DeleteObject"],
      Resource: [`${arn}/${prefix}/*`],
    },
  ];
}

function permissions(stack: string, host: AwsHost, secrets: RoleProps["secrets"], { partition, region, number, bucket }: Account) {
  const parameter = (path: string) => `arn:${partition}:ssm:${region}:${number}:parameter${path}`;
  const object = (key: string) => `arn:${partition}:s3:::${bucket}/${key}`;
  const allow = (Sid: string, Action: string[], Resource: string[]) =>
    Resource.length ? [{ Sid, Effect: "Allow", Action, Resource }] : [];
  const own = secrets === "parameter-store" ? host.secretNames.map((s) => parameter(names.parameter(stack, s))) : [];
  return {
    Version: "2012-10-17",
    Statement: [
      // Parameters are encrypted with the account's own key for SSM, whose policy lets in whoever may read the parameter.
      ...allow("Parameters", ["ssm:GetParameter", "ssm:GetParameters"], [parameter(names.facts(stack, host.host)), ...own]),
      ...allow(
        "Secrets",
        ["secretsmanager:GetSecretValue"],
        // An ARN of Secrets Manager ends in six characters that nobody knows beforehand.
        secrets === "secrets-manager"
          ? host.secretNames.map((s) => `arn:${partition}:secretsmanager:${region}:${number}:secret:${names.secret(stack, s)}-??????`)
          : [],
      ),
      ...allow(
        "Artifacts",
        ["s3:GetObject"],
        [...host.artifacts.map((a) => object(`${names.artifacts}${a}`)), ...host.files.map((f) => object(`${names.files}${f}`))],
      ),
      ...allow("Reports", ["s3:PutObject"], [object(`${names.reports(stack, host.host)}*`)]),
      ...(host.backups ? backups(partition, host.backups) : []),
    ],
  };
}
