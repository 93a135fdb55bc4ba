// One host on EC2: its instance, its disks, its address, and who notices when it is unwell. A plain instance and no launch template: there is
// one of it, and Terraform shows what of it changes.
import { CloudwatchMetricAlarm } from "@cdktf/provider-aws/lib/cloudwatch-metric-alarm/index.js";
import { DlmLifecyclePolicy } from "@cdktf/provider-aws/lib/dlm-lifecycle-policy/index.js";
import type { EbsVolume } from "@cdktf/provider-aws/lib/ebs-volume/index.js";
import { Eip } from "@cdktf/provider-aws/lib/eip/index.js";
import { EipAssociation } from "@cdktf/provider-aws/lib/eip-association/index.js";
import { Instance } from "@cdktf/provider-aws/lib/instance/index.js";
import { Route53Record } from "@cdktf/provider-aws/lib/route53-record/index.js";
import type { SecurityGroup } from "@cdktf/provider-aws/lib/security-group/index.js";
import { SsmParameter } from "@cdktf/provider-aws/lib/ssm-parameter/index.js";
import { VolumeAttachment } from "@cdktf/provider-aws/lib/volume-attachment/index.js";
import { Fn, type ITerraformDependable, TerraformOutput } from "cdktf";
import { Construct } from "constructs";
import type { AwsFacts } from "../../cloud-init/plan.ts";
import { named } from "./network.ts";
import { type Account, roleOf } from "./role.ts";
import { type AwsHost, id, names, recordId, recordSeconds, tagsOf } from "./shape.ts";

export interface HostProps {
  /** The stack's name: first part of names and tags. */
  stack: string;
  host: AwsHost;
  /** Where its secrets are. */
  secrets: "parameter-store" | "secrets-manager";
  account: Account;
  /** Id of the subnet, which is in the host's zone. */
  subnet: string;
  group: SecurityGroup;
  /** Name of EC2's key pair. */
  keyName: string;
  /** Its data volumes by name (disks.ts): made apart, since they outlive it. */
  volumes: Map<string, EbsVolume>;
  /** ARN of an SNS topic. @default nobody is told */
  alarmsTo?: string;
  /** ARN of the role by which snapshots are made. @default no snapshots */
  snapshotRole?: string;
  /** Id of the Route53 zone of `host.dns`. @default no records */
  zoneId?: string;
}

export class Host extends Construct {
  readonly instance: Instance;

  constructor(scope: Construct, construct: string, props: HostProps) {
    super(scope, construct);
    const { stack, host, volumes } = props;
    const name = id(host.host);
    const { profile, policy } = roleOf(this, props);
    const facts = factsOf(this, props);
    this.instance = named(
      new Instance(this, "instance", {
        ami: host.image.id,
        instanceType: host.type,
        availabilityZone: host.zones[0],
        subnetId: props.subnet,
        vpcSecurityGroupIds: [props.group.id],
        ...(host.privateAddress !== undefined && { privateIp: host.privateAddress }),
        // Otherwise as the subnet has it: public at once, so that the first boot has a network before the Elastic IP comes.
        ...(host.address === "private" && { associatePublicIpAddress: false }),
        keyName: props.keyName,
        iamInstanceProfile: profile,
        userDataBase64: host.userData,
        ...(host.spot && { instanceMarketOptions: { marketType: "spot" } }),
        rootBlockDevice: {
          volumeType: "gp3",
          volumeSize: host.rootSize,
          encrypted: true,
          deleteOnTermination: true,
          tags: tagsOf(stack, host),
        },
        metadataOptions: { httpEndpoint: "enabled", httpTokens: "required", httpPutResponseHopLimit: 1, instanceMetadataTags: "enabled" },
        ...(volumes.size > 0 && { disableApiTermination: true }),
        tags: { ...tagsOf(stack, host), [names.tags.generation]: host.generation, [names.tags.image]: host.image.digest },
        // What its first boot reads is there before it.
        dependsOn: [policy, facts],
        lifecycle: {
          // A host is not made anew because its image or its user-data is another: the guard says what they are, and `--replace` does it.
          ignoreChanges: ["ami", "user_data", "user_data_base64", ...tagged(names.tags.generation), ...tagged(names.tags.image)],
        },
      }),
      name,
    );
    for (const [i, [volume, disk]] of [...volumes].entries())
      named(
        new VolumeAttachment(this, `attach-${volume}`, {
          // The name means nothing to the machine, which finds the disk by its serial; EC2 wants one (/dev/sdf to /dev/sdp).
          deviceName: `/dev/sd${String.fromCharCode("f".charCodeAt(0) + i)}`,
          instanceId: this.instance.id,
          volumeId: disk.id,
          stopInstanceBeforeDetaching: true,
        }),
        id(host.host, volume),
      );
    const address = addressOf(this, host, this.instance, stack);
    if (props.zoneId !== undefined)
      for (const record of host.dns?.names ?? [])
        named(
          new Route53Record(this, `record-${record}`, {
            zoneId: props.zoneId,
            name: record,
            type: "A",
            ttl: recordSeconds,
            records: [address],
          }),
          recordId(host.host, record),
        );
    if (host.alarms) alarms(this, props, this.instance);
    if (props.snapshotRole !== undefined && host.snapshots && volumes.size) snapshots(this, props, host.snapshots, props.snapshotRole);
    for (const [output, value] of Object.entries({ instance: this.instance.id, address, private_address: this.instance.privateIp }))
      named(new TerraformOutput(this, `output-${output}`, { value }), id(host.host, output));
  }
}

const tagged = (tag: string): string[] => [`tags["${tag}"]`, `tags_all["${tag}"]`];

/** The parameter that tells the machine its disks and where everything is. It is not in user-data, so that another disk changes no bytes there. */
export function factsOf(
  scope: Construct,
  { stack, host, secrets, account, volumes }: Pick<HostProps, "stack" | "host" | "secrets" | "account" | "volumes">,
): SsmParameter {
  const facts = {
    // EC2's NVMe disks have the volume's id without its dash as their serial.
    volumes: Object.fromEntries([...volumes].map(([name, disk]) => [name, Fn.replace(disk.id, "vol-", "vol")])),
    secrets: secrets === "parameter-store" ? `ssm:${names.parameter(stack, "")}` : `secretsmanager:${names.secret(stack, "")}`,
    artifacts: `s3://${account.bucket}/${names.artifacts}`,
    files: `s3://${account.bucket}/${names.files}`,
    report: `s3://${account.bucket}/${names.reports(stack, host.host)}`,
    ...(host.restore && { restore: host.restore }),
  } satisfies AwsFacts;
  return named(
    new SsmParameter(scope, "facts", {
      name: names.facts(stack, host.host),
      type: "String",
      value: Fn.jsonencode(facts),
      tags: tagsOf(stack, host),
    }),
    id(host.host),
  );
}

/** The address by which the host is found. */
function addressOf(scope: Construct, host: AwsHost, instance: Instance, stack: string): string {
  if (host.address === "private") return instance.privateIp;
  if (host.address === "dynamic") return instance.publicIp;
  const eip = named(new Eip(scope, "eip", { domain: "vpc", tags: tagsOf(stack, host) }), id(host.host));
  named(new EipAssociation(scope, "eip-association", { allocationId: eip.allocationId, instanceId: instance.id }), id(host.host));
  return eip.publicIp;
}

/** Source: Amazon EC2 User Guide, "Configure CloudWatch alarms to recover Amazon EC2 instances". */
function alarms(scope: Construct, { stack, host, account, alarmsTo }: HostProps, instance: Instance): void {
  const alarm = (kind: string, metricName: string, actions: string[]): ITerraformDependable =>
    named(
      new CloudwatchMetricAlarm(scope, `alarm-${kind}`, {
        alarmName: `${stack}/${host.host} ${kind}`,
        namespace: "AWS/EC2",
        metricName,
        dimensions: { InstanceId: instance.id },
        statistic: "Maximum",
        comparisonOperator: "GreaterThanThreshold",
        threshold: 0,
        period: 60,
        evaluationPeriods: 2,
        alarmActions: actions,
        tags: tagsOf(stack, host),
      }),
      id(host.host, kind),
    );
  const told = alarmsTo === undefined ? [] : [alarmsTo];
  alarm("recover", "StatusCheckFailed_System", [`arn:${account.partition}:automate:${account.region}:ec2:recover`, ...told]);
  alarm("status", "StatusCheckFailed_Instance", told);
}

function snapshots(
  scope: Construct,
  { stack, host }: HostProps,
  { everyHours, keep }: { everyHours: number; keep: number },
  role: string,
): void {
  named(
    new DlmLifecyclePolicy(scope, "snapshots", {
      description: `Data volumes of ${stack} ${host.host}`,
      tags: tagsOf(stack, host),
      executionRoleArn: role,
      state: "ENABLED",
      policyDetails: {
        resourceTypes: ["VOLUME"],
        // Any one of the target tags is enough to be meant, so there is one that says all.
        targetTags: { [names.tags.snapshots]: `${stack}/${host.host}` },
        schedule: [
          {
            name: "ingot",
            createRule: { interval: everyHours, intervalUnit: "HOURS", times: ["03:00"] },
            retainRule: { count: keep },
            copyTags: true,
          },
        ],
      },
    }),
    id(host.host),
  );
}
